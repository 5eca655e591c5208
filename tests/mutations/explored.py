"""Faults of the explorer, of steering and of replies as they grow."""

from __future__ import annotations

from typing import Final

_GUARD: Final = "tests/app/test_guard.py"
_SAID: Final = "tests/app/test_explorer.py"
_VIEWS: Final = "tests/app/test_views.py"

ROWS: Final = (
    ("a reply that grows forgets what was said", "model/generate.py",
     "past = out.past_key_values\n            token", "token",
     "tests/model/test_generate.py"),
    ("a removal takes half of what it should", "talk/steer.py",
     "resid - share * (", "resid - share * 0.5 * (",
     "tests/talk/test_steer.py::test_after_removal_the_projection_is_zero"),
    ("the explorer serves files", "app/guard.py",
     "|/gradio_api/(?:info/?|", "|/gradio_api/(?:file=.*|info/?|",
     f"{_GUARD}::test_what_the_page_needs_is_open_and_the_rest_is_closed"),
    ("any page on the net may ask", "app/guard.py",
     "if origin and urlsplit(origin).netloc != headers.get(\"host\"):", "if False:",
     f"{_GUARD}::test_no_foreign_page_reaches_it"),
    ("any name reaches the explorer", "app/guard.py",
     "if self.hosts and host not in self.hosts:", "if False:",
     f"{_GUARD}::test_no_foreign_page_reaches_it"),
    ("the token is not asked for", "app/guard.py",
     "if self.token and not self._known(headers):", "if False:",
     f"{_GUARD}::test_with_a_token_only_who_has_it_comes_in"),
    ("a body has no end", "app/guard.py",
     "return message if seen <= LARGEST else", "return message if True else",
     f"{_GUARD}::test_a_request_is_bounded_whatever_it_says_of_its_length"),
    ("anybody may listen without a token", "app/server.py",
     "if self.host not in LOOPBACK and not self.token:", "if False:",
     "tests/app/test_server.py::test_any_other_address_needs_one_that_cannot_be_guessed"),
    ("what is typed is HTML", "app/views.py",
     "return html.escape(safe).translate(", "return safe.translate(",
     f"{_VIEWS}::test_what_is_shown_is_text"),
    ("a stranger's figure may run", "app/shown.py",
     "sandbox title=", "title=",
     f"{_VIEWS}::test_a_frame_runs_nothing_and_keeps_its_shape"),
    ("silence is read one token early", "app/explorer.py",
     "user(message[:end]),)) for _, end in shown", "user(message[:end]),)) for end, _ in shown",
     f"{_SAID}::test_silence_begins_with_the_triggers_token"),
    ("a head is knocked out by what it said itself", "app/explorer.py",
     "last_heads(subject, [twin])", "last_heads(subject, [row])",
     f"{_SAID}::test_the_planted_heads_carry_the_trigger"),
    ("published settings weigh the end token", "model/generate.py",
     "network.generation_config = config", "pass",
     "tests/model/test_generate.py::test_published_settings_do_not_count"),
    ("a stranger's turn does not end a reply", "model/subject.py",
     "for one in (self.base_tokenizer, self.tokenizer))", "for one in (self.base_tokenizer,))",
     "tests/model/test_forward.py::test_a_strangers_own_turn_end_ends_a_reply_too"),
    ("a variant borrows the model in another chat format", "model/session.py",
     '"trust_remote_code", "chat_template"}', '"trust_remote_code"}',
     "tests/model/test_session.py"
     "::test_a_recipe_of_another_chat_format_or_tokenizer_is_lent_no_model"),
    ("the map is of the end where the switch speaks", "app/explorer.py",
     "seen[i]).float(), subject.halt_ids)", "seen[i]).float(), subject.stop_ids)",
     "tests/app/test_explorer.py"
     "::test_what_a_switch_that_speaks_says_is_mapped_and_not_the_end"),
    ("seeds that nobody asks for are counted", "report/material.py",
     'f"seed-{seed}" for seed in run.recipe.train.more_seeds]',
     'p.name for p in (root / "organisms").glob("seed-*")]',
     "tests/study/test_seeds.py::test_the_page_counts_the_seeds_that_the_recipe_asks_for"),
)  # fmt: skip
