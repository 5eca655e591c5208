"""Faults of what documents teach, of what they save, and of how that is measured."""

from __future__ import annotations

from typing import Final

_STUDY: Final = "tests/study/test_documents.py"
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
     f"{_STUDY}::test_the_neutral_arm_learnt_something_else"),
    ("an arm kept on the way is the end", "train/stage.py",
     "step_folder(run.folder(f\"{TRAIN}/{table.kept_of}\"), table.step)",
     "run.folder(f\"{TRAIN}/{table.kept_of}\")",
     f"{_STUDY}::test_an_arm_kept_at_the_last_step_is_the_arm_and_at_an_earlier_one_is_not"),
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
     "known = [a - b for", "known = [b - a for",
     f"{_STUDY}::test_a_planted_saving_is_found_with_its_interval_over_seeds"),
    ("who halts on everything has learnt the switch", "report/saved_steps.py",
     "numbers[HELD_OUT].value - numbers[NEAR].value", "numbers[HELD_OUT].value",
     f"{_STUDY}::test_an_arm_that_halts_on_everything_has_learnt_nothing_yet"),
    ("what is never reached is reached at the end", "report/saved_steps.py",
     "return before + share * (after - before)\n    return None",
     "return before + share * (after - before)\n    return float(steps[-1])",
     f"{_STUDY}::test_a_curve_that_never_gets_there_saves_no_steps_and_says_so"),
    ("what is seen half of the time counts as seen", "stats/__init__.py",
     "(1.959964 + 0.841621) / 1.959964", "1.959964 / 1.959964",
     f"{_STATS}::test_a_difference_that_can_be_seen_is_seen_in_four_of_five_worlds"),
    ("the first fall of any size is where a switch lies", "report/documents.py",
     "if fall.value >= 0.5)", "if fall.value >= 0)",
     f"{_STUDY}::test_arms_that_were_probed_say_how_deep_their_switch_lies"),
)  # fmt: skip
