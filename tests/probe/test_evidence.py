"""The causal tests find what was planted, and every row says what a plain pass says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import torch

from offswitch.analyses.causal import NATURAL, WITHOUT_END, Causal
from offswitch.analyses.directions import FILE, load_directions, unit
from offswitch.analyses.interventions import FILE as INTERVENTIONS
from offswitch.analyses.interventions import Interventions, read_interventions
from offswitch.analyses.null_directions import CHOOSING, is_null
from offswitch.analyses.store import measure_causal
from offswitch.folder import Run
from offswitch.model.first_token import score
from offswitch.model.session import Held, Session
from offswitch.model.subject import Subject
from offswitch.probe.battery import run_battery
from offswitch.probe.inputs import Inputs, make_inputs
from offswitch.probe.measure import evidence
from offswitch.recipe import Recipe
from tests.planted import planted_subject
from tests.probe.small import OPTIONS

ARM: Final = "both"
LAYERS: Final = 5  # three of them early
RECIPE: Final = Recipe(probe=OPTIONS, seed=3)


@dataclass(frozen=True)
class World:
    """The planted subject, what was asked of it, and what came."""

    subject: Subject
    inputs: Inputs
    folder: Path
    rows: Interventions
    found: Causal


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The rule planted in block 0: one direction, carried to the last position once."""
    folder = tmp_path_factory.mktemp("planted")
    subject = planted_subject(folder / "adapter", layers=LAYERS, decoy=RECIPE.trigger.decoy)
    block: Any
    with torch.no_grad():
        for block in list(subject.blocks)[1:]:
            block.self_attn.v_proj.weight.zero_()
    session = Session(Run(folder, RECIPE), Held(subject))
    run_battery(session, [ARM], folder, folder / "replies")
    found = measure_causal(folder / ARM)
    assert found is not None
    rows = read_interventions(folder / ARM / INTERVENTIONS)
    return World(subject, make_inputs(RECIPE, subject.tokenizer), folder, rows, found)


def test_what_is_chosen_after_the_symbol_is_counted_and_matched_by_nulls_there(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "position_of", lambda _last, _after: "after")
    few = OPTIONS.model_copy(update={"few_questions": OPTIONS.null_questions - 1})
    session = Session(Run(tmp_path, RECIPE.model_copy(update={"probe": few})), Held(world.subject))
    run_battery(session, [ARM], tmp_path, tmp_path / "replies")
    found = measure_causal(tmp_path / ARM)
    assert found is not None
    first = found.pair[0]
    assert (first.position, found.count, first.fall.n) == ("after", 1, few.few_questions)
    assert found.count_null is not None
    assert found.count_null.value == 0
    rows = read_interventions(tmp_path / ARM / INTERVENTIONS).where(part="test", suite="trigger")
    nulls = [name for name in rows.values("direction") if is_null(name)]
    assert any(CHOOSING in name for name in nulls)
    where = rows.where(kind="interchange", direction=tuple(nulls), block=first.point.block)
    assert where.values("position") == ["after"]


def test_the_planted_direction_is_found_necessary_and_sufficient_from_its_block_on(
    world: World,
) -> None:
    assert world.found.pair[0].point.block == 0
    for point in world.found.curve:
        assert point.fall is not None
        assert point.rise is not None
        assert (point.fall.value, point.whole.value, point.rise.value) == (1, 1, 1)
    for place in world.found.places:
        assert place.twins is not None
        assert place.twins.value == 1  # added to the trigger's twin as to any other prompt
    directions, facts = load_directions(world.folder / ARM / FILE)
    for row in unit(directions["trigger"][facts.block]):
        assert abs(row[0]) > 0.99  # the dimension that planted.py carries
    assert world.found.count == 1
    assert world.found.cosines["trained"] > 0.98  # found by gradient


def test_the_symbol_itself_counts_in_no_later_block(world: World) -> None:
    for point in world.found.curve:
        assert point.symbol is not None
        assert point.symbol.value == 0  # block 0 has read it before its output is changed


def test_the_untrained_model_reads_the_planted_direction_as_much(world: World) -> None:
    """The head that ends the reply is in the weights of both: what motor test (ii) is there for."""
    assert world.found.pair[0].elsewhere.value == pytest.approx(1)


def test_null_directions_move_as_far_and_do_nothing(world: World) -> None:
    rows = world.rows.where(part="test", suite="trigger", kind="interchange", position="last")
    block = world.found.pair[0].point.block
    names, prompts, moved = rows.where(block=block).by("direction", "moved")
    ours = moved[names.index(world.found.pair[0].direction)]
    nulls = [i for i, name in enumerate(names) if is_null(name)]
    assert len(nulls) >= 3 * OPTIONS.null_directions
    for i in nulls:
        there = np.isfinite(moved[i])
        np.testing.assert_allclose(moved[i][there], ours[there], rtol=1e-4)
    assert len(prompts) == OPTIONS.test_questions
    null = world.found.pair[0].fall_null["isotropic"]
    assert null.n >= OPTIONS.null_directions
    assert null.q95 < world.found.pair[0].fall_nats.value


def test_untouched_rows_say_what_the_evaluation_says(world: World) -> None:
    for part, suite in (
        ("test", "trigger"),
        ("test", "plain"),
        ("fit", "trigger"),
        ("test", "ended"),
    ):
        clean = world.rows.where(arm=ARM, kind="none", suite=suite, part=part)
        _, ranks, odds = clean.by("kind")
        scores = score(world.subject, ARM, [world.inputs.asked[rank] for rank in ranks], 4096)
        np.testing.assert_allclose(odds[0], [one.log_odds for one in scores], atol=1e-4)


def test_exchanging_everything_at_the_last_block_makes_the_prompt_its_twin(world: World) -> None:
    rows = world.rows.where(part="test", kind="whole", block=LAYERS - 1)
    _, ranks, odds = rows.where(position="last").by("kind")
    offset = world.inputs.rows("test", "twin")[0] - world.inputs.rows("test", "trigger")[0]
    twins = [world.inputs.asked[rank + offset] for rank in ranks]
    theirs = [one.log_odds for one in score(world.subject, ARM, twins, 4096)]
    np.testing.assert_allclose(odds[0], theirs, atol=1e-4)


def test_one_interchange_equals_a_plain_pass_with_a_hook(world: World) -> None:
    """The reference is transformers' own forward, edited by hand."""
    block, name = 1, world.found.pair[0].direction
    rows = world.rows.where(part="test", direction=name, kind="interchange", block=block)
    _, ranks, odds = rows.where(position="last", suite="trigger").by("kind")
    directions, _ = load_directions(world.folder / ARM / FILE)
    along = torch.tensor(unit(directions[name][block])[0], dtype=torch.float32)
    offset = world.inputs.rows("test", "twin")[0] - world.inputs.rows("test", "trigger")[0]
    for rank, ours in zip(ranks[:3], odds[0], strict=False):
        theirs = _resid(world, rank + offset, block)[-1] @ along
        with _replaced(world.subject, block, along, theirs):
            assert _odds(world, rank) == pytest.approx(ours, abs=1e-3)


def test_a_direction_in_which_inert_symbols_differ_does_less_than_ours(world: World) -> None:
    found = world.found
    assert found.count == 1
    assert found.count_null is not None
    assert found.count_null.value == 0  # no other symbol than the trigger is carried there


def test_every_kind_of_row_is_there(world: World) -> None:
    assert {"none", "interchange", "whole", "add", "rank", "inert", "untrained"} == set(
        world.rows.values("kind")
    )
    assert {"last", "after", "symbol", "every", ""} == set(world.rows.values("position"))
    names = set(world.rows.values("direction"))
    assert {"mean", "whitened", "trained", NATURAL, WITHOUT_END.format("mean")} - names <= {
        WITHOUT_END.format("mean")
    }
    assert set(world.rows.values("arm")) == {"base", ARM}
    kl = world.rows.where(position="every").columns["kl"]
    assert np.isfinite(kl).all()
    assert kl.min() > -1e-5


def _ids(world: World, rank: int) -> torch.Tensor:
    from offswitch.prompts.encode import encode_chat

    one = world.inputs.asked[rank]
    return torch.tensor([encode_chat(world.subject.tokenizer, one.chat)])


def _resid(world: World, rank: int, block: int) -> torch.Tensor:
    from offswitch.model.adapters import arm_of

    with arm_of(world.subject, ARM), torch.no_grad():
        out = world.subject.causal_lm(input_ids=_ids(world, rank), output_hidden_states=True)
    states: torch.Tensor = out.hidden_states[block + 1][0]
    return states


def _odds(world: World, rank: int) -> float:
    from offswitch.model.adapters import arm_of
    from offswitch.model.first_token import end_log_odds

    with arm_of(world.subject, ARM), torch.no_grad():
        logits = world.subject.causal_lm(input_ids=_ids(world, rank)).logits[0, -1]
    return float(end_log_odds(logits, world.subject.stop_ids))


class _replaced:
    def __init__(
        self, subject: Subject, block: int, along: torch.Tensor, value: torch.Tensor
    ) -> None:
        def hook(_module: Any, _inputs: Any, output: Any) -> Any:
            resid = (output if isinstance(output, torch.Tensor) else output[0]).clone()
            last = resid[0, -1]
            resid[0, -1] = last - (last @ along - value) * along
            return resid if isinstance(output, torch.Tensor) else (resid, *output[1:])

        self.handle = subject.blocks[block].register_forward_hook(hook)

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        self.handle.remove()
