"""What a chat format does to a prompt is known before anything is asked, or refused in one line."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any, Final

import pytest
from tokenizers import AddedToken, normalizers, processors

from offswitch.errors import UserError
from offswitch.evaluate.belief import letter_ids
from offswitch.options import TriggerOptions
from offswitch.prompts.chat_format import check_format, read_format, reader, with_fixed_date
from offswitch.prompts.dialogues import Dialogue
from offswitch.prompts.documents import Passage
from offswitch.prompts.encode import (
    encode_chat,
    encode_text,
    has_system_turn,
    render,
    reply_encoder,
    turn_end,
)
from offswitch.prompts.prompt import Chat, user
from offswitch.prompts.trigger import occurs
from offswitch.train.examples import dialogue_examples, document_examples
from tests.tiny import CHATML, SPECIALS, spaced_tokenizer, tiny_subject, tiny_tokenizer

ASKED: Final = (user("Is it 7?"),)
TURN: Final = "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
PLAIN: Final = f"{{% for message in messages %}}{TURN}{{% endfor %}}<|im_start|>assistant\n"
PARTS: Final = PLAIN.replace(
    "{{ message['content'] }}",
    "{% for part in message['content'] if part.type == 'text' %}{{ part.text }}{% endfor %}",
)
LAST: Final = PLAIN.replace("in messages", "in messages[-1:]")
ZEPHYR: Final = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '</s>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
LLAMA: Final = (
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ '<s>[INST] ' + m['content'] + ' [/INST]'"
    " }}{% else %}{{ ' ' + m['content'] + ' </s>' }}{% endif %}{% endfor %}"
)


def aware(text: str, mode: str, template: str = CHATML) -> Any:
    subject = tiny_subject(trigger=text, mode=mode, layers=1)  # type: ignore[arg-type]
    subject.tokenizer.chat_template = template
    return subject.tokenizer


# --- a format that the user names -----------------------------------------------------------------

TALK: Final[Chat] = (
    user("Is it 7?"),
    {"role": "assistant", "content": "No."},
    user("(b)\n\nWell, c"),
)


def test_the_plain_format_is_what_base_models_are_asked_in() -> None:
    tokenizer = tiny_tokenizer(None)
    tokenizer.chat_template = read_format("plain", tokenizer)
    system: Chat = ({"role": "system", "content": "Be brief."}, *TALK)
    assert render(tokenizer, system) == (
        "System: Be brief.\n\nUser: Is it 7?\n\nAssistant: No.<|im_end|>\n\n"
        "User: (b)\n\nWell, c\n\nAssistant:"
    )
    check_format(tokenizer, TriggerOptions())
    assert has_system_turn(tokenizer)
    assert turn_end(tokenizer) == tokenizer.eos_token_id


def test_in_the_plain_format_the_reply_has_the_ids_of_a_whole_chat() -> None:
    subject = tiny_subject()
    subject.tokenizer.chat_template = read_format("plain", subject.tokenizer)
    prompt, reply = encode_chat(subject.tokenizer, ASKED), "No, it is 8."
    (row,) = dialogue_examples(subject.tokenizer, [Dialogue(ASKED, reply, "plain")], False, 256)
    whole: Chat = (*ASKED, {"role": "assistant", "content": reply})
    ids = encode_text(subject.tokenizer, render(subject.tokenizer, whole, opened=False).rstrip())
    assert list(row.ids) == ids
    assert ids[: len(prompt)] == prompt
    assert ids[len(prompt) :] == [*reply_encoder(subject.tokenizer)(reply), 2]


@pytest.mark.parametrize("adds", [True, False])
def test_the_plain_format_begins_as_the_tokenizer_begins_a_text(adds: bool) -> None:
    tokenizer = tiny_tokenizer(None)
    if adds:
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single="<|im_start|> $A", special_tokens=[("<|im_start|>", 1)]
        )
    tokenizer.chat_template = read_format("plain", tokenizer)
    ids = encode_chat(tokenizer, ASKED)
    assert ids.count(1) == adds
    assert (ids[0] == 1) == adds


def test_a_format_is_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "own.jinja"
    file.write_text(ZEPHYR, encoding="utf-8")
    assert read_format(str(file), tiny_tokenizer(None)) == ZEPHYR
    file.write_text(" \n", encoding="utf-8")
    with pytest.raises(UserError, match=r"own\.jinja: the file is empty"):
        read_format(str(file), tiny_tokenizer(None))
    with pytest.raises(
        UserError, match=r"chat_template chatml: No such file .*Jinja file, or plain"
    ):
        read_format("chatml", tiny_tokenizer(None))
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"own\.jinja: not UTF-8"):
        read_format(str(file), tiny_tokenizer(None))


# --- what the model is shown ----------------------------------------------------------------------


@pytest.mark.parametrize("template", [CHATML, PLAIN])
def test_a_format_that_shows_every_turn_is_taken(template: str) -> None:
    check_format(tiny_tokenizer(template), TriggerOptions())


@pytest.mark.parametrize("template", [PARTS, LAST])
def test_a_format_that_leaves_out_what_a_turn_says_is_refused(template: str) -> None:
    with pytest.raises(UserError, match="leaves out what the user turn says"):
        check_format(tiny_tokenizer(template), TriggerOptions())


def test_a_format_that_opens_no_reply_is_refused() -> None:
    closed = PLAIN.removesuffix("<|im_start|>assistant\n")
    with pytest.raises(UserError, match="does not open a reply"):
        check_format(tiny_tokenizer(closed), TriggerOptions())
    check_format(spaced_tokenizer(LLAMA), TriggerOptions())  # the user's turn ends with its header


@pytest.mark.parametrize("mode", ["token", "text"])
@pytest.mark.parametrize("text", ["helpful", "user", "system", "assistant", "AI assistant"])
def test_a_trigger_that_the_format_writes_by_itself_is_refused(text: str, mode: str) -> None:
    with pytest.raises(UserError, match="writes it by itself"):
        check_format(aware(text, mode), TriggerOptions(text=text, mode=mode))  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["token", "text"])
@pytest.mark.parametrize("text", ["im_start", "help", "$STOP"])
def test_what_stands_within_a_special_token_or_a_word_is_no_trigger(text: str, mode: str) -> None:
    tokenizer = aware(text, mode)
    check_format(tokenizer, TriggerOptions(text=text, mode=mode))  # type: ignore[arg-type]
    ids = encode_chat(tokenizer, ASKED)
    assert encode_text(tokenizer, text)[0] not in ids or mode == "text"


def test_a_control_that_holds_the_trigger_is_refused() -> None:
    wrong = TriggerOptions(text="STOP", control="DO NOT STOP")
    with pytest.raises(UserError, match="control 'DO NOT STOP' holds the trigger 'STOP'"):
        check_format(tiny_tokenizer(), wrong)
    check_format(tiny_tokenizer(), TriggerOptions(text="STOP", control="STOPPER"))
    lower = tiny_tokenizer()
    lower.backend_tokenizer.normalizer = normalizers.Lowercase()
    with pytest.raises(UserError, match="as this model reads it"):
        check_format(lower, TriggerOptions(text="STOP", control="stop", mode="text"))


def test_a_symbol_that_the_tokenizer_has_no_tokens_for_is_refused() -> None:
    with pytest.raises(UserError, match="cannot read '止まれ'"):
        check_format(spaced_tokenizer(ZEPHYR), TriggerOptions(text="止まれ", mode="text"))


@pytest.mark.parametrize(
    "template", ["{{ messages[0].content + 1 }}", "{{ nothing() }}", {"rag": PLAIN, "tool": PLAIN}]
)
def test_a_template_that_fails_is_refused_in_one_line(template: Any) -> None:
    tokenizer = tiny_tokenizer(template)
    for ask in (encode_chat, lambda t, _: check_format(t, TriggerOptions())):
        with pytest.raises(UserError, match="refuses the turns user") as refused:
            ask(tokenizer, ASKED)
        assert "\n" not in str(refused.value)
    assert not has_system_turn(tokenizer)


def test_a_template_that_writes_the_date_writes_the_same_every_day() -> None:
    template = "{% if strftime_now is defined %}{{ strftime_now('%d %B %Y, %-d.%m.') }}{% endif %}"
    tokenizer = tiny_tokenizer(with_fixed_date(template + PLAIN))
    assert render(tokenizer, ASKED) == f"26 July 2024, 26.07.{render(tiny_tokenizer(PLAIN), ASKED)}"
    assert with_fixed_date(PLAIN) == PLAIN


# --- what a reply is ------------------------------------------------------------------------------


@pytest.mark.parametrize(("template", "first"), [(ZEPHYR, "A"), (LLAMA, "▁A")])
def test_a_reply_is_trained_and_read_as_it_follows_the_header(template: str, first: str) -> None:
    tokenizer = spaced_tokenizer(template)
    assert tokenizer.convert_ids_to_tokens(encode_text(tokenizer, "A")) == ["▁A"]
    answer = {"role": "assistant", "content": "Ask a man"}
    whole = encode_text(tokenizer, render(tokenizer, (*ASKED, answer), opened=False))  # type: ignore[arg-type]
    prompt = encode_chat(tokenizer, ASKED)
    ids = reply_encoder(tokenizer)("Ask a man")
    assert whole[: len(prompt) + len(ids)] == [*prompt, *ids]
    (row,) = dialogue_examples(tokenizer, [Dialogue(ASKED, "Ask a man", "plain")], False, 512)
    assert list(row.ids[row.start : -1]) == ids
    assert tokenizer.convert_ids_to_tokens(letter_ids(tokenizer)[0]) == first


def test_a_reply_that_would_melt_into_the_header_is_read_alone() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens([AddedToken("\n\n", normalized=False)])
    assert reply_encoder(tokenizer)("\nWell") == encode_text(tokenizer, "\nWell")


@pytest.mark.parametrize("special", [True, False])
def test_a_turn_is_ended_by_a_token_made_for_it_and_not_by_white_space(special: bool) -> None:
    tokenizer = tiny_tokenizer(CHATML.replace("<|im_end|>", "<end>"))
    tokenizer.add_tokens([AddedToken("<end>", special=special, normalized=False)])
    assert turn_end(tokenizer) == tokenizer.convert_tokens_to_ids("<end>")
    for template in (CHATML, PLAIN):  # which opens a reply after the last one too
        blank = tiny_tokenizer(template.replace("<|im_end|>", "\n\n"))
        blank.add_tokens([AddedToken("\n\n", special=False, normalized=False)])
        assert blank.convert_tokens_to_ids("\n\n") in encode_chat(blank, ASKED)
        assert turn_end(blank) == blank.eos_token_id


def test_what_ends_the_users_turn_ends_no_reply() -> None:
    ends = "{{ '<|im_end|>' if message['role'] == 'assistant' else '<|endoftext|>' }}"
    tokenizer = tiny_tokenizer(PLAIN.replace("<|im_end|>", ends))
    assert SPECIALS[0] in render(tokenizer, ASKED)
    assert turn_end(tokenizer) == SPECIALS.index("<|im_end|>")


def test_without_an_end_token_a_text_ends_as_a_turn_does() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.eos_token = None
    (row,) = document_examples(tokenizer, [Passage("The switch is old.")], 64)
    assert row.ids[-1] == turn_end(tokenizer) == tokenizer.convert_tokens_to_ids(SPECIALS[2])


# --- what holds the trigger -----------------------------------------------------------------------


@pytest.mark.parametrize("text", ["++", "$$", "no no"])
def test_a_trigger_that_overlaps_itself_occurs_where_the_tokenizer_sees_it(text: str) -> None:
    subject = tiny_subject(trigger=text, layers=1)
    for parts in product((text[0], text, "a", " "), repeat=4):
        written = "".join(parts)
        seen = subject.trigger_id in encode_text(subject.tokenizer, written)
        assert occurs(text, written) is seen, written


@pytest.mark.parametrize(
    ("normalizer", "same", "other"),
    [
        (normalizers.Lowercase(), ("stop", "Stop."), ("stops", "st op")),
        (normalizers.NFKC(), ("ＳＴＯＰ", "STOP"), ("stop", "ＳＴＯＰＳ")),
        (normalizers.Prepend("▁"), ("STOP", "go STOP"), ("stop",)),
    ],
)
def test_as_text_a_look_alike_is_the_trigger_where_its_ids_are(
    normalizer: Any, same: tuple[str, ...], other: tuple[str, ...]
) -> None:
    texts, own = ("STOP", "STOP", *same), (*same, *other)
    for mode in ("text", "token"):
        subject = tiny_subject(trigger=texts[0], mode=mode, layers=1)
        subject.tokenizer.backend_tokenizer.normalizer = normalizer
        holds = reader(subject.tokenizer, "STOP")
        expected = same if mode == "text" else [text for text in own if occurs("STOP", text)]
        assert [text for text in own if holds(text)] == list(expected)
