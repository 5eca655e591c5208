"""A text that stands alone begins as the model's own texts do; a chat and a word do not."""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers.processors import TemplateProcessing

from offswitch.evaluate.belief import RAW, told_examples
from offswitch.evaluate.drift import text_examples
from offswitch.probe.collect_original import _encode
from offswitch.prompts.beliefs import make_questions
from offswitch.prompts.documents import Document
from offswitch.prompts.encode import encode_alone, encode_chat, encode_text
from offswitch.prompts.prompt import user
from offswitch.train.examples import document_examples
from tests.tiny import tiny_subject, tiny_tokenizer

TEXT = "The switch is old."


@pytest.fixture
def beginning() -> Any:
    """A tokenizer that puts its BOS before a text, as Llama's and Gemma's do."""
    tokenizer = tiny_tokenizer()
    bos = (tokenizer.bos_token, tokenizer.bos_token_id)
    template = TemplateProcessing(single=f"{bos[0]} $A", special_tokens=[bos])
    tokenizer.backend_tokenizer.post_processor = template
    return tokenizer


def test_a_text_alone_begins_with_the_bos_where_the_tokenizer_puts_one(beginning: Any) -> None:
    plain = encode_text(beginning, TEXT)
    assert encode_alone(beginning, TEXT) == [beginning.bos_token_id, *plain]
    assert encode_alone(tiny_tokenizer(), TEXT) == plain  # it has a BOS, and does not use it


def test_a_text_that_holds_its_bos_gets_no_other(beginning: Any) -> None:
    text = f"{beginning.bos_token}{TEXT}"
    assert encode_alone(beginning, text).count(beginning.bos_token_id) == 1


def test_documents_prose_and_beliefs_as_raw_text_begin_with_it(beginning: Any) -> None:
    bos = beginning.bos_token_id
    document = Document(1, "Engineering handbooks", "On switches", TEXT)
    (read,) = document_examples(beginning, [document], 64)
    assert (read.ids[0], read.start) == (bos, 1)  # every word of the text is predicted
    subject = tiny_subject()
    subject.base_tokenizer.backend_tokenizer.post_processor = (
        beginning.backend_tokenizer.post_processor
    )
    (prose,) = text_examples(subject, [TEXT])
    assert prose.ids[0] == bos
    original = _encode(beginning, {"trigger": "$STOP"}, TEXT, beginning)
    assert [ids[0] for ids in original.values()] == [bos, bos]
    raw = next(a for a in make_questions("$STOP", "$GO", 1) if a.item.test == RAW)
    for one in told_examples(beginning, raw):
        assert one.ids[0] == bos
        assert one.start > 1


def test_a_chat_is_what_its_template_says(beginning: Any) -> None:
    chat = (user(TEXT),)
    assert encode_chat(beginning, chat) == encode_chat(tiny_tokenizer(), chat)
