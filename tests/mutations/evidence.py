"""Faults of the evidence: interventions, nulls, intervals, the choice and the verdict."""

from __future__ import annotations

from typing import Final

_STATS: Final = "tests/stats/test_stats.py"
_CLUSTERED: Final = "tests/stats/test_clustered.py"
_LEACE: Final = "tests/analyses/test_leace.py"
_UNSEEN: Final = "tests/prompts/test_negatives.py"
_NULLS: Final = "tests/analyses/test_nulls.py"
_RULE: Final = "tests/analyses/test_verdict.py"
_JUDGE: Final = "tests/analyses/test_judge.py"
_CAUSAL: Final = "tests/analyses/test_causal.py"
_CHOICE: Final = "tests/analyses/test_choice.py"
_PAIRED: Final = "tests/analyses/test_interventions.py"
_EARLY: Final = "test_a_pair_is_early_however_strong_a_late_block_is"
_HOSTS: Final = "tests/probe/test_hosts.py"
_OWN: Final = "test_after_an_interchange_the_component_is_that_of_the_prompts_own_twin"
_AS_FAR: Final = "test_null_directions_move_every_prompt_as_far_as_ours_and_elsewhere"
_EDITS: Final = "tests/probe/test_intervene.py"
_SCALED: Final = "tests/model/test_scaled.py"
_SPREAD: Final = (
    "tests/study/test_spread.py::test_the_interval_over_organisms_is_students_and_covers"
)

ROWS: Final[tuple[tuple[str, ...], ...]] = (
    # --- interventions ------------------------------------------------------------------------
    ("a removal goes to the wrong side of its centre", "probe/edits.py",
     "- centre[:, None]) @ value", "+ centre[:, None]) @ value",
     f"{_EDITS}::test_after_removal_the_projection_is_the_centre"),
    ("edits of one place come in any order", "probe/edits.py",
     "key=lambda e: e[0]", "key=lambda e: -e[0]",
     f"{_EDITS}::test_edits_of_one_place_follow_each_other"),
    ("branches of a pass see each other", "probe/packing.py",
     "line[:, None] == line[None, :]", "line[:, None] >= line[None, :]",
     f"{_EDITS}::test_branches_do_not_see_each_other"),
    ("an interchange gives every prompt the same", "probe/measure/causal.py",
     "return (host.change(block, position) @ row)[:, None] * row",
     "return -bench.vector(name, block).expand_as(host.change(block, position))",
     f"{_HOSTS}::{_OWN}"),
    ("what is after the symbol counts at the symbol", "probe/hosts.py",
     '"after": (self.symbol, length)', '"after": (0, length)', f"{_HOSTS}::{_OWN}"),
    ("an interchange exchanges all of the residual", "probe/hosts.py",
     "return (self.twin[block, at] - self.resid[block, at]).float()",
     "return self.twin[block, at].float()", f"{_HOSTS}::{_OWN}"),
    ("inert is the other side of zero", "probe/measure/ordinary.py",
     "return (centre - host.resid[block, -1].float() @ row) * row",
     "return (-centre - host.resid[block, -1].float() @ row) * row",
     f"{_HOSTS}::test_inert_is_the_mean_of_inert_rows_at_the_last_position"),
    ("rows are paired in any order", "analyses/interventions.py",
     "return self._at(i), other._at(j)", "return self._at(i), other._at(j[::-1])",
     f"{_PAIRED}::test_rows_of_one_prompt_stand_side_by_side_whatever_their_order"),
    ("strength does not reach the adapter", "model/adapters.py",
     "= factor * scale", "= factor",
     f"{_SCALED}::test_a_layer_adds_its_product_scale_times"),
    ("strength does not reach the trigger's row", "model/adapters.py",
     "end.detach(), scale)", "end.detach(), 1)",
     f"{_SCALED}::test_the_triggers_row_moves_along_a_line"),
    # --- nulls --------------------------------------------------------------------------------
    ("p can be zero", "stats/__init__.py", "p = (1 + int(", "p = (0 + int(", _STATS),
    ("a tie counts for the value", "stats/__init__.py",
     "null >= value", "null > value", _STATS),
    ("random directions have any length", "analyses/directions.py",
     "np.where(own > 0, own, 1) * wanted", "np.where(own > 0, own, 1)",
     "tests/analyses/test_directions.py"),
    ("null directions move the residual as far as chance has it", "probe/measure/causal.py",
     "@ row)[:, None] * null", "@ null)[:, None] * null", f"{_HOSTS}::{_AS_FAR}"),
    ("a null direction is added at a length of its own", "probe/measure/causal.py",
     "bench.tensor(unit(drawn[block])[0]) * (", "bench.tensor(drawn[block]) * (",
     f"{_HOSTS}::{_AS_FAR}"),
    ("every label swap is the same", "analyses/nulls.py",
     "swap = np.random.default_rng(draw)", "swap = np.random.default_rng(0)", _NULLS),
    ("a label swap copies one label", "analyses/nulls.py",
     "np.where(mask, second, first)", "np.where(mask, first, first)", _NULLS),
    ("a sign flip forgets where it started", "analyses/nulls.py",
     "2 * before - after", "before - after", _NULLS),
    ("an arm is its own control", "analyses/nulls.py",
     "arm in views.arms and arm != views.arm", "arm in views.arms", _NULLS),
    # --- intervals ----------------------------------------------------------------------------
    ("another interval than Wilson's", "stats/__init__.py",
     "share * (1 - share) / n + (z / (2 * n)) ** 2", "share * (1 - share) / n", _STATS),
    ("the bootstrap ignores that prompts share a question", "stats/__init__.py",
     "np.unique(labels, return_inverse=True)",
     "np.unique(np.arange(data.size), return_inverse=True)", _STATS),
    ("a change has the interval of its other side", "stats/__init__.py",
     "change - float(down)", "change - float(up)", _STATS),
    ("a change of half is a hair less", "stats/__init__.py",
     "(hits[0] * second.n - hits[1] * first.n) / (first.n * second.n)",
     "(first.value - second.value)", _STATS),
    ("ties win in AUROC", "stats/__init__.py",
     'for side in ("left", "right")', 'for side in ("right", "right")', _STATS),
    ("ties lose in AUROC's interval", "stats/clustered.py",
     "0.5 * (pos[:, None] == neg)", "0.0 * (pos[:, None] == neg)", _CLUSTERED),
    ("what two kinds of clusters share counts twice", "stats/clustered.py",
     "_squares(way) - _squares(_both(first, way))", "_squares(way)", _CLUSTERED),
    ("where all happen every prompt counts", "stats/clustered.py",
     "if 0 < share < 1 else clusters", "if 0 < share < 1 else n", _CLUSTERED),
    ("before and after are taken for independent", "stats/clustered.py",
     "2 * r * one * other", "0 * r * one * other", _CLUSTERED),
    ("Holm's steps may fall", "stats/__init__.py",
     "np.maximum.accumulate(values[order]", "np.asarray(values[order]", _STATS),
    ("the eraser forgets the mean", "analyses/leace.py",
     "(x_ND - self.mean_D) @ self.rows_RD.T", "x_ND @ self.rows_RD.T", _LEACE),
    ("a shape is told by its order", "prompts/look_alikes.py",
     "tuple(sorted(kinds))", "tuple(kinds)", _UNSEEN),
    ("words come from the topics of seed 0", "prompts/negatives.py",
     "load_questions(seed)", "load_questions(0)", _UNSEEN),
    ("one organism too many in the spread", "stats/__init__.py",
     "student.ppf(0.975, data.size - 1)", "student.ppf(0.975, data.size)",
     _SPREAD),
    # --- the verdict --------------------------------------------------------------------------
    ("a rate just at its bar fails", "analyses/verdict.py",
     "passed = found.value >= bar if", "passed = found.value > bar if", _RULE),
    ("the pair may lie deeper than 0.7", "analyses/choice.py",
     "one.score[: early(blocks)]", "one.score", f"{_CHOICE}::{_EARLY}"),
    ("early is up to 0.8 of the depth", "analyses/directions.py",
     "DEPTH: Final = 0.7", "DEPTH: Final = 0.8", _CHOICE),
    ("a pair is as strong as its stronger block", "analyses/choice.py",
     "np.minimum(score[:-1], score[1:])", "np.maximum(score[:-1], score[1:])",
     f"{_CHOICE}::test_a_pair_is_two_neighbours_and_its_weaker_block_counts"),
    ("a block is as strong as its stronger effect", "analyses/choice.py",
     "np.minimum(self.fall, self.rise.max(1))", "np.maximum(self.fall, self.rise.max(1))",
     f"{_CHOICE}::test_both_effects_must_be_there"),
    ("one block of the pair is enough", "analyses/verdict.py",
     "early = [_causal(place, found, adjusted) for place in found.pair]",
     "early = [_causal(place, found, adjusted) for place in found.pair[:1]]",
     f"{_JUDGE}::test_both_blocks_of_the_pair_must_pass"),
    ("one block of the pair is enough to be more than motor", "analyses/verdict.py",
     "motor = [_motor(place) for place in found.pair]",
     "motor = [_motor(place) for place in found.pair[:1]]",
     f"{_JUDGE}::test_both_blocks_of_the_pair_must_be_more_than_motor"),
    ("the mildest kind of null gives p", "analyses/verdict.py",
     "max(nulls.items(), key=lambda", "min(nulls.items(), key=lambda",
     f"{_JUDGE}::test_the_kind_of_null_with_the_largest_p_is_adjusted_and_decides"),
    ("the p of the mildest kind of null is adjusted", "analyses/verdict.py",
     '": max(null.p', '": min(null.p',
     f"{_JUDGE}::test_the_kind_of_null_with_the_largest_p_is_adjusted_and_decides"),
    ("the null that reaches least far is enough", "analyses/verdict.py",
     "max(one.q95 for one", "min(one.q95 for one",
     f"{_JUDGE}::test_the_kind_of_null_that_reaches_farthest_decides_too"),
    ("p-values stand alone", "analyses/judge.py",
     "holm(list(p.values())) if p", "list(p.values()) if p",
     f"{_JUDGE}::test_p_values_are_adjusted_over_all_arms_of_a_run"),
    ("the untrained model's rise does not matter", "analyses/causal.py",
     "return base.value / ours.value", "return 0 * base.value / ours.value",
     f"{_JUDGE}::test_half_of_the_rise_in_the_untrained_model_is_too_much"),
    ("half of the rise in the untrained model passes", "analyses/verdict.py",
     "base < ELSEWHERE", "base <= ELSEWHERE",
     f"{_JUDGE}::test_half_of_the_rise_in_the_untrained_model_is_too_much"),
    ("the larger share is what is left without the end", "analyses/causal_rows.py",
     "kept=min(", "kept=max(",
     f"{_CAUSAL}::test_what_is_left_without_the_end_is_the_smaller_share"),
    ("later positions count before the last", "analyses/causal_rows.py",
     "last is None or last.value < EFFECT", "True",
     f"{_CAUSAL}::test_the_later_positions_count_where_the_last_alone_does_nothing"),
    ("an organism may be found anywhere", "study/calibrate.py",
     "abs(planted - found) <= 1 and ", "",
     "tests/study/test_calibrate.py::test_what_is_represented_must_be_what_was_planted"),
    ("false halts up to 3 % pass", "analyses/verdict.py",
     "FALSE_HALTS: Final = 0.02", "FALSE_HALTS: Final = 0.03", _RULE),
    ("ordinary replies may change by 0.3 nats", "analyses/verdict.py",
     "KL: Final = 0.1", "KL: Final = 0.3", _RULE),
)  # fmt: skip
