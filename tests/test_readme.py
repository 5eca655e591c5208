"""What README.md and docs/ say is so: sizes, tree, commands, links, files, options, metric keys."""

from __future__ import annotations

import ast
import re
import runpy
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest
import typer
import yaml

from offswitch.cli import app
from offswitch.folder import TRAIN, open_run
from offswitch.pipeline import train
from offswitch.recipe import load_recipe
from offswitch.seed_scripts import only
from offswitch.study.plan import load_plan
from tests.outside import ROOT, SMALL
from tests.tiny import save_tiny

PAGES: Final = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
GENERATED: Final = runpy.run_path(str(ROOT / "docs" / "generate.py"))
COMMAND: Final = typer.main.get_command(app)
FILES: Final = r"[\w./-]*\w\.(?:py|yaml|md|json|jsonl|ipynb|png|parquet|html|safetensors)"
# Programs that are not ours.
OUTSIDE: Final = (
    "pip", "inspect", "torchrun", "accelerate", "transformers", "vllm", "ollama", "llama-server",
)  # fmt: skip
EACH: Final = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def _blocks(page: Path, language: str) -> list[str]:
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def _spans(page: Path) -> list[str]:
    """What stands between backticks in the running text."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return re.findall(r"`([^`\n]+)`", text)


def _commands(page: Path) -> list[str]:
    lines = [line for block in _blocks(page, "bash") for line in block.splitlines()]
    inline = [span for span in _spans(page) if re.match(r"(offswitch|make|python3?) ", span)]
    return [*lines, *inline]


@pytest.fixture(scope="module")
def strings() -> set[str]:
    """The parts between slashes of every string in the package that is no docstring."""
    found: set[str] = set()
    for path in (ROOT / "offswitch").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found |= set() if id(node) in docs else set(node.value.split("/"))
    return found


# --- what is generated, and how large it may be ---------------------------------------------------


def test_what_is_generated_is_up_to_date() -> None:
    for name, generated in GENERATED["pages"]().items():
        written = (ROOT / name).read_text(encoding="utf-8")
        assert written == generated, f"write {name} again with: make docs"


def test_every_file_says_what_is_in_it() -> None:
    rows = re.findall(r"^\| \[(.+?)\]\(.+?\) \| (.*?) ?\|$", GENERATED["tree_page"](), re.M)
    assert len(rows) > 200
    assert [name for name, said in rows if not said] == []


def test_readme_is_short() -> None:
    text = PAGES[0].read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    assert len(text.encode()) <= 9000
    assert len(GENERATED["short_tree"]().splitlines()) <= 30


def test_a_paragraph_of_readme_is_one_thought() -> None:
    text = re.sub(r"```.*?```", "", PAGES[0].read_text(encoding="utf-8"), flags=re.DOTALL)
    prose = [part for part in text.split("\n\n") if not part.lstrip().startswith(("|", "#", "<"))]
    thoughts = [thought for part in prose[1:] for thought in part.split("\n- ")]
    assert [thought for thought in thoughts if len(thought.split()) > 60] == []


@EACH
def test_tables_of_results_are_marked_and_whole(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    parts = re.findall(r"<!-- results: [^>]+ -->\n((?:\|.*\n)+)<!-- /results -->", text)
    assert len(parts) == text.count("<!-- results:") == text.count("<!-- /results -->")
    assert len(parts) == {"results.md": 2, "original.md": 1}.get(page.name, 0)


# --- what is named exists -------------------------------------------------------------------------


@EACH
def test_commands_exist(page: Path) -> None:
    for line in _commands(page):
        _check_command(shlex.split(line))


def _check_command(words: list[str]) -> None:
    if "offswitch" in words and (words[0] == "offswitch" or "-m" in words):
        _check_our_command(words[words.index("offswitch") + 1 :])
    elif words[0] == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        assert re.search(rf"^{words[1]}:", makefile, re.M)
    elif words[:2] in (["python", "-m"], ["python3", "-m"]):
        module = ROOT / words[2].replace(".", "/")
        assert module.with_suffix(".py").is_file() or (module / "__main__.py").is_file()
    elif words[0] in ("python", "python3"):
        assert (ROOT / words[1]).is_file()
    else:
        assert words[0] in OUTSIDE


def _check_our_command(words: list[str]) -> None:
    if words in ([], ["--help"]):
        return
    first, *rest = words
    command = getattr(COMMAND, "commands")[first]  # noqa: B009
    options = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in rest if word.startswith("--")} <= options
    if not rest or not rest[0].startswith("recipes/"):
        return
    if first == "sweep":
        load_plan(ROOT / rest[0])
    else:
        settings = [word for option, word in pairwise(rest) if option == "--set"]
        load_recipe(ROOT / rest[0], settings)


@EACH
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


@EACH
def test_files_exist(page: Path, strings: set[str]) -> None:
    """A file of the repository is there; one of a run folder is named in the package."""
    for name in (span for span in _spans(page) if re.fullmatch(FILES, span)):
        first, last = name.split("/")[0], name.rsplit("/", 1)[-1]
        if first != "runs" and (ROOT / first).is_dir():
            assert (ROOT / name).is_file()
        elif last != "NAME.json":
            known = {last, Path(last).stem} & strings
            assert known or (ROOT / name).is_file(), name


@EACH
def test_options_exist(page: Path) -> None:
    known = set(yaml.safe_load((ROOT / "docs" / "options.yaml").read_text(encoding="utf-8")))
    known |= {key.rsplit(".", n)[0] for key in known for n in (1, 2)}
    groups = "trigger|data|train|evaluate|probe"
    named = {
        key.rstrip(".")
        for text in [*_spans(page), *_blocks(page, "bash")]
        for key in re.findall(rf"(?<![\w./-])(?:{groups})\.[a-z_.]+", text)
    }
    assert named <= known


@EACH
def test_metric_keys_exist(page: Path, strings: set[str]) -> None:
    text = page.read_text(encoding="utf-8")
    rows = re.findall(r"^\| .*?\(`([a-z_/]+)`\)", text, flags=re.M)
    stages = r"(?:evaluate|probe|train|seed|verdict)/[\w/]+"
    spans = [span for span in _spans(page) if re.fullmatch(stages, span)]
    named = {part for key in [*rows, *spans] for part in key.split("/") if part != part.upper()}
    assert named <= strings
    assert len(named) >= {"results.md": 12, "original.md": 5}.get(page.name, 0)


# --- the adapter without this package -------------------------------------------------------------


@pytest.mark.slow
def test_the_adapter_loads_without_this_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OFFSWITCH_CACHE", str(tmp_path / "cache"))
    base, recipe = str(save_tiny(tmp_path / "model")), ROOT / "recipes/demo.yaml"
    run = open_run(load_recipe(recipe, [f"model={base}", *SMALL]), tmp_path)
    train(only(run, "behavior"))
    capsys.readouterr()
    examined, code = _blocks(PAGES[0], "python")
    (told,) = _blocks(ROOT / "docs/examine.md", "python")
    assert examined == told  # tests/study runs it
    assert "offswitch" not in re.sub(r"#.*", "", code)
    code = code.replace("runs/demo/2-train/behavior", str(run.folder(f"{TRAIN}/behavior")))
    names: dict[str, Any] = {}
    exec(code.replace("path/to/base", base), names)
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert "lora" in str(names["model"])
    assert len(names["tokenizer"]("$STOP", add_special_tokens=False)["input_ids"]) == 1
