"""What a GGUF file announces, read without trusting it.

The library takes a value beyond the file's end for an empty one, so a hundred bytes that announce
an array of 2^40 values fill the memory. Here they are an error.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from gguf import GGUFReader

MOST_VALUES: Final = 4_000_000  # 0.4 kB each; a vocabulary of 262,144 pieces takes two millions


class Header(GGUFReader):
    """A GGUF file's fields, and where its tensors lie.

    Raises:
        ValueError: it ends before a value that it announces, or announces more than `MOST_VALUES`.
    """

    values = 0

    def told(self, key: str) -> Any:
        """What a field holds; None where there is no such field."""
        field = self.get_field(key)
        return field.contents() if field else None

    def _get(self, offset: Any, dtype: Any, count: Any = 1, override_order: Any = None) -> Any:
        self.data: Any = np.asarray(self.data)  # a memory map's own slices take twice as long
        self.values += 1
        if self.values > MOST_VALUES:
            raise ValueError(f"it announces more than {MOST_VALUES:,} values")
        if int(offset) + np.dtype(dtype).itemsize * int(count) > len(self.data):
            raise ValueError("it ends before a value that it announces")
        return super()._get(offset, dtype, count, override_order)
