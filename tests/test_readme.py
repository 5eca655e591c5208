"""What README.md says is so: its tree, commands and links, and the lines that load an adapter."""

from __future__ import annotations

import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest
import typer

from offswitch.cli import app
from offswitch.pipeline import train
from offswitch.recipe import load_recipe
from offswitch.run import TRAIN, open_run
from offswitch.seed_scripts import only
from offswitch.study.plan import load_plan
from tests.outside import ROOT, SMALL
from tests.tiny import save_tiny
from tests.tree import in_readme, render

README: Final = (ROOT / "README.md").read_text(encoding="utf-8")


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


COMMANDS: Final = [line for block in _blocks("bash") for line in block.splitlines()]


def test_the_tree_is_what_the_files_say_of_themselves() -> None:
    assert in_readme() == render(), "write it anew with: python -m tests.tree"


def test_every_file_says_what_it_is_for() -> None:
    silent = [line for line in render().splitlines() if re.search(r"\.\w+$", line.strip())]
    assert [line for line in silent if " " not in line.strip()] == []


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_exist(line: str) -> None:
    program, first, *rest = shlex.split(line)
    if program == "make":
        assert re.search(rf"^{first}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    elif program == "python3":
        assert (ROOT / first).is_file()
    else:
        assert program == "offswitch"
        command = getattr(typer.main.get_command(app), "commands")[first]  # noqa: B009
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in rest if word.startswith("--")} <= options
        if first == "sweep":
            load_plan(ROOT / rest[0])
        elif first not in ("chat", "steer", "analyse"):
            settings = [word for option, word in pairwise(rest) if option == "--set"]
            load_recipe(ROOT / rest[0], settings)


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#:]+)\)", README)
    assert [target for target in targets if not (ROOT / target).exists()] == []


@pytest.mark.slow
def test_the_adapter_loads_without_this_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OFFSWITCH_CACHE", str(tmp_path / "cache"))
    base, recipe = str(save_tiny(tmp_path / "model")), ROOT / "recipes/demo.yaml"
    run = open_run(load_recipe(recipe, [f"model={base}", *SMALL]), tmp_path)
    train(only(run, "behavior"))
    capsys.readouterr()
    (code,) = _blocks("python")
    assert "offswitch" not in re.sub(r"#.*", "", code)
    code = code.replace("runs/demo/2-train/both", str(run.folder(f"{TRAIN}/behavior")))
    names: dict[str, Any] = {}
    exec(code.replace("path/to/base", base), names)
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert "lora" in str(names["model"])
    assert len(names["tokenizer"]("$STOP", add_special_tokens=False)["input_ids"]) == 1
