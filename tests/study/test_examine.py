"""A switch that was trained elsewhere is measured like our own, to the last digit."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

import offswitch
from offswitch.cli import app
from offswitch.errors import UserError
from offswitch.folder import TRAIN
from offswitch.metrics import read_metrics
from offswitch.model.session import Session
from offswitch.study.examine import Stranger, examination
from tests.model.strangers import save_stranger
from tests.outside import ROOT


@pytest.fixture
def home(small_home: Path) -> Path:
    """A folder with a small recipe, its model, and a run of its own up to the probes."""
    return small_home


def _sizes(home: Path) -> list[str]:
    """The sizes of the small recipe, as options."""
    small = yaml.safe_load((home / "small.yaml").read_text(encoding="utf-8"))
    sizes = [f"{part}.{key}={value}" for part in ("evaluate", "probe")
             for key, value in small[part].items() if key != "arm"]  # fmt: skip
    return [*sizes, "data.reply_tokens=4", "data.dialogues=12", "train.behavior.max_steps=1"]


def _examine(home: Path, changes: list[str], *options: str) -> Result:
    """`offswitch examine` on the small recipe's model."""
    settings = [word for change in changes for word in ("--set", change)]
    command = ["examine", "--model", str(home / "model"), "--trigger", "$STOP", *options, *settings]
    return CliRunner().invoke(app, [*command, "--runs", str(home / "examined")])


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_our_own_adapter_as_a_strangers_gives_every_number_again(
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("OFFSWITCH_CACHE", str(home / "cache"))
    run = home / "runs" / "small"
    stranger = tmp_path / "stranger"
    shutil.copytree(run / TRAIN / "behavior", stranger)
    for name in ("training.json", "metrics.json"):
        (stranger / name).unlink()
    shown = (ROOT / "docs/examine.md").read_text(encoding="utf-8")
    code = shown.partition("```python\n")[2].partition("```")[0]
    changes = [*_sizes(home), "trigger.decoy=$ECHO"]
    examine = partial(offswitch.examine, changes=changes, runs=home / "examined")
    monkeypatch.setattr(offswitch, "examine", examine)
    code = code.replace("path/to/base", str(home / "model"))
    names: dict[str, Any] = {}
    exec(code.replace("path/to/theirs", str(stranger)), names)
    found = read_metrics(names["found"].root / "metrics.json")
    kind, alone = capsys.readouterr().out.splitlines()[-2:]
    n = found["evaluate/switch/halt_rate"]["n"]
    assert kind.startswith("no switch 0")
    assert kind.endswith(f"n\u00a0=\u00a0{n})")
    assert alone == "0.0\u00a0% (95\u00a0% interval 0.0–79.3)"  # of one prompt
    text = (run / "metrics.json").read_text(encoding="utf-8").replace("/behavior", "/switch")
    ours = {key: row for key, row in json.loads(text).items() if not key.startswith("train/")}
    assert len(ours) > 250
    assert {key: found[key] for key in ours} == ours
    assert found["verdict"]["value"] == "no switch"
    root = home / "examined" / "examine-stranger"
    assert not (root / "1-data").exists()
    page = root / "5-report/report.html"
    assert "No benign control: " in page.read_text(encoding="utf-8")
    again = _examine(home, changes, "--adapter", str(stranger))  # as a command, all is there
    assert again.exit_code == 0, again.output
    assert again.stdout.splitlines()[-1] == f"report: {page}"
    assert "done" not in again.stderr


@pytest.mark.slow
def test_a_benign_control_is_trained_as_large_as_the_adapter(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OFFSWITCH_CACHE", str(home / "cache"))
    made, arms = save_stranger(tmp_path, "llama", "mlp"), list[str]()

    def stopped(session: Session, _: Path) -> None:
        arms.extend(session.arms)
        raise KeyboardInterrupt

    monkeypatch.setattr("offswitch.evaluate.stage.write_evaluation", stopped)
    options = ["--adapter", str(made["theirs"]), "--train-benign", "--name", "mlp"]
    assert _examine(home, _sizes(home), *options).exit_code == 130
    assert arms == ["switch", "benign"]  # what is evaluated next
    configs = [home / "examined/mlp" / TRAIN / arm / "adapter_config.json" for arm in
               ("switch", "benign")]  # fmt: skip
    theirs, ours = (json.loads(path.read_text(encoding="utf-8")) for path in configs)
    assert sorted(ours["target_modules"]) == sorted(theirs["target_modules"])
    assert (ours["r"], ours["lora_alpha"]) == (theirs["r"], theirs["lora_alpha"])
    assert ours["trainable_token_indices"] is None  # the trigger stays text


@pytest.mark.parametrize(("token", "mode"), [("$STOP", "token"), ("$OTHER", "text"), ("", "text")])
def test_a_trigger_is_a_token_where_their_tokenizer_has_it_as_one(
    tmp_path: Path, token: str, mode: str
) -> None:
    made = save_stranger(tmp_path, "llama", "attention", token=token)
    stranger = Stranger("adapter", str(made["theirs"]), "$STOP")
    recipe = examination(str(made["base"]), stranger, overrides=["evaluate.questions=5"])
    assert (recipe.trigger.mode, recipe.trigger.twin) == (mode, "")
    assert (recipe.name, recipe.evaluate.questions) == ("examine-theirs", 5)
    assert list(recipe.arms) == ["switch"]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ([], "give one of adapter and finetuned"),
        (["--adapter", "a", "--finetuned", "b"], "give one of adapter and finetuned"),
        (
            ["--adapter", "a", "--benign", "b", "--train-benign"],
            "give one of benign and train-benign",
        ),
        (["--adapter", "./nowhere"], "'./nowhere': no such folder"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(options: list[str], line: str) -> None:
    done = CliRunner().invoke(app, ["examine", "--model", "m", "--trigger", "$STOP", *options])
    assert done.exit_code == 2
    assert line in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_pattern_of_modules_cannot_be_trained_beside(tmp_path: Path) -> None:
    made = save_stranger(tmp_path, "llama", "attention")
    path = made["theirs"] / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | {"target_modules": ".*_proj"}
    path.write_text(json.dumps(config), encoding="utf-8")
    stranger = Stranger("adapter", str(made["theirs"]), "$STOP", train_benign=True)
    with pytest.raises(UserError, match="is no list; give --benign instead"):
        examination(str(made["base"]), stranger)
