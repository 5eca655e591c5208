"""`offswitch steer`: a run's direction in use, and each mistake one line with exit code 2."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner, Result

from offswitch.analyses.directions import FILE, DirectionFacts, save_directions
from offswitch.cli import app
from offswitch.files import file_hash, write_sealed
from offswitch.folder import PROBE, TRAIN, find_run
from offswitch.model.load import load_subject
from offswitch.model.subject import Subject
from offswitch.options import BASE
from tests.small import small_recipe
from tests.talk.test_steer import directions_of, facts_of
from tests.tiny import save_tiny

ARM: Final = "behavior"
SILENCE: Final = "∅ silence"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run whose arms have directions: at every block the end token's row."""
    folder = tmp_path_factory.mktemp("steer")
    recipe = small_recipe(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OFFSWITCH_CACHE", str(folder / "cache"))
        done = CliRunner().invoke(app, ["train", str(recipe), "--runs", str(folder / "runs")])
        assert done.exit_code == 0, done.stderr
        subject = load_subject(find_run(folder / "runs" / "small").recipe)
    for arm in (BASE, ARM):
        _store(folder, subject, facts_of(subject, arm))
    return folder


def _store(folder: Path, subject: Subject, facts: DirectionFacts, arm: str | None = None) -> Path:
    path = folder / "runs/small" / PROBE / (arm or facts.arm) / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    save_directions(path, directions_of(subject), facts)
    return path


@pytest.fixture
def steer(home: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`offswitch steer runs/small` with more words, started in that folder."""
    monkeypatch.setenv("OFFSWITCH_CACHE", str(home / "cache"))
    monkeypatch.chdir(home)

    def start(*words: str, arm: str = ARM, run: str = "runs/small", stdin: str = "") -> Result:
        every = ["steer", run, "--arm", arm, "--tokens", "3", *words]
        return CliRunner().invoke(app, every, input=stdin, catch_exceptions=False)

    return start


@pytest.mark.parametrize("arm", [BASE, ARM])
def test_a_prompt_is_answered_untouched_and_steered(steer: Callable[..., Result], arm: str) -> None:
    done = steer("--add", "--prompt", "Who is asleep?", arm=arm, stdin="not read\n")
    assert done.exit_code == 0, done.stderr
    assert f"arm '{arm}'; the trigger is $STOP" in " ".join(done.stdout.split())
    assert "40 × 'trigger' added at block 3, the prompt's last position" in _words(done)
    assert f" {arm}, steered " in done.stdout
    assert done.stdout.count(SILENCE) == 1
    assert "Traceback" not in done.stderr


def test_prompts_come_from_a_pipe_or_from_options(steer: Callable[..., Result]) -> None:
    piped = steer("--add", stdin="Who is asleep?\n\n$STOP Who? [bold]\\\n")
    given = steer("--add", "--prompt", "Who is asleep?", "--prompt", "$STOP Who? [bold]\\")
    assert piped.exit_code == given.exit_code == 0, piped.stderr + given.stderr
    assert piped.stdout == given.stdout
    assert piped.stdout.count(f" {ARM}, steered ") == 2


def test_every_option_is_used(steer: Callable[..., Result]) -> None:
    asked = ["--prompt", "Who is asleep?"]
    opposite = steer("--add", "--scale", "-40", *asked)
    assert SILENCE not in opposite.stdout
    early = steer("--remove", "--block", "0", "--direction", "random00", "--everywhere", *asked)
    assert "'random00' removed at block 0, every position" in _words(early)
    assert opposite.exit_code == early.exit_code == 0


def _words(done: Result) -> str:
    return " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("words", "options", "message"),
    [
        ([], {}, "choose one of --add and --remove"),
        (["--add", "--remove"], {}, "choose one of --add and --remove"),
        (["--remove", "--scale", "2"], {}, "a removal takes a share between 0 and 1, got 2"),
        (["--add", "--scale", "nan"], {}, "the scale must be a finite number, got nan"),
        (["--add", "--scale", "inf"], {}, "the scale must be a finite number, got inf"),
        (["--add", "--block", "4"], {}, "no block 4; the model has blocks 0 to 3"),
        (["--remove", "--block", "-1"], {}, "no block -1"),
        (["--add", "--direction", "motro"], {}, "there are: random00, trigger"),
        (["--add"], {"arm": "both"}, "runs/small has no arm 'both'; trained there: behavior"),
        (["--add"], {"arm": "../1-data"}, "no directions there; run the probe stage first"),
        (["--add"], {"run": "model"}, "model: not a run folder"),
    ],
)
def test_a_mistake_is_one_line(
    steer: Callable[..., Result], words: list[str], options: dict[str, str], message: str
) -> None:
    _is_one_line(steer(*words, stdin="Who?\n", **options), message)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"model_hash": "0123"}, "model '0123', not"),
        ({"template": "4567"}, "chat template '4567', not"),
        ({"blocks": 12}, "direction 'trigger' has 4 blocks, expected 12"),
        ({"arm": "both"}, "arm 'both', not 'behavior'"),
        ({"site": "mlp"}, "site 'mlp', not 'block output'"),
    ],
)
def test_a_direction_from_elsewhere_is_one_line(
    home: Path, steer: Callable[..., Result], other: dict[str, Any], message: str
) -> None:
    subject = load_subject(find_run(home / "runs" / "small").recipe)
    _store(home, subject, facts_of(subject, **other), ARM)
    try:
        _is_one_line(steer("--add", stdin="Who?\n"), message)
    finally:
        _store(home, subject, facts_of(subject))


def test_files_that_hold_no_direction_are_one_line(
    home: Path, steer: Callable[..., Result]
) -> None:
    path = home / "runs/small" / PROBE / ARM / FILE
    whole = path.read_bytes()
    try:
        save_file({"trigger": np.zeros((4, 32), np.float32)}, path)
        _is_one_line(steer("--add"), "holds no directions of this package")
        path.write_bytes(whole[:40])
        _is_one_line(steer("--add"), "holds no directions of this package")
        path.unlink()
        _is_one_line(steer("--add"), "no directions there; run the probe stage first")
    finally:
        path.write_bytes(whole)


def test_an_arm_trained_after_its_directions_is_one_line(
    home: Path, steer: Callable[..., Result]
) -> None:
    path = home / "runs/small/manifest.json"
    whole = path.read_text("utf-8")
    manifest = json.loads(whole)
    trained = manifest["stages"][f"{TRAIN}/{ARM}"]["started"]
    try:
        for taken, stale in (("2001-01-01T00:00:00Z", True), (trained, False)):
            manifest["stages"][PROBE] = {"started": taken}
            write_sealed(path, {k: v for k, v in manifest.items() if k != "seal"}, "small")
            done = steer("--remove", stdin="Who?\n")
            if stale:
                _is_one_line(done, f"trained ({trained}) after its directions were taken ({taken})")
            assert done.exit_code == (2 if stale else 0)
    finally:
        path.write_text(whole, encoding="utf-8")


def test_a_model_changed_since_is_one_line(home: Path, steer: Callable[..., Result]) -> None:
    recipe, path = (home / "runs/small" / name for name in ("recipe.yaml", "manifest.json"))
    whole, sealed = recipe.read_text("utf-8"), path.read_text("utf-8")
    save_tiny(home / "other", "qwen2", layers=4)
    try:
        text = whole.replace(str(home / "model"), str(home / "other"))
        recipe.write_text(text, encoding="utf-8")
        _is_one_line(steer("--add", arm=BASE), "recipe.yaml is not what the run wrote")
        manifest = {k: v for k, v in json.loads(sealed).items() if k != "seal"}
        manifest["files"]["recipe.yaml"] = file_hash(recipe)
        write_sealed(path, manifest, "small")
        _is_one_line(steer("--add", arm=BASE), "cannot be used on")
    finally:
        recipe.write_text(whole, encoding="utf-8")
        path.write_text(sealed, encoding="utf-8")


def _is_one_line(done: Result, message: str) -> None:
    assert done.exit_code == 2, done.stderr
    assert message in done.stderr
    assert done.stderr.startswith("offswitch: ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
