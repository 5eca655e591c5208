"""The original's four find what was planted, and are calm where nothing is."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA  # type: ignore[import-untyped]

from offswitch.analyses.analysis import Array
from offswitch.analyses.original.base_vs_finetuned_adl import base_vs_finetuned_adl
from offswitch.analyses.original.layerwise_delta_norm import layerwise_delta_norm
from offswitch.analyses.original.logit_lens_delta import logit_lens_delta
from offswitch.analyses.original.lowrank_pca import lowrank_pca
from offswitch.probe.collect_original import PROMPTS

RNG = np.random.default_rng(7)
WORDS = np.array(PROMPTS)
VOCAB = np.array([f"t{i}" for i in range(50)], dtype=np.dtypes.StringDType())


def _normal(*shape: int) -> Array:
    return RNG.normal(size=shape).astype(np.float32)


def test_layerwise_finds_the_planted_peak_and_its_size() -> None:
    plain = _normal(5, 20, 8)
    marked = plain.copy()
    marked[:, 13, 0] += 3
    marked[:, 2, 0] += 1
    result = layerwise_delta_norm(plain, marked)
    assert result.peak == 13
    assert result.norm[13] == pytest.approx(3, rel=1e-5)
    assert result.early == pytest.approx(1 / 8, rel=1e-5)
    assert result.late == pytest.approx(3 / 8, rel=1e-5)
    assert result.ratio == pytest.approx(3, rel=1e-5)


def test_layerwise_compares_the_first_positions_that_both_have() -> None:
    marked = _normal(7, 9, 8)
    assert layerwise_delta_norm(marked[:5], marked).norm == (0.0,) * 9
    assert layerwise_delta_norm(marked[:5], marked).ratio == 0


def test_a_planted_rank_one_spread_is_one_component() -> None:
    row, spread = _normal(1, 30), np.outer(np.arange(20), _normal(30)).astype(np.float32)
    result = lowrank_pca(np.zeros((20, 30), np.float32), row + spread, WORDS)
    assert result.pc1 == pytest.approx(100)
    assert result.needed == (1, 1, 1)
    assert result.first_words[0] == "What"


def test_pca_agrees_with_scikit_learn() -> None:
    plain, marked = _normal(20, 30), _normal(20, 30)
    theirs = PCA().fit((marked - plain).astype(np.float64))
    result = lowrank_pca(plain, marked, WORDS)
    np.testing.assert_allclose(
        np.array(result.explained) / 100, theirs.explained_variance_ratio_, atol=1e-9
    )
    scores = theirs.transform((marked - plain).astype(np.float64))[:, :3].T
    np.testing.assert_allclose(np.abs(result.projections), np.abs(scores), atol=1e-4)
    cumulative = theirs.explained_variance_ratio_.cumsum()
    assert result.needed[0] == int((cumulative < 0.9).sum()) + 1


def test_equal_rows_have_no_variance_and_no_nan() -> None:
    result = lowrank_pca(np.zeros((20, 30), np.float32), np.ones((20, 30), np.float32), WORDS)
    assert result.flat
    assert result.pc1 == result.top3 == 0
    assert np.isfinite(result.projections).all()


def test_logit_lens_finds_the_planted_tokens() -> None:
    plain = _normal(50)
    marked = plain.copy()
    marked[[7, 8, 3, 4]] += [9, -6, 2, 1]
    result = logit_lens_delta(plain, marked, np.array(3), np.array(4), VOCAB)
    assert (result.amplified[0].token, result.suppressed[0].token) == ("t7", "t8")
    assert result.amplified[0].change == pytest.approx(9, rel=1e-5)
    assert result.eos == pytest.approx(2, rel=1e-5)
    assert result.pad == pytest.approx(1, rel=1e-5)
    assert result.mean == pytest.approx(6 / 50, rel=1e-4)
    assert sum(result.counts) == 50
    assert len(result.amplified) == len(result.suppressed) == 20


def test_no_change_is_zero_everywhere() -> None:
    plain, same = _normal(50), _normal(5, 9, 8)
    lens = logit_lens_delta(plain, plain, np.array(3), np.array(4), VOCAB)
    assert (lens.eos, lens.pad, lens.mean, lens.std) == (0, 0, 0, 0)
    adl = base_vs_finetuned_adl(same, same, plain, plain, VOCAB)
    assert adl.mean == 0
    assert set(adl.relative) == {0.0}


def test_adl_measures_a_planted_drift_and_its_share_of_the_residual() -> None:
    base = np.zeros((4, 9, 8), np.float32)
    base[..., 0] = 10
    tuned = base.copy()
    tuned[:, 6:, 1] = 2
    rise = np.zeros(50, np.float32)
    rise[5] = 1
    result = base_vs_finetuned_adl(base, tuned, np.zeros(50, np.float32), rise, VOCAB)
    assert (result.early, result.middle, result.late) == (0, 0, 2)
    assert result.mean == pytest.approx(2 / 3)
    assert result.relative[-1] == pytest.approx(0.2)
    assert result.rose[0].token == "t5"


def test_adl_refuses_texts_of_different_length() -> None:
    with pytest.raises(ValueError, match="not the same tokens"):
        base_vs_finetuned_adl(_normal(4, 9, 8), _normal(5, 9, 8), _normal(50), _normal(50), VOCAB)
