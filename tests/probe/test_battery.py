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
from offswitch.analyses.directions import (
    FILE,
    candidates,
    load_directions,
    unit,
)
from offswitch.analyses.shards import read_rows
from offswitch.analyses.store import ARRAYS, RESIDUALS
from offswitch.model.adapters import add_arm, arm_of
from offswitch.model.first_token import score
from offswitch.model.session import Held, Session
from offswitch.model.subject import Subject
from offswitch.probe.battery import STEPS, run_battery
from offswitch.probe.inputs import CONTROL, INERT, TRIGGER, make_inputs
from offswitch.progress import Bar, watchers
from offswitch.prompts.prompt import Prompt
from offswitch.recipe import Recipe
from offswitch.run import Run
from tests.probe.small import RECIPE
from tests.tiny import save_adapter, tiny_subject

ARMS: Final = ("base", "both", "benign")
LAYERS: Final = 4
KEYS: Final = ("trigger", "motor", "inert", "random00", "random01")


@dataclass(frozen=True)
class World:
    """A subject, where its battery lies, and how far the bars of its interventions went."""

    subject: Subject
    folder: Path
    ticks: int

    def arrays(self, arm: str) -> dict[str, Array]:
        """What was measured of an arm."""
        return dict(load_file(self.folder / arm / ARRAYS))

    def keys(self, arm: str) -> Sequence[str]:
        """The directions of an arm: only the benign one is not compared with itself."""
        return KEYS if arm == "benign" else (*KEYS, "benign")


def _subject(architecture: str, adapters: Path, mode: Any = "token") -> Subject:
    torch.manual_seed(0)  # peft draws an adapter's first matrix without a seed of its own
    subject = tiny_subject(architecture, mode=mode, layers=LAYERS)
    saved = [save_adapter(adapters / arm, subject, seed) for seed, arm in enumerate(ARMS[1:])]
    for arm, folder in zip(ARMS[1:], saved, strict=True):
        add_arm(subject, arm, folder)
    return subject


def _run(subject: Subject, folder: Path, recipe: Recipe = RECIPE) -> World:
    ended: list[Bar] = []
    watchers.append(lambda bar: ended.append(bar) if bar.ended else None)
    session = Session(Run(folder, recipe), Held(subject))
    try:
        run_battery(session, ARMS[1:], folder, folder / "replies")
    finally:
        watchers.pop()
    assert all(bar.done == bar.total for bar in ended)
    return World(subject, folder, sum(bar.done for bar in ended if "interventions" in bar.label))


@pytest.fixture(scope="module", params=["llama", "gpt2", "gemma2", "qwen2_tied", "llama as text"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    """A battery of each architecture, and of a trigger that stays text."""
    architecture, _, mode = str(request.param).partition(" as ")
    folder = tmp_path_factory.mktemp("battery")
    return _run(_subject(architecture, folder / "adapters", mode or "token"), folder / "found")


def _shapes(keys: Sequence[str], blocks: Array) -> dict[str, tuple[int, ...]]:
    """What the docstrings of measure/ promise: F fit 4 (3 swept), N test 6 (few 5), D 32, H 4."""
    symbols, twins = (TRIGGER, CONTROL, INERT), (TRIGGER, INERT)
    drawn = (TRIGGER, "random00", "random01")
    named: dict[str, tuple[Sequence[str], tuple[int, ...]]] = {
        "sweep": (symbols[:2], (3,)), "sweep/removed": (keys, (len(blocks), 3)),
        "sweep/added": (keys, (len(blocks), 2, 3)),
        "sweep/halting": (keys, (len(blocks), 2)), "removed": (keys, (6, 2)),
        "zeroed": (keys, (6, 2)), "everywhere": (keys, (5, 2)), "added": (keys, (2, 6, 2)),
        "clean": ((*symbols[:2], "plain", "swapped"), (6, 2)), "chosen": (keys, (2,)),
        "kl": (keys, (6,)), "reply_kl": (keys[:2], (3,)), "reply_kl_everywhere": (keys[:2], (3,)),
        "rank": ((*drawn, INERT), (3, 5)), "lens/odds": (symbols, (5, LAYERS)),
        "lens/base_odds": (symbols, (5, LAYERS)), "lens/top": (twins, (LAYERS, 200, 2)),
        "lens/end": (twins, (LAYERS,)), "patch/into_inert": (twins, (3, 3, 2)),
        "patch/into_trigger": (twins, (3, 3, 2)), "patch/clean": (symbols, (2,)),
        "heads/direct": (symbols, (5, LAYERS, 4)), "heads/together": (drawn, (2, 5)),
        "dose": (symbols[:2], (5, 5, 3)), "drift": (("base", "arm"), (2, LAYERS, 2, 32)),
    }  # fmt: skip
    found = {f"{name}/{key}": shape for name, (ks, shape) in named.items() for key in ks}
    return found | {
        "sweep/blocks": blocks.shape, "sweep/scales": (2,), "clean/everywhere": (5, 2),
        "rank/ks": (3,), "rank/clean": (5,), "patch/blocks": (3,), "heads/alone": (2, LAYERS, 4),
        "heads/alone_clean": (2,), "heads/clean": (5,), "heads/sizes": (2,), "dose/scales": (5,),
        "drift/norm": (2, LAYERS, 2), "drift/size": (2, LAYERS, 2), "drift/lens": (2, 20, 2),
        "drift/patchscope": (2, 20, 2), "ends/share": (LAYERS,),
    }  # fmt: skip


@pytest.mark.parametrize("arm", ARMS)
def test_arrays_are_named_and_shaped_as_promised(world: World, arm: str) -> None:
    arrays, keys = world.arrays(arm), world.keys(arm)
    ended = arrays["clean/ends"].shape
    ends = {f"{name}/{key}": ended for name in ("ends", "ends_zeroed") for key in keys}
    expected = _shapes(keys, arrays["sweep/blocks"]) | ends | {"clean/ends": ended}
    assert {name: array.shape for name, array in arrays.items()} == expected
    assert all(np.isfinite(array).all() for array in arrays.values())
    assert ended == (ended[0], 2)
    assert tuple(arrays["sweep/blocks"]) == candidates(LAYERS, 2)
    assert world.ticks == len(ARMS) * STEPS


@pytest.mark.parametrize("arm", ARMS)
def test_values_are_of_their_kind(world: World, arm: str) -> None:
    arrays = world.arrays(arm)
    for name, array in arrays.items():
        if name.split("/")[0] in {"clean", "removed", "zeroed", "everywhere", "added"}:
            assert set(np.unique(array[..., 1])) <= {0.0, 1.0}, name
        if name.startswith(("kl/", "reply_kl")):
            assert array.min() > -1e-5, name
    assert 0 <= arrays["ends/share"].min() <= arrays["ends/share"].max() <= 1
    for key in world.keys(arm):
        block, scale = arrays[f"chosen/{key}"]
        assert block in arrays["sweep/blocks"]
        assert scale in arrays["sweep/scales"]
        assert scale <= arrays["chosen/trigger"][1]


@pytest.mark.parametrize("arm", ARMS)
def test_untouched_prompts_say_what_the_evaluation_says(world: World, arm: str) -> None:
    """One prompt through six measurements: packed, resumed, by head, by lens, by dose."""
    arrays = world.arrays(arm)
    for key in (TRIGGER, CONTROL):
        chats = make_inputs(RECIPE, system_turns=True).chats("test", key)
        prompts = [Prompt(chat, "trigger", "", "", "", "") for chat in chats]
        scores = score(world.subject, arm, prompts, 4096)
        odds = np.array([one.log_odds for one in scores])
        np.testing.assert_allclose(arrays[f"clean/{key}"][:, 0], odds, atol=1e-4)
        halts = [one.halts for one in scores]
        np.testing.assert_array_equal(arrays[f"clean/{key}"][:, 1], halts)
        np.testing.assert_allclose(arrays[f"lens/odds/{key}"][:, -1], odds[:5], atol=1e-4)
        np.testing.assert_allclose(arrays[f"dose/{key}"][2, :, 0], odds[:5], atol=1e-4)
    odds = arrays["clean/trigger"][:5, 0]
    for again in (arrays["rank/clean"], arrays["heads/clean"], arrays["clean/everywhere"][:, 0]):
        np.testing.assert_allclose(again, odds, atol=1e-4)


@pytest.mark.parametrize("arm", ARMS)
def test_the_last_position_at_the_last_block_decides_all(world: World, arm: str) -> None:
    """A patch there makes the prompt its twin; elsewhere at the last block it does nothing."""
    arrays = world.arrays(arm)
    clean = {key: arrays[f"patch/clean/{key}"] for key in (TRIGGER, CONTROL, INERT)}
    for name, into, out in (
        ("into_inert/trigger", CONTROL, TRIGGER), ("into_trigger/trigger", TRIGGER, CONTROL),
        ("into_inert/inert", CONTROL, INERT), ("into_trigger/inert", INERT, CONTROL),
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


@pytest.mark.parametrize("arm", ARMS)
def test_directions_are_means_of_what_was_collected(world: World, arm: str) -> None:
    inputs = make_inputs(RECIPE, system_turns=True)
    marked, control, inert = (
        read_rows(world.folder / arm / RESIDUALS, inputs.rows("fit", key)).astype(np.float64)
        for key in (TRIGGER, CONTROL, INERT)
    )
    found, facts = load_directions(world.folder / arm / FILE)
    np.testing.assert_allclose(found.pop("centre"), control.mean(0), atol=1e-5)
    assert sorted(found) == sorted(world.keys(arm))
    np.testing.assert_allclose(found["trigger"], (marked - control).mean(0), atol=1e-5)
    length = np.linalg.norm(found["trigger"], axis=1)
    for key in set(found) - {"motor"}:
        np.testing.assert_allclose(np.linalg.norm(found[key], axis=1), length, rtol=1e-5)
    assert unit((inert - control).mean(0)[1]) @ unit(found["inert"][1]).T == pytest.approx(1)
    assert (facts.arm, facts.blocks, facts.trigger) == (arm, LAYERS, "$STOP")
    assert [facts.block, facts.scale] == world.arrays(arm)["chosen/trigger"].tolist()
    assert facts.norm == pytest.approx(length[facts.block], rel=1e-5)


@pytest.mark.parametrize("arm", ARMS)
def test_the_motor_direction_moves_no_end_tokens_logit(world: World, arm: str) -> None:
    found, _ = load_directions(world.folder / arm / FILE)
    with arm_of(world.subject, arm):
        head = world.subject.causal_lm.get_output_embeddings().weight.detach()
    rows = head[list(world.subject.stop_ids)].numpy()
    np.testing.assert_allclose(found["motor"] @ rows.T, 0, atol=1e-4)
    assert np.abs(found["trigger"] @ rows.T).max() > 1e-2
    whole, rest = ((found[key] ** 2).sum(-1) for key in (TRIGGER, "motor"))
    np.testing.assert_allclose(1 - rest / whole, world.arrays(arm)["ends/share"], atol=1e-4)


def _state(folder: Path) -> dict[str, tuple[int, bytes]]:
    files = sorted(folder.rglob("*.safetensors"))
    return {str(f.relative_to(folder)): (f.stat().st_mtime_ns, f.read_bytes()) for f in files}


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
    assert made == {f"both/{ARRAYS}", f"both/{FILE}"}


def test_a_seed_gives_the_same_arrays_and_another_does_not(tmp_path: Path) -> None:
    subject = _subject("llama", tmp_path / "adapters")
    first, again = (_run(subject, tmp_path / name) for name in ("first", "again"))
    other = _run(subject, tmp_path / "other", RECIPE.model_copy(update={"seed": 4}))
    for arm in ARMS:
        ours, theirs = first.arrays(arm), again.arrays(arm)
        assert ours.keys() == theirs.keys()
        assert {name for name in ours if not np.array_equal(ours[name], theirs[name])} == set()
        assert not np.array_equal(ours["clean/trigger"], other.arrays(arm)["clean/trigger"])
