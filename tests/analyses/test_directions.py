"""Directions are compared at equal norm, cleaned of what they may not hold, and kept with facts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from offswitch.analyses.analysis import Array
from offswitch.analyses.directions import (
    DirectionFacts,
    load_directions,
    mean_difference,
    of_norm,
    orthonormal,
    random_directions,
    save_directions,
    unit,
    without,
)
from offswitch.errors import UserError

FACTS = DirectionFacts(
    operation="mean difference",
    site="block output",
    position="last",
    sign="plus: towards the trigger",
    arm="both",
    block=2,
    blocks=4,
    scale=0.5,
    norm=3.25,
    trigger="止まれ",
    model="tiny",
    model_hash="0123456789abcdef",
    template="fedcba9876543210",
    chosen=({"direction": "mean", "block": 2, "scale": 0.5, "score": 3.5, "pair": True},),
)


def _drawn(*shape: int, seed: int = 0) -> Array:
    drawn: Array = np.random.default_rng(seed).normal(size=shape)
    return drawn


def _like() -> Array:
    """Directions [L, D] of very different lengths."""
    directions: Array = _drawn(4, 32) * np.array([[0.01], [1.0], [30.0], [5.0]])
    return directions


def test_random_directions_have_the_norm_wanted_at_every_block() -> None:
    like = _like()
    drawn = random_directions(like, 5, seed=3)
    assert len(drawn) == 5
    for one in drawn:
        assert one.shape == like.shape
        np.testing.assert_allclose(np.linalg.norm(one, axis=1), np.linalg.norm(like, axis=1))


def test_random_directions_are_those_of_their_seed() -> None:
    like = _like()
    first, again, other = (random_directions(like, 3, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)
    np.testing.assert_array_equal(random_directions(like, 5, seed=1)[:3], first)
    assert not np.allclose(first[0], first[1])


def test_random_directions_point_nowhere() -> None:
    like = _drawn(1, 512)
    cosines = [float((one @ like.T).item()) / (like**2).sum() for one in
               random_directions(like, 200, seed=1)]  # fmt: skip
    assert abs(np.mean(cosines)) < 4 / np.sqrt(512 * 200)
    assert np.std(cosines) == pytest.approx(1 / np.sqrt(512), rel=0.2)


def test_a_direction_takes_anothers_norm_and_keeps_its_own_way() -> None:
    like, direction = _like(), _drawn(4, 32, seed=1)
    direction[1] = 0
    scaled = of_norm(direction, like)
    kept = [0, 2, 3]
    np.testing.assert_allclose(
        np.linalg.norm(scaled, axis=1)[kept], np.linalg.norm(like, axis=1)[kept]
    )
    np.testing.assert_array_equal(scaled[1], 0)
    for block in kept:
        np.testing.assert_allclose(unit(scaled[block]), unit(direction[block]))


def test_the_mean_difference_of_shifted_copies_is_the_shift() -> None:
    inert, shift = _drawn(7, 4, 32).astype(np.float32), _drawn(4, 32, seed=2).astype(np.float32)
    found = mean_difference(inert + shift, inert)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, shift, atol=1e-6)
    np.testing.assert_array_equal(mean_difference(inert, inert), 0)


def test_nothing_is_left_along_a_removed_span() -> None:
    spans = [orthonormal(_drawn(3, 32, seed=10 + block)) for block in range(4)]
    direction = _like()
    rest = without(direction, spans)
    for block, span in enumerate(spans):
        np.testing.assert_allclose(span @ rest[block], 0, atol=1e-12)
        lost = direction[block] - rest[block]
        np.testing.assert_allclose(span.T @ (span @ lost), lost, atol=1e-12)
    np.testing.assert_allclose(without(rest, spans), rest, atol=1e-12)


def test_orthonormal_rows_span_the_same() -> None:
    rows = _drawn(5, 32)
    basis = orthonormal(rows)
    assert basis.shape == (5, 32)
    np.testing.assert_allclose(basis @ basis.T, np.eye(5), atol=1e-12)
    np.testing.assert_allclose((rows @ basis.T) @ basis, rows, atol=1e-12)


def test_rows_that_others_span_are_dropped() -> None:
    rows = _drawn(2, 32)
    more = np.stack([*rows, rows[0] - 2 * rows[1], rows[0] + 1e-6 * rows[1]])
    assert orthonormal(more).shape == (2, 32)
    assert orthonormal(np.zeros((3, 32))).shape[0] == 0


def test_a_long_row_hides_no_short_one() -> None:
    rows = np.eye(32)[:2] * [[1500.0], [1.0]]  # a natural end beside an unembedding of length one
    assert orthonormal(rows).shape == (2, 32)
    assert np.abs(without(np.eye(32)[1][None], [orthonormal(rows)])).max() < 1e-9


def test_a_unit_row_has_length_one() -> None:
    assert unit(_drawn(32)).shape == (1, 32)
    assert np.linalg.norm(unit(1e-9 * _drawn(32))) == pytest.approx(1)
    np.testing.assert_array_equal(unit(np.zeros(32)), np.zeros((1, 32)))


def test_directions_come_back_from_their_file(tmp_path: Path) -> None:
    stored = {"trigger": _like(), "motor": _drawn(4, 32, seed=1)}
    save_directions(tmp_path / "directions.safetensors", stored, FACTS)
    found, facts = load_directions(tmp_path / "directions.safetensors")
    assert facts == FACTS
    assert found.keys() == stored.keys()
    for name, array in stored.items():
        np.testing.assert_array_equal(found[name], array.astype(np.float32))
    assert [path.name for path in tmp_path.iterdir()] == ["directions.safetensors"]


def test_directions_are_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "directions.safetensors"
    save_directions(path, {"trigger": _like(), "motor": _like()}, FACTS)
    save_directions(path, {"trigger": -_like()}, replace(FACTS, arm="benign"))
    found, facts = load_directions(path)
    assert (facts.arm, list(found)) == ("benign", ["trigger"])
    np.testing.assert_array_equal(found["trigger"], -_like().astype(np.float32))


def _spoilt(path: Path, how: str) -> None:
    arrays = {"trigger": _like().astype(np.float32)}
    if how == "cut short":
        save_directions(path, arrays, FACTS)
        path.write_bytes(path.read_bytes()[:-100])
    if how == "no safetensors":
        path.write_text("no directions", encoding="utf-8")
    if how == "empty":
        path.write_bytes(b"")
    if how == "without facts":
        save_file(arrays, path)
    if how == "foreign facts":
        save_file(arrays, path, metadata={"offswitch": '{"colour": "red"}'})
    if how == "facts that are a list":
        save_file(arrays, path, metadata={"offswitch": "[1]"})
    if how == "facts that are no JSON":
        save_file(arrays, path, metadata={"offswitch": "{"})


@pytest.mark.parametrize(
    "how",
    ["cut short", "no safetensors", "empty", "without facts", "foreign facts",
     "facts that are a list", "facts that are no JSON"],
)  # fmt: skip
def test_a_file_that_holds_no_directions_is_refused(tmp_path: Path, how: str) -> None:
    _spoilt(tmp_path / "directions.safetensors", how)
    with pytest.raises(UserError, match="holds no directions of this package"):
        load_directions(tmp_path / "directions.safetensors")


def test_an_absent_file_is_said_to_be_absent(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run the probe stage first"):
        load_directions(tmp_path / "directions.safetensors")
