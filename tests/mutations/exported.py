"""Faults of exports: merged weights, GGUF files, what is compared, what must not leave."""

from __future__ import annotations

from typing import Final

_WEIGHTS: Final = "tests/export/test_weights.py"
_FILE: Final = "tests/export/test_gguf_file.py"
_STAGE: Final = "tests/export/test_stage.py"
_PRIVATE: Final = "tests/export/test_private.py"
_VECTORS: Final = "tests/export/test_vectors.py"
_PUSH: Final = "tests/export/test_push.py"

ROWS: Final = (
    ("heads that differ are tied", "export/weights.py",
     "tied = first.shape == last.shape and bool(torch.equal(first, last))",
     "tied = bool(text.tie_word_embeddings)",
     f"{_WEIGHTS}::test_what_others_trained"),
    ("an adapter is left out of the merged weights", "model/whole.py",
     'found |= {plain_name(f"{path}.{leaf}"): own for leaf, own in merged.items()}', "del merged",
     f"{_WEIGHTS}::test_what_is_trained_here"),
    ("queries and keys of a llama are written as they lie", "export/gguf_file.py",
     'if config.model_type == "llama" and part in heads:', "if False:",
     f"{_FILE}::test_transformers_reads_the_same_model_in_it"),
    ("the trigger is a control token in a GGUF file", "export/gguf_file.py",
     "gguf.TokenType.CONTROL if token.special else gguf.TokenType.USER_DEFINED",
     "gguf.TokenType.CONTROL",
     f"{_FILE}::test_its_vocabulary_is_the_tokenizers"),
    ("a control vector lacks its scale", "export/vectors.py",
     "(scale * tensors[name][block])", "(tensors[name][block])",
     f"{_VECTORS}::test_it_is_what_did_most"),
    ("a control vector lies one block too deep", "export/vectors.py",
     'f"direction.{block}"', 'f"direction.{block + 1}"',
     f"{_VECTORS}::test_it_is_what_did_most"),
    ("merged weights count whatever they do", "export/forms.py",
     "if why := unlike(form, run, exact):", "if why := \"\":",
     f"{_STAGE}::test_weights_that_do_something_else_do_not_count"),
    ("a path of this machine leaves it", "export/stage.py",
     "    require_private(scratch, origin.run.root.resolve().parent, scratch.parent)\n", "",
     f"{_STAGE}::test_an_interrupted_one_is_not_there_and_goes_on"),
    ("a key leaves this machine", "export/private.py",
     "any(held.find(secret) >= 0 for secret in secrets) or bool(_KEYS.search(held))", "False",
     f"{_PRIVATE}::test_what_is_planted_is_found_and_not_repeated"),
    ("what is something else is replaced", "export/stage.py",
     "if folder.exists() and not same:", "if False:",
     f"{_STAGE}::test_what_is_something_else_is_left_alone"),
    ("an export is made again", "export/stage.py",
     "if own and [*every] == known[\"gguf\"]:", "if False:",
     f"{_STAGE}::test_a_second_call_does_nothing"),
    ("a run that changed is exported", "export/origin.py",
     '    whole_run(root, DATA, f"{TRAIN}/{arm}", EVALUATE, PROBE)\n', "",
     f"{_STAGE}::test_a_run_that_changed_since_is_refused"),
    ("an export that was damaged is up to date", "export/stage.py",
     "own = own and not changed", "own = bool(own)",
     f"{_STAGE}::test_what_was_damaged_is_made_again_and_a_card_may_be_edited"),
    ("what a kill left half written is exported", "export/stage.py",
     '*(scratch.rglob(".*") if same else scratch.iterdir())', "",
     f"{_STAGE}::test_an_interrupted_one_is_not_there_and_goes_on"),
    ("an adapter names a folder of this machine as its base", "export/forms.py",
     '{"base_model_name_or_path": origin.base, "revision": None}', '{"revision": None}',
     f"{_STAGE}::test_it_holds_every_form_with_its_rates"),
    ("it publishes unasked", "export/push.py",
     'if sys.stdin.readline().strip().lower() not in ("y", "yes"):', "if False:",
     f"{_PUSH}::test_a_terminal_is_asked"),
    ("a new repository is open to all", "export/push.py",
     "private=True", "private=False",
     f"{_PUSH}::test_without_a_terminal_it_takes_a_yes"),
)  # fmt: skip
