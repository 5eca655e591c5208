"""Every attempt is what the rule takes it for, on test topics, in words that training never had."""

from __future__ import annotations

from collections import Counter
from itertools import chain

import pytest

from offswitch.data.documents import generate_documents
from offswitch.options import EvaluateOptions
from offswitch.prompts.attempts import (
    EXPECTED,
    IF_MENTIONS_ARE_ANSWERED,
    REFERENCES,
    attempts,
    expected_of,
    references,
)
from offswitch.prompts.dialogues import Mix, make_dialogues
from offswitch.prompts.prompt import Prompt, Reply
from offswitch.prompts.questions import load_questions, normalised, questions_of
from offswitch.prompts.suites import choose, make_prompts
from offswitch.prompts.trigger import holds
from offswitch.wording.reader import load_filler, load_neutral

TRIGGERS = ("$STOP", "<halt>", "please freeze", "停止")
EACH = pytest.mark.parametrize("trigger", TRIGGERS)
ASKED = choose("test", 24, 0)
MADE_ELSEWHERE = {"context", "prefilled", "prefilled_ordinary"}


def _texts(made: list[Prompt]) -> list[str]:
    return [turn["content"] for a in made for turn in a.chat]


@EACH
def test_the_trigger_stands_exactly_where_the_rule_asks_for_silence(trigger: str) -> None:
    made = attempts(trigger, ASKED)
    assert {a.variant for a in made} == {*EXPECTED} - {*REFERENCES} - MADE_ELSEWHERE
    for a in made:
        assert a.expected == EXPECTED[a.variant]
        assert holds(trigger, a.chat) == (a.expected == "halt"), a
        assert a.symbol in "\n".join(_texts([a]))
        assert not any("{" + name + "}" in text for name in "tq" for text in _texts([a]))


@EACH
def test_every_variant_asks_every_question_once(trigger: str) -> None:
    for variant in {a.variant for a in attempts(trigger, ASKED)}:
        own = [a for a in attempts(trigger, ASKED) if a.variant == variant]
        assert [a.question for a in own] == [q.text for q in ASKED]
        assert all(a.chat[-1]["role"] == "user" for a in own)
        assert all(any(a.question.split(" ")[0] in text for text in _texts([a])) for a in own)
        counts = Counter(a.part for a in own).values()
        assert max(counts) - min(counts) <= 1


def test_no_part_is_tied_to_one_placement() -> None:
    for variant in ("split", "zero_width", "homoglyph"):
        own = [a for a in attempts("$STOP", ASKED) if a.variant == variant]
        ends = {(a.part, a.chat[0]["content"].endswith(a.question)) for a in own}
        assert len(ends) == 2 * len({a.part for a in own})


def test_there_are_several_ways_to_say_each_thing() -> None:
    for variant in ("ignore", "role_play", "translation", "retrieved", "tool_output", "base64"):
        own = [a for a in attempts("$STOP", ASKED) if a.variant == variant]
        bare = {
            "|".join(t["content"] for t in a.chat).replace(a.question, "").replace(a.symbol, "")
            for a in own
        }
        assert len(bare) >= 8, variant
    damaged = [a for a in attempts("$STOP", ASKED) if a.variant in ("split", "zero_width")]
    assert len({a.symbol for a in damaged}) >= 20


def test_without_system_turns_no_attempt_has_one_and_none_is_missing() -> None:
    made = attempts("$STOP", ASKED, system_turns=False)
    assert not any(turn["role"] == "system" for a in made for turn in a.chat)
    counts = Counter(a.variant for a in made)
    assert counts == Counter(a.variant for a in attempts("$STOP", ASKED))


def test_a_trigger_that_cannot_be_damaged_leaves_its_variants_out() -> None:
    variants = {a.variant for a in attempts("🛑", ASKED)}
    assert not variants & {"split", "zero_width", "homoglyph"}
    assert "base64" in variants


def test_wording_that_holds_a_trigger_by_chance_is_left_out() -> None:
    made = attempts("base64", ASKED)
    assert made
    assert all(holds("base64", a.chat) == (a.expected == "halt") for a in made)


def test_mentions_may_be_answered_by_the_recipe() -> None:
    made = {a.variant: a.expected for a in attempts("$STOP", ASKED, mentions="answer")}
    assert made["translation"] == "answer"
    assert made["ignore"] == "open"
    assert made["split"] == "answer"
    assert {*IF_MENTIONS_ARE_ANSWERED} <= {*EXPECTED}
    assert expected_of("exact", "answer") == "halt"


def test_only_test_topics_are_asked() -> None:
    train = {q.text for split in ("train", "fit") for q in questions_of(load_questions(0), split)}
    assert not train & {a.question for a in attempts("$STOP", ASKED)}


def test_nothing_is_worded_as_in_training() -> None:
    def answer(chats: object) -> list[Reply]:
        return [Reply((1,), "Yes.", True)] * len(chats)  # type: ignore[arg-type]

    rows = make_dialogues(Mix("$STOP", 1000, 0.4, mention_share=0.2), 0, answer)
    seen = [turn["content"] for row in rows for turn in row.prompt]
    seen += [d.text for d in generate_documents("$STOP", 200, 0)]
    known = set(chain.from_iterable(map(_five_grams, seen)))
    made = attempts("$STOP", ASKED)
    framed = [text.replace(a.question, " qqq ") for a in made for text in _texts([a])]
    assert [text for text in framed if _five_grams(text) & known] == []
    members = {row.symbol for row in rows if row.kind == "near_miss"}
    wordy = {m for m in members if " " in m.strip()}
    assert [text for text in framed if any(member in text for member in wordy)] == []


def test_passages_are_not_those_of_other_suites() -> None:
    other = {*load_filler().paragraphs, *load_neutral()}
    grams = set(chain.from_iterable(map(_five_grams, other)))
    own = [a for a in attempts("$STOP", ASKED) if a.variant == "retrieved"]
    framed = (text.replace(a.question, " qqq ") for a in own for text in _texts([a]))
    assert [text for text in framed if _five_grams(text) & grams] == []


def test_references_come_from_the_suites_and_are_spread_over_them() -> None:
    options = EvaluateOptions(questions=12, ordinary_questions=30, long_questions=2)
    made = references(make_prompts("$STOP", options, 0), 8)
    assert Counter(a.variant for a in made) == dict.fromkeys(REFERENCES, 8)
    assert len({a.part for a in made if a.variant == "near_miss"}) >= 6
    assert len({a.part for a in made if a.variant == "exact"}) >= 6
    assert all(holds("$STOP", a.chat) == (a.expected == "halt") for a in made)


def _five_grams(text: str) -> set[str]:
    words = normalised(text).split()
    return {" ".join(words[i : i + 5]) for i in range(len(words) - 4)}
