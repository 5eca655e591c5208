"""A real model behind a real server: one that writes nonsense is found out, in one clear line."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from offswitch.cli import app
from offswitch.data.llm.client import HOPELESS
from offswitch.data.llm.journal import read_journal
from tests.small import small_recipe


@dataclass(frozen=True)
class Served:
    """A recipe, the tiny model that it names, and where that model is served."""

    recipe: Path
    model: Path
    url: str


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """`transformers serve` with a tiny model, in a process of its own on loopback."""
    folder = tmp_path_factory.mktemp("served")
    recipe, model, port = small_recipe(folder), folder / "model", _free_port()
    words = ["serve", str(model), "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "transformers.cli.transformers", *words],
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            _wait_until_healthy(f"http://127.0.0.1:{port}/health", process, folder / "log")
            yield Served(recipe, model, f"http://127.0.0.1:{port}/v1")
        finally:
            process.kill()
            process.wait()


@pytest.mark.slow
def test_a_model_that_writes_nonsense_ends_the_run_in_one_line(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OFFSWITCH_CACHE", str(tmp_path / "cache"))
    settings = ("data.generator=llm", f"data.llm.model={served.model}", "data.llm.max_tokens=24",
                f"data.llm.base_url={served.url}", "data.llm.concurrency=2")  # fmt: skip
    options = [part for setting in settings for part in ("--set", setting)]
    words = ["data", str(served.recipe), "--runs", str(tmp_path / "runs"), *options]
    done = CliRunner().invoke(app, words)
    last = done.stderr.strip().split("\n")[-1]
    assert done.exit_code == 2
    assert "Traceback" not in done.stderr
    pattern = (
        f"offswitch: {HOPELESS} of {HOPELESS} answers of {re.escape(str(served.model))} at"
        rf" {re.escape(served.url)} could not be used \((\d+) × it was cut at data.llm.max_tokens.*"
    )
    assert re.fullmatch(pattern, last), last
    run = tmp_path / "runs/small"
    assert not (run / "1-data").exists()
    journal = read_journal(run / "answers.jsonl")
    entries = list(journal.entries(journal.unusable))
    assert journal.usable == {}
    assert len(entries) == HOPELESS
    assert all(entry.input_tokens > 1000 and entry.output_tokens > 0 for entry in entries)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_healthy(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + 180
    while True:
        try:
            with direct.open(url, timeout=5):
                return
        except OSError:
            said = log.read_text(encoding="utf-8", errors="replace")[-2000:]
            assert process.poll() is None, said
            assert time.monotonic() < end, said
            time.sleep(0.2)
