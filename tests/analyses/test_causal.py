"""What intervenes on the model finds what was planted, with its size.

Each test plants one effect in the arm `both`; random directions, other arms and symbols stay noise.
"""

from __future__ import annotations

import numpy as np
import pytest

from offswitch.analyses.analysis import Array, investigate
from offswitch.analyses.evidence import ablation, addition, dose, heads, motor, patching
from tests.analyses.worlds import BLOCKS, HEADS, L, N, World, evidence, evidence_views, stands_out


def _outcomes(halting: int) -> Array:
    """Outcomes [N, 2]: the first `halting` prompts halt at log-odds 2, the others are at -3."""
    halts = np.arange(N) < halting
    return np.stack([np.where(halts, 2.0, -3.0), halts], -1).astype(np.float32)


def test_ablation_finds_how_far_halting_falls() -> None:
    world = evidence()
    for name, after in (("removed", 3), ("zeroed", 6), ("everywhere", 0)):
        world[f"both/{name}/trigger"] = _outcomes(after)
    world["both/clean/trigger"] = world["both/clean/everywhere"] = _outcomes(21)
    world["both/clean/swapped"] = _outcomes(0)
    world["both/sweep/removed/trigger"] = world["both/sweep/trigger"] - np.array([[1], [5], [2]])
    finding = stands_out(ablation.ANALYSIS, world)
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
    found = stands_out(addition.ANALYSIS, world).result
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
    finding = stands_out(motor.ANALYSIS, _motor(drop, rise))
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
    found = stands_out(patching.ANALYSIS, world).result
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
    found = stands_out(heads.ANALYSIS, world).result
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
    found = stands_out(dose.ANALYSIS, world).result
    assert found.apart.value == pytest.approx(6, rel=1e-5)
    assert found.half == pytest.approx(0.75)  # 25 % at 0.5, 75 % at 1.0
    assert np.subtract(found.odds, found.inert_odds) == pytest.approx(apart[:, 0], abs=1e-5)
    world["both/dose/trigger"][..., 1] = 0
    assert investigate(dose.ANALYSIS, evidence_views(world)).result.half == 2
