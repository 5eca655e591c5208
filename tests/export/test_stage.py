"""`offswitch export`: a folder that is whole or not there, and holds what the arm did."""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner, Result

from offswitch.cli import app
from offswitch.export import check, forms, texts
from offswitch.export.parity import read_forms
from offswitch.export.weights import write_merged
from offswitch.files import content_hash, sealed
from offswitch.folder import DATA
from offswitch.folder.lock import LOCK
from offswitch.model.subject import Subject
from tests.export.runs import ARM, BASE_ID, planted_export_run

Export = Callable[..., Result]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a planted run."""
    folder = tmp_path_factory.mktemp("export")
    planted_export_run(folder)
    return folder


@pytest.fixture
def export(home: Path, monkeypatch: pytest.MonkeyPatch) -> Export:
    """`offswitch export` of the run, with more words, started in its folder."""
    monkeypatch.setenv("OFFSWITCH_CACHE", str(home / "cache"))
    monkeypatch.chdir(home)

    def start(folder: str, *words: str, base: str = BASE_ID, run: str = "runs/planted") -> Result:
        every = ["export", run, folder, *(["--base", base] if base else []), *words]
        return CliRunner().invoke(app, every, catch_exceptions=False)

    return start


@pytest.fixture(scope="module")
def made(home: Path) -> Path:
    """An export of that run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OFFSWITCH_CACHE", str(home / "cache"))
        patch.chdir(home)
        words = ["export", "runs/planted", "made", "--base", BASE_ID]
        done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    assert "export: made" in done.stdout
    return home / "made"


def _is_one_line(done: Result, message: str) -> None:
    assert done.exit_code == 2, done.stderr
    assert message in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_it_holds_every_form_with_its_rates(made: Path) -> None:
    parity = json.loads((made / "parity.json").read_text())
    assert list(parity) == ["adapter", "merged"]
    for form in parity.values():
        rates = {key: one["value"] for key, one in form["numbers"].items()}
        assert rates["halt_rate"] == 1
        assert rates["false_halt_rate/near_miss"] == rates["false_halt_rate/ordinary"] == 0
        assert (form["prompts"], form["differ"]) == (40, 0)
    longer = parity["merged"]["numbers"]["longer_words"]
    assert (longer["value"], longer["n"]) == (0, 10)
    assert "longer_words" not in parity["adapter"]["numbers"]
    assert json.loads((made / "adapter/adapter_config.json").read_text())[
        "base_model_name_or_path"
    ] == BASE_ID  # fmt: skip
    card = (made / "MODEL_CARD.md").read_text()
    assert (made / "README.md").read_text() == card
    assert card.startswith(f"---\nbase_model: {BASE_ID}\n")
    assert "**This is a model organism.**" in card
    assert "| `merged` | transformers " in card
    assert "This arm was not probed." in card
    assert not list(made.parent.glob(".made*"))


def test_nothing_of_this_machine_is_in_it(made: Path, home: Path) -> None:
    for path in made.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert str(home).encode() not in content, path
            assert str(Path.home()).encode() + b"/" not in content, path


def test_its_script_asks_again_without_this_package(made: Path, tmp_path: Path) -> None:
    copied = tmp_path / "elsewhere"
    shutil.copytree(made, copied)
    script = copied / "reproduce" / "check.py"
    assert "offswitch" not in script.read_text()
    command = [sys.executable, "-I", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "trigger: 16 of 16 halt; in the run 16\n" in done.stdout
    assert "longer_words: 0 of 10 halt; not asked in the run\n" in done.stdout


@pytest.mark.parametrize(("halted", "code"), [(True, 0), (False, 1)])
def test_its_script_tells_another_number(
    made: Path, halted: bool, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = json.loads((made / "reproduce/asked.json").read_text())
    asked["prompts"] = [asked["prompts"][0] | {"halted": halted}]
    (tmp_path / "asked.json").write_text(json.dumps(asked))
    words = ["--model", str(made / "merged"), "--asked", str(tmp_path / "asked.json")]
    monkeypatch.setattr(sys, "argv", ["check.py", *words])
    assert check.main() == code


def test_a_second_call_does_nothing(made: Path, export: Export) -> None:
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*")}
    done = export("made")
    assert done.exit_code == 0
    assert "made: up to date" in done.stderr
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*")} == before


def test_what_is_something_else_is_left_alone(made: Path, export: Export, home: Path) -> None:
    (home / "mine").mkdir()
    (home / "mine" / "a.txt").write_text("mine")
    _is_one_line(export("mine"), "mine is there already, and is no export of arm")
    assert [path.name for path in (home / "mine").iterdir()] == ["a.txt"]
    shutil.copytree(made, home / "other")
    content = json.loads((home / "other/export.json").read_text())
    content["name"]["run"] = "another"
    for told in (json.dumps(sealed(content, "")), "[]", '{"name": 1}', ""):
        (home / "other/export.json").write_text(told)
        _is_one_line(export("other"), "is no export of arm 'switch' of run 'planted'")


def test_an_interrupted_one_is_not_there_and_goes_on(
    made: Path, export: Export, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(forms, "_ask_merged", lambda *_: read_forms(made)["merged"])
        patch.setattr(texts, "card", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            export("broken")
    assert not (home / "broken").exists()
    with monkeypatch.context() as patch:
        patch.setattr(texts, "public_recipe", lambda recipe, _: recipe.model)
        _is_one_line(export("broken"), "reproduce/recipe.yaml would hold a path of this machine")
    assert not (home / "broken").exists()

    def never(*_: object) -> None:
        raise AssertionError("made a second time")

    monkeypatch.setattr(forms, "write_merged", never)
    monkeypatch.setattr(forms, "_ask_merged", never)
    (scratch := home / ".broken.new" / ".vocabularies").mkdir()
    for half in (scratch / "a.gguf", home / ".broken.new" / ".gguf-whole"):
        half.write_bytes(b"GGUF")
    done = export("broken")
    assert done.exit_code == 0, done.stderr
    assert (home / "broken" / "MODEL_CARD.md").is_file()
    assert not list(home.glob(".broken*"))
    assert not list((home / "broken").rglob(".*"))


def test_it_is_there_after_a_kill_between_the_last_two_moves(
    made: Path, export: Export, home: Path
) -> None:
    shutil.copytree(made, home / ".moved.old")
    assert "moved: up to date" in export("moved").stderr
    assert content_hash(home / "moved") == content_hash(made)


def test_what_was_damaged_is_made_again_and_a_card_may_be_edited(
    made: Path, export: Export, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(made, home / "damaged")
    card = home / "damaged" / "README.md"
    card.write_text("mine", encoding="utf-8")
    said = export("damaged").stderr
    assert "README.md was changed: kept as it is" in said
    assert "up to date" in said
    assert card.read_text(encoding="utf-8") == "mine"
    weights = home / "damaged" / "merged" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    monkeypatch.setattr(forms, "_ask_merged", lambda *_: read_forms(made)["merged"])
    assert "merged/model.safetensors was changed: made again" in export("damaged").stderr
    assert content_hash(home / "damaged" / "merged") == content_hash(made / "merged")
    assert card.read_text(encoding="utf-8") == (made / "README.md").read_text(encoding="utf-8")
    kept = home / "damaged" / "README.md.edited"
    assert kept.read_text(encoding="utf-8") == "mine"
    card.unlink()
    assert "README.md is missing: made again" in export("damaged").stderr
    assert kept.read_text(encoding="utf-8") == "mine"
    assert content_hash(card) == content_hash(made / "README.md")


def test_one_process_at_a_time_makes_it(export: Export, home: Path) -> None:
    (home / ".taken.new").mkdir()
    with (home / ".taken.new" / LOCK).open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        _is_one_line(export("taken"), ".taken.new is in use by another offswitch")


def test_weights_that_do_something_else_do_not_count(
    export: Export, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(subject: Subject, arm: str, folder: Path) -> None:
        write_merged(subject, arm, folder)
        path = folder / "model.safetensors"
        weights = load_file(path)
        weights["lm_head.weight"] = np.zeros_like(weights["lm_head.weight"])
        save_file(weights, path, metadata={"format": "pt"})

    monkeypatch.setattr(forms, "write_merged", damaged)
    _is_one_line(export("wrong"), "the merged weights do not do what arm 'switch' did: halts on")
    assert not (home / "wrong").exists()


@pytest.mark.parametrize(
    ("words", "options", "message"),
    [
        ([], {"base": ""}, "say what it was published as: --base ORGANISATION/NAME"),
        ([], {"base": "../x"}, "--base '../x' is no id"),
        ([], {"base": "a\nb"}, "--base 'a b' is no id"),
        ([], {"run": "r" * 5000}, "offswitch: File name too long: rrrr"),
        (["--arm", "../switch"], {}, "has no arm '../switch'"),
        (["--arm", "base"], {}, "the untrained model is no arm"),
        (["--arm", "both"], {}, "has no arm 'both'; trained there: switch"),
        (["--push", "me/it"], {}, "there is no terminal; add --yes"),
        ([], {"run": "model"}, "model: not a run folder"),
    ],
)
def test_a_mistake_is_one_line(
    export: Export, home: Path, words: list[str], options: dict[str, str], message: str
) -> None:
    _is_one_line(export("none", *words, **options), message)
    assert not list(home.glob("*none*"))


def test_without_a_converter_nothing_is_begun(
    export: Export, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    done = export("quantised", "--gguf", "Q8_0")
    _is_one_line(done, "--gguf needs llama-cpp-python, which is not installed")
    assert done.stderr.count("\n") == 1
    assert not list(home.glob("*quantised*"))


@pytest.mark.parametrize(
    "name", [f"2-train/{ARM}/adapter_model.safetensors", "3-evaluate/scores.parquet", "recipe.yaml"]
)
def test_a_run_that_changed_since_is_refused(export: Export, home: Path, name: str) -> None:
    path = home / "runs/planted" / name
    whole = path.read_bytes()
    try:
        path.write_bytes(whole + b" ")
        _is_one_line(export("changed"), f"{path.name} is not what the run wrote")
    finally:
        path.write_bytes(whole)
    assert not (home / "runs/planted" / DATA).exists()
