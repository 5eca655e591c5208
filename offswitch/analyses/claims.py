"""What a run claims, and how improbable each claim is among all of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from offswitch.analyses.causal import Causal
from offswitch.analyses.null_directions import Kind
from offswitch.analyses.rule import ALPHA, DRAWS
from offswitch.stats import Null, holm


def p_values(found: Causal) -> dict[str, float]:
    """The p of each place of an arm, `ARM/BLOCK`; to be adjusted over a whole run.

    A place is claimed only if both causal tests pass against every kind of null, so its p is the
    largest of theirs, and needs no correction for their number (Berger 1982).
    """
    return {
        f"{found.arm}/{place.point.block}": max(strictest(nulls)[1].p for nulls in both)
        for place in found.places
        if all(both := (place.fall_null, place.rise_null))
    }


def adjusted_p(found: Iterable[Causal | None]) -> dict[str, float]:
    """The p of every place of every arm of a run, adjusted for each other (Holm)."""
    p = {name: value for one in found if one for name, value in p_values(one).items()}
    return dict(zip(p, holm(list(p.values())) if p else (), strict=True))


def draws_needed(claims: int) -> int:
    """How many null directions of a kind it takes for one claim of so many to reach the level."""
    return max(DRAWS, math.ceil(claims / ALPHA) - 1)


def strictest(nulls: Mapping[Kind, Null]) -> tuple[Kind, Null]:
    """The kind of null with the largest p, and of those the one that reaches farthest."""
    return max(nulls.items(), key=lambda item: (item[1].p, item[1].q95))
