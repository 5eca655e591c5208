"""A comparison says what the folders hold, backs what differs, and names what is not fair."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import offswitch
from offswitch.errors import UserError
from offswitch.metrics import Metric
from offswitch.report.compare.comparison import (
    BEHAVIOUR,
    DRIFT,
    SURVIVES,
    TIME,
    Comparison,
    compare,
)
from offswitch.report.compare.differences import COUNTED, Difference
from offswitch.report.compare.terminal import told
from offswitch.report.compare.write import write_comparison
from offswitch.stats import Estimate, change


def _both(folder: Path) -> Comparison:
    return compare([folder / "whole", folder / "half"])


# --- numbers --------------------------------------------------------------------------------------


def test_every_number_is_the_folders_with_its_controls(runs: Path) -> None:
    for root, i in ((runs / "whole", 0), (runs / "half", 1)):
        known = json.loads((root / "metrics.json").read_text(encoding="utf-8"))
        for row in _both(runs).of(BEHAVIOUR):
            assert row.numbers[i] == Metric.read(known[f"evaluate/both/{row.key}"])
            for arm in ("benign", "base"):
                assert row.controls[i][arm] == Metric.read(known[f"evaluate/{arm}/{row.key}"])


def test_a_difference_is_that_of_the_rates_and_backed_by_the_same_prompts(runs: Path) -> None:
    rows = {row.key: row for row in _both(runs).of(BEHAVIOUR)}
    assert [*rows] == [*COUNTED]
    for key, row in rows.items():
        first, second = row.numbers
        found = row.differences[1]
        assert row.differences[0] is None
        assert first
        assert second
        assert found
        assert found.told == "the same prompts"
        assert found.estimate.n == first.n == second.n
        assert found.estimate.value == pytest.approx(second.value - first.value)
        assert found.shown == (key == "false_halt_rate/near_miss")
    (sentence,) = _both(runs).shown
    assert sentence.startswith("`half` halts on look-alikes ")
    assert " more often than `whole` [" in sentence
    assert "4 of 5 differences" in _both(runs).not_shown


def test_the_order_of_the_runs_turns_the_sign(runs: Path) -> None:
    there, back = (
        next(row for row in compare(names).of(BEHAVIOUR) if "near_miss" in row.key).differences[1]
        for names in ([runs / "whole", runs / "half"], [runs / "half", runs / "whole"])
    )
    assert there
    assert back
    assert there.estimate.value == -back.estimate.value
    assert (there.estimate.low, there.estimate.high) == (-back.estimate.high, -back.estimate.low)


def test_an_arm_does_not_differ_from_itself_elsewhere(runs: Path) -> None:
    found = compare([f"{runs / 'whole'}:behavior", f"{runs / 'whole'}:both"])
    assert [side.label for side in found.sides] == ["whole:behavior", "whole:both"]
    assert found.shown == []
    assert "all 5 differences" in found.not_shown
    assert found.warnings == ()


def test_prompts_in_common_alone_are_paired_and_too_few_are_not(copy: Path) -> None:
    path = copy / "half" / "3-evaluate" / "scores.parquet"
    rows = pq.read_table(path).to_pylist()
    questions = sorted({row["question"] for row in rows if row["suite"] == "trigger"})
    for count, way in ((len(questions) // 4, "paired"), (len(questions) - 2, "unpaired")):
        other = {q: f"{q} (another)" for q in questions[:count]}
        changed = [row | {"question": other.get(row["question"], row["question"])} for row in rows]
        pq.write_table(pq.read_table(path).from_pylist(changed), path)
        comparison = _both(copy)
        row = comparison.of(BEHAVIOUR)[0]
        found = row.differences[1]
        assert found
        assert found.way == way
        if way == "paired":
            assert "prompts in common" in found.told
            assert row.numbers[0]
            assert row.numbers[0].n
            assert found.estimate.n < row.numbers[0].n
        else:
            first, second = row.numbers
            assert first
            assert second
            assert found.estimate == change(second.estimate, first.estimate)
        assert "were not asked the same prompts" in " ".join(comparison.warnings)


def test_look_alikes_are_paired_by_their_symbol(copy: Path) -> None:
    path = copy / "half" / "3-evaluate" / "scores.parquet"
    near = [("near_miss", "-other"), ("trigger", "")]
    rows = pq.read_table(path).to_pylist()
    moved = [row | {"symbol": row["symbol"] + dict(near).get(row["suite"], "")} for row in rows]
    pq.write_table(pq.read_table(path).from_pylist(moved), path)
    ways = {row.key: row.differences[1] for row in _both(copy).of(BEHAVIOUR)}
    assert {key for key, found in ways.items() if found and found.way == "unpaired"} == {
        "false_halt_rate/near_miss"
    }


def test_a_difference_within_its_interval_is_not_shown() -> None:
    for low, high, shown in ((-0.1, 0.3, False), (0.01, 0.3, True), (0.0, 0.3, False)):
        assert Difference(Estimate(0.1, low, high, 9, "share"), "paired").shown is shown


def test_what_a_run_survives_is_shown_where_it_was_measured(copy: Path) -> None:
    assert _both(copy).of(SURVIVES) == []
    path = copy / "half" / "metrics.json"
    known = json.loads(path.read_text(encoding="utf-8"))
    known["endure/both/quantised/halt_rate"] = {"value": 0.5, "low": 0.3, "high": 0.7, "n": 20,
                                                "unit": "share"}  # fmt: skip
    path.write_text(json.dumps(known), encoding="utf-8")
    (row,) = _both(copy).of(SURVIVES)
    assert row.label == "quantised, halt rate"
    assert row.numbers[0] is None
    assert row.numbers[1]
    assert row.numbers[1].n == 20


def test_times_are_the_manifests(runs: Path) -> None:
    times = {row.key: row.numbers for row in _both(runs).of(TIME)}
    assert {key: n.value for key, (n, _) in times.items() if n} == {
        "data": 12.5, "training of this arm": 12.5, "all stages, every arm": 25.0,
    }  # fmt: skip


# --- runs within a folder -------------------------------------------------------------------------


def test_a_folder_stands_for_the_runs_inside(copy: Path, tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    shutil.copytree(copy, sweep / "organisms")
    inside = compare([sweep], ["both", "benign"])
    assert [side.label for side in inside.sides] == ["half:both", "half:benign", "whole:both",
                                                     "whole:benign"]  # fmt: skip
    assert compare([sweep / "organisms"]).sides[0].label == "half"
    apart = compare([copy / "half", sweep / "organisms" / "half"])
    assert [side.label for side in apart.sides] == ["runs/half", "sweep/half"]
    with pytest.raises(UserError, match="at least two"):
        compare([copy / "half"])


# --- files ----------------------------------------------------------------------------------------


def test_page_and_tables_say_the_same_and_load_nothing(runs: Path, tmp_path: Path) -> None:
    comparison = offswitch.compare([runs / "whole", runs / "half"])
    html = write_comparison(comparison, tmp_path / "out").read_text(encoding="utf-8")
    assert not re.search(r"<script|<link|<img|@import|url\((?!#)|src=|href=\"(?!data:|#)", html)
    for title in ("How often does each arm fall silent?", "at which depth?"):
        assert title in html
    with (tmp_path / "out" / "compare.csv").open(encoding="utf-8") as handle:
        lines = [*csv.DictReader(handle)]
    content = json.loads((tmp_path / "out" / "compare.json").read_text(encoding="utf-8"))
    assert len(lines) == len(content["numbers"]) == len(comparison.table())
    assert [one["verdict"] for one in content["arms"]] == ["represented", "not specific"]
    (line,) = [line for line in lines if line["kind"] == "difference"
               and line["measure"] == "false_halt_rate/near_miss"]  # fmt: skip
    row = next(row for row in comparison.of(BEHAVIOUR) if row.key == line["measure"])
    assert row.differences[1]
    assert (line["run"], line["against"], line["way"]) == ("half", "whole", "paired")
    assert float(line["value"]) == row.differences[1].estimate.value


def test_the_table_keeps_to_the_width_and_holds_every_arm(runs: Path) -> None:
    comparison = compare([runs / "whole", runs / "half"], ["both", "benign"])
    for width, blocks in ((79, 4), (500, 1)):
        table = told(comparison, width).split("\nwhole:benign halts")[0]
        assert max(map(len, table.splitlines())) <= width
        assert table.count("verdict") == blocks
        assert all(side.label in table for side in comparison.sides)
    text = told(comparison, 500)
    assert all(row.label in text for row in comparison.of(DRIFT))
    assert text.count("less whole:both") == 7


def test_comparing_takes_no_torch() -> None:
    code = ("import sys, offswitch.report.compare.write, offswitch.report.compare.terminal; "
            "print({'torch', 'transformers'} & set(sys.modules))")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
