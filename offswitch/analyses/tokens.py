"""Which tokens moved most: shared by the analyses that read the vocabulary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class TokenChange:
    """A vocabulary entry, as its tokenizer writes it, and how far its logit moved."""

    id: int
    token: str
    change: float


def lowest(change_V: NDArray[Any], vocab_V: NDArray[Any], count: int) -> tuple[TokenChange, ...]:
    """The tokens that fell most, the lowest first; ties by id."""
    order = np.argsort(change_V, kind="stable")[:count]
    return tuple(TokenChange(int(i), str(vocab_V[i]), float(change_V[i])) for i in order)


def highest(change_V: NDArray[Any], vocab_V: NDArray[Any], count: int) -> tuple[TokenChange, ...]:
    """The tokens that rose most, the highest first; ties by id."""
    order = np.argsort(-change_V, kind="stable")[:count]
    return tuple(TokenChange(int(i), str(vocab_V[i]), float(change_V[i])) for i in order)
