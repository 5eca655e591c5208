"""Rows of interventions are filtered, tabled and set side by side prompt by prompt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from offswitch.analyses.interventions import (
    COLUMNS,
    WORDS,
    Interventions,
    read_interventions,
    write_interventions,
)
from offswitch.errors import UserError
from tests.analyses.effects import Mechanism, rows_of

ROWS = Interventions.of(
    {
        "prompt": [3, 1, 2, 2, 5, 3], "kind": ["none"] * 3 + ["add"] * 3,
        "block": [-1, -1, -1, 4, 4, 4], "log_odds": [0.3, 0.1, 0.2, 2.0, 5.0, 3.0],
    }
)  # fmt: skip


def test_rows_of_one_prompt_stand_side_by_side_whatever_their_order() -> None:
    ours, theirs = ROWS.where(kind="none").beside(ROWS.where(kind="add"))
    assert ours.columns["prompt"].tolist() == theirs.columns["prompt"].tolist() == [2, 3]
    assert ours.columns["log_odds"].tolist() == [0.2, 0.3]
    assert theirs.columns["log_odds"].tolist() == [2.0, 3.0]


def test_a_filter_takes_a_value_or_some_of_them() -> None:
    assert len(ROWS.where(kind="add", prompt=5)) == 1
    assert ROWS.where(prompt=(1, 5)).columns["log_odds"].tolist() == [0.1, 5.0]
    assert len(ROWS.where(kind="whole")) == 0
    assert len(ROWS) == len(ROWS.where(kind="add")) + len(ROWS.where(kind="none")) == 6
    assert ROWS.values("block") == [-1, 4]
    assert [(block, len(some)) for block, some in ROWS.each("block")] == [(-1, 3), (4, 3)]


def test_more_rows_come_behind() -> None:
    both = ROWS.where(kind="add") + ROWS.where(kind="none")
    assert both.columns["prompt"].tolist() == [2, 5, 3, 3, 1, 2]


def test_a_table_has_gaps_and_refuses_a_prompt_twice() -> None:
    labels, prompts, odds = ROWS.by("kind")
    assert (labels, prompts.tolist()) == (["add", "none"], [1, 2, 3, 5])
    np.testing.assert_array_equal(odds, [[np.nan, 2, 3, 5], [0.1, 0.2, 0.3, np.nan]])
    with pytest.raises(ValueError, match="more than once"):
        (ROWS + ROWS).by("kind")


def test_rows_on_disk_are_small_and_typed_and_damage_gets_one_line(tmp_path: Path) -> None:
    rows, path = rows_of(Mechanism(draws=2)), tmp_path / "interventions.parquet"
    write_interventions(path, rows)
    again = read_interventions(path)
    assert [*again.columns] == list(COLUMNS)
    for name in COLUMNS:
        if name in WORDS:
            assert again.columns[name].tolist() == rows.columns[name].tolist()
        else:
            np.testing.assert_allclose(again.columns[name], rows.columns[name], rtol=1e-6)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match=r"interventions\.parquet is missing or damaged"):
        read_interventions(path)
