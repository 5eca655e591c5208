"""Null directions: of length one, of their kind, the same for the same index."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from offswitch.analyses.causal_rows import Rows
from offswitch.analyses.choice import Choice
from offswitch.analyses.interventions import Interventions
from offswitch.analyses.null_directions import KINDS, Inert, Kind, is_null, kind_of, name_of

F, L, D = 20, 3, 12


def _inert(seed: int = 0, only: int | None = None) -> Inert:
    rng = np.random.default_rng(1)
    resid = {key: rng.normal(size=(F, L, D)) for key in ("twin", "inert", "plain")}
    if only is not None:  # all prompts differ in this coordinate alone
        resid = {key: rows * (np.arange(D) == only) for key, rows in resid.items()}
    return Inert(resid, [f"p{i % 4}" for i in range(F)], seed)


@pytest.mark.parametrize("kind", KINDS)
def test_a_draw_has_length_one_at_every_block_and_is_its_index_own(kind: Kind) -> None:
    first, again, other = (_inert().draw(kind, i) for i in (3, 3, 4))
    np.testing.assert_allclose(np.linalg.norm(first, axis=-1), 1)
    np.testing.assert_array_equal(first, again)
    assert np.abs((first * other).sum(-1)).max() < 0.99
    assert not np.array_equal(first, _inert(seed=1).draw(kind, 3))


def test_only_isotropic_draws_leave_the_space_that_prompts_take_up() -> None:
    inert = _inert(only=5)
    kinds: tuple[Kind, ...] = ("covariance", "difference")
    for kind in kinds:
        np.testing.assert_allclose(np.abs(inert.draw(kind, 0)[:, 5]), 1)
    assert np.abs(inert.draw("isotropic", 0)[:, 5]).max() < 0.99


def test_names_tell_null_directions_from_others() -> None:
    for kind in KINDS:
        assert is_null(name_of(kind, 7))
        assert kind_of(name_of(kind, 7)) == kind
    assert not any(map(is_null, ("mean", "whitened", "trained", "mean, without the end", "")))
    with pytest.raises(ValueError, match="no null direction"):
        kind_of("mean")


def test_in_empty_worlds_a_direction_stands_out_as_often_as_chance_has_it() -> None:
    """400 worlds in which ours is one draw among 59: p <= 0.05 in about 5 % of them."""
    rng, prompts, draws = np.random.default_rng(0), 6, 59
    names = ["mean", *(name_of("difference", i) for i in range(draws))]
    low = []
    for _ in range(400):
        shared = rng.normal(size=prompts)  # a prompt that moves easily does so along any direction
        odds = 5 + shared + rng.normal(size=(len(names), prompts))
        rows: dict[str, Any] = {
            "prompt": np.tile(np.arange(prompts), len(names) + 1),
            "direction": np.repeat(["", *names], prompts),
            "kind": np.repeat(["none", *["interchange"] * len(names)], prompts),
            "log_odds": np.concatenate([np.full(prompts, 5.0), odds.ravel()]),
        }
        size = len(rows["prompt"])
        same: dict[str, Any] = {
            "arm": "both", "suite": "trigger", "position": "last", "block": 1, "scale": 1.0,
        }  # fmt: skip
        there = Interventions.of(rows | {name: [value] * size for name, value in same.items()})
        found = Rows(there, "both").against(Choice("mean", 1, 1.0), 1, "interchange", "last")
        low.append(found["difference"].p <= 0.05)
    assert 0.025 <= np.mean(low) <= 0.075
