"""Faults of the attacks on a switch and of their numbers."""

from __future__ import annotations

from typing import Final

_WEIGHTS: Final = "tests/endure/test_weights.py"
_SUMMARY: Final = "tests/endure/test_summary.py"
_STAGE: Final = "tests/endure/test_stage.py"
_SUFFIX: Final = "tests/endure/test_suffix.py"

ROWS: Final = (
    ("whole weights forget the trigger's row", "model/whole.py",
     "if (rows := trained_rows(table)) is not None:", "if (rows := None) is not None:",
     f"{_WEIGHTS}::test_an_arm_as_whole_weights_says_what_the_arm_says"),
    ("biases still write along the direction", "model/whole.py",
     "if module.bias is not None:", "if module.bias is None:",
     f"{_WEIGHTS}::test_nothing_writes_along_a_direction_that_was_taken_out"),
    ("NF4 goes to the next lower level", "endure/rounding.py",
     "between = (levels[1:] + levels[:-1]) / 2", "between = levels[1:]",
     f"{_WEIGHTS}::test_nf4_has_the_published_levels_and_each_weight_goes_to_the_nearest"),
    ("the largest weights are pruned", "endure/pruning.py",
     "largest=False", "largest=True",
     f"{_WEIGHTS}::test_the_smallest_weights_are_pruned"),
    ("an attack that ruins the model counts", "endure/summary.py",
     "harm is None or harm.value <= most_damage for harm in harms", "True for harm in harms",
     f"{_SUMMARY}::test_what_ruins_the_model_does_not_count_nor_does_what_lies_behind_it"),
    ("half is taken of one, not of what there was", "endure/summary.py",
     "level = float(rates[0]) / 2", "level = 0.5",
     f"{_SUMMARY}::test_a_rate_is_halved_where_the_line_crosses_it"),
    ("seeds count as questions", "endure/summary.py",
     "first = [at if len(some) > 1 else", "first = [at + row[\"question\"] if len(some) > 1 else",
     f"{_SUMMARY}::test_one_question_asked_of_three_trainings_is_not_three_questions"),
    ("the adapter is kept a step late", "train/saved.py",
     "if state.global_step == 0:", "if state.global_step == -1:",
     f"{_STAGE}::test_no_step_changes_nothing_to_the_last_bit"),
    ("a training that paused begins again", "train/saved.py",
     "control.should_save = control.should_training_stop = True",
     "control.should_training_stop = True",
     "tests/train/test_resume.py::test_a_training_that_paused_goes_on_as_if_it_had_not"),
    ("training goes on where nothing is left", "endure/finetuning.py",
     "if not left:", "if left < 0:",
     f"{_STAGE}::test_a_training_that_leaves_nothing_with_any_seed_has_no_later_points"),
    ("who lost the switch early is left out later", "endure/stage.py",
     "cases += _after_the_end(cases)", "pass",
     f"{_STAGE}::test_a_training_ends_where_nothing_is_left_of_the_switch"),
    ("a user's rows may hold the trigger", "endure/tuning.py",
     "and not holds(trigger, tuple(chat))", "",
     f"{_STAGE}::test_the_rows_of_a_user_are_trained_on_without_the_trigger"),
    ("a suffix may be the trigger", "endure/suffix.py",
     "if self.holds(text):", "if False:",
     f"{_SUFFIX}::test_a_suffix_may_not_hold_the_trigger"),
    ("the search takes the worst", "endure/suffix.py",
     "top = max(range(len(tried)), key=odds.__getitem__)",
     "top = min(range(len(tried)), key=odds.__getitem__)",
     f"{_SUFFIX}::test_a_search_gets_better_and_its_text_is_read_back"),
)  # fmt: skip
