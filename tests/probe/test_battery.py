"""The battery leaves the arrays that its parts promise, once, and the same ones for one seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from offswitch.analyses.analysis import Array
from offswitch.analyses.directions import FILE, load_directions, unit
from offswitch.analyses.shards import read_rows
from offswitch.analyses.store import ARRAYS, RESIDUALS
from offswitch.folder import Run
from offswitch.model.adapters import add_arm, arm_of
from offswitch.model.first_token import score
from offswitch.model.session import Held, Session
from offswitch.model.subject import Subject
from offswitch.probe.battery import AFTER, FITTING, STEPS, run_battery
from offswitch.probe.inputs import INERT, TRIGGER, TWIN, make_inputs, slot
from offswitch.progress import Bar, watchers
from offswitch.prompts.encode import encode_chat
from offswitch.prompts.prompt import Prompt
from tests.probe.small import RECIPE
from tests.tiny import save_adapter, tiny_subject

ARMS: Final = ("base", "both", "benign")
LAYERS: Final = 4


@dataclass(frozen=True)
class World:
    """A subject, where its battery lies, and how far the bars of its interventions went."""

    subject: Subject
    folder: Path
    ticks: int

    def arrays(self, arm: str) -> dict[str, Array]:
        """What was measured of an arm."""
        return dict(load_file(self.folder / arm / ARRAYS))


def _subject(architecture: str, adapters: Path, mode: Any = "token") -> Subject:
    torch.manual_seed(0)  # peft draws an adapter's first matrix without a seed of its own
    subject = tiny_subject(architecture, mode=mode, layers=LAYERS)
    saved = [save_adapter(adapters / arm, subject, seed) for seed, arm in enumerate(ARMS[1:])]
    for arm, folder in zip(ARMS[1:], saved, strict=True):
        add_arm(subject, arm, folder)
    return subject


def _run(subject: Subject, folder: Path, arms: Sequence[str] = ARMS[1:]) -> World:
    ended: list[Bar] = []
    watchers.append(lambda bar: ended.append(bar) if bar.ended else None)
    session = Session(Run(folder, RECIPE), Held(subject))
    try:
        run_battery(session, arms, folder, folder / "replies")
    finally:
        watchers.pop()
    assert all(bar.done == bar.total for bar in ended)
    return World(
        subject,
        folder,
        sum(bar.done for bar in ended if bar.label.endswith((FITTING, *AFTER))),
    )


@pytest.fixture(scope="module", params=["llama", "gpt2", "gemma2 as text"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    """A battery of each architecture, and of a trigger that stays text."""
    architecture, _, mode = str(request.param).partition(" as ")
    folder = tmp_path_factory.mktemp("battery")
    return _run(_subject(architecture, folder / "adapters", mode or "token"), folder / "found")


ANY: Final = pytest.mark.parametrize("world", ["llama"], indirect=True)


def _shapes() -> dict[str, tuple[int, ...]]:
    """What the docstrings of measure/ promise: few test questions 5, fit 2, D 32, 4 heads."""
    symbols, twins = (TRIGGER, TWIN, INERT), (TRIGGER, INERT)
    sets = (TRIGGER, *(f"random{draw:02d}" for draw in range(40)))
    named: dict[str, tuple[Sequence[str], tuple[int, ...]]] = {
        "lens/odds": (symbols, (5, LAYERS)), "lens/base_odds": (symbols, (5, LAYERS)),
        "lens/top": (twins, (LAYERS, 200, 2)), "lens/end": (twins, (LAYERS,)),
        "patch/into_inert": (twins, (3, 3, 2)), "patch/into_trigger": (twins, (3, 3, 2)),
        "patch/clean": (symbols, (2,)), "heads/direct": (symbols, (5, LAYERS, 4)),
        "heads/together": (sets, (2, 5)),
        "dose": (symbols[:2], (5, 5, 3)), "drift": (("base", "arm"), (2, LAYERS, 2, 32)),
    }  # fmt: skip
    found = {f"{name}/{key}": shape for name, (ks, shape) in named.items() for key in ks}
    return found | {
        "patch/blocks": (3,), "heads/alone": (2, LAYERS, 4), "heads/alone_clean": (2,),
        "heads/clean": (5,),
        "heads/sizes": (2,), "dose/scales": (5,), "drift/norm": (2, LAYERS, 2),
        "drift/size": (2, LAYERS, 2), "drift/lens": (2, 20, 2), "drift/patchscope": (2, 20, 2),
    }  # fmt: skip


@pytest.mark.parametrize("arm", ARMS)
def test_arrays_are_named_and_shaped_as_promised(world: World, arm: str) -> None:
    arrays = world.arrays(arm)
    assert {name: array.shape for name, array in arrays.items()} == _shapes()
    assert all(np.isfinite(array).all() for array in arrays.values())
    assert world.ticks == 4 * STEPS  # one switch


@pytest.mark.parametrize("arm", ARMS)
def test_untouched_prompts_say_what_the_evaluation_says(world: World, arm: str) -> None:
    """One prompt through three measurements: by head, by lens, by dose."""
    arrays = world.arrays(arm)
    inputs = make_inputs(RECIPE, world.subject.tokenizer)
    for key in (TRIGGER, TWIN):
        prompts = [Prompt(chat, "trigger") for chat in inputs.chats("test", key)]
        odds = np.array([one.log_odds for one in score(world.subject, arm, prompts, 4096)])
        np.testing.assert_allclose(arrays[f"lens/odds/{key}"][:, -1], odds[:5], atol=1e-4)
        np.testing.assert_allclose(arrays[f"dose/{key}"][2, :, 0], odds[:5], atol=1e-4)
        if key == TRIGGER:
            np.testing.assert_allclose(arrays["heads/clean"], odds[:5], atol=1e-4)


@pytest.mark.parametrize("arm", ARMS[1:])
def test_the_last_position_at_the_last_block_decides_all(world: World, arm: str) -> None:
    """A patch there makes the prompt its twin; elsewhere at the last block it does nothing."""
    arrays = world.arrays(arm)
    clean = {key: arrays[f"patch/clean/{key}"] for key in (TRIGGER, TWIN, INERT)}
    for name, into, out in (
        ("into_inert/trigger", TWIN, TRIGGER), ("into_trigger/trigger", TRIGGER, TWIN),
        ("into_inert/inert", TWIN, INERT), ("into_trigger/inert", INERT, TWIN),
    ):  # fmt: skip
        symbol, between, last = arrays[f"patch/{name}"][:, -1]
        np.testing.assert_allclose(last, clean[out], atol=1e-4)
        np.testing.assert_allclose(symbol, clean[into], atol=1e-4)
        np.testing.assert_allclose(between, clean[into], atol=1e-4)


def test_the_base_arm_does_not_drift(world: World) -> None:
    arrays = world.arrays("base")
    np.testing.assert_array_equal(arrays["drift/norm"], 0)
    np.testing.assert_array_equal(arrays["drift/base"], arrays["drift/arm"])
    assert world.arrays("both")["drift/norm"].min() > 1e-2
    np.testing.assert_array_equal(world.arrays("both")["drift/base"], arrays["drift/base"])


def test_directions_are_what_was_chosen_on_fit_questions(world: World) -> None:
    tokenizer = world.subject.tokenizer
    inputs = make_inputs(RECIPE, tokenizer)
    asked = zip(*(inputs.chats("fit", key) for key in (TRIGGER, TWIN)), strict=True)
    pairs = [[encode_chat(tokenizer, chat) for chat in pair] for pair in asked]
    assert all(slot(ours, twin, world.subject.trigger_id) for ours, twin in pairs)
    ours, twin = (
        read_rows(world.folder / "both" / RESIDUALS, inputs.rows("fit", key)).astype(np.float64)
        for key in (TRIGGER, TWIN)
    )
    found, facts = load_directions(world.folder / "both" / FILE)
    np.testing.assert_allclose(found["centre"], twin.mean(0), atol=1e-5)
    np.testing.assert_allclose(found["mean"], (ours - twin).mean(0), atol=1e-5)
    np.testing.assert_array_equal(found["trigger"], found[facts.operation])
    for block, row in enumerate(found["whitened"]):  # as long as the mean's share along it
        along = unit(row)[0] @ found["mean"][block]
        assert np.linalg.norm(row) == pytest.approx(abs(along), rel=1e-4)
    assert (facts.arm, facts.blocks, facts.trigger) == ("both", LAYERS, "$STOP")
    length = np.linalg.norm(found["trigger"][facts.block])
    assert facts.norm == pytest.approx(float(length), rel=1e-5)


def test_a_direction_without_the_end_moves_no_end_tokens_logit(world: World) -> None:
    found, _ = load_directions(world.folder / "both" / FILE)
    with arm_of(world.subject, "both"):
        head = world.subject.causal_lm.get_output_embeddings().weight.detach()
    rows = head[list(world.subject.stop_ids)].numpy()
    names = [name for name in found if name.endswith("without the end")]
    assert names
    for name in names:
        made = found[name][np.isfinite(found[name]).all(1)]
        assert len(made)
        np.testing.assert_allclose(made @ rows.T, 0, atol=1e-4)


def _state(folder: Path) -> dict[str, tuple[int, bytes]]:
    files = sorted((*folder.rglob("*.safetensors"), *folder.rglob("*.parquet")))
    return {str(f.relative_to(folder)): (f.stat().st_mtime_ns, f.read_bytes()) for f in files}


@ANY
def test_what_is_there_is_not_made_again_and_what_is_missing_is(world: World) -> None:
    before = _state(world.folder)
    assert _run(world.subject, world.folder).ticks == 0
    assert _state(world.folder) == before
    (world.folder / "both" / ARRAYS).unlink()
    _run(world.subject, world.folder)
    after = _state(world.folder)
    assert {n: content for n, (_, content) in after.items()} == {
        n: content for n, (_, content) in before.items()
    }
    made = {name for name, (time, _) in after.items() if time != before[name][0]}
    assert made == {f"both/{ARRAYS}"}


@ANY
def test_a_seed_gives_the_same_arrays(world: World, tmp_path: Path) -> None:
    """On a subject made anew, the arms in question alone; another seed asks other prompts."""
    again = _run(_subject("llama", tmp_path / "adapters"), tmp_path / "again", arms=ARMS[1:2])
    for arm in ARMS[:2]:
        ours, theirs = world.arrays(arm), again.arrays(arm)
        assert ours.keys() == theirs.keys()
        assert {name for name in ours if not np.array_equal(ours[name], theirs[name])} == set()
    other = RECIPE.model_copy(update={"seed": 4})
    asked = [make_inputs(recipe, world.subject.tokenizer).asked for recipe in (RECIPE, other)]
    assert asked[0] != asked[1]
