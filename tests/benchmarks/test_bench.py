"""Peers take turns, medians and ratios are what they say, a failing peer becomes a row."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.bench import Peer, Sample, Spread, interleave, measured, ratio, spread
from benchmarks.child import in_child
from benchmarks.command import command_line
from benchmarks.results import Measure, Section, write_results

MACHINE = {
    "machine": {"processor": "a", "cores": 2, "threads": 1, "memory_gb": 3, "system": "Linux"},
    "versions": {"torch": "1"},
}


def _samples(*values: float) -> list[Sample]:
    return [Sample({"rate": value}) for value in values]


def test_every_peer_runs_once_a_round_and_each_round_begins_with_another() -> None:
    seen: list[str] = []

    def run(name: str) -> Sample:
        seen.append(name)
        return Sample({"rate": len(seen)})

    found = interleave(["a", "b", "c"], 3, run)
    assert seen == ["a", "b", "c", "b", "c", "a", "c", "a", "b"]
    assert [one.numbers["rate"] for one in found["a"]] == [1, 6, 8]


def test_what_failed_is_not_tried_again() -> None:
    found = interleave(
        ["good", "bad"], 3, lambda n: Sample({}, "broken") if n == "bad" else Sample({"rate": 1})
    )
    assert len(found["good"]) == 3
    assert found["bad"] == [Sample({}, "broken")]


def test_a_spread_is_median_and_range() -> None:
    assert spread([3, 1, 10, 2]) == Spread(2.5, 1, 10, 4)
    assert measured([*_samples(5, 7, 6), Sample({}, "broken")], "rate") == Spread(6, 5, 7, 3)
    assert measured([Sample({}, "broken")], "rate") is None


def test_a_ratio_is_taken_within_rounds() -> None:
    # Every round is twice as slow as the one before it: ratios of medians would hide nothing here,
    # ratios across rounds would spread from 0.75 to 12.
    assert ratio(_samples(12, 6, 3), _samples(4, 2, 1), "rate") == Spread(3, 3, 3, 3)
    assert ratio(_samples(12, 6), [Sample({}, "broken")], "rate") is None


def test_a_table_has_ratios_that_favour_ours_above_one_and_reasons_of_failures(
    tmp_path: Path,
) -> None:
    peers = (Peer("ours", "we"), Peer("other", "they"), Peer("bad", "none"), Peer("skipped", "-"))
    samples = {"ours": _samples(4, 8), "other": _samples(2, 4), "bad": [Sample({}, "no | wheel")]}
    faster = Section("S", "told", peers, (Measure("rate", "rate", 1),), samples, "rate")
    slower = Section("S", "told", peers, (Measure("rate", "rate", 1),), samples, "rate", less=True)
    assert faster.rows() == [
        ["ours: we", "2", "6.0 [4.0, 8.0]", "1"],
        ["other: they", "2", "3.0 [2.0, 4.0]", "2.00 [2.00, 2.00]"],
        ["bad: none (no | wheel)", "0", "-", "-"],
    ]
    assert slower.rows()[1][-1] == "0.50 [0.50, 0.50]"
    write_results(tmp_path / "R.md", [faster], MACHINE, command_line("python -m it", ["a b"]))
    text = (tmp_path / "R.md").read_text(encoding="utf-8")
    assert "| other: they | 2 | 3.0 [2.0, 4.0] | 2.00 [2.00, 2.00] |" in text
    assert "no \\| wheel" in text
    assert "2 cores, 1 threads" in text
    assert "Written by `python -m it 'a b'`. Every run" in text


def test_samples_of_unknown_peers_are_refused() -> None:
    with pytest.raises(ValueError, match="other"):
        Section("S", "", (Peer("ours", ""),), (), {"other": _samples(1)})


def test_a_child_that_fails_says_why() -> None:
    found = in_child("benchmarks.startup:load", {"model": "/nowhere"})
    assert "no such folder" in found.failure


def test_a_child_measures() -> None:
    found = in_child("benchmarks.machine:rate_in_child", {"size": 32})
    assert found.numbers["product_rate"] > 0
    assert found.numbers["peak_mb"] > 10
