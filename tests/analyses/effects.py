"""Made-up interventions: a model of ten blocks whose curves over depth are given, not computed.

A trigger prompt starts at log-odds 5, a plain one at -5; an effect of a share flips that share of
the prompts. Null directions do `null` of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Final

import numpy as np

from offswitch.analyses.causal import NATURAL, WHOLE, WITHOUT_END, Causal
from offswitch.analyses.causal_rows import causal
from offswitch.analyses.choice import Choice
from offswitch.analyses.interventions import COLUMNS, Interventions
from offswitch.analyses.null_directions import KINDS, name_of

BLOCKS: Final = 10
ARM: Final = "both"
N: Final = 40
ENDED: Final = 120
DRAWS: Final = 200
Curve = Mapping[int, float]


def from_(block: int, share: float = 1.0) -> dict[int, float]:
    """An effect of this share from a block on, none before."""
    return {b: share if b >= block else 0.0 for b in range(BLOCKS)}


@dataclass(frozen=True)
class Mechanism:
    """Shares of prompts by block: one direction and the whole residual by position, and so on."""

    fall: Curve = field(default_factory=lambda: from_(4))
    whole: Curve = field(default_factory=lambda: from_(4))
    after: Curve = field(default_factory=lambda: from_(4))
    whole_after: Curve = field(default_factory=lambda: from_(4))
    whole_symbol: Curve = field(default_factory=lambda: from_(0))
    rise: Curve = field(default_factory=lambda: from_(4))
    twin: float = 0.0
    base: float = 0.0
    null: float = 0.0
    null_that_chooses: float = 0.0
    untrained: float = 0.0
    kept: float = 1.0
    ends: float = 0.0
    kl: float = 0.0078125  # float32 holds it
    draws: int = DRAWS
    count: int = 1
    inert: float = 0.05
    chosen: tuple[Choice, ...] = (
        Choice("mean", 4, 1.0, pair=True), Choice("mean", 8, 1.0),
    )  # fmt: skip


class _Rows:
    def __init__(self) -> None:
        self.columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}

    def add(
        self, suite: str, share: float, count: int = N, nats: float | None = None, **what: Any
    ) -> None:
        """A row for each of `count` prompts, the first `share` of which change sides."""
        start = -5.0 if suite in ("plain", "twin") else 5.0
        for i in range(count):
            odds = start + nats if nats is not None else (-start if i < share * count else start)
            row = {
                "arm": ARM, "prompt": i + 1000 * ("trigger", "plain", "ended", "twin").index(suite),
                "part": "test", "suite": suite, "placement": "before", "question": f"q{i}",
                "direction": "", "kind": "none", "position": "", "block": -1, "scale": 0.0,
                "moved": 0.0, "log_odds": odds, "halts": odds > 0, "kl": np.nan,
            }  # fmt: skip
            for name, value in (row | what).items():
                self.columns[name].append(value)


def rows_of(m: Mechanism) -> Interventions:
    """The rows that such a mechanism would leave."""
    rows = _Rows()
    for suite, count in (("trigger", N), ("plain", N), ("ended", ENDED)):
        rows.add(suite, 0, count)
    rows.add("twin", m.twin)
    rows.add("plain", 0, arm="base")
    for b in range(BLOCKS):
        swaps = {"last": m.whole, "after": m.whole_after, "symbol": m.whole_symbol}
        for position, curve in swaps.items():
            what: dict[str, Any] = {
                "direction": WHOLE,
                "kind": "whole",
                "block": b,
                "position": position,
            }
            rows.add("trigger", curve[b], scale=1.0, **what)
        there: dict[str, Any] = {"direction": "mean", "block": b, "scale": 1.0}
        for position, curve in (("last", m.fall), ("after", m.after)):
            rows.add("trigger", curve[b], kind="interchange", position=position, **there)
        added = there | {"kind": "add", "position": "last"}
        rows.add("plain", m.rise[b], **added)
        rows.add("plain", 0, nats=m.base * 10 * m.rise[b], arm="base", **added)
    for choice in m.chosen:
        for b in choice.blocks:
            _at(rows, m, b)
        for kind in KINDS:
            for i in range(m.draws):
                _null(rows, m, choice, name_of(kind, 100 + i))
            for b in choice.blocks if choice.pair else ():
                _null_that_chooses(rows, m, choice, b, name_of(kind, 0, chooses=True))
    return Interventions.of(rows.columns)


def _at(rows: _Rows, m: Mechanism, block: int) -> None:
    """What else is tried where it was chosen."""
    less = WITHOUT_END.format("mean")
    there: dict[str, Any] = {"block": block, "position": "last", "scale": 1.0}
    for position, curve in (("last", m.fall), ("after", m.after)):
        what = there | {"direction": less, "kind": "interchange", "position": position}
        rows.add("trigger", m.kept * curve[block], **what)
    rows.add("plain", m.kept * m.rise[block], direction=less, kind="add", **there)
    for one, share in (("mean", m.ends), (NATURAL, 0.9)):
        rows.add("ended", share, ENDED, direction=one, kind="inert", **there)
    everywhere = there | {"position": "every", "kind": "inert", "log_odds": np.nan, "halts": False}
    for one, kl in (("mean", m.kl), (NATURAL, 0.375)):
        rows.add("plain", 0, 8, **everywhere | {"direction": one, "kl": kl})
    rows.add("trigger", 0, kind="untrained", direction="mean", **there | {"scale": m.untrained})
    rows.add("twin", m.rise[block], direction="mean", kind="add", **there)
    whole = (("last", m.whole), ("after", m.whole_after))
    for (position, curve), size in product(whole, (1, 2, 4)):
        what = there | {"position": position, "kind": "rank", "scale": float(size)}
        share = float(size >= m.count) * curve[block]
        rows.add("trigger", share, direction="differences", **what)
        inert = m.inert * curve[block]
        rows.add("trigger", inert, direction="differences of inert symbols", **what)


def _null(rows: _Rows, m: Mechanism, choice: Choice, name: str) -> None:
    block, position = choice.block, choice.position
    there: dict[str, Any] = {"block": block, "position": "last", "scale": 1.0, "direction": name}
    size = m.after[block] if position == "after" else m.fall[block]
    what = there | {"kind": "interchange", "position": position}
    rows.add("trigger", 0, 6, nats=-10 * m.null * size, **what)
    rows.add("plain", 0, 6, nats=10 * m.null * m.rise[block], kind="add", **there)


def _null_that_chooses(rows: _Rows, m: Mechanism, choice: Choice, block: int, name: str) -> None:
    there: dict[str, Any] = {"block": block, "position": "last", "scale": 1.0, "direction": name}
    nats = 10 * m.null_that_chooses
    size = m.after[block] if choice.position == "after" else m.fall[block]
    what = there | {"kind": "interchange", "position": choice.position}
    rows.add("trigger", 0, 6, nats=-nats * size, **what)
    rows.add("plain", 0, 6, nats=nats * m.rise[block], kind="add", **there)


def causal_of(m: Mechanism) -> Causal:
    """The causal evidence of such a mechanism."""
    return causal(ARM, rows_of(m), m.chosen, BLOCKS)
