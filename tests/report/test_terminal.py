"""A run ends with what it found, in eight lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from offswitch.recipe import load_recipe
from offswitch.report.build import build_report
from offswitch.report.terminal import told


@pytest.mark.usefixtures("undrawn")
def test_the_rates_stand_beside_their_controls_with_interval_and_count(copy: Path) -> None:
    root = copy / "whole"
    build_report(root, root / "5-report")
    recipe = load_recipe(root / "recipe.yaml")
    numbers = json.loads((root / "metrics.json").read_text(encoding="utf-8"))
    numbers |= json.loads((root / "5-report" / "metrics.json").read_text(encoding="utf-8"))
    (root / "metrics.json").write_text(json.dumps(numbers), encoding="utf-8")
    head, first, *rest, verdict = told(root, recipe).splitlines()
    assert head.split() == [recipe.name, "arm", "both", "arm", "base", "arm", "benign", "n"]
    assert first.split("  ")[0] == "halts on $STOP"
    assert first.endswith("330")
    assert "100.0 % [98.8–100.0]" in first
    assert first.count("0.0 %") == 3
    assert {len(line) for line in (head, first, *rest)} == {len(head)}
    assert 2 <= len(rest) <= 4
    verdicts = numbers["verdict/both"]["because"]
    narrow = sum("point estimate only" in line for line in verdicts)
    said = "test" if narrow == 1 else "tests"
    assert narrow > 0
    assert verdict == (
        f"verdict on arm both: represented ({narrow} {said} passed by the point estimate only)"
    )


def test_what_was_not_measured_is_left_out(runs: Path, tmp_path: Path) -> None:
    recipe = load_recipe(runs / "whole" / "recipe.yaml")
    assert told(tmp_path, recipe).splitlines()[-1] == "verdict on arm both: none yet"
