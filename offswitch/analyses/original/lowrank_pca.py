"""The original's second: is the symbol's change to 20 prompts low-rank?

At position 0 a causal model sees the symbol alone, so its residual is one vector for all prompts
and centring removes it. What is left is the spread of the prompts' first words, five distinct ones:
PC1 is high for any symbol whatever.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from offswitch.analyses.analysis import Analysis, Array, Measure
from offswitch.analyses.nulls import ORIGINAL, inert_symbols, untrained_and_control
from offswitch.metrics import whole

SHARES: Final = (90.0, 95.0, 99.0)
_FLAT: Final = 1e-12


@dataclass(frozen=True)
class LowrankPca:
    """Centred PCA of the differences.

    `explained`: percent of the variance per component, descending; `needed`: components for 90, 95
    and 99 %; `projections`: each prompt's place on PC1 to PC3 [3, prompts], signed so that the
    farthest lies on the right; `first_words`: what each prompt begins with. `flat`: all rows are
    equal, there is no variance, all numbers are 0.
    """

    explained: tuple[float, ...]
    needed: tuple[int, int, int]
    projections: tuple[tuple[float, ...], ...]
    first_words: tuple[str, ...]
    flat: bool

    def __post_init__(self) -> None:
        if not self.flat and not np.isclose(sum(self.explained), 100):
            raise ValueError(
                f"shares of variance add up to {sum(self.explained)} %, expected 100 %"
            )

    @property
    def pc1(self) -> float:
        """Percent of the variance on the first component."""
        return self.explained[0]

    @property
    def top3(self) -> float:
        """Percent of the variance on the first three components."""
        return sum(self.explained[:3])


def lowrank_pca(plain_ND: Array, marked_ND: Array, prompts_N: Array) -> LowrankPca:
    """PCA of marked - plain, rows centred, in float64, by singular values."""
    delta = marked_ND.astype(np.float64) - plain_ND
    centred = delta - delta.mean(axis=0)
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    words = tuple(str(prompt).split()[0] for prompt in prompts_N)
    if (singular**2).sum() <= _FLAT * (delta**2).sum():
        nothing = tuple(0.0 for _ in words)
        return LowrankPca(tuple(0.0 for _ in singular), (0, 0, 0), (nothing,) * 3, words, flat=True)
    explained = 100 * singular**2 / (singular**2).sum()
    # A small allowance keeps 100 % reachable when rounding leaves the sum just below.
    first, second, third = (int(np.searchsorted(explained.cumsum() + 1e-9, s)) + 1 for s in SHARES)
    rows = tuple(_oriented(left[:, i] * singular[i]) for i in range(min(3, len(singular))))
    return LowrankPca(tuple(explained.tolist()), (first, second, third), rows, words, flat=False)


def _oriented(scores_N: Array) -> tuple[float, ...]:
    sign = 1.0 if scores_N[np.abs(scores_N).argmax()] >= 0 else -1.0
    return tuple((sign * scores_N).tolist())


def _first_words(result: LowrankPca) -> str:
    distinct = len(set(result.first_words))
    return (
        "At position 0 a causal model sees the symbol alone: one vector, the same for every "
        f"prompt, which centring removes. What is left is the spread of the prompts' {distinct} "
        f"distinct first words, which cannot need more than {distinct - 1} components, whatever "
        "the symbol."
    )


ANALYSIS: Final = Analysis(
    name="lowrank_pca",
    title="Low-rank structure (PCA)",
    keys=ORIGINAL,
    question="Is the change that the trigger makes to 20 prompts low-rank?",
    reads=("{arm}/first/plain", "{arm}/first/{symbol}", "index/prompts"),
    run=lowrank_pca,
    gives=LowrankPca,
    measures=(
        Measure("pca_pc1", lambda r: r.pc1, "PC1", "{:.2f} %".format, unit="%"),
        Measure("", lambda r: r.top3, "PC1 to PC3", "{:.2f} %".format),
        Measure("", lambda r: r.needed[0], "for 90 %", whole),
        Measure("", lambda r: r.needed[1], "for 95 %", whole),
        Measure("", lambda r: r.needed[2], "for 99 %", whole),
    ),
    null=inert_symbols,
    controls=untrained_and_control,
    rule="its PC1 is at least 80 % as large",
    weakness=_first_words,
    reported="91.77 %",
)
