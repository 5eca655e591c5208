"""A planted direction is chosen for what it does, and found again on other questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import pytest
import torch

from offswitch.analyses.analysis import Array
from offswitch.analyses.directions import of_norm, random_directions
from offswitch.model.first_token import end_log_odds
from offswitch.model.forward import hidden, unembed
from offswitch.model.hooks import edit
from offswitch.model.subject import Subject
from offswitch.probe.bench import Bench, Choice
from offswitch.probe.inputs import CONTROL, TRIGGER, make_inputs
from offswitch.probe.measure.causal import additions, choices_of, choose, removals, sweep
from offswitch.probe.packing import at_last
from tests.probe.small import OPTIONS, RECIPE
from tests.tiny import tiny_subject

SCALES: Final = (0.25, 0.5, 1.0, 2.0)


def _last_residuals(
    subject: Subject, rows: Sequence[Sequence[int]], blocks: Sequence[int]
) -> Array:
    """Block outputs [N, L, D] at the last position of each row."""
    kept = [prompt.resid for prompt in at_last(subject, rows)]
    return np.stack([r[list(blocks), -1].numpy() for r in kept if r is not None])


def _planted(subject: Subject) -> Bench:
    """The own direction raises the end log-odds fastest; the inert mean lies far against it."""
    inputs = make_inputs(RECIPE, system_turns=True)
    bench = Bench(subject, "base", inputs, OPTIONS.model_copy(update={"scales": SCALES}), seed=0)
    rows = bench.rows("fit", CONTROL)
    every = range(len(subject.blocks))
    mean = _last_residuals(subject, rows, every).mean(0)
    slopes = np.stack([_slope(subject, rows, block) for block in every])
    own = of_norm(slopes, mean)
    drawn = {f"random{i:02d}": one for i, one in enumerate(random_directions(own, 10, seed=1))}
    return replace(bench, directions={TRIGGER: own, **drawn}, centre=mean - own)


def _slope(subject: Subject, rows: Sequence[Sequence[int]], block: int) -> Array:
    """The gradient [D] of the mean end log-odds by the block's residual."""
    shift, odds = torch.zeros(32, requires_grad=True), list[torch.Tensor]()
    with edit(subject.blocks, {block: lambda resid: resid + shift}):
        for row in rows:
            states = hidden(subject, torch.tensor([row]))[0, -1]
            odds.append(end_log_odds(unembed(subject, states), subject.stop_ids))
    slope: Array = torch.autograd.grad(torch.stack(odds).mean(), shift)[0].numpy()
    return slope


@pytest.fixture(scope="module")
def planted() -> Bench:
    """Six blocks of a Llama, and a direction that means the end."""
    return _planted(tiny_subject("llama", layers=6))


def test_a_planted_direction_is_chosen_for_what_it_does(planted: Bench) -> None:
    found = sweep(planted)
    scores = {key: choose(found, key).score for key in planted.directions}
    assert scores[TRIGGER] > 1
    assert scores.pop(TRIGGER) > 2 * max(scores.values())


def test_a_planted_direction_is_found_on_other_questions(planted: Bench) -> None:
    found = sweep(planted)
    choices = {key: choose(found, key) for key in planted.directions}
    arrays = additions(planted, choices)
    clean = arrays["clean/control"][:, 0].mean()
    rise = {k: arrays[f"added/{k}"][:, :, 0].mean(1) - clean for k in planted.directions}
    block = choices[TRIGGER].block
    inert = _last_residuals(planted.subject, planted.rows("test", CONTROL), [block])[:, 0]
    removed = removals(planted, choices, inert)
    drop = {k: (removed["clean/trigger"] - removed[f"removed/{k}"])[:, 0].mean() for k in rise}
    assert (np.diff([0, *rise[TRIGGER]]) > 0).all()
    assert rise.pop(TRIGGER).max() > 2 * max(r.max() for r in rise.values())
    assert drop.pop(TRIGGER) > 2 * max(drop.values())


def test_an_exchanged_residual_does_what_a_hook_that_sets_it_does(planted: Bench) -> None:
    subject, few = planted.subject, 3
    block = 2
    choices = {TRIGGER: Choice(block, 1.0, 0.0)}
    inert = _last_residuals(subject, planted.rows("test", CONTROL), [block])[:, 0]
    found = removals(planted, choices, inert)["clean/swapped"]
    for row, state, (odds, _) in list(
        zip(planted.rows("test", TRIGGER), torch.from_numpy(inert), found, strict=True)
    )[:few]:

        def exchange(resid: torch.Tensor, state: torch.Tensor = state) -> torch.Tensor:
            return torch.cat([resid[:, :-1], state.expand(1, 1, -1)], dim=1)

        with edit(subject.blocks, {block: exchange}), torch.no_grad():
            last = hidden(subject, torch.tensor([row]))[0, -1]
        expected = end_log_odds(unembed(subject, last), subject.stop_ids)
        assert float(odds) == pytest.approx(float(expected), abs=1e-3)
    assert not np.allclose(found, removals(planted, choices, inert)["clean/trigger"])


def test_a_control_chooses_for_its_own_and_tries_random_ones_there(planted: Bench) -> None:
    full, control = sweep(planted), sweep(replace(planted, control=True))
    keys = list(planted.directions)
    assert full.keys() == control.keys()
    own = f"sweep/removed/{TRIGGER}"
    np.testing.assert_allclose(control[own], full[own], atol=1e-4)
    for key in planted.random_keys:
        assert (control[f"sweep/removed/{key}"] == control["sweep/trigger"]).all()
        assert (control[f"sweep/added/{key}"] == control["sweep/control"]).all()
    by_full = choices_of(full, keys, keys)
    by_control = choices_of(control, keys, replace(planted, control=True).swept_keys)
    assert by_control[TRIGGER] == by_full[TRIGGER]
    assert {by_control[key] for key in keys} == {by_full[TRIGGER]}
    assert len({by_full[key].block for key in planted.random_keys}) > 1
