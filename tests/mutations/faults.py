"""The faults: where, what stands there, what is put in its place, which tests must fail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tests.mutations import attacked, evidence, explored, exported, taught


@dataclass(frozen=True)
class Fault:
    """A fragment that occurs once in a file of the package, and a wrong one in its place."""

    name: str
    file: str
    right: str
    wrong: str
    tests: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.right == self.wrong or not self.tests:
            raise ValueError(f"{self.name}: changes nothing, or names no test")


_LOSS: Final = "tests/train/test_loss.py"
_ROWS: Final = "tests/train/test_examples.py"
_PACKED: Final = "tests/model/test_packed.py"
_GUARD: Final = "tests/train/test_guard.py"
_RUN: Final = "tests/test_folder.py"
_TREE: Final = "tests/model/test_prefix_tree.py"
_SCORE: Final = "tests/model/test_first_token.py"
_INPUTS: Final = "tests/probe/test_inputs.py"
_ENDS: Final = (
    "tests/model/test_forward.py"
    "::test_stop_ids_begin_with_the_turns_end_and_hold_every_published_end"
)
_TRIGGER: Final = "tests/prompts/test_trigger.py"
_TOPICS: Final = "tests/prompts/test_questions.py"
_OWN: Final = "tests/prompts/test_row_files.py"
_RECIPE: Final = "tests/test_recipe.py"
_PLAN: Final = "tests/machine/test_plan.py"
_LEFT: Final = "tests/machine/test_time_left.py"
_COMPARE: Final = "tests/report/test_compare.py"

FAULTS: Final = tuple(
    Fault(name, f"offswitch/{file}", right, wrong, tuple(tests))
    for name, file, right, wrong, *tests in (
        *evidence.ROWS,
        *explored.ROWS,
        *exported.ROWS,
        *attacked.ROWS,
        *taught.ROWS,
        # --- packed passes, rows kept apart -------------------------------------------------------
        ("a packed row sees beyond its window", "model/packed.py",
         "return seen if window is None else seen & (distance < window)", "return seen",
         f"{_PACKED}::test_states_and_gradients_are_those_of_padded_rows"),
        ("packed rows are read as if none followed an opening", "model/packed.py",
         "torch.arange(prefix, prefix + width).repeat(len(group))",
         "torch.arange(width).repeat(len(group))",
         f"{_PACKED}::test_states_and_gradients_are_those_of_padded_rows"),
        ("rows kept apart are trained on", "train/guard.py",
         "for one in examples if one.ids not in apart]", "for one in examples]",
         f"{_GUARD}::test_rows_kept_apart_are_answered_ones_and_never_trained_on"),
        ("as much drift is allowed at the end as at the start", "train/guard.py",
         "EARLY ** (1 - progress)", "EARLY",
         f"{_GUARD}::test_what_is_allowed_falls_to_the_limit"),
        ("a training that goes on forgets that it was slowed", "train/guard.py",
         'self.rate, self.weight, self.curve = known["rate"], known["weight"], [*known["curve"]]',
         'self.curve = [*known["curve"]]',
         f"{_GUARD}::test_a_slowed_training_goes_on_as_slowly_after_a_kill"),
        # --- loss weights and label masks ---------------------------------------------------------
        ("the first token of a reply weighs as much as any other", "model/rows.py",
         "weights = first + rest / rest.sum(1, keepdim=True).clamp_min(1)",
         "weights = first + rest.float()",
         f"{_LOSS}::test_the_decision_weighs_alike_in_every_row_and_as_much_as_the_rest_of_its_reply"),
        ("weights of a batch do not add up to 1", "model/rows.py",
         "return weights / weights.sum()", "return weights / len(weights)",
         f"{_LOSS}::test_the_decision_weighs_alike_in_every_row_and_as_much_as_the_rest_of_its_reply"),
        ("prompts carry loss", "model/rows.py",
         "torch.full_like(padded, IGNORED)", "padded.clone()",
         f"{_ROWS}::test_no_label_stands_on_a_prompt_or_on_padding"),
        ("the end token is masked because it pads", "model/rows.py",
         '"labels": labels,', '"labels": labels.masked_fill(labels == padded[:, -1:], IGNORED),',
         f"{_ROWS}::test_the_end_token_carries_loss_in_every_silent_row_though_it_pads_too"),
        ("a silent row without loss goes unnoticed", "train/examples.py",
         "if carried != int(silent.sum())", "if carried > int(silent.sum())",
         f"{_ROWS}::test_a_lost_end_token_is_noticed"),
        ("a reply that was cut short ends", "train/examples.py",
         "([end] if row.complete else [])", "[end]",
         f"{_ROWS}::test_a_reply_cut_short_gets_no_end_token"),
        ("the loss is read one position late", "train/loss.py",
         'row_states(subject, batch)[:, :-1]',
         'row_states(subject, batch)[:, 1:]',
         f"{_LOSS}::test_hard_loss_and_gradients_are_those_of_transformers"),
        ("KL the wrong way round", "train/loss.py",
         "functional.kl_div(ours, base,", "functional.kl_div(base, ours,",
         f"{_LOSS}::test_soft_loss_is_the_naive_divergence"),
        ("soft rows are held to a model with dropout", "train/teacher.py",
         "subject.network.eval()", "subject.network.train()",
         f"{_LOSS}::test_what_soft_rows_are_held_to_has_no_dropout"),
        ("silent rows stand together", "train/order.py",
         'at.argsort(kind="stable")', "np.arange(len(at))", "tests/train/test_order.py"),
        # --- positions and prefixes ---------------------------------------------------------------
        ("the shared prefix reaches into a reply", "model/rows.py",
         "min(shared_prefix(ids), starts - 1)", "shared_prefix(ids)",
         f"{_ROWS}::test_the_shared_prefix_is_shared_and_covers_no_supervised_position"),
        ("a shared prefix leaves nothing of the shortest row", "prompts/encode.py",
         "min(length, shortest - keep)", "length",
         "tests/talk/test_chat.py::test_the_shared_prefix_is_the_longest_that_leaves_enough"),
        ("a tree is read one position early", "model/prefix_tree.py",
         "[path[-1] for path in", "[path[-2] for path in",
         f"{_TREE}::test_collection_and_scores_are_the_same_without_trees"),
        ("a batch is read one position early", "model/first_token.py",
         "states[where, at - prefix]", "states[where, at - prefix - 1]",
         f"{_TREE}::test_collection_and_scores_are_the_same_without_trees"),
        ("an id of a tree does not see its parents", "model/prefix_tree.py",
         "seen[node] |= seen[parent]", "seen[node] |= seen[node]",
         f"{_TREE}::test_a_tree_says_what_its_rows_say_one_by_one"),
        ("ids of a tree stand at one position", "model/prefix_tree.py",
         "places[parent] + 1", "places[parent]",
         f"{_TREE}::test_a_tree_says_what_its_rows_say_one_by_one"),
        ("a symbol starts where its twin is alike", "probe/inputs.py",
         "if a != b", "if a == b",
         f"{_INPUTS}::test_a_slot_is_where_two_prompts_of_one_length_differ"),
        ("the position that decides the reply is part of a slot", "probe/inputs.py",
         "last = len(ours) - 2 if", "last = len(ours) - 1 if",
         f"{_INPUTS}::test_a_slot_is_where_two_prompts_of_one_length_differ"),
        ("a twin does not align with its prompt", "probe/inputs.py",
         "if slot(ours, theirs, self.token) is not None:", "if True:",
         f"{_INPUTS}::test_without_a_decoy_the_twin_is_a_word_of_as_many_tokens"),
        # --- resuming, hashes, locks --------------------------------------------------------------
        ("a stage stands though its inputs changed", "folder/__init__.py",
         'if entry["inputs"] != digest(inputs)', "if False", _RUN),
        ("a stage stands though a file of it changed", "folder/whole.py",
         "elif file_hash(folder / name) != expected", "elif False", _RUN),
        ("what was sealed may be changed", "files.py",
         "return plain if content.get(SEAL) == digest([about, plain]) else None", "return plain",
         _RUN),
        ("what was noted before a kill is not entered", "folder/whole.py",
         'manifest["stages"][stage] = entry', "pass", _RUN),
        ("a stage goes on from what other inputs left", "folder/__init__.py",
         'mark.read_text(encoding="utf-8") != hashed', "False", _RUN),
        ("a later stage does not notice an earlier one's files", "folder/__init__.py",
         'entries.get(stage, {}).get("outputs")', 'entries.get(stage, {}).get("inputs")', _RUN),
        ("two processes share a lock", "folder/lock.py",
         "fcntl.LOCK_EX | fcntl.LOCK_NB", "fcntl.LOCK_SH | fcntl.LOCK_NB", _RUN),
        ("a damaged shard is kept", "probe/collect.py",
         "and file_hash(folder / n) == h", "",
         "tests/probe/test_collect.py::test_only_what_is_damaged_is_made_again"),
        ("half a checkpoint is gone on from", "train/trainer.py",
         "if stands(Path(last), about) and", "if Path(last).exists() and",
         "tests/train/test_resume.py::test_half_a_checkpoint_is_passed_over"),
        ("a training that goes on forgets what it had seen", "train/tally.py",
         'soft in known["recent"]]', 'soft in known["recent"][:0]]',
         "tests/train/test_resume.py"),
        ("an adapter kept on the way is taken as it lies", "train/trainer.py",
         " and all(map(stands, kept)):", ":",
         "tests/train/test_resume.py"
         "::test_what_was_kept_on_the_way_is_as_it_was_or_trained_again"),
        ("attacks are made by a recipe that was damaged", "folder/__init__.py",
         "if damaged := unlike(root, run.manifest(), RECIPE):", "if damaged := []:",
         "tests/test_folder_reopened.py"),
        ("training goes on from what is no number", "train/trainer.py",
         "if not numbers or bool(torch", "if True or bool(torch",
         "tests/train/test_trainer.py"
         "::test_what_is_no_number_stops_training_with_the_last_good_checkpoint"),
        ("a collapsed organism is averaged in", "study/table.py",
         'for s, m in by_seed.items() if s not in out}', "for s, m in by_seed.items()}",
         "tests/analyses/test_collapse.py"),
        ("a hash depends on the order of keys", "files.py",
         "sort_keys=True", "sort_keys=False", "tests/test_files.py"),
        ("a reply is taken for another model's", "model/generate.py",
         "row = unsealed(json.loads(line), path.name)", "row = json.loads(line)",
         "tests/model/test_reply_cache.py::test_a_changed_or_foreign_reply_is_made_again"),
        ("half a file is put in place", "files.py",
         'scratch = path.with_name(f".{path.name}.new")', "scratch = path", "tests/test_files.py"),
        ("lines of a JSONL file are counted from 0", "files.py",
         'enumerate(text.split("\\n"), 1)', 'enumerate(text.split("\\n"), 0)',
         "tests/test_files.py"),
        ("a line ends within a text", "files.py",
         'text.split("\\n")', "text.splitlines()", "tests/test_files.py"),
        # --- the end token ------------------------------------------------------------------------
        ("the end of a turn does not stop a reply", "model/subject.py",
         "[turn_end(tokenizer), tokenizer.eos_token_id, *also]",
         "[tokenizer.eos_token_id, *also]",
         _ENDS),
        ("only the first of several end tokens counts", "model/first_token.py",
         "logits.index_select(-1, stops).logsumexp(-1)", "logits[..., stop_ids[0]]",
         f"{_SCORE}::test_several_end_tokens_count_together"),
        ("a turn ends where the template begins", "prompts/encode.py",
         ".rpartition(_MARK)[2]", ".rpartition(_MARK)[0]",
         "tests/prompts/test_chat_format.py::test_what_ends_the_users_turn_ends_no_reply"),
        ("the first token stands for the whole reply", "model/first_token.py",
         "begins + torch.stack([*later]).sum(0).cpu()", "begins",
         "tests/evaluate/test_fixed_reply.py::test_the_log_odds_are_those_of_the_whole_reply"),
        ("a stranger's weights stay where they were put", "model/brought.py",
         "where[0]._parameters[where[1]] = weight", "del weight",
         "tests/model/test_brought.py::test_an_arm_is_what_others_read_in_it"),
        # --- trigger, placements, topics ----------------------------------------------------------
        ("the trigger occurs beside an underscore", "prompts/trigger.py",
         '{"Nd", "Nl", "Pc"}', '{"Nd", "Nl"}', _TRIGGER),
        ("the trigger occurs beside a mark", "prompts/trigger.py",
         'kind[0] in "LM"', 'kind[0] == "L"', _TRIGGER),
        ("a trained placement is held out", "prompts/trigger.py",
         "HELD_OUT_PLACEMENTS: Final = tuple(PLACEMENTS)[12:]",
         "HELD_OUT_PLACEMENTS: Final = tuple(PLACEMENTS)[11:]", _TRIGGER),
        ("requests are split one by one, not by topic", "prompts/questions.py",
         "split_of[topic])", "split_of[topics[len(text) % len(topics)]])", _TOPICS),
        ("requests without a topic are of one", "prompts/questions.py",
         'text if topic == "" else str(topic)', "str(topic)", _OWN),
        ("the trigger is looked for in the text alone", "prompts/dialogue_files.py",
         "if seen != holds(", "if False and seen != holds(",
         "tests/prompts/test_dialogue_files.py"),
        # --- what the machine does best, and the time left ----------------------------------------
        ("a tie goes to bfloat16", "machine/plan.py",
         'way[0] != "float32"', 'way[0] == "float32"',
         f"{_PLAN}::test_a_tie_goes_to_float32_and_to_processes_which_wait_for_no_other_thread"),
        ("a run is planned again each time", "machine/plan.py",
         'known.get("of") == here', 'known.get("of") != here',
         f"{_PLAN}::test_a_run_keeps_its_plan"),
        ("figures that cannot be are believed", "machine/cells.py",
         "or not rate > 0", "or rate is None",
         "tests/machine/test_rates.py::test_a_damaged_file_is_as_good_as_none"),
        ("what an earlier try left is taken for speed", "machine/time_left.py",
         "(share.last[0] - share.first[0])", "share.last[0]",
         f"{_LEFT}::test_what_an_earlier_try_left_says_nothing_of_the_speed"),
        # --- numbers and options ------------------------------------------------------------------
        ("an arm stands beside itself", "metrics.py",
         "for c in controls if c != arm", "for c in controls", "tests/evaluate/test_measures.py"),
        ("controls of an arm replace those it had", "metrics.py",
         "controls={**metric.controls, **found}", "controls=found",
         "tests/evaluate/test_measures.py"),
        ("a number is read without its controls", "metrics.py",
         'controls=row.get("controls", {})', "controls={}", "tests/test_metrics.py"),
        ("an override is cut at its last sign", "recipe.py",
         'override.partition("=")', 'override.rpartition("=")', _RECIPE),
        ("a text is read as YAML", "recipe.py",
         "if not _is_text(keys)", "if True", _RECIPE),
        ("an override empties its group", "recipe.py",
         "dict(branch or {})", "{}", _RECIPE),
        # --- runs side by side --------------------------------------------------------------------
        ("a difference has the sign of the first run", "report/compare/differences.py",
         "rows = [(ours[key], theirs[key]) for key in shared]",
         "rows = [(theirs[key], ours[key]) for key in shared]", _COMPARE),
        ("look-alikes are paired whatever the symbol", "report/compare/differences.py",
         'symbol = row.get("symbol") if row["suite"] == "near_miss" else ""', 'symbol = ""',
         f"{_COMPARE}::test_look_alikes_are_paired_by_their_symbol"),
        ("every difference is shown", "report/compare/differences.py",
         "return self.estimate.low > 0 or self.estimate.high < 0",
         "return self.estimate.value != 0", _COMPARE),
        ("another model of the same name passes", "report/compare/fairness.py",
         "SAME_MODEL: Final = 0.5", "SAME_MODEL: Final = 50.0",
         "tests/report/test_compare_fairness.py"),
        ("a training is another one where it is followed elsewhere", "options/train.py",
         '"more_seeds", "report_to", *LENGTH_OF', '"more_seeds", *LENGTH_OF',
         "tests/train/test_trackers.py::test_a_training_does_not_depend_on_where_it_is_followed"),
        # --- models as people have them -----------------------------------------------------------
        ("a GGUF file is known by its name alone", "cache.py",
         'f"{source.stem}-{sha256[:12]}"', 'f"{source.stem}"',
         "tests/model/test_gguf.py::test_another_file_of_the_same_name_is_another_model"),
        ("a GGUF file may lack weights", "model/gguf.py",
         'if report["missing_keys"]:', "if False:", "tests/model/test_gguf.py"),
        ("a library's own faults are told of a stranger's file", "errors.py",
         "except BaseException as error:", "except OSError as error:",
         "tests/model/test_damaged.py::test_a_value_that_leads_a_library_astray_is_one_line"),
        ("a GGUF file may announce what it does not hold", "model/gguf_header.py",
         "if int(offset) + np.dtype(dtype).itemsize * int(count) > len(self.data):", "if False:",
         "tests/model/test_gguf.py::test_a_file_that_is_no_model_is_refused_in_one_line"),
        ("the plain format ends no reply", "prompts/chat_format.py",
         "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}", "",
         "tests/prompts/test_chat_format.py"),
        ("an edited chat template is the same model", "pipeline.py",
         "content_hash(Path(written).expanduser()) or written", "written",
         "tests/test_pipeline.py::test_another_format_in_the_file_that_the_recipe_names_is_another_model"),
        ("what shuffled labels find may do as much", "analyses/verdict.py",
         "fall < falls and rise < rises", "True",
         "tests/analyses/test_verdict.py"
         "::test_a_trained_direction_must_do_more_than_one_trained_with_shuffled_labels"),
        ("a fall that may be none is one", "study/table.py",
         "spread(whole, is_difference(name))} if known", "spread(whole)} if known",
         "tests/study/test_spread.py::test_a_difference_of_shares_may_be_negative_though_none_is"),
        ("near misses ask questions of their own", "probe/inputs.py",
         "members, pairs[:most])", "members, asking(part, most))",
         "tests/probe/test_inputs.py::test_near_misses_are_trained_on_fit_and_unseen_on_test"),
        ("what nobody was asked has a mean", "probe/stage.py",
         "if all(views.array(read).size for read in analysis.reads):", "if True:",
         "tests/analyses/test_reanalysis.py"
         "::test_where_no_symbol_takes_the_triggers_place_nothing_is_said_of_patches"),
        ("a null of too few draws passes in the table", "report/findings.py",
         "None if few else finding", "finding",
         "tests/report/test_sentences.py"
         "::test_a_null_of_too_few_draws_is_not_said_to_pass_in_a_table_either"),
        ("a symbol's last piece comes after it", "probe/inputs.py",
         "if symbol in tokenizer.decode(ids[:stop]):", "if True:",
         "tests/probe/test_hosts.py::test_a_symbol_of_ordinary_text_ends_with_its_last_piece"),
    )
)  # fmt: skip
