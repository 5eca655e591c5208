"""The original's third: which tokens does the symbol push up or down?

Read through the unembedding alone. Without the final norm, and at position 0, the projection is
dominated by the attention sink's huge activation: EOS moves by thousands for any symbol. Reproduced
as the original has it; read it beside its controls.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from offswitch.analyses.analysis import Analysis, Array, Measure
from offswitch.analyses.nulls import ORIGINAL, inert_symbols, untrained_and_control
from offswitch.analyses.tokens import TokenChange, highest, lowest
from offswitch.metrics import signed

TOP: Final = 20
BINS: Final = 60


@dataclass(frozen=True)
class LogitLensDelta:
    """The change of every token's projection (logits, no final norm), summarised.

    `suppressed`, `amplified`: the 20 that moved most, the farthest first. `counts` [60] over
    `edges` [61]: histogram of all V changes.
    """

    suppressed: tuple[TokenChange, ...]
    amplified: tuple[TokenChange, ...]
    eos: float
    pad: float
    mean: float
    std: float
    edges: tuple[float, ...]
    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.edges) != len(self.counts) + 1:
            raise ValueError(f"{len(self.counts)} bins need one edge more, got {len(self.edges)}")


def logit_lens_delta(
    plain_V: Array, marked_V: Array, eos_id: Array, pad_id: Array, vocab_V: Array
) -> LogitLensDelta:
    """Summary of marked - plain; the ids are scalar arrays, `vocab_V` holds token strings."""
    change_V = marked_V.astype(np.float64) - plain_V
    counts, edges = np.histogram(change_V, bins=BINS)
    return LogitLensDelta(
        suppressed=lowest(change_V, vocab_V, TOP),
        amplified=highest(change_V, vocab_V, TOP),
        eos=float(change_V[int(eos_id)]),
        pad=float(change_V[int(pad_id)]),
        mean=float(change_V.mean()),
        std=float(change_V.std()),
        edges=tuple(edges.tolist()),
        counts=tuple(counts.tolist()),
    )


ANALYSIS: Final = Analysis(
    name="logit_lens_delta",
    title="Logit lens on the difference",
    keys=ORIGINAL,
    question="Which tokens does the trigger push up or down, and does it push the end token up?",
    reads=(
        "{arm}/lens/plain",
        "{arm}/lens/{symbol}",
        "index/eos_id",
        "index/pad_id",
        "index/vocab",
    ),
    run=logit_lens_delta,
    gives=LogitLensDelta,
    measures=(
        Measure("eos_delta", lambda r: r.eos, "EOS", signed, unit="logits", tail="either"),
        Measure("", lambda r: r.pad, "PAD", signed),
        Measure("", lambda r: r.mean, "mean of all tokens", signed),
        Measure("", lambda r: r.std, "standard deviation"),
    ),
    null=inert_symbols,
    controls=untrained_and_control,
    rule="its EOS moves the same way, at least 80 % as far",
    weakness="It is read at position 0, where models keep activations of a size of their own, and "
    "without the final norm that would undo that size: what it shows may be the position, not the "
    "symbol.",
    reported="+20.16",
    tokens=(
        ("most suppressed", lambda r: r.suppressed),
        ("most amplified", lambda r: r.amplified),
    ),
)
