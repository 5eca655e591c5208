"""A packed branch says what a plain forward pass with hooks says, whatever else is in the pass."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from offswitch.model.adapters import add_arm, arm_of
from offswitch.model.first_token import end_log_odds
from offswitch.model.hooks import record_inputs
from offswitch.model.subject import Subject
from offswitch.probe.edits import Edit
from offswitch.probe.intervene import job_outcomes, outcomes
from offswitch.probe.packing import at_last, prepare, with_residuals
from tests.families import EACH_KIND
from tests.probe.packed import (
    BRANCHES,
    EVERY,
    ROWS,
    STACKED,
    STARTS,
    drawn,
    expected_logits,
    logits_of,
    orthonormal,
    reference,
)
from tests.tiny import save_adapter


@pytest.mark.parametrize("kept", [False, True], ids=["from the embedding", "resumed"])
@pytest.mark.parametrize("starts", [(0, 0, 0), (9, 12, 6)], ids=["whole", "last"])
@EACH_KIND
def test_branches_from_anywhere_equal_plain_passes(
    subject: Subject, starts: tuple[int, ...], kept: bool
) -> None:
    _check_branches(subject, starts, kept)


@pytest.mark.parametrize("kept", [False, True], ids=["from the embedding", "resumed"])
def test_branches_equal_plain_passes(subject: Subject, kept: bool) -> None:
    _check_branches(subject, STARTS, kept)


def _check_branches(subject: Subject, starts: tuple[int, ...], kept: bool) -> None:
    prompts = prepare(subject, ROWS, starts)
    prompts = with_residuals(subject, prompts) if kept else prompts
    off = logits_of(subject, product(prompts, EVERY)) - expected_logits(subject, starts)
    names = [f"{i}: {name}" for i in range(len(ROWS)) for name in BRANCHES]
    assert [n for n, d in zip(names, off.abs().amax(-1), strict=True) if not d < 1e-4] == []


@pytest.mark.parametrize("name", STACKED)
def test_edits_of_one_place_follow_each_other(llama: Subject, name: str) -> None:
    found = logits_of(llama, product(at_last(llama, ROWS[1:2]), [STACKED[name]]))[0]
    expected = reference(llama, ROWS[1], len(ROWS[1]) - 1, STACKED[name])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_edits_of_one_place_keep_their_order_in_any_company(llama: Subject) -> None:
    prompts = at_last(llama, ROWS[:1])
    branches = [STACKED["add, then remove"], STACKED["remove, then add"]]
    alone = torch.cat([logits_of(llama, product(prompts, [branch])) for branch in branches])
    torch.testing.assert_close(
        logits_of(llama, product(prompts, branches)), alone, atol=1e-5, rtol=0
    )


@EACH_KIND
def test_outcomes_come_in_the_order_of_the_jobs(subject: Subject) -> None:
    """Though jobs are sorted by their first block, which some here share and most do not."""
    logits = expected_logits(subject, (9, 12, 6))
    jobs = list(product(at_last(subject, ROWS), EVERY))
    order = np.random.default_rng(0).permutation(len(jobs))
    found = job_outcomes(subject, [jobs[i] for i in order])
    odds = end_log_odds(logits, subject.stop_ids).numpy()
    np.testing.assert_allclose(found[:, 0], odds[order], atol=1e-4)
    halts = np.isin(logits.argmax(-1).numpy(), subject.stop_ids)
    np.testing.assert_array_equal(found[:, 1], halts[order])


def test_outcomes_are_by_branch_and_prompt(llama: Subject) -> None:
    prompts = at_last(llama, ROWS)
    one_by_one = [[job_outcomes(llama, [(p, b)])[0] for p in prompts] for b in EVERY]
    np.testing.assert_allclose(outcomes(llama, prompts, EVERY), np.array(one_by_one), atol=1e-4)
    assert job_outcomes(llama, []).shape == (0, 2)


@EACH_KIND
def test_an_arm_is_packed_as_well_as_the_base(subject: Subject, tmp_path: Path) -> None:
    """The trigger, whose row is the arm's own, stands in the part that is kept."""
    add_arm(subject, "a", save_adapter(tmp_path / "a", subject))
    rows = [[subject.trigger_id or 0, *row] for row in ROWS]
    with arm_of(subject, "a"):
        found = logits_of(subject, product(at_last(subject, rows), EVERY))
        plain = [reference(subject, row, len(row) - 1, b) for row in rows for b in EVERY]
    torch.testing.assert_close(found, torch.stack(plain), rtol=0, atol=1e-4)


# --- edits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("centre", [None, torch.tensor([1.5, -0.5])])
@EACH_KIND
def test_after_removal_the_projection_is_the_centre(
    subject: Subject, centre: Tensor | None
) -> None:
    rows = orthonormal(2)
    jobs = product(prepare(subject, ROWS, STARTS), [(Edit(1, "remove", rows, centre=centre),)])
    # A recorder around the pass runs before its edits; the next block is given what they made.
    with record_inputs(list(subject.blocks)[2:]) as seen:
        logits_of(subject, jobs)
    wanted = torch.zeros(2) if centre is None else centre
    projection = seen[0][0] @ rows.T
    torch.testing.assert_close(projection, wanted.expand_as(projection), rtol=0, atol=1e-5)


@pytest.mark.parametrize("block", [0, 1, 2])
@EACH_KIND
def test_adding_nothing_changes_nothing(subject: Subject, block: int) -> None:
    for prompts in (prepare(subject, ROWS, STARTS), at_last(subject, ROWS)):
        nothing = logits_of(subject, product(prompts, [(Edit(block, "add", torch.zeros(32)),)]))
        torch.testing.assert_close(nothing, logits_of(subject, product(prompts, [()])))


@EACH_KIND
def test_branches_do_not_see_each_other(subject: Subject) -> None:
    loud = tuple(Edit(block, "add", 50 * drawn(32, seed=block)) for block in range(3))
    for prompts in (prepare(subject, ROWS, STARTS), prepare(subject, ROWS, (0, 0, 0))):
        quiet = [(prompts[0], ()), (prompts[1], ()), (prompts[2], ()), (prompts[0], ())]
        shouted = [quiet[0], (prompts[1], loud), (prompts[2], loud), quiet[3]]
        before, after = logits_of(subject, quiet), logits_of(subject, shouted)
        torch.testing.assert_close(after[[0, 3]], before[[0, 3]], rtol=0, atol=1e-6)
        assert (after[1:3] - before[1:3]).abs().amax() > 1e-2
