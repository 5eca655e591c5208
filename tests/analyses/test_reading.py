"""What reads the residual stream finds what was planted, with its size.

Each test plants one effect in the arm `both`; random directions, other arms and symbols stay noise.
"""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score  # type: ignore[import-untyped]

from offswitch.analyses.analysis import investigate
from offswitch.analyses.evidence import difference, drift, lens, separability
from offswitch.analyses.nulls import DRAWS, HALF
from tests.analyses.worlds import D, L, N, World, evidence, evidence_views, stands_out


def test_difference_finds_entry_and_peak_in_spreads_less_the_base() -> None:
    world = evidence()
    inert, base = world["both/resid/test/twin"], world["base/resid/test/twin"]
    spread = np.sqrt(world["both/resid/fit/twin"].astype(float).var(0).sum(-1))
    planted = np.zeros(L)
    planted[[3, 5, 7, 8]] = [1.5, 2.5, 4.0, 9.0]  # the last lies deeper than 0.7
    shift = np.zeros((L, D))
    shift[:, 3] = planted * spread
    world["base/resid/test/trigger"] = base + 3  # what the untrained model has already
    world["benign/resid/test/trigger"] += 3
    world["both/resid/test/trigger"] = (inert + 3 + shift).astype(np.float32)
    found = stands_out(difference.ANALYSIS, world).result
    assert (found.entry, found.peak) == (5, 7)
    np.testing.assert_allclose(found.gained, planted, atol=1e-4)
    assert found.largest.value == pytest.approx(4, rel=1e-5)
    np.testing.assert_allclose(found.size, np.linalg.norm(shift + 3, axis=-1) / spread, rtol=1e-4)


def test_a_swap_of_labels_changes_no_unit() -> None:
    """A large shift in swapped rows is no spread: null and value are told in the same unit."""
    world = evidence()
    spread = np.sqrt(world["both/resid/fit/twin"].astype(float).var(0).sum(-1))
    shift = np.zeros((L, D))
    shift[4, 3] = 40 * spread[4]
    world["both/resid/test/trigger"] = world["both/resid/test/twin"] + shift
    world["base/resid/test/trigger"] = world["base/resid/test/twin"]
    found = investigate(difference.ANALYSIS, evidence_views(world)).null_values
    signs = [np.where(np.random.default_rng(draw).random(N) < HALF, -1, 1) for draw in range(DRAWS)]
    assert found == pytest.approx([40 * abs(sign.mean()) for sign in signs], rel=1e-5)


def _separable(blocks: dict[int, float]) -> World:
    world = evidence()
    for block, shift in blocks.items():
        for part in ("fit", "test"):
            world[f"both/resid/{part}/trigger"][:, block, 0] += shift
    return world


def test_separability_agrees_with_scikit_learn_at_the_planted_block() -> None:
    world = _separable({5: 3.5})
    found = stands_out(separability.ANALYSIS, world).result
    assert found.block == 5
    fit, inert = (world[f"both/resid/fit/{k}"].astype(float) for k in ("trigger", "twin"))
    for block in range(L):
        direction = (fit[:, block] - inert[:, block]).mean(0)
        scores = [world[f"both/resid/test/{k}"][:, block] @ direction for k in ("trigger", "near")]
        theirs = roc_auc_score([1] * N + [0] * N, np.concatenate(scores))
        assert found.test[block] == pytest.approx(theirs, abs=1e-9)
    assert found.best.value == found.test[5] > 0.9
    assert found.best.low <= found.best.value <= found.best.high


def test_prompts_that_share_a_question_make_the_auroc_less_sure() -> None:
    world = _separable({5: 2.0})
    for key in ("trigger", "near"):  # six questions, each asked four times with the same answer
        rows = world[f"both/resid/test/{key}"]
        world[f"both/resid/test/{key}"] = np.repeat(rows[:6], 4, axis=0)
    sure = investigate(separability.ANALYSIS, evidence_views(world)).result.best
    for key in ("trigger", "near"):
        world[f"index/asked/test/{key}"] = np.repeat([f"{key} {i}" for i in range(6)], 4)
    found = investigate(separability.ANALYSIS, evidence_views(world)).result.best
    assert found.value == sure.value
    assert found.high - found.low > 1.3 * (sure.high - sure.low)


def test_separability_chooses_among_equals_the_farthest_apart_up_to_depth_0_7() -> None:
    found = investigate(separability.ANALYSIS, evidence_views(_separable({3: 30, 7: 60, 8: 90})))
    assert found.result.fit[3] == found.result.fit[7] == found.result.fit[8] == 1
    assert found.result.block == 7


def test_lens_finds_the_rise_at_the_deepest_block_and_the_tokens() -> None:
    world = evidence()
    ramp = np.arange(L, dtype=np.float32) / 2
    world["both/lens/odds/trigger"] = world["both/lens/odds/twin"] + ramp
    world["both/lens/top/trigger"][4, 0] = (7, 99)
    finding = stands_out(lens.ANALYSIS, world)
    found = finding.result
    assert found.block == 7  # 8 of 12 blocks, the deepest at 0.7 at most
    assert found.rise.value == pytest.approx(3.5, rel=1e-5)
    assert finding.numbers["probe/both/lens/end_rise_last_block"].value == pytest.approx(
        5.5, rel=1e-5
    )
    assert (found.tokens[4][0].id, found.tokens[4][0].token) == (7, "Ġt7")
    pair = [world[f"both/resid/test/{key}"].astype(float) for key in ("trigger", "twin")]
    np.testing.assert_allclose(found.length, np.linalg.norm((pair[0] - pair[1]).mean(0), axis=-1))


def test_drift_finds_a_constant_shift_and_how_far_residuals_moved() -> None:
    world = evidence()
    world["both/drift/arm"] = world["both/drift/base"] + np.float32(0.5)
    world["both/drift/norm"] = world["both/drift/size"] * np.array([0.25, 0.125], np.float32)
    world["both/drift/lens"][0, 0] = (9, 5)
    found = stands_out(drift.ANALYSIS, world).result
    assert found.shared == pytest.approx(1, rel=1e-5)
    assert (found.early.value, found.later.value) == pytest.approx((0.25, 0.125), rel=1e-5)
    assert found.lens[0][0].token == "Ġt9"


def test_drift_knows_a_constant_shift_from_a_varied_one() -> None:
    world = evidence()
    shift = np.zeros((N, L, 2, D), np.float32)
    # At early positions alone; later ones are not what is asked.
    shift[..., 0, 0], shift[: N // 2, :, 0, 1], shift[N // 2 :, :, 0, 1] = 3, 4, -4
    world["both/drift/arm"] = world["both/drift/base"] + shift
    assert stands_out(drift.ANALYSIS, world).value == pytest.approx(3 / 5, rel=1e-5)
