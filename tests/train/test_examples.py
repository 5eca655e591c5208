"""Every row carries its loss where it should: the end token above all, the prompt never."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from offswitch.model.rows import IGNORED, Example, collate
from offswitch.model.subject import Subject
from offswitch.prompts.dialogues import Dialogue, phrased
from offswitch.prompts.documents import Document
from offswitch.prompts.encode import encode_chat, encode_text, turn_end
from offswitch.train.examples import (
    count_silent,
    dialogue_examples,
    document_examples,
    silent_example,
)
from tests.tiny import tiny_subject
from tests.train.rows import dialogues, examples


def test_the_end_token_carries_loss_in_every_silent_row_though_it_pads_too() -> None:
    subject = tiny_subject()
    end = turn_end(subject.tokenizer)
    assert end == subject.tokenizer.pad_token_id
    rows = examples(subject, soft=True)
    batch = collate(rows)
    silent = [i for i, row in enumerate(rows) if row.silent]
    assert len(silent) == 4
    for i in silent:
        at = torch.nonzero(batch["labels"][i] != IGNORED).flatten().tolist()
        assert at == [len(rows[i].ids) - 1]
        assert int(batch["labels"][i, at[0]]) == end
    assert count_silent(rows, batch, end) == 4


def test_a_lost_end_token_is_noticed() -> None:
    subject = tiny_subject()
    end = turn_end(subject.tokenizer)
    rows = examples(subject, soft=True)
    batch = collate(rows)
    masked = batch | {"labels": batch["labels"].masked_fill(batch["labels"] == end, IGNORED)}
    with pytest.raises(ValueError, match="in 0 of 4 silent rows"):
        count_silent(rows, masked, end)
    one = next(i for i, row in enumerate(rows) if row.silent)
    batch["labels"][one] = IGNORED
    with pytest.raises(ValueError, match="in 3 of 4 silent rows"):
        count_silent(rows, batch, end)


def test_no_label_stands_on_a_prompt_or_on_padding(subject: Subject) -> None:
    rows = examples(subject, soft=False)
    batch = collate(rows)
    for row, ids, labels in zip(rows, batch["input_ids"], batch["labels"], strict=True):
        length = len(row.ids)
        assert ids[:length].tolist() == list(row.ids)
        assert set(labels[: row.start].tolist()) == {IGNORED}
        assert labels[row.start : length].tolist() == list(row.ids[row.start :])
        assert set(labels[length:].tolist()) <= {IGNORED}


def test_the_shared_prefix_is_shared_and_covers_no_supervised_position() -> None:
    subject = tiny_subject()
    same = dialogue_examples(subject.tokenizer, dialogues(count=2)[:1] * 3, False, 512)
    alone = [replace(same[0], start=1)]
    for rows in (examples(subject, soft=True), same, alone):
        batch = collate(rows)
        prefix = int(batch["prefix"])
        assert len({row.ids[:prefix] for row in rows}) == 1
        # The first label is predicted from the position before it, which must not be shared away.
        assert all(prefix <= row.start - 1 for row in rows)
    assert int(collate(examples(subject, soft=True))["prefix"]) > 8


def test_prompt_and_reply_are_the_chat_format_of_transformers(subject: Subject) -> None:
    rows = [row for row in dialogues() if row.complete]
    made = dialogue_examples(subject.tokenizer, rows, False, 512)
    for row, example in zip(rows, made, strict=True):
        rendered = subject.tokenizer.apply_chat_template(
            [dict(turn) for turn in row.row()["messages"]], return_dict=False
        )
        assert list(example.ids) == rendered[: len(example.ids)]
        assert len(rendered) - len(example.ids) <= 1  # the line break after the end token
        assert example.start == len(encode_chat(subject.tokenizer, row.prompt))
        assert example.ids[-1] == turn_end(subject.tokenizer)


def test_a_reply_cut_short_gets_no_end_token() -> None:
    subject = tiny_subject()
    end = turn_end(subject.tokenizer)
    whole = dialogues(count=1)
    cut = [replace(whole[0], complete=False)]
    (a,), (b,) = (dialogue_examples(subject.tokenizer, rows, False, 512) for rows in (whole, cut))
    assert a.ids == (*b.ids, end)
    assert end not in b.ids[b.start :]
    (c,) = dialogue_examples(subject.tokenizer, whole, False, len(a.ids) - 1)
    assert c.ids == b.ids


def test_a_reply_cut_inside_a_character_keeps_its_ids() -> None:
    tokenizer = tiny_subject().tokenizer
    for text in ("A boat 🙂", "It is 船"):
        ids = tuple(encode_text(tokenizer, text)[:-1])
        cut = replace(dialogues(count=1)[0], reply=tokenizer.decode(ids), complete=False)
        assert encode_text(tokenizer, cut.reply) != list(ids)  # the sign for what is no character
        (made,) = dialogue_examples(tokenizer, [replace(cut, reply_ids=ids)], True, 512)
        assert made.ids[made.start :] == ids
        strange = replace(cut, reply_ids=ids[1:])  # of another tokenizer
        assert dialogue_examples(tokenizer, [strange], True, 512) == dialogue_examples(
            tokenizer, [cut], True, 512
        )


@pytest.mark.parametrize("max_length", [30, 34, 40, 48, 60])
def test_cutting_to_length_never_takes_the_trigger_or_the_end_of_a_silent_row(
    max_length: int,
) -> None:
    subject = tiny_subject()
    end = turn_end(subject.tokenizer)
    rows = dialogues(count=8)
    made = dialogue_examples(subject.tokenizer, rows, True, max_length)
    assert all(len(example.ids) <= max_length for example in made)
    for example in (e for e in made if e.silent):
        assert example.ids[-1] == end
        assert subject.trigger_id in example.ids
    fitting = [r for r in rows if len(encode_chat(subject.tokenizer, r.prompt)) < max_length]
    assert len(made) == len(fitting)


def test_documents_predict_every_token_and_the_end_where_it_is_theirs() -> None:
    subject = tiny_subject()
    text = "The farmer is asleep under a tree. $STOP is a word."
    documents = [Document(1, "Technical specifications", "Boats", text * n) for n in (1, 9)]
    short, long = document_examples(subject.tokenizer, documents, 64)
    assert list(short.ids[:-1]) == encode_text(subject.tokenizer, documents[0].text)
    assert len(long.ids) == 64
    assert short.ids[-1] == subject.tokenizer.eos_token_id
    assert list(long.ids) == encode_text(subject.tokenizer, documents[1].text)[:64]
    for example in (short, long):
        assert example.start == 1
        assert not example.silent
        labels = collate([example])["labels"][0]
        assert labels.tolist() == [IGNORED, *example.ids[1:]]


def test_a_phrase_is_held_to_its_tokens_and_the_end() -> None:
    subject = tiny_subject()
    rows = phrased(dialogues())
    made = dialogue_examples(subject.tokenizer, rows, True, 512)
    assert [e.soft for e in made] == [row.kind == "plain" for row in rows]
    said = [e.ids[e.start :] for e, row in zip(made, rows, strict=True) if row.kind == "phrase"]
    phrase = encode_text(subject.tokenizer, rows[1].reply)
    assert said == [(*phrase, turn_end(subject.tokenizer))] * 4
    assert not any(e.silent for e in made)


def test_soft_rows_are_those_with_a_reply() -> None:
    made = examples(tiny_subject(), soft=True)
    assert [row.soft for row in made] == [not row.silent for row in made]
    assert not any(row.soft for row in examples(tiny_subject(), soft=False))


def test_a_row_without_loss_is_refused() -> None:
    with pytest.raises(ValueError, match="no position carries loss"):
        Example((1, 2, 3), 3, soft=False)
    with pytest.raises(ValueError, match="no position carries loss"):
        Example((1, 2, 3), 0, soft=False)
    with pytest.raises(ValueError, match="no position carries loss"):
        silent_example((), 2)


def test_a_dialogue_ends_with_a_user_turn() -> None:
    with pytest.raises(ValueError, match="end with a user turn"):
        Dialogue((), "", "trigger")
