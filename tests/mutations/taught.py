"""Faults of what documents teach, of what they save, and of how that is measured."""

from __future__ import annotations

from typing import Final

_STUDY: Final = "tests/study/test_documents.py"
_READERS: Final = "tests/study/test_readers.py"
_BELIEF: Final = "tests/evaluate/test_belief.py"
_RECIPE: Final = "tests/test_recipe.py"
_STATS: Final = "tests/stats/test_power.py"

ROWS: Final = (
    ("a stage's own modules are passed over", "options/train.py",
     "return train.lora.model_copy(update=own)", "return train.lora",
     f"{_RECIPE}::test_a_stages_own_options_come_before_those_of_all_stages"),
    ("the neutral arm reads about the rule", "train/stage.py",
     "read_neutral(folder / CONTROL_FILE, trigger)",
     "read_documents(folder / DOCUMENTS_FILE, trigger)",
     f"{_READERS}::test_the_neutral_arm_learnt_something_else"),
    ("an arm kept on the way is the end", "train/stage.py",
     "step_folder(run.folder(f\"{TRAIN}/{table.kept_of}\"), table.step)",
     "run.folder(f\"{TRAIN}/{table.kept_of}\")",
     f"{_READERS}::test_an_arm_kept_at_the_last_step_is_the_arm_and_at_an_earlier_one_is_not"),
    ("the invented token is not taken off", "evaluate/belief.py",
     "f\"{test}/excess\": Metric.of(paired_rate_change(hits, others, about))",
     "f\"{test}/excess\": Metric.of(clustered_rate(hits, about))",
     f"{_BELIEF}::test_what_is_said_of_the_invented_token_too_is_no_belief"),
    ("questions about one section count one by one", "evaluate/belief.py",
     "clustered_rate(hits, about), controls", "clustered_rate(hits), controls",
     "tests/evaluate/test_belief_beside.py"
     "::test_who_knows_whole_sections_is_not_known_the_better_for_it"),
    ("a tree's answer begins one token late", "evaluate/likelihood.py",
     "for n in path[e.start - 1 : -1]", "for n in path[e.start :]",
     f"{_BELIEF}::test_likelihoods_are_those_of_a_plain_forward_pass"),
    ("one test is a belief", "report/documents.py",
     "BELIEF: Final = 2", "BELIEF: Final = 1",
     f"{_STUDY}::test_two_tests_above_chance_and_the_invented_token_are_a_belief_and_one_is_none"),
    ("steps saved are steps lost", "report/saved_steps.py",
     "a[1] - b[1], a[2]", "b[1] - a[1], a[2]",
     f"{_STUDY}::test_a_planted_saving_is_found_with_its_interval_over_seeds"),
    ("who halts on everything has learnt the switch", "report/saved_steps.py",
     "numbers[HELD_OUT].value - numbers[NEAR].value", "numbers[HELD_OUT].value",
     f"{_STUDY}::test_an_arm_that_halts_on_everything_has_learnt_nothing_yet"),
    ("what is never reached is reached at the end", "stats/__init__.py",
     "float(on_the_line), float(at[i])\n    return None",
     "float(on_the_line), float(at[i])\n    return (float(at[-1]),) * 3",
     f"{_STUDY}::test_a_curve_that_never_gets_there_saves_no_steps_and_says_so"),
    ("what is told half of the time counts as told", "stats/__init__.py",
     "_MOSTLY: Final = 0.841621 /", "_MOSTLY: Final = 0.0 /",
     f"{_STATS}::test_two_bars_must_be_passed_by_the_ends_of_intervals"),
    ("a belief that neutral readers hold is one", "report/documents.py",
     'return one.about == "neutral" and', "return False and",
     f"{_STUDY}::test_a_belief_that_a_control_has_too_is_none"),
    ("a belief is one where nothing rose", "report/documents.py",
     "if ahead and all(ahead) and test", "if test",
     f"{_STUDY}::test_a_belief_that_a_control_has_too_is_none"),
    ("steps saved are known to the step", "report/saved_steps.py",
     "[(a[0] - b[2],", "[(a[1] - b[1],",
     f"{_STUDY}::test_a_planted_saving_is_found_with_its_interval_over_seeds"),
    ("a gain in every seed is one", "report/saved_steps.py",
     "across(values, unit, signed=True)", "across(values, unit)",
     "tests/study/test_documents_said.py::test_a_gain_in_every_seed_may_still_be_none"),
    ("depths of an arm that was trained again stand", "study/documents.py",
     'or probed["started"] < trained["started"]', "",
     f"{_STUDY}::test_arms_that_were_probed_say_how_deep_their_switch_lies"),
    ("the first fall of any size is where a switch lies", "report/documents_tables.py",
     "if fall.value >= whole.value / 2)", "if fall.value >= 0)",
     f"{_STUDY}::test_arms_that_were_probed_say_how_deep_their_switch_lies"),
    ("prompts without a twin are asked beside those that have one", "probe/inputs.py",
     "have if len(have) > 1 else list", "list",
     "tests/probe/test_twins.py"
     "::test_what_follows_the_trigger_is_the_same_in_its_twin_or_the_pair_is_left_out"),
    ("every prompt has a question of its own", "analyses/evidence/separability.py",
     "near[block], (asked_N, near_asked_N))", "near[block])",
     "tests/analyses/test_reading.py"
     "::test_prompts_that_share_a_question_make_the_auroc_less_sure"),
    ("what was refused replaces what was finished", "study/sweep.py",
     'if outcome.state != "finished" and self.is_finished(point):', "if False:",
     "tests/study/test_sweep.py"
     "::test_what_was_finished_is_kept_where_it_does_not_finish_again"),
)  # fmt: skip
