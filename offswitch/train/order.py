"""The order of rows: fixed beforehand, so that a resumed run sees the same.

Sorting by length would put all silent rows together, and a model trained on such batches halts on
everything: every batch here holds the two kinds in the proportion of the whole.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from offswitch.model.rows import Example


def row_order(examples: Sequence[Example], rows: int, seed: int) -> list[int]:
    """Indices of `rows` rows, epoch after epoch, silent and other rows evenly interleaved."""
    rng = np.random.default_rng(seed)
    silent = np.array([example.silent for example in examples])
    order: list[int] = []
    while len(order) < rows:
        kinds = [rng.permutation(np.flatnonzero(silent)), rng.permutation(np.flatnonzero(~silent))]
        # Each kind is spread evenly over the unit interval from a random start, then both merged.
        at = np.concatenate([(np.arange(len(k)) + rng.random()) / max(len(k), 1) for k in kinds])
        order += np.concatenate(kinds)[at.argsort(kind="stable")].tolist()
    return order[:rows]
