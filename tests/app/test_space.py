"""The folder of a Space is all that its explorer needs, and holds nothing of this machine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from offswitch.app.server import TOKEN
from offswitch.app.space import write_space
from offswitch.errors import UserError
from tests.app.runs import planted_run, with_model

SECRET = "a1" * 12


def _rename(root: Path, model: str) -> None:
    with_model(root, model)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose recipe names a model as on the hub; with what nobody reads."""
    root = planted_run(tmp_path_factory.mktemp("space"))
    with_model(root, "someone/tiny")
    (root / "1-data").mkdir()
    (root / "1-data" / "behavioral_dataset.jsonl").write_text("{}\n")
    return root


def test_a_space_serves_its_run_from_its_own_copy(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "space"
    write_space(run, folder)
    assert not (folder / "run" / "1-data").exists()
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix in (".md", ".txt", "", ".py", ".yaml"):
            assert str(Path.home()) not in path.read_text("utf-8")
    told = (folder / "requirements.txt").read_text().splitlines()
    assert any(line.startswith("gradio==") for line in told)
    assert not [line for line in told if line.startswith(("torch==", "ray==", "pytest=="))]
    assert (folder / "README.md").read_text().startswith("---\ntitle: ")
    environment = os.environ | {TOKEN: SECRET, "PORT": "0", "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen([sys.executable, "app.py"], cwd=folder, env=environment,
                               stdout=subprocess.PIPE, text=True)  # fmt: skip
    try:
        assert process.stdout is not None
        found = re.search(r"http://0\.0\.0\.0:(\d+)/", process.stdout.readline())
        assert found
        page = f"http://127.0.0.1:{found[1]}/"
        with pytest.raises(HTTPError, match="401"):
            urlopen(page)
        asked = Request(page, headers={"Authorization": f"Bearer {SECRET}"})
        answer = urlopen(asked)
        assert "frame-ancestors https://huggingface.co" in answer.headers["content-security-policy"]
        assert b"planted" in answer.read()
    finally:
        process.terminate()
        process.wait(20)


def test_without_its_secret_a_space_does_not_start(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "space"
    write_space(run, folder)
    environment = {k: v for k, v in os.environ.items() if k != TOKEN}
    done = subprocess.run([sys.executable, "app.py"], cwd=folder, env=environment, check=False,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode != 0
    assert f"set a token in {TOKEN}" in done.stderr


def test_what_cannot_be_a_space_is_refused(run: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(UserError, match="is there already"):
        write_space(run, tmp_path / "there")
    local = tmp_path / "local"
    shutil.copytree(run, local)
    with_model(local, str(tmp_path))
    with pytest.raises(UserError, match="a file of this machine"):
        write_space(local, tmp_path / "new")
    assert not (tmp_path / "new").exists()
