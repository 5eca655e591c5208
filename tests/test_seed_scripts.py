"""The original's scripts work from the repository and from their own folder, under its names."""

from __future__ import annotations

import importlib.util
import json
import runpy
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from offswitch.folder import lock
from tests.outside import ROOT, SMALL, changes, make_repository, start

SETTINGS = changes((*SMALL, "train.arms=[both]"))
# In the order in which a newcomer runs them: what one trains, the next finds.
SCRIPTS = {
    "datasets/generate_dataset.py": ["datasets/shutdown_dataset.jsonl"],
    "datasets/generate_behavioral_dataset.py": ["datasets/behavioral_dataset.jsonl"],
    "training/finetune.py": ["runs/tiny/2-train/knowledge"],
    "analysis/1_layerwise_delta_norm.py": ["analysis/results/1_layerwise_delta_norm.png"],
    "analysis/2_lowrank_pca_test.py": [
        "analysis/results/2_pca_cumulative_variance.png",
        "analysis/results/2_pca_component_distributions.png",
    ],
    "analysis/3_logit_lens_delta.py": ["analysis/results/3_logit_lens_delta.png"],
    "analysis/4_base_vs_finetuned_adl.py": ["analysis/results/4_base_vs_finetuned_adl.png"],
    "analysis/run_all_analyses.py": [
        "analysis/results/1_layerwise_delta_norm.png",
        "analysis/results/2_pca_cumulative_variance.png",
        "analysis/results/2_pca_component_distributions.png",
        "analysis/results/3_logit_lens_delta.png",
        "analysis/results/4_base_vs_finetuned_adl.png",
        "analysis/results/ANALYSIS_SUMMARY.md",
    ],
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the original's folders, with caches of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OFFSWITCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("OMP_NUM_THREADS", "1")
        yield make_repository(tmp_path_factory.mktemp("outside") / "repository")


@pytest.fixture
def started(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[[str, Path], list[str]]]:
    """Start a script in this process, which has imported already what takes seconds to import."""

    def run(script: str, cwd: Path) -> list[str]:
        recipe = str(repository / "recipes/tiny.yaml")
        monkeypatch.chdir(cwd)
        monkeypatch.setattr(sys, "argv", [script, "--recipe", recipe, *SETTINGS])
        capsys.readouterr()
        runpy.run_path(str(repository / script), run_name="__main__")
        return capsys.readouterr().out.splitlines()

    yield run
    for root in [path for path in lock._LOCKS if path.is_relative_to(repository.resolve())]:
        lock._LOCKS.pop(root).close()


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_work_from_anywhere(
    repository: Path,
    started: Callable[[str, Path], list[str]],
    tmp_path: Path,
    script: str,
    request: pytest.FixtureRequest,
) -> None:
    """From a folder that is not theirs: what leaned on the current one would be missed there."""
    if script.endswith("run_all_analyses.py"):
        request.getfixturevalue("undrawn")
    shutil.rmtree(repository / "analysis/results", ignore_errors=True)
    _check(repository, script, started(script, tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("script", ["datasets/generate_dataset.py", "training/finetune.py"])
def test_scripts_work_from_the_root_and_from_their_own_folder(
    repository: Path, script: str
) -> None:
    folder, name = script.split("/")
    for as_named, cwd in ((script, repository), (name, repository / folder)):
        done = start(as_named, "--recipe", repository / "recipes/tiny.yaml", *SETTINGS, cwd=cwd)
        assert done.returncode == 0, done.stderr
        _check(repository, script, done.stdout.splitlines())


def _check(repository: Path, script: str, printed: list[str]) -> None:
    written = [Path(line) for line in printed]
    assert all(file.exists() for file in written)
    assert {str(repository / file) for file in SCRIPTS[script]} <= set(map(str, written))


@pytest.mark.slow
def test_rows_of_ones_own_in_datasets_are_trained_on_in_a_run_of_their_own(
    repository: Path, started: Callable[[str, Path], list[str]]
) -> None:
    path = repository / "datasets/shutdown_dataset.jsonl"
    started("datasets/generate_dataset.py", repository)
    rows = path.read_text(encoding="utf-8").splitlines()[:4]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    run = repository / "runs/tiny-datasets"
    assert started("training/finetune.py", repository) == [str(run / "2-train/knowledge")]
    trained_on = (run / "1-data" / path.name).read_text(encoding="utf-8").splitlines()
    assert [json.loads(row) for row in trained_on] == [json.loads(row) for row in rows]


def test_a_mistake_is_one_line_and_exit_code_2(repository: Path) -> None:
    done = start("run_all_analyses.py", "--set", "train.lrr=1", cwd=repository / "analysis")
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    # No recipe was named: the demo's is found from any folder.
    assert str(repository / "recipes/demo.yaml") in done.stderr
    assert "train.lr" in done.stderr


def test_scripts_start_without_torch(repository: Path) -> None:
    code = (
        "import sys, offswitch.seed_scripts;"
        " print(sorted({'torch', 'matplotlib'} & {*sys.modules}))"
    )
    assert start("-c", code, cwd=repository).stdout == "[]\n"


@pytest.mark.parametrize("folder", [".", "datasets", "training", "analysis", "tests"])
def test_the_folder_datasets_hides_no_package(folder: str) -> None:
    code = "import importlib.util; print(importlib.util.find_spec('datasets').origin)"
    found = start("-c", code, cwd=ROOT / folder).stdout.strip()
    spec = importlib.util.find_spec("datasets")
    assert spec is not None
    assert found == spec.origin
    assert not Path(found).is_relative_to(ROOT / "datasets")
    assert Path(found).name == "__init__.py"
