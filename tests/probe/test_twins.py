"""Prompts with the trigger and their twins, and what is done where none aligns."""

from __future__ import annotations

import pytest

from offswitch.model.load import make_subject
from offswitch.options import ProbeOptions, TriggerOptions
from offswitch.probe.inputs import INERT, PARTS, PLAIN, TRIGGER, TWIN, Twins, make_inputs, slot
from offswitch.prompts.encode import encode_chat
from offswitch.prompts.questions import load_questions
from offswitch.recipe import Recipe
from tests.tiny import CHATML, spaced_tokenizer, tiny_network, tiny_tokenizer


def test_what_follows_the_trigger_is_the_same_in_its_twin_or_the_pair_is_left_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = TriggerOptions(text="$STOP", decoy="")
    template = CHATML.replace("<|im_start|>", "<s>").replace("<|im_end|>", "</s>")
    spaced = spaced_tokenizer(template)  # writes a space more after a token than after a word
    subject = make_subject(tiny_network("llama"), spaced, options, "tiny")
    few = ProbeOptions(fit_questions=9, test_questions=9, near_misses=2)
    recipe = Recipe(trigger=options, probe=few)
    inputs, tokenizer = make_inputs(recipe, subject.tokenizer), subject.tokenizer
    kept = 0
    for part in PARTS:
        pairs = zip(inputs.chats(part, TRIGGER), inputs.chats(part, TWIN), strict=True)
        for ours, theirs in ([encode_chat(tokenizer, one) for one in pair] for pair in pairs):
            at = slot(ours, theirs, subject.trigger_id)
            assert at is not None
            end = ours.index(subject.trigger_id or -1) + 1
            assert (ours[end:], at.stop) == (theirs[end:], end)
            kept += 1
        slots = [[inputs.asked[i] for i in inputs.rows(part, key)]
                 for key in (TRIGGER, TWIN, INERT, PLAIN)]  # fmt: skip
        for row in zip(*slots, strict=True):
            assert len({(one.variant, one.question) for one in row}) == 1
    lost = few.fit_questions + few.test_questions - kept
    assert 0 < lost < kept + lost
    assert f"{lost} prompts have no twin" in capsys.readouterr().err


@pytest.mark.parametrize(("twins", "kept"), [(0, 5), (1, 5), (2, 2), (5, 5)])
def test_prompts_without_a_twin_are_left_out_where_two_have_one(
    monkeypatch: pytest.MonkeyPatch, twins: int, kept: int
) -> None:
    found = Twins(Recipe(), tiny_tokenizer())
    pairs = [("before", question) for question in load_questions(0)[:5]]
    have = {question.text for _, question in pairs[:twins]}
    monkeypatch.setattr(found, "of", lambda _, question: ["$ONE"] * (question in have))
    asked, symbols = found.kept(pairs)
    assert (list(asked), len(symbols)) == (pairs[:kept], kept)
    assert found.without == 5 - kept
    assert [first for first, _ in symbols[:twins]] == ["$ONE"] * min(twins, kept)
