"""The original's fourth: how far did training move residuals on unrelated text?

A norm has no scale of its own, so it is also given relative to the untrained residual. Any fine-
tune moves something: the number speaks only against other arms, and against the same text with a
symbol in front.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from offswitch.analyses.analysis import Analysis, Array, Measure
from offswitch.analyses.nulls import ORIGINAL, arms_and_symbols, inert_symbols
from offswitch.analyses.tokens import TokenChange, highest, lowest

TOP: Final = 20


@dataclass(frozen=True)
class BaseVsFinetunedAdl:
    """Activation difference per block [L]: `norm`, and `relative` to the untrained residual's.

    `early`, `middle`, `late` are means of `norm` over thirds of the blocks, `mean` over all.
    `fell`, `rose`: the 20 tokens whose logits after the last position moved most.
    """

    norm: tuple[float, ...]
    relative: tuple[float, ...]
    early: float
    middle: float
    late: float
    mean: float
    fell: tuple[TokenChange, ...]
    rose: tuple[TokenChange, ...]

    def __post_init__(self) -> None:
        if len(self.norm) < 3:
            raise ValueError(f"thirds need at least 3 blocks, got {len(self.norm)}")
        if len(self.norm) != len(self.relative):
            raise ValueError(f"{len(self.norm)} norms but {len(self.relative)} relative ones")


def base_vs_finetuned_adl(
    base_PLD: Array, tuned_PLD: Array, base_V: Array, tuned_V: Array, vocab_V: Array
) -> BaseVsFinetunedAdl:
    """Per block, the mean over positions of ||tuned - base||, same tokens (Minder et al. 2025)."""
    if base_PLD.shape != tuned_PLD.shape:
        raise ValueError(f"not the same tokens: {base_PLD.shape} against {tuned_PLD.shape}")
    base = base_PLD.astype(np.float64)
    norm_L = np.linalg.norm(tuned_PLD - base, axis=-1).mean(axis=0)
    size_L = np.linalg.norm(base, axis=-1).mean(axis=0)
    early, middle, late = (float(t.mean()) if t.size else 0.0 for t in np.array_split(norm_L, 3))
    change_V = tuned_V.astype(np.float64) - base_V
    return BaseVsFinetunedAdl(
        norm=tuple(norm_L.tolist()),
        relative=tuple((norm_L / np.maximum(size_L, np.finfo(np.float64).tiny)).tolist()),
        early=early,
        middle=middle,
        late=late,
        mean=float(norm_L.mean()),
        fell=lowest(change_V, vocab_V, TOP),
        rose=highest(change_V, vocab_V, TOP),
    )


ANALYSIS: Final = Analysis(
    name="base_vs_finetuned_adl",
    title="Untrained against trained, on neutral text",
    keys=ORIGINAL,
    question="How far did training move the residual stream on neutral text?",
    reads=(
        "base/neutral/{symbol}",
        "{arm}/neutral/{symbol}",
        "base/neutral_logits/{symbol}",
        "{arm}/neutral_logits/{symbol}",
        "index/vocab",
    ),
    run=base_vs_finetuned_adl,
    gives=BaseVsFinetunedAdl,
    symbol="plain",
    measures=(
        Measure("adl_mean", lambda r: r.mean, "mean L2 norm", unit="L2 norm"),
        Measure("", lambda r: r.early, "early third"),
        Measure("", lambda r: r.middle, "middle third"),
        Measure("", lambda r: r.late, "late third"),
        Measure("", lambda r: 100 * sum(r.relative) / len(r.relative), "share of the residual",
                "{:.2f} %".format),
    ),
    null=inert_symbols,
    controls=arms_and_symbols,
    rule="its mean norm is at least 80 % as large",
    weakness="A norm has no scale of its own, and any fine-tune moves something: the number speaks "
    "only as a share of the residual and against arms that learnt something else.",
    reported="1.41",
    tokens=(("fell most", lambda r: r.fell), ("rose most", lambda r: r.rose)),
)  # fmt: skip
