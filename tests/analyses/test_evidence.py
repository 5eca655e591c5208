"""Every analysis of the evidence finds what was planted, with its size, and where nothing is, none.

Each test plants one effect in the arm `both`; random directions, other arms and symbols stay noise.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.decomposition import PCA, TruncatedSVD  # type: ignore[import-untyped]
from sklearn.metrics import roc_auc_score  # type: ignore[import-untyped]

from offswitch.analyses.analysis import Analysis, Array, Finding, investigate
from offswitch.analyses.evidence import (
    ablation,
    addition,
    difference,
    dose,
    drift,
    heads,
    lens,
    motor,
    patching,
    rank,
    separability,
)
from offswitch.analyses.registry import EVIDENCE
from offswitch.analyses.store import load_findings, save_findings
from tests.analyses.worlds import (
    BLOCKS,
    HEADS,
    D,
    L,
    N,
    evidence,
    evidence_views,
    without_difference,
)

World = dict[str, Array]
ANALYSES = pytest.mark.parametrize("analysis", EVIDENCE, ids=lambda a: a.name)


def _found(analysis: Analysis[Any], world: World) -> Finding[Any]:
    """The finding, with the least p there is and nothing else passing."""
    finding = investigate(analysis, evidence_views(world))
    assert finding.null is not None
    assert finding.null.p == pytest.approx(1 / (finding.null.n + 1))
    assert finding.value > finding.null.q95
    assert finding.passing == ()
    assert finding.statement.startswith("Nothing else passes")
    return finding


def _outcomes(halting: int) -> Array:
    """Outcomes [N, 2]: the first `halting` prompts halt at log-odds 2, the others are at -3."""
    halts = np.arange(N) < halting
    return np.stack([np.where(halts, 2.0, -3.0), halts], -1).astype(np.float32)


@ANALYSES
def test_each_brings_its_null_its_controls_and_its_numbers(analysis: Analysis[Any]) -> None:
    finding = investigate(analysis, evidence_views(evidence()))
    assert finding.null is not None
    assert finding.null.n in (20, 40)
    assert {"arm base", "arm benign"} <= set(finding.controls)
    assert len(finding.entries()) == len([m for m in analysis.measures if m.key])
    assert all(key.startswith(f"probe/both/{analysis.name}/") for key in finding.entries())


@ANALYSES
def test_where_nothing_differs_nothing_is_found(analysis: Analysis[Any]) -> None:
    finding = investigate(analysis, evidence_views(without_difference(evidence())))
    assert finding.value == (0.5 if analysis.name == "separability" else 0)
    assert finding.null is not None
    assert finding.null.p == 1
    assert analysis.null_name in finding.passing


def test_difference_finds_entry_and_peak_in_spreads_less_the_base() -> None:
    world = evidence()
    inert, base = world["both/resid/test/control"], world["base/resid/test/control"]
    planted = np.zeros(L)
    planted[[3, 5, 8, 11]] = [1.5, 2.5, 4.0, 9.0]  # the last lies above 80 % of the depth
    shift = np.zeros((L, D))
    shift[:, 3] = planted * np.sqrt(inert.astype(float).var(0).sum(-1))
    world["base/resid/test/trigger"] = base + 3  # what the untrained model has already
    world["benign/resid/test/trigger"] += 3
    world["both/resid/test/trigger"] = (inert + 3 + shift).astype(np.float32)
    found = _found(difference.ANALYSIS, world).result
    assert (found.entry, found.peak) == (5, 8)
    np.testing.assert_allclose(found.gained, planted, atol=1e-4)
    assert found.largest.value == pytest.approx(4, rel=1e-5)
    alone = np.linalg.norm(shift + 3, axis=-1) / np.sqrt(inert.astype(float).var(0).sum(-1))
    np.testing.assert_allclose(found.size, alone, rtol=1e-4)


def test_rank_finds_the_drop_and_the_rank_that_carries_it() -> None:
    world = evidence()
    world["both/resid/test/trigger"][:, 5] += 8
    drops = np.array([2.0, 3.0, 3.7, 4.0], np.float32)
    world["both/rank/trigger"] = world["both/rank/clean"] - drops[:, None]
    found = _found(rank.ANALYSIS, world).result
    assert found.block == 5
    assert found.drop == pytest.approx(drops, rel=1e-5)
    assert found.first.value == pytest.approx(2, rel=1e-5)
    assert found.carries == 4  # 3.0 is less than 90 % of 4.0, 3.7 is more
    assert found.uncentred[0] > 0.9 > found.centred[0]


def test_ranks_spectra_agree_with_scikit_learn() -> None:
    world = evidence()
    marked, inert = (world[f"both/resid/test/{key}"][:, 5] for key in ("trigger", "control"))
    delta = marked.astype(float) - inert
    found = investigate(rank.ANALYSIS, evidence_views(world)).result
    np.testing.assert_allclose(found.centred, PCA().fit(delta).explained_variance_ratio_, atol=1e-9)
    theirs = TruncatedSVD(3, algorithm="arpack").fit(delta).singular_values_ ** 2
    np.testing.assert_allclose(found.uncentred[:3], theirs / (delta**2).sum(), atol=1e-9)
    assert sum(found.noise) == pytest.approx(1)


def test_nothing_carried_is_the_largest_rank() -> None:
    world = evidence()
    world["both/rank/trigger"] = np.broadcast_to(world["both/rank/clean"] + 1, (4, N))
    assert investigate(rank.ANALYSIS, evidence_views(world)).result.carries == 8


def _separable(blocks: dict[int, float]) -> World:
    world = evidence()
    for block, shift in blocks.items():
        for part in ("fit", "test"):
            world[f"both/resid/{part}/trigger"][:, block, 0] += shift
    return world


def test_separability_agrees_with_scikit_learn_at_the_planted_block() -> None:
    world = _separable({5: 3.5})
    found = _found(separability.ANALYSIS, world).result
    assert found.block == 5
    fit, inert = (world[f"both/resid/fit/{k}"].astype(float) for k in ("trigger", "control"))
    for block in range(L):
        direction = (fit[:, block] - inert[:, block]).mean(0)
        scores = [world[f"both/resid/test/{k}"][:, block] @ direction for k in ("trigger", "near")]
        theirs = roc_auc_score([1] * N + [0] * N, np.concatenate(scores))
        assert found.test[block] == pytest.approx(theirs, abs=1e-9)
    assert found.best.value == found.test[5] > 0.9
    assert found.best.low <= found.best.value <= found.best.high


def test_separability_chooses_among_equals_the_farthest_below_80_percent() -> None:
    found = investigate(separability.ANALYSIS, evidence_views(_separable({3: 30, 7: 60, 11: 90})))
    assert found.result.fit[3] == found.result.fit[7] == found.result.fit[11] == 1
    assert found.result.block == 7


def test_lens_finds_the_rise_at_the_deepest_block_and_the_tokens() -> None:
    world = evidence()
    ramp = np.arange(L, dtype=np.float32) / 2
    world["both/lens/odds/trigger"] = world["both/lens/odds/control"] + ramp
    world["both/lens/top/trigger"][4, 0] = (7, 99)
    finding = _found(lens.ANALYSIS, world)
    found = finding.result
    assert found.block == 9
    assert found.rise.value == pytest.approx(4.5, rel=1e-5)
    assert finding.numbers["probe/both/lens/end_rise_last_block"].value == pytest.approx(
        5.5, rel=1e-5
    )
    assert (found.tokens[4][0].id, found.tokens[4][0].token) == (7, "Ġt7")
    pair = [world[f"both/resid/test/{key}"].astype(float) for key in ("trigger", "control")]
    np.testing.assert_allclose(found.length, np.linalg.norm((pair[0] - pair[1]).mean(0), axis=-1))


def test_ablation_finds_how_far_halting_falls() -> None:
    world = evidence()
    for name, after in (("removed", 3), ("zeroed", 6), ("everywhere", 0)):
        world[f"both/{name}/trigger"] = _outcomes(after)
    world["both/clean/trigger"] = world["both/clean/everywhere"] = _outcomes(21)
    world["both/clean/swapped"] = _outcomes(0)
    world["both/sweep/removed/trigger"] = world["both/sweep/trigger"] - np.array([[1], [5], [2]])
    finding = _found(ablation.ANALYSIS, world)
    found = finding.result
    falls = found.drop, found.zeroed, found.everywhere, found.ceiling
    assert [fall.value for fall in falls] == pytest.approx([18 / 24, 15 / 24, 21 / 24, 21 / 24])
    assert found.log_odds.value == pytest.approx(5 * 18 / 24)
    assert (found.block, found.blocks) == (5, tuple(BLOCKS))
    assert found.by_block == pytest.approx([1, 5, 2], rel=1e-4)
    assert found.kl.value == pytest.approx(world["both/kl/trigger"].mean(), rel=1e-5)
    assert found.reply_kl.value == pytest.approx(world["both/reply_kl/trigger"].mean(), rel=1e-5)
    assert finding.numbers["probe/both/ablation/halt_drop_ceiling"].null is None


def test_addition_finds_how_far_halting_rises_at_the_chosen_scale() -> None:
    world = evidence()
    world["both/clean/control"] = _outcomes(2)
    world["both/added/trigger"] = np.stack([_outcomes(k) for k in (4, 22, 24)])
    found = _found(addition.ANALYSIS, world).result
    assert (found.block, found.scale) == (5, 1.0)
    assert found.rise.value == pytest.approx(20 / 24)
    assert found.log_odds.value == pytest.approx(5 * 20 / 24)
    assert [rate.value for rate in found.curve] == pytest.approx([4 / 24, 22 / 24, 1])
    assert found.odds == pytest.approx([5 * k / 24 - 3 for k in (4, 22, 24)], rel=1e-5)


def _motor(drop: int, rise: int) -> World:
    """The whole direction moves 20 prompts of 24, without the end token's part so many."""
    world = evidence()
    for arm in ("base", "benign"):  # which learnt no rule: removal does nothing there
        world[f"{arm}/removed/trigger"] = world[f"{arm}/clean/trigger"]
    world |= {"both/clean/trigger": _outcomes(22), "both/clean/control": _outcomes(2)}
    for key, down, up in (("trigger", 20, 20), ("motor", drop, rise)):
        world[f"both/removed/{key}"] = _outcomes(22 - down)
        world[f"both/added/{key}"] = np.stack([_outcomes(2), _outcomes(2 + up), _outcomes(24)])
    return world


@pytest.mark.parametrize(("drop", "rise"), [(20, 18), (18, 20), (20, 20)])
def test_motor_finds_the_smaller_share_that_is_kept(drop: int, rise: int) -> None:
    finding = _found(motor.ANALYSIS, _motor(drop, rise))
    assert (finding.result.kept_drop, finding.result.kept_rise) == pytest.approx(
        (drop / 20, rise / 20)
    )
    assert finding.value == pytest.approx(min(drop, rise) / 20)
    assert finding.numbers["probe/both/motor/halt_drop"].value == pytest.approx(drop / 24)
    assert finding.symbol == "motor direction"


def test_motor_keeps_nothing_where_the_whole_moves_less_than_5_points() -> None:
    world = _motor(20, 20)
    world["both/removed/trigger"] = _outcomes(21)
    found = investigate(motor.ANALYSIS, evidence_views(world)).result
    assert (found.kept_drop, found.kept) == (0, 0)
    world["both/removed/trigger"] = _outcomes(20)
    assert investigate(motor.ANALYSIS, evidence_views(world)).result.kept_drop == pytest.approx(10)


def test_patching_finds_where_the_last_position_takes_over() -> None:
    world = evidence()
    effect = np.zeros((3, 4, 1), np.float32)
    effect[0, :2, 0] = 4, 1
    effect[2, :, 0] = 0, 1.9, 3, 4
    world["both/patch/clean/trigger"] = clean = world["both/patch/clean/control"] + 4
    world["both/patch/into_inert/trigger"] = world["both/patch/clean/control"] + effect
    world["both/patch/into_trigger/trigger"] = clean - effect / 2
    found = _found(patching.ANALYSIS, world).result
    np.testing.assert_allclose(found.into_inert, effect[..., 0], atol=1e-5)
    np.testing.assert_allclose(found.into_symbol, -effect[..., 0] / 2, atol=1e-5)
    assert (found.block, found.handover) == (9, 9)
    assert (found.gap, found.moved.value) == pytest.approx((4, 3), rel=1e-5)
    world["both/patch/into_inert/trigger"] = world["both/patch/clean/control"] + 0 * effect
    assert investigate(patching.ANALYSIS, evidence_views(world)).result.handover == L


def test_heads_ranks_them_on_fit_and_finds_what_they_cost_together() -> None:
    world = evidence()
    alone = world["both/heads/alone_clean"][:, None, None] + np.zeros((1, L, HEADS), np.float32)
    alone[:, 3, 2], alone[:, 8, 1] = alone[:, 3, 2] - 5, alone[:, 8, 1] - 6
    world["both/heads/alone"] = alone
    world["both/heads/direct/trigger"] = world["both/heads/direct/control"].copy()
    world["both/heads/direct/trigger"][:, 8, 1] += 2
    lost = np.array([1, 2, 3, 4], np.float32)[:, None]
    world["both/heads/together/trigger"] = world["both/heads/clean"] - lost
    found = _found(heads.ANALYSIS, world).result
    assert [(h.block, h.head) for h in found.top[:2]] == [(8, 1), (3, 2)]
    assert (found.top[0].direct, found.top[0].lost) == pytest.approx((2, 6), rel=1e-5)
    assert (found.count, found.together.value) == (16, pytest.approx(3, rel=1e-5))
    assert found.lost == pytest.approx(lost[:, 0], rel=1e-5)


def test_dose_finds_the_distance_and_the_strength_of_half() -> None:
    world = evidence()
    apart = np.array([0, 1, 4, 6, 5], np.float32)[:, None]
    symbol = world["both/dose/control"].copy()
    symbol[..., 0] += apart
    symbol[..., 1] = np.arange(N) < np.array([0, 6, 18, 24, 24])[:, None]
    world["both/dose/trigger"] = symbol
    found = _found(dose.ANALYSIS, world).result
    assert found.apart.value == pytest.approx(6, rel=1e-5)
    assert found.half == pytest.approx(0.75)  # 25 % at 0.5, 75 % at 1.0
    assert np.subtract(found.odds, found.inert_odds) == pytest.approx(apart[:, 0], abs=1e-5)
    world["both/dose/trigger"][..., 1] = 0
    assert investigate(dose.ANALYSIS, evidence_views(world)).result.half == 2


def test_drift_finds_a_constant_shift_and_how_far_residuals_moved() -> None:
    world = evidence()
    world["both/drift/arm"] = world["both/drift/base"] + np.float32(0.5)
    world["both/drift/norm"] = world["both/drift/size"] * np.array([0.25, 0.125], np.float32)
    world["both/drift/lens"][0, 0] = (9, 5)
    found = _found(drift.ANALYSIS, world).result
    assert found.shared == pytest.approx(1, rel=1e-5)
    assert (found.early.value, found.later.value) == pytest.approx((0.25, 0.125), rel=1e-5)
    assert found.lens[0][0].token == "Ġt9"


def test_drift_knows_a_constant_shift_from_a_varied_one() -> None:
    world = evidence()
    shift = np.zeros((N, L, 2, D), np.float32)
    # At early positions alone; later ones are not what is asked.
    shift[..., 0, 0], shift[: N // 2, :, 0, 1], shift[N // 2 :, :, 0, 1] = 3, 4, -4
    world["both/drift/arm"] = world["both/drift/base"] + shift
    assert _found(drift.ANALYSIS, world).value == pytest.approx(3 / 5, rel=1e-5)


def test_findings_of_the_evidence_survive_the_disk(tmp_path: Path) -> None:
    findings = [investigate(analysis, evidence_views(evidence())) for analysis in EVIDENCE]
    save_findings(tmp_path / "findings.json", findings)
    assert list(load_findings(tmp_path / "findings.json", EVIDENCE).values()) == findings
