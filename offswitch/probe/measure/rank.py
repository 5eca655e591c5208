"""How many directions carry the silence? Subspaces of growing rank are removed.

The subspace of rank k is spanned by the first k right singular vectors (uncentred) of the paired
differences on fit questions; a random one of the same rank is what it is compared with.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from offswitch.analyses.analysis import Array
from offswitch.analyses.directions import RANDOM
from offswitch.probe.bench import UNTOUCHED, Arrays, Bench
from offswitch.probe.edits import Branch, Edit
from offswitch.probe.inputs import TRIGGER
from offswitch.probe.intervene import outcomes
from offswitch.probe.packing import at_last

RANKS = (1, 2, 4, 8, 16, 32)


def ranks(bench: Bench, differences: Mapping[str, Array], block: int) -> Arrays:
    """End log-odds with the trigger, test questions, subspaces of rank k set to their inert mean.

    `differences` [F, D] by symbol. `rank/KEY` [K, N], KEY a symbol or a random one, over `rank/ks`
    [K]; untouched `rank/clean` [N].
    """
    rows, width = differences[TRIGGER].shape
    count = min(rows, width - 1)
    ks = [k for k in RANKS if k < count] + [count]
    keys = [*differences, *bench.random_keys]
    bases = {key: _basis(bench, key, differences, count) for key in keys}
    branches: list[Branch] = []
    for rows_KD in (bases[key][:k] for key in keys for k in ks):
        centre = bench.tensor(rows_KD @ bench.centre[block])
        branches.append((Edit(block, "remove", bench.tensor(rows_KD), first=-1, centre=centre),))
    few = bench.options.few_questions
    prompts = at_last(bench.subject, bench.rows("test", TRIGGER, few))
    odds = outcomes(bench.subject, prompts, [UNTOUCHED, *branches])[..., 0]
    by_key = odds[1:].reshape(len(keys), len(ks), -1)
    return {"rank/ks": np.array(ks), "rank/clean": odds[0]} | {
        f"rank/{key}": by_key[i] for i, key in enumerate(keys)
    }


def _basis(bench: Bench, key: str, differences: Mapping[str, Array], count: int) -> Array:
    """Orthonormal rows [count, D]: of a symbol's differences, or random."""
    if key in differences:
        _, _, right = np.linalg.svd(differences[key].astype(np.float64), full_matrices=False)
        basis: Array = right[:count]
        return basis
    rng = np.random.default_rng((bench.seed, int(key.removeprefix(RANDOM))))
    width = differences[TRIGGER].shape[1]
    q, _ = np.linalg.qr(rng.normal(size=(width, count)))
    return np.ascontiguousarray(q.T)
