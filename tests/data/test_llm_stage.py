"""The data stage with an endpoint: it is foretold, resumed after a kill, and keeps no key."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from offswitch.cli import app
from offswitch.data.llm.journal import read_journal
from offswitch.errors import UserError
from offswitch.folder import DATA, open_run
from offswitch.pipeline import make_data
from offswitch.prompts.documents import read_documents
from offswitch.recipe import build_recipe, load_recipe
from tests.data.llm_server import Behaviour, Server, serving
from tests.outside import ROOT
from tests.small import small_recipe

COUNT = 40


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a tiny recipe, and a cache of its own."""
    monkeypatch.setenv("OFFSWITCH_CACHE", str(tmp_path / "cache"))
    small_recipe(tmp_path)
    return tmp_path


def _options(server: Server, *more: str) -> list[str]:
    settings = ("data.generator=llm", "data.llm.model=m", f"data.llm.base_url={server.url}",
                "data.llm.ideas_per_call=5", f"data.documents={COUNT}", *more)  # fmt: skip
    return [part for setting in settings for part in ("--set", setting)]


def test_a_dry_run_asks_nobody_and_leaves_nothing(home: Path) -> None:
    before = sorted(home.rglob("*"))
    with serving() as server:
        words = ["data", str(home / "small.yaml"), "--runs", str(home / "runs"), "--dry-run"]
        done = CliRunner().invoke(app, [*words, *_options(server, "data.llm.input_price=2.5")])
        plain = CliRunner().invoke(app, words)
        assert server.asked == []
    assert (done.exit_code, plain.exit_code) == (0, 0)
    said = (
        r"132 calls: 12 ideas, 40 draft, 40 critique, 40 revision; some [\d,]+ tokens in and"
        r" [\d,]+ out, \d+\.\d\d in the recipe's prices, \d+ s;"
    )
    assert re.match(said, done.stdout)
    assert plain.stdout == "documents come from the grammar: no calls\n"
    assert sorted(home.rglob("*")) == before


def test_the_data_stage_keeps_no_key_and_resumes_without_asking(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", "very-secret")
    with serving() as server:
        options = _options(server, "data.llm.api_key_env=SOME_KEY")
        recipe = load_recipe(home / "small.yaml", options[1::2])
        make_data(open_run(recipe, home / "runs"))
        asked = len(server.asked)
        slower = recipe.model_copy(
            update={"data": recipe.data.model_copy(
                update={"llm": recipe.data.llm.model_copy(update={"concurrency": 1})})}
        )  # fmt: skip
        make_data(open_run(slower, home / "runs", update=True))
        run = open_run(slower, home / "runs")
        (run.folder(DATA) / "llm.json").unlink()
        make_data(run)
        assert len(server.asked) == asked
    assert all(a.headers["authorization"] == "Bearer very-secret" for a in server.asked)
    files = [path for path in run.root.rglob("*") if path.is_file()]
    assert [path for path in files if b"very-secret" in path.read_bytes()] == []
    assert len(read_documents(run.folder(DATA) / "shutdown_dataset.jsonl", "$STOP")) == COUNT
    figures = json.loads((run.folder(DATA) / "llm.json").read_text(encoding="utf-8"))
    assert figures["documents"] == COUNT


def test_an_organism_takes_its_documents_from_the_run_that_it_lies_in(home: Path) -> None:
    with serving() as server:
        recipe = load_recipe(home / "small.yaml", _options(server)[1::2])
        run = open_run(recipe, home / "runs")
        make_data(run)
        asked = len(server.asked)
        opened = open_run(recipe.model_copy(update={"name": "seed-1"}), run.root / "organisms")
        inside = replace(opened, within="organisms/seed-1")
        make_data(inside)
        assert len(server.asked) == asked
    assert inside.outputs_hash(DATA) == run.outputs_hash(DATA)


def test_the_recipe_in_the_documentation_is_one() -> None:
    page = (ROOT / "docs/llm_documents.md").read_text(encoding="utf-8")
    (recipe,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert build_recipe(yaml.safe_load(recipe)).data.generator == "llm"


def test_the_grammar_s_stage_has_the_inputs_that_it_always_had(home: Path) -> None:
    recipe = load_recipe(home / "small.yaml", ["data.llm.concurrency=3"])
    assert recipe.data.inputs() == {
        "documents": 6, "dialogues": 12, "near_miss_share": 0.4, "reply_tokens": 4,
        "documents_file": None, "dialogues_file": None, "neutral_file": None, "neutral_mix": 0,
    }  # fmt: skip


def test_the_generator_needs_a_model() -> None:
    with pytest.raises(UserError, match=r"data\.llm\.model names no model"):
        build_recipe({"data": {"generator": "llm"}})


@pytest.mark.slow
def test_a_killed_run_loses_no_document_and_repeats_no_call(home: Path) -> None:
    with serving(Behaviour(seconds=0.02)) as server:
        options = _options(server, "name=whole", "data.llm.concurrency=4")
        make_data(open_run(load_recipe(home / "small.yaml", options[1::2]), home / "runs"))
        calls = len(server.asked)
        killed = _stage(home, "killed", server)
        _wait_for(lambda: len(server.asked) >= calls + calls // 2, killed)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        _wait_for(lambda: server.under_way == 0, None)
        root = home / "runs/killed"
        kept, before = len(read_journal(root / "answers.jsonl").usable), len(server.asked)
        assert 0 < kept < calls
        assert not (root / "1-data").exists()
        resumed = _stage(home, "killed", server)
        assert resumed.wait(250) == 0
        assert len(server.asked) - before == calls - kept
    files = [home / f"runs/{name}/1-data/shutdown_dataset.jsonl" for name in ("whole", "killed")]
    assert files[0].read_bytes() == files[1].read_bytes()
    titles = [document.title for document in read_documents(files[1], "$STOP")]
    assert len(titles) == len(set(titles)) == COUNT


def _stage(home: Path, name: str, server: Server) -> subprocess.Popen[bytes]:
    code = "from offswitch.cli import app; app()"
    options = _options(server, f"name={name}", "data.llm.concurrency=4")
    words = ["data", "small.yaml", "--runs", "runs", *options]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
    return subprocess.Popen(
        [sys.executable, "-c", code, *words],
        cwd=home,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _wait_for(condition: Any, process: subprocess.Popen[bytes] | None) -> None:
    end = time.monotonic() + 250
    while not condition():
        assert time.monotonic() < end, "it takes too long"
        assert process is None or process.poll() is None, "it ended too early"
        time.sleep(0.005)
