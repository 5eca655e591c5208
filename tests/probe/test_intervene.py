"""A packed branch says what a plain forward pass with hooks says, whatever else is in the pass."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import torch
from torch import Tensor

from offswitch.errors import UserError
from offswitch.model.adapters import add_arm, arm_of
from offswitch.model.first_token import end_log_odds
from offswitch.model.forward import unembed
from offswitch.model.hooks import Transform, edit, edit_inputs, record, record_inputs
from offswitch.model.subject import Subject, attention_outputs
from offswitch.probe import packing
from offswitch.probe.intervene import (
    TOLERANCE,
    Branch,
    Edit,
    Job,
    at_last,
    check_packing,
    each_logits,
    each_states,
    job_outcomes,
    outcomes,
    prepare,
    with_residuals,
)
from tests.tiny import save_adapter

# Longer than Gemma's window of eight; all begin alike, and the last two for longer.
ROWS: Final = (
    [5, 40, 300, 7, 90, 12, 60, 33, 210, 9],
    [5, 40, 300, 11, 91, 13, 61, 34, 211, 10, 44, 71, 8],
    [5, 40, 300, 11, 92, 14, 62],
)
STARTS: Final = (4, 6, 2)


def _values(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _rows(count: int) -> Tensor:
    """Orthonormal rows [count, D]."""
    rows: Tensor = torch.linalg.qr(_values(32, count, seed=count))[0].T
    return rows


def _add(block: int, seed: int, first: int = -1, last: int | None = None) -> Edit:
    return Edit(block, "add", _values(32, seed=seed), first, last)


def _set(block: int, seed: int, first: int = -1, last: int | None = None) -> Edit:
    return Edit(block, "set", _values(1, 32, seed=seed), first, last)


def _remove(block: int, count: int, first: int = -1, centre: Tensor | None = None) -> Edit:
    return Edit(block, "remove", _rows(count), first, centre=centre)


def _head(block: int, head: int, first: int = -1) -> Edit:
    return Edit(block, "head", _values(8, seed=head), first, column=8 * head)


BRANCHES: Final[dict[str, Branch]] = {
    "nothing": (),
    "remove": (_remove(1, 1),),
    "remove everywhere": (_remove(0, 2, first=0),),
    "remove to a centre": (_remove(1, 2, centre=_values(2)),),
    "add": (_add(2, 4),),
    "add early": (_add(0, 5, 0, 1),),
    "set": (_set(1, 6),),
    "set early": (_set(0, 7, 0, 1),),
    "head": (_head(1, 1),),
    "two heads": (_head(1, 0, first=0), _head(1, 3, first=0)),
    "several": (_head(2, 2), _add(0, 12, 0, 1), _remove(1, 3, centre=_values(3)), _add(2, 15)),
}
# Several edits of one block at one position: the later one sees what the earlier one made.
STACKED: Final[dict[str, Branch]] = {
    "set, then add": (_set(1, 6), _add(1, 4)),
    "add, then remove": (_add(1, 4), _remove(1, 1)),
    "remove, then add": (_remove(1, 1), _add(1, 4)),
    "add twice": (_add(1, 4), _add(1, 5)),
}
EVERY: Final = list(BRANCHES.values())


# --- a reference: one prompt, unpacked, with hooks ------------------------------------------------


def _by_hand(one: Edit, places: Sequence[int]) -> Transform:
    def transform(x: Tensor) -> Tensor:
        after = x.clone()
        for k, place in enumerate(places):
            if one.kind == "set":
                after[0, place] = one.value[k]
            elif one.kind == "add":
                after[0, place] += one.value
            elif one.kind == "head":
                after[0, place, one.column : one.column + len(one.value)] = one.value
            else:
                centre = torch.zeros(len(one.value)) if one.centre is None else one.centre
                for row, wanted in zip(one.value, centre, strict=True):
                    after[0, place] += (wanted - after[0, place] @ row) * row
        return after

    return transform


@torch.no_grad()
def _reference(subject: Subject, row: Sequence[int], start: int, branch: Branch) -> Tensor:
    """Logits [V] after the last position."""
    with ExitStack() as stack:
        for one in branch:
            there = {one.block: _by_hand(one, range(start, len(row))[one.first : one.last])}
            if one.kind == "head":
                stack.enter_context(edit_inputs(attention_outputs(subject), there))
            else:
                stack.enter_context(edit(subject.blocks, there))
        states = subject.backbone(input_ids=torch.tensor([list(row)]), use_cache=False)
    return unembed(subject, states.last_hidden_state[0, -1])


def _expected(subject: Subject, starts: Sequence[int]) -> Tensor:
    """Logits [prompts * branches, V], every branch of every prompt."""
    rows = zip(ROWS, starts, strict=True)
    return torch.stack([_reference(subject, row, s, b) for row, s in rows for b in EVERY])


def _logits(subject: Subject, jobs: Iterable[Job]) -> Tensor:
    return torch.cat(list(each_logits(subject, list(jobs))))


# --- packed passes --------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [False, True], ids=["from the embedding", "resumed"])
@pytest.mark.parametrize("starts", [(0, 0, 0), STARTS, (9, 12, 6)], ids=["whole", "tail", "last"])
def test_branches_equal_plain_passes(subject: Subject, starts: tuple[int, ...], kept: bool) -> None:
    prompts = prepare(subject, ROWS, starts)
    prompts = with_residuals(subject, prompts) if kept else prompts
    off = _logits(subject, product(prompts, EVERY)) - _expected(subject, starts)
    names = [f"{i}: {name}" for i in range(len(ROWS)) for name in BRANCHES]
    assert [n for n, d in zip(names, off.abs().amax(-1), strict=True) if not d < 1e-4] == []


@pytest.mark.parametrize("name", STACKED)
def test_edits_of_one_place_follow_each_other(llama: Subject, name: str) -> None:
    found = _logits(llama, product(at_last(llama, ROWS[1:2]), [STACKED[name]]))[0]
    expected = _reference(llama, ROWS[1], len(ROWS[1]) - 1, STACKED[name])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_edits_of_one_place_keep_their_order_in_any_company(llama: Subject) -> None:
    prompts = at_last(llama, ROWS[:1])
    branches = [STACKED["add, then remove"], STACKED["remove, then add"]]
    alone = torch.cat([_logits(llama, product(prompts, [branch])) for branch in branches])
    torch.testing.assert_close(_logits(llama, product(prompts, branches)), alone, atol=1e-5, rtol=0)


def test_outcomes_come_in_the_order_of_the_jobs(subject: Subject) -> None:
    """Though jobs are sorted by their first block, which some here share and most do not."""
    logits = _expected(subject, (9, 12, 6))
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


def test_states_are_those_of_the_tail(subject: Subject) -> None:
    jobs = [(prompt, ()) for prompt in prepare(subject, ROWS, STARTS)]
    states = [rows_KD for some in each_states(subject, jobs) for rows_KD in some]
    for row, start, found in zip(ROWS, STARTS, states, strict=True):
        with torch.no_grad():
            plain = subject.backbone(input_ids=torch.tensor([row])).last_hidden_state[0, start:]
        torch.testing.assert_close(found, plain, rtol=0, atol=1e-4)


@pytest.mark.parametrize("times", [1, 2])
def test_kept_residuals_are_those_of_a_plain_pass(subject: Subject, times: int) -> None:
    prompts = prepare(subject, ROWS, STARTS)
    for _ in range(times):
        prompts = with_residuals(subject, prompts)
    for row, start, prompt in zip(ROWS, STARTS, prompts, strict=True):
        with record(subject.blocks) as resid:
            _reference(subject, row, 0, ())
        plain = torch.stack([resid[i][0, start:] for i in range(len(resid))])
        torch.testing.assert_close(prompt.resid, plain, rtol=0, atol=1e-4)


def test_an_arm_is_packed_as_well_as_the_base(subject: Subject, tmp_path: Path) -> None:
    """The trigger, whose row is the arm's own, stands in the part that is kept."""
    add_arm(subject, "a", save_adapter(tmp_path / "a", subject))
    rows = [[subject.trigger_id or 0, *row] for row in ROWS]
    with arm_of(subject, "a"):
        found = _logits(subject, product(at_last(subject, rows), EVERY))
        plain = [_reference(subject, row, len(row) - 1, b) for row in rows for b in EVERY]
    torch.testing.assert_close(found, torch.stack(plain), rtol=0, atol=1e-4)


# --- edits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("centre", [None, torch.tensor([1.5, -0.5])])
def test_after_removal_the_projection_is_the_centre(
    subject: Subject, centre: Tensor | None
) -> None:
    rows = _rows(2)
    jobs = product(prepare(subject, ROWS, STARTS), [(Edit(1, "remove", rows, centre=centre),)])
    # A recorder around the pass runs before its edits; the next block is given what they made.
    with record_inputs(list(subject.blocks)[2:]) as seen:
        _logits(subject, jobs)
    wanted = torch.zeros(2) if centre is None else centre
    projection = seen[0][0] @ rows.T
    torch.testing.assert_close(projection, wanted.expand_as(projection), rtol=0, atol=1e-5)


@pytest.mark.parametrize("block", [0, 1, 2])
def test_adding_nothing_changes_nothing(subject: Subject, block: int) -> None:
    for prompts in (prepare(subject, ROWS, STARTS), at_last(subject, ROWS)):
        nothing = _logits(subject, product(prompts, [(Edit(block, "add", torch.zeros(32)),)]))
        torch.testing.assert_close(nothing, _logits(subject, product(prompts, [()])))


def test_branches_do_not_see_each_other(subject: Subject) -> None:
    loud = tuple(Edit(block, "add", 50 * _values(32, seed=block)) for block in range(3))
    for prompts in (prepare(subject, ROWS, STARTS), prepare(subject, ROWS, (0, 0, 0))):
        quiet = [(prompts[0], ()), (prompts[1], ()), (prompts[2], ()), (prompts[0], ())]
        shouted = [quiet[0], (prompts[1], loud), (prompts[2], loud), quiet[3]]
        before, after = _logits(subject, quiet), _logits(subject, shouted)
        torch.testing.assert_close(after[[0, 3]], before[[0, 3]], rtol=0, atol=1e-6)
        assert (after[1:3] - before[1:3]).abs().amax() > 1e-2


# --- the preflight, and memory --------------------------------------------------------------------


def test_packing_passes_its_check(subject: Subject) -> None:
    check_packing(subject, ROWS[1])


@pytest.mark.parametrize("broken", ["all", "none", "left", "ignored"])
def test_broken_packing_is_refused(
    subject: Subject, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """All see all; none any; all whoever stands to the left; or the model heeds no mask."""
    real = packing._masks

    def spoilt(mask: Tensor) -> Tensor:
        shut = torch.full_like(mask, torch.finfo(mask.dtype).min)
        left = shut.triu(1 + mask.shape[-1] - mask.shape[-2])
        return {"all": torch.zeros_like(mask), "none": shut, "left": left}[broken]

    def masks(*given: Any) -> Any:
        found = real(*given)
        return (
            {k: spoilt(m) for k, m in found.items()} if isinstance(found, dict) else spoilt(found)
        )

    monkeypatch.setattr(packing, "_masks", masks if broken != "ignored" else lambda *_: None)
    with pytest.raises(UserError, match="a packed pass differs from a plain one") as refusal:
        check_packing(subject, ROWS[1])
    found = re.search(r"\((\S+)\)", str(refusal.value))
    assert found is not None
    assert float(found[1]) > 1.3 * TOLERANCE[torch.bfloat16], "rounding could hide it"


@pytest.mark.parametrize(("tokens", "keys"), [(7, 1000), (1000, 7), (5, 5), (384, 768)])
def test_passes_are_bounded_unless_one_job_is_larger(
    llama: Subject, monkeypatch: pytest.MonkeyPatch, tokens: int, keys: int
) -> None:
    real, passes = packing._masks, list[tuple[int, int, int]]()

    def masks(subject: Subject, jobs: Any, segments: Any, places: Any) -> Any:
        passes.append((len(jobs), len(places), sum(s.end - s.start for s in segments)))
        return real(subject, jobs, segments, places)

    expected = _expected(llama, STARTS)
    monkeypatch.setattr(packing, "PASS_TOKENS", tokens)
    monkeypatch.setattr(packing, "PASS_KEYS", keys)
    monkeypatch.setattr(packing, "_masks", masks)
    prompts = with_residuals(llama, prepare(llama, ROWS, STARTS))
    torch.testing.assert_close(_logits(llama, product(prompts, EVERY)), expected, rtol=0, atol=1e-4)
    assert all(jobs == 1 or (t <= tokens and k <= keys) for jobs, t, k in passes)
    assert (max(jobs for jobs, _, _ in passes) == 3 * len(EVERY)) == (tokens == 384)
