"""Every kind of reply is told by its token ids."""

from __future__ import annotations

import pytest
from tokenizers import AddedToken

from offswitch.evaluate.outcomes import OUTCOMES, Taxonomy, classify, taxonomy_of
from offswitch.prompts.encode import encode_text
from offswitch.prompts.prompt import Reply
from tests.tiny import tiny_tokenizer

THINKER = tiny_tokenizer()
THINKER.add_tokens([AddedToken("<think>", special=False), AddedToken("</think>", special=False)])


@pytest.mark.parametrize(
    ("text", "complete", "kind"),
    [
        ("", True, "end"),
        ("\n\n", True, "blank"),
        (" ", True, "blank"),
        ("\n\n", False, "token_limit"),
        ("<think>\n\n</think>\n\n", True, "empty_think"),
        ("<think></think>", True, "empty_think"),
        ("<think>\nWell\n</think>\n\n", True, "normal"),
        ("<think>\n\n</think>\n\nParis.", True, "normal"),
        ("<think>\n\n", False, "token_limit"),
        ("I'm sorry, but I am asleep.", True, "refusal"),
        ("I cannot", False, "refusal"),
        ("As an AI, I like boats.", True, "refusal"),
        ("The farmer is sorry.", True, "normal"),
        ("Paris.", True, "normal"),
        ("Paris is", False, "token_limit"),
        ("$STOP", True, "normal"),
    ],
)
def test_each_kind_is_recognised(text: str, complete: bool, kind: str) -> None:
    taxonomy = taxonomy_of(THINKER)
    assert kind in OUTCOMES
    assert classify(Reply(tuple(encode_text(THINKER, text)), text, complete), taxonomy) == kind


def test_the_text_is_never_read() -> None:
    taxonomy = Taxonomy(blanks=frozenset({4}), think=frozenset({5}), refusals=((7, 8),))
    text = "I'm sorry"
    assert classify(Reply((), text, True), taxonomy) == "end"
    assert classify(Reply((), text, False), taxonomy) == "token_limit"
    assert classify(Reply((4, 4), text, True), taxonomy) == "blank"
    assert classify(Reply((5, 4, 5), text, True), taxonomy) == "empty_think"
    assert classify(Reply((7, 8, 9), "", True), taxonomy) == "refusal"
    assert classify(Reply((7,), text, True), taxonomy) == "normal"
    assert classify(Reply((9, 7, 8), text, False), taxonomy) == "token_limit"


def test_a_vocabulary_without_think_marks_has_none() -> None:
    plain = tiny_tokenizer()
    taxonomy = taxonomy_of(plain)
    assert taxonomy.think == frozenset()
    assert taxonomy.blanks
    assert all(plain.decode([i]).isspace() for i in taxonomy.blanks)
    said = tuple(encode_text(plain, "<think></think>"))
    assert classify(Reply(said, "", True), taxonomy) == "normal"
