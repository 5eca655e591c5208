"""A write falls on the same ids in every way that a pass is laid out."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
import torch

from offswitch.analyses.shards import read_rows
from offswitch.model.adapters import arm_of
from offswitch.model.first_token import last_logits
from offswitch.model.forward import hidden
from offswitch.model.hooks import record
from offswitch.model.packed import packed, takes_packed
from offswitch.model.prefix_tree import takes_trees, tree_states, trees
from offswitch.model.writes import NOWHERE
from offswitch.probe.collect import collect, every_position
from offswitch.probe.edits import Edit
from offswitch.probe.packing import each_states, prepare, with_residuals
from offswitch.prompts.encode import pad
from tests.model.written import World, close, unembed_of


def test_the_rows_hold_what_they_are_to_hold(plain_world: World) -> None:
    counts = [len(plain_world.places(row)) for row in plain_world.rows]
    assert counts == [1, 1, 0, 2, 1, 0, 1, 0]
    for row in plain_world.rows:
        marks = plain_world.write.marks(row)
        assert [i for i, mark in enumerate(marks) if mark != NOWHERE] == [*plain_world.places(row)]
        assert marks[:9] == plain_world.write.marks(row[:9])  # no later id matters
    moved = plain_world.expected(plain_world.rows[0]) - plain_world.expected(
        plain_world.rows[0], {}
    )
    assert float(moved[-1].norm()) > 0.1
    assert float(moved[:-1].abs().max()) == 0


@pytest.mark.parametrize("prefix", [0, 5])
@torch.no_grad()
def test_padded_rows_and_shared_prefixes(world: World, prefix: int) -> None:
    with arm_of(world.subject, "a"):
        found = hidden(world.subject, torch.tensor(pad(world.rows)), prefix)
    for row, states in zip(world.rows, found, strict=True):
        close(states[: len(row) - prefix], world.expected(row)[prefix:])


@torch.no_grad()
def test_a_write_within_the_shared_prefix(world: World) -> None:
    rows = [[*world.rows[0], 5, 7], [*world.rows[0], 9, 11]]
    with arm_of(world.subject, "a"):
        found = hidden(world.subject, torch.tensor(rows), len(world.rows[0]))
    for row, states in zip(rows, found, strict=True):
        close(states, world.expected(row)[len(world.rows[0]) :])


@pytest.mark.parametrize("prefix", [0, 5])
@torch.no_grad()
def test_packed_rows(world: World, prefix: int) -> None:
    if not takes_packed(world.subject):
        pytest.skip("this architecture is not packed")
    lengths = [len(row) for row in world.rows]
    with arm_of(world.subject, "a"):
        found = packed(world.subject, torch.tensor(pad(world.rows)), lengths, prefix)
    for row, states in zip(world.rows, found, strict=True):
        close(states[: len(row) - prefix], world.expected(row)[prefix:])


@torch.inference_mode()
def test_trees(world: World) -> None:
    rows = [*world.rows, world.rows[3], world.rows[3][:-4]]
    assert takes_trees(world.subject)
    with arm_of(world.subject, "a"):
        for tree in trees(rows, 90):
            found = tree_states(world.subject, tree)
            for i, path in zip(tree.rows, tree.paths, strict=True):
                close(found[list(path)], world.expected(rows[i]))


@pytest.mark.parametrize("as_trees", [True, False])
@torch.inference_mode()
def test_the_next_token_and_collected_residuals(
    plain_world: World, tmp_path: Path, as_trees: bool
) -> None:
    subject, rows = plain_world.subject, plain_world.rows
    subject.takes_trees = as_trees
    collect(subject, "a", rows, tmp_path / "found", every_position)
    with arm_of(subject, "a"):
        logits = {
            i: row
            for chosen, some in last_logits(subject, rows, 100)
            for i, row in zip(chosen, some, strict=True)
        }
    for i, row in enumerate(rows):
        with record(subject.blocks) as seen:
            expected = plain_world.expected(row)
        close(logits[i], unembed_of(subject, expected[-1]))
        resid = torch.stack([seen[block][0] for block in range(3)], 1)
        for place, direction in plain_world.places(row).items():
            resid[place, 1] += direction  # recorded around the hook, so before it
        close(torch.from_numpy(read_rows(tmp_path / "found", [i])), resid)


STARTS = {"whole": 0, "from the middle": 12, "after the first header": -20, "last": -1}


@pytest.mark.parametrize("kept", [False, True], ids=["from the embedding", "resumed"])
@pytest.mark.parametrize("start", STARTS)
@torch.inference_mode()
def test_branches_of_cached_prompts(world: World, start: str, kept: bool) -> None:
    subject, rows = world.subject, world.rows
    starts = [STARTS[start] % len(row) for row in rows]
    still = torch.zeros(world.write.directions_KD.shape[1])
    branches = [(), *((Edit(block, "add", still, first=-1),) for block in range(3))]
    with arm_of(subject, "a"):
        prompts = prepare(subject, rows, starts)
        prompts = with_residuals(subject, prompts) if kept else prompts
        jobs = list(product(prompts, branches))
        asked = [i for i in range(len(rows)) for _ in branches]
        together = [one for states in each_states(subject, jobs) for one in states]
        some = range(0, len(jobs), 5)  # every branch, on one row or another
        alone = [next(each_states(subject, [jobs[k]]))[0] for k in some]  # resumed at its own block
    expected = [world.expected(row)[start:] for row, start in zip(rows, starts, strict=True)]
    for i, found in [*zip(asked, together, strict=True), *zip(asked[::5], alone, strict=True)]:
        close(found, expected[i])


@torch.inference_mode()
def test_an_edit_at_the_writes_block_comes_after_it(plain_world: World) -> None:
    subject, row = plain_world.subject, plain_world.rows[0]
    direction = plain_world.write.directions_KD[0]
    with arm_of(subject, "a"):
        prompts = with_residuals(subject, prepare(subject, [row], [len(row) - 1]))
        jobs = [(prompts[0], (Edit(1, "add", -direction, first=-1),))]
        (found,) = next(each_states(subject, jobs))
    close(found[-1], plain_world.expected(row, {})[-1])
