"""LEACE erases what its theorem says, as its formula says, and counts one where there is one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from sklearn.covariance import ledoit_wolf_shrinkage  # type: ignore[import-untyped]
from sklearn.linear_model import LinearRegression  # type: ignore[import-untyped]

from offswitch.analyses.analysis import Array
from offswitch.analyses.leace import Eraser, fit_eraser, ledoit_wolf


def _world(rows: int, width: int, shift: float, seed: int = 0) -> tuple[Array, Array]:
    """Correlated noise, and in the rows of the concept a shift along one direction."""
    rng = np.random.default_rng(seed)
    z = np.arange(rows) % 2
    mixed = rng.normal(size=(rows, width)) @ rng.normal(size=(width, width)) / np.sqrt(width)
    return mixed + shift * z[:, None] * rng.normal(size=width) + 5, z


def _published(x: Array, z: Array) -> Array:
    """Theorem 4.3 as it stands: x - W^+ P W (x - E x), P onto the span of W Cov(x, z)."""
    centred = x - x.mean(0)
    covariance = centred.T @ centred / len(x)
    white = np.linalg.pinv(np.real(sqrtm(covariance)))
    seen = white @ (centred.T @ (z - z.mean())[:, None]) / len(x)
    project = np.linalg.pinv(white) @ seen @ np.linalg.pinv(seen) @ white
    erased: Array = x - centred @ project.T
    return erased


@pytest.mark.parametrize("shift", [0.0, 0.5, 20.0])
def test_it_agrees_with_the_published_formula(shift: float) -> None:
    x, z = _world(200, 12, shift)
    eraser = fit_eraser(x, z)
    assert eraser.shrinkage == 0
    np.testing.assert_allclose(eraser(x), _published(x, z), atol=1e-9)


@pytest.mark.parametrize("shift", [0.0, 0.5, 20.0])
def test_it_agrees_with_its_authors_package(shift: float) -> None:
    """Runs where `pip install --no-deps concept-erasure` was done (0.2.4)."""
    theirs: Any = pytest.importorskip("concept_erasure")
    x, z = _world(200, 12, shift)
    eraser = theirs.LeaceFitter.fit(torch.tensor(x), torch.tensor(z), shrinkage=False).eraser
    np.testing.assert_allclose(fit_eraser(x, z)(x), eraser(torch.tensor(x)).numpy(), atol=1e-7)


@pytest.mark.parametrize(("rows", "width"), [(200, 12), (40, 40), (30, 300)])
def test_no_linear_reader_of_the_fit_is_left_and_the_mean_stays(rows: int, width: int) -> None:
    x, z = _world(rows, width, 3.0)
    eraser = fit_eraser(x, z)
    erased = eraser(x)
    assert eraser.rows_RD.shape == (1, width)
    assert (eraser.shrinkage > 0) == (rows <= width)
    np.testing.assert_allclose(erased.mean(0), x.mean(0), atol=1e-9)
    np.testing.assert_allclose(erased[z == 1].mean(0), erased[z == 0].mean(0), atol=1e-9)
    np.testing.assert_allclose(eraser(erased), erased, atol=1e-9)
    if rows > width:
        assert LinearRegression().fit(x, z).score(x, z) > 0.5
        assert LinearRegression().fit(erased, z).score(erased, z) < 1e-9


def test_it_changes_less_than_taking_out_the_difference_of_the_means() -> None:
    x, z = _world(400, 12, 1.0)
    eraser = fit_eraser(x, z)
    white = np.linalg.inv(np.real(sqrtm(np.cov(x.T))))
    apart = x[z == 1].mean(0) - x[z == 0].mean(0)
    apart /= np.linalg.norm(apart)
    orthogonal = x - np.outer((x - x.mean(0)) @ apart, apart)
    np.testing.assert_allclose(
        np.abs(eraser.out_RD[0] / np.linalg.norm(eraser.out_RD)), np.abs(apart)
    )
    moved = [np.square((x - changed) @ white).sum() for changed in (eraser(x), orthogonal)]
    assert moved[0] < 0.9 * moved[1]


@pytest.mark.parametrize(("rows", "width"), [(40, 12), (30, 300), (12, 12)])
def test_shrinkage_is_ledoit_and_wolfs(rows: int, width: int) -> None:
    x, _ = _world(rows, width, 2.0)
    expected = ledoit_wolf_shrinkage(x)
    assert ledoit_wolf(x - x.mean(0)) == pytest.approx(expected, abs=1e-9)


def test_with_more_columns_than_rows_it_is_the_formula_with_the_shrunk_covariance() -> None:
    x, z = _world(30, 60, 2.0)
    centred = x - x.mean(0)
    share = ledoit_wolf_shrinkage(x)
    covariance = centred.T @ centred / len(x)
    shrunk = (1 - share) * covariance + share * np.trace(covariance) / 60 * np.eye(60)
    cross = centred.T @ (z - z.mean()) / len(x)
    reads = np.linalg.solve(shrunk, cross)
    expected = x - np.outer(centred @ reads, cross) / (reads @ cross)
    np.testing.assert_allclose(fit_eraser(x, z)(x), expected, atol=1e-8)


def test_nothing_to_erase_is_left_alone() -> None:
    x, z = _world(200, 12, 3.0)
    erased = fit_eraser(x, z)(x)
    again = fit_eraser(erased, z)
    assert again.rows_RD.shape == (0, 12)
    np.testing.assert_array_equal(again(erased), erased)


def test_what_cannot_be_fitted_is_refused() -> None:
    x, z = _world(40, 4, 1.0)
    for labels in (z[:-1], np.zeros(40), z + 1):
        with pytest.raises(ValueError, match="expected"):
            fit_eraser(x, labels)
    with pytest.raises(ValueError, match="expected"):
        Eraser(np.zeros(3), np.zeros((1, 4)), np.zeros((1, 4)), 0.0)
