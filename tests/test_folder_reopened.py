"""A run folder that is gone on with by the recipe in it, which nobody else can put right."""

from __future__ import annotations

from pathlib import Path

import pytest

from offswitch.errors import UserError
from offswitch.folder import Run, open_run, reopen_run, whole_run, writing
from offswitch.recipe import Recipe


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run of one finished stage."""
    run = open_run(Recipe(name="one"), tmp_path)
    with writing(run, "1-data", {"a": 1}) as folder:
        (folder / "metrics.json").write_text('{"data": {"value": 1}}', encoding="utf-8")
    return run


def test_a_run_is_gone_on_with_by_its_own_recipe_and_what_a_kill_left_is_entered(
    run: Run,
) -> None:
    before = {name: (run.root / name).read_bytes() for name in ("manifest.json", "metrics.json")}
    with writing(run, "6-endure", {"a": 2}) as folder:
        (folder / "metrics.json").write_text('{"endure": {"value": 1}}', encoding="utf-8")
    (run.root / "manifest.json").write_bytes(before["manifest.json"])
    assert "6-endure" in reopen_run(run.root).manifest()["stages"]
    (run.root / "metrics.json").write_bytes(before["metrics.json"])
    whole_run(reopen_run(run.root).root)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("recipe.yaml", r"recipe\.yaml is not what the run wrote"),
        ("manifest.json", r"manifest\.json and recipe\.yaml do not belong together"),
    ],
)
def test_a_run_whose_recipe_nobody_can_vouch_for_is_left_alone(
    run: Run, name: str, said: str
) -> None:
    path = run.root / name
    path.write_bytes(path.read_bytes().replace(b"seed", b"eeds", 1) + b"\n")
    if name == "recipe.yaml":
        path.write_bytes(path.read_bytes().replace(b"eeds: 0", b"seed: 1", 1))
    before = {p: p.read_bytes() for p in run.root.rglob("*") if p.is_file() and p.name != ".lock"}
    with pytest.raises(UserError, match=said):
        reopen_run(run.root)
    after = {p: p.read_bytes() for p in run.root.rglob("*") if p.is_file() and p.name != ".lock"}
    assert after == before
