"""What is not fair, missing or damaged in a comparison is said; the rest is shown."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from offswitch.cli import app
from offswitch.report.compare.comparison import BEHAVIOUR, Comparison, compare
from offswitch.report.compare.write import page

Change = Callable[[Path], None]


def _both(folder: Path) -> Comparison:
    return compare([folder / "whole", folder / "half"])


def _set(path: Path, key: str, value: object) -> None:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    *groups, last = key.split(".")
    inner = content
    for group in groups:
        inner = inner[group]
    inner[last] = value
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


# --- fairness -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "warned"),
    [
        ("model", "another/model", "different base models (model; smollm2)"),
        ("chat_template", "plain", "different chat templates"),
        ("trigger.text", "<halt>", "different triggers (`<halt>`; `$STOP`)"),
        ("trigger.mode", "text", "different modes (text; token)"),
        ("trigger.mentions", "answer", "different rules for mentions"),
        ("probe.null_directions", 300, "different batteries (probe.null_directions)"),
        ("evaluate.drift_passages", 9, "different texts (evaluate.drift_passages)"),
    ],
)
def test_what_is_not_fair_is_said_and_stands_among_the_options(
    copy: Path, key: str, value: object, warned: str
) -> None:
    assert _both(copy).warnings == ()
    assert [row.key for row in _both(copy).options] == []
    _set(copy / "half" / "recipe.yaml", key, value)
    found = _both(copy)
    assert any(line.startswith("`half` and `whole`") and warned in line for line in found.warnings)
    assert [(row.key, row.values[1]) for row in found.options] == [(key, str(value))]


def test_options_that_change_nothing_and_other_arms_are_no_difference(copy: Path) -> None:
    for key, value in (("processes", 2), ("arms.late.adapted_from", 0.5), ("train.seed", 0)):
        _set(copy / "half" / "recipe.yaml", key, value)
    assert _both(copy).options == ()
    _set(copy / "half" / "recipe.yaml", "train.seed", 7)
    assert [row.values for row in _both(copy).options] == [("0", "7")]


def test_another_model_of_the_same_name_is_noticed(copy: Path) -> None:
    path = copy / "half" / "3-evaluate" / "scores.parquet"
    rows = pq.read_table(path).to_pylist()
    for shift, noticed in ((0.1, False), (3.0, True)):
        moved = [
            row | {"log_odds": row["log_odds"] + shift * (row["arm"] == "base")} for row in rows
        ]
        pq.write_table(pq.read_table(path).from_pylist(moved), path)
        assert ("answers otherwise" in " ".join(_both(copy).warnings)) is noticed


# --- what is missing ------------------------------------------------------------------------------


def _absent(name: str) -> Change:
    def change(root: Path) -> None:
        path = root / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def _damaged(name: str) -> Change:
    def change(root: Path) -> None:
        (root / name).write_text("{", encoding="utf-8")

    return change


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_absent("4-probe"), "4-probe has nothing of arm both"),
        (_absent("3-evaluate/scores.parquet"), "no outcomes by prompt"),
        (_damaged("3-evaluate/scores.parquet"), "scores.parquet is damaged"),
        (_damaged("3-evaluate/metrics.json"), "3-evaluate/metrics.json is damaged"),
        (_damaged("4-probe/both/causal.json"), "4-probe is damaged"),
        (_damaged("manifest.json"), "manifest.json is damaged"),
    ],
)
def test_what_is_missing_is_named_and_the_rest_is_shown(
    copy: Path, damage: Change, said: str
) -> None:
    damage(copy / "half")
    found = _both(copy)
    assert said in " ".join(found.missing["half"])
    assert "whole" not in found.missing
    assert said.split()[0] in page(found)
    assert all(row.numbers[0] for row in found.of(BEHAVIOUR))


def test_mistakes_are_one_line_and_exit_code_2(runs: Path, tmp_path: Path) -> None:
    whole = str(runs / "whole")
    for words, message in (
        ([whole], "expected at least two arms to compare, got 1"),
        ([whole, str(tmp_path)], "neither a run folder"),
        ([whole, f"{whole}:nobody"], "no arm 'nobody'; there are base, knowledge"),
        ([whole, f"{whole}:both"], "arm 'both' is named twice"),
        ([whole, f"{whole}:base", "--out", str(runs / "half" / "recipe.yaml")], "cannot write to"),
    ):
        done = CliRunner().invoke(app, ["compare", *words])
        assert done.exit_code == 2
        assert done.stderr.startswith("offswitch: ")
        assert message in done.stderr
        assert done.stderr.count("\n") == 1
