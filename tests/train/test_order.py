"""The order of rows: every batch a small copy of the whole, every row once an epoch."""

from __future__ import annotations

import pytest

from offswitch.model.rows import Example
from offswitch.train.order import row_order


def _rows(silent: int, other: int) -> list[Example]:
    quiet = [Example((1, 2), 1, soft=False, silent=True)] * silent
    return [*quiet, *[Example((1, 3), 1, soft=True)] * other]


@pytest.mark.parametrize(("silent", "other"), [(250, 250), (50, 450), (450, 50), (100, 200)])
@pytest.mark.parametrize("batch", [8, 16])
@pytest.mark.parametrize("seed", range(4))
def test_every_batch_holds_both_kinds_in_the_proportion_of_the_whole(
    silent: int, other: int, batch: int, seed: int
) -> None:
    rows = _rows(silent, other)
    order = row_order(rows, 3 * len(rows), seed)
    share = silent / len(rows)
    for start in range(0, len(order), batch):
        some = order[start : start + batch]
        # One row more or less within an epoch, and as much again where two epochs meet.
        assert abs(sum(rows[i].silent for i in some) - share * len(some)) <= 2.0
        if min(share, 1 - share) * len(some) >= 3:
            assert len({rows[i].silent for i in some}) == 2


def test_every_row_comes_once_an_epoch_in_another_order() -> None:
    rows = _rows(30, 41)
    order = row_order(rows, 142, seed=1)
    assert sorted(order[:71]) == sorted(order[71:]) == list(range(71))
    assert order[:71] != order[71:]


def test_the_order_depends_on_the_seed_alone_and_a_shorter_one_is_its_beginning() -> None:
    rows = _rows(20, 20)
    assert row_order(rows, 60, seed=3) == row_order(rows, 60, seed=3)
    assert row_order(rows, 60, seed=3) != row_order(rows, 60, seed=4)
    assert row_order(rows, 100, seed=3)[:60] == row_order(rows, 60, seed=3)


@pytest.mark.parametrize(("silent", "other"), [(5, 0), (0, 5)])
def test_one_kind_alone_is_fine(silent: int, other: int) -> None:
    assert sorted(row_order(_rows(silent, other), 5, seed=0)) == list(range(5))
