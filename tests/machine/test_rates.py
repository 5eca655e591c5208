"""What is measured of this machine, what one dead process costs, and that it is asked once."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from pathlib import Path
from typing import get_args

import pytest

from offswitch.files import write_sealed
from offswitch.machine import rates, trial
from offswitch.machine.cells import Cell, Rates, Type
from offswitch.machine.rates import kept_in, measure, rates_of, settings, usable_cores
from offswitch.machine.trial import in_small
from offswitch.model.load import shape_of
from tests.machine import dying
from tests.tiny import ARCHITECTURES, tiny_network


def config_of(architecture: str = "llama") -> str:
    return shape_of(tiny_network(architecture).config).config


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "SECONDS", 0.02)


def test_processes_and_threads_never_take_more_than_the_cores() -> None:
    assert settings(1) == [(1, 1)]
    assert settings(2) == [(1, 1), (1, 2), (2, 1)]
    assert settings(6) == [(1, 1), (1, 2), (1, 4), (1, 6), (2, 3), (4, 1), (6, 1)]
    for cores in range(1, 65):
        assert all(processes * threads <= cores for processes, threads in settings(cores))
        assert (1, cores) in settings(cores)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_two_blocks_of_the_model_are_what_is_measured(architecture: str) -> None:
    small = in_small(config_of(architecture))
    whole = tiny_network(architecture)
    per_block = {
        name: weight.shape
        for name, weight in whole.named_parameters()
        if ".0." in name or ".1." in name
    }
    kept = dict(small.named_parameters())
    assert per_block
    assert all(kept[name].shape == shape for name, shape in per_block.items())
    assert not any(".2." in name for name in kept)


def test_every_cell_is_measured_in_child_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "HOPELESS", math.inf)  # whatever this machine is like
    found = measure(config_of(), cores=1).figures
    expected = {Cell("read", "float32", 1, 1)}
    for precision in get_args(Type):
        expected |= {Cell("product", precision, 1, 1), Cell("train", precision, 1, 1)}
    assert found.keys() == expected
    assert all(rate > 0 for rate in found.values())


def test_a_type_whose_products_are_hopeless_is_tried_no_further(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rates, "HOPELESS", 0)
    found = measure(config_of(), cores=1).figures
    assert {cell.what for cell in found if cell.precision == "bfloat16"} == {"product"}
    assert {cell.what for cell in found if cell.precision == "float32"} == {
        "train", "read", "product",
    }  # fmt: skip


def test_a_type_that_ends_the_process_loses_its_figures_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trial, "prepare", dying.prepare)
    found = measure(config_of(), cores=2).figures
    read = [Cell("read", "float32", *setting) for setting in settings(2)]
    train = [Cell("train", "float32", *setting) for setting in settings(2)]
    assert found.keys() == {Cell("product", "float32", 1, 2), *read, *train}
    # A backward pass besides is not free; single figures may be disturbed.
    assert max(found[cell] for cell in read) > max(found[cell] for cell in train)


@pytest.mark.parametrize(("seconds", "side"), [(0.0, 128), (math.inf, 1024)])
def test_a_slow_product_is_timed_with_small_matrices(
    monkeypatch: pytest.MonkeyPatch, seconds: float, side: int
) -> None:
    monkeypatch.setattr(trial, "LONG", seconds)
    trial.prepare(config_of(), Cell("product", "float32", 1, 1))
    (work,) = trial._READY
    assert work.amount == 2 * side**3 / 1e9


def test_a_model_that_transformers_does_not_know_is_refused_in_the_child() -> None:
    """So that it has products alone: what a child refuses is lost like what ends it."""
    unknown = '{"model_type": "of my own"}'
    trial.prepare(unknown, Cell("product", "float32", 1, 1))
    with pytest.raises(ValueError, match="of my own"):
        trial.prepare(unknown, Cell("train", "float32", 1, 1))


def test_figures_are_kept_and_measured_again_where_they_are_damaged(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OFFSWITCH_CACHE", str(tmp_path))
    config, asked = config_of(), []

    def counted(_config: str, cores: int) -> Rates:
        asked.append(cores)
        return Rates({Cell("train", "float32", 1, 1): 100.0, Cell("read", "float32", 1, 1): 300.0})

    monkeypatch.setattr(rates, "measure", counted)
    first = rates_of(config)
    assert rates_of(config).to_json() == first.to_json()
    assert asked == [usable_cores()]
    kept_in(config).write_text('{"rates": {"train float32 1x1": 0}}', encoding="utf-8")
    assert rates_of(config).to_json() == first.to_json()
    assert len(asked) == 2


@pytest.mark.parametrize(
    "content",
    ["{", "[]", "{}", '{"rates": [1]}', '{"rates": {"train float32": 1}}',
     '{"rates": {"read float32 1x1": 0}}', '{"rates": {"read float64 1x1": 9}}'],
)  # fmt: skip
def test_a_damaged_file_is_as_good_as_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str
) -> None:
    monkeypatch.setenv("OFFSWITCH_CACHE", str(tmp_path))
    again = Rates({Cell("product", "float32", 1, 1): 5.0})
    monkeypatch.setattr(rates, "measure", lambda *_: again)
    path = kept_in(config_of())
    path.parent.mkdir()
    path.write_text(content, encoding="utf-8")
    with suppress(ValueError, TypeError):  # sealed too, as an earlier version might have
        write_sealed(path, dict(json.loads(content)), path.name)
    assert rates_of(config_of()) == again
    assert Rates.from_json(json.loads(path.read_text(encoding="utf-8"))["rates"]) == again


def test_other_shapes_are_measured_for_themselves_and_other_words_are_not() -> None:
    config = config_of()
    assert kept_in(config.replace('"hidden_size": 32', '"hidden_size": 64')) != kept_in(config)
    assert kept_in(config.replace('"vocab_size": ', '"vocab_size": 1')) == kept_in(config)


def test_the_nearest_figure_stands_for_one_that_is_missing() -> None:
    known = Rates({Cell("train", "float32", 1, 2): 100.0, Cell("train", "float32", 2, 4): 300.0})
    assert known.near(Cell("train", "float32", 1, 2)) == 100
    assert known.near(Cell("train", "float32", 1, 1)) == 50
    assert known.near(Cell("train", "float32", 4, 4)) == 600
    with pytest.raises(KeyError):
        known.near(Cell("train", "bfloat16", 1, 2))
