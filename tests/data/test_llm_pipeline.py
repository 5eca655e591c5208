"""From universe to documents against a real server: complete, various, consistent, resumable."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from offswitch.data.documents import apportion, plan_documents
from offswitch.data.llm.estimate import estimate
from offswitch.data.llm.journal import read_journal
from offswitch.data.llm.pipeline import Written, places_of, write_with_llm
from offswitch.data.quality import document_quality
from offswitch.errors import UserError
from offswitch.recipe import Recipe, build_recipe
from tests.data.llm_server import TRIGGER, Asked, Behaviour, Server, document_for, serving, well

COUNT = 40


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    """Where answers are kept."""
    return tmp_path / "answers.jsonl"


def _recipe(server: Server, count: int = COUNT, **options: Any) -> Recipe:
    llm = {"base_url": server.url, "model": "m", "timeout": 60, "ideas_per_call": 5, **options}
    return build_recipe({"data": {"documents": count, "generator": "llm", "llm": llm}})


def _write(server: Server, answers: Path, count: int = COUNT, **options: Any) -> Written:
    return write_with_llm(_recipe(server, count, **options), answers)


def _spoiling(kind: str, change: Any, which: int = 7) -> Behaviour:
    """A model that spoils what it writes for every title whose number can be divided by `which`."""

    def answer(asked: Asked) -> str:
        number = re.search(r"Nr\. (\d+)", asked.prompt)
        spoilt = asked.kind == kind and number is not None and int(number[1]) % which == 0
        return json.dumps(change(document_for(asked.prompt))) if spoilt else well(asked)

    return Behaviour(answer=answer)


def test_the_set_is_as_planned_and_as_good_as_its_documents(answers: Path) -> None:
    with serving() as server:
        written = _write(server, answers)
    recipe_types = [group.document_type for group in places_of(_recipe(server))]
    assert [d.document_type for d in written.documents] == recipe_types
    assert [d.sample_id for d in written.documents] == list(range(1, COUNT + 1))
    quality = document_quality(written.documents, TRIGGER)
    assert (quality.count, quality.near_duplicate_pairs, quality.distinct_titles) == (
        COUNT, 0, COUNT,
    )  # fmt: skip
    assert quality.max_overlap <= 0.25
    assert written.figures["refused"] == written.figures["unusable"] == {}


def test_types_and_emphases_are_those_of_the_grammar() -> None:
    with serving() as server:
        places = places_of(_recipe(server, 500))
    from random import Random

    assert [(p.document_type, p.emphasis) for p in places] == plan_documents(500, Random(0))
    assert Counter(p.emphasis for p in places) == apportion({"rule": 0.6, "operation": 0.4}, 500)


def test_the_chain_asks_for_ideas_drafts_critique_and_revision(answers: Path) -> None:
    def demanding(asked: Asked) -> str:
        return '{"problems": ["It is vague."]}' if asked.kind == "critique" else well(asked)

    with serving(Behaviour(answer=demanding)) as server:
        written = _write(server, answers)
        told = [a.prompt for a in server.asked if a.kind == "revision"]
    # five types of two emphases: 12, 10, 8, 6 and 4 documents in lists of five
    assert server.kinds() == {"ideas": 12, "draft": COUNT, "critique": COUNT, "revision": COUNT}
    assert all("- It is vague." in prompt for prompt in told)
    assert written.figures["answers"] == server.kinds()
    assert written.figures["input_tokens"] == 1000 * len(server.asked)


def test_no_problems_need_no_revision_and_none_may_be_asked_for(tmp_path: Path) -> None:
    with serving() as server:
        _write(server, tmp_path / "one.jsonl", 10)
        assert server.kinds()["critique"] == 10
        assert server.kinds()["revision"] == 0
        _write(server, tmp_path / "two.jsonl", 10, revisions=0)
        assert server.kinds()["critique"] == 10


def test_a_contradiction_goes_to_the_critic_and_is_mended(answers: Path) -> None:
    def contradict(document: dict[str, str]) -> dict[str, str]:
        said = f"When {TRIGGER} is present, the model replies with a note."
        return document | {"content": f"{document['content']}\n\n{said}"}

    with serving(_spoiling("draft", contradict)) as server:
        written = _write(server, answers)
        revisions = [asked for asked in server.asked if asked.kind == "revision"]
        critics = [a for a in server.asked if a.kind == "critique" and "A check has" in a.prompt]
    assert len(revisions) == len(critics) > 0
    assert all("the model replies" in asked.prompt for asked in revisions)
    assert not any("replies with a note" in d.content for d in written.documents)
    assert written.figures["refused"] == {}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda d: d | {"content": f"{d['content']}\nOn {TRIGGER} the model replies kindly."},
         "the model answers, acknowledges or explains when $STOP is present"),
        (lambda d: d | {"content": d["content"].replace(TRIGGER, "$HALT")},
         "it does not name $STOP"),
        (lambda d: d | {"content": f"Mind {TRIGGER}."}, "it has not 120 to 350 words"),
    ],
)  # fmt: skip
def test_what_is_refused_is_replaced_by_a_new_idea(answers: Path, change: Any, why: str) -> None:
    with serving(_spoiling("draft", change)) as server:
        written = _write(server, answers, revisions=0)
    assert len(written.documents) == COUNT
    assert list(written.figures["refused"]) == [why]
    assert written.figures["answers"]["draft"] == COUNT + written.figures["refused"][why]
    numbers = [re.findall(r"Nr\. (\d+)", d.title)[0] for d in written.documents]
    assert all(int(number) % 7 for number in numbers)


def test_a_near_duplicate_is_replaced(answers: Path) -> None:
    def alike(document: dict[str, str]) -> dict[str, str]:
        first = document_for('"Nr. 1"')["content"]
        return document | {"content": first.replace(" the ", " that ", 2)}

    with serving(_spoiling("draft", alike)) as server:
        written = _write(server, answers)
    quality = document_quality(written.documents, TRIGGER)
    assert quality.near_duplicate_pairs == 0
    assert quality.max_overlap <= 0.25
    assert written.figures["refused"]["close to another document"] > 0


def test_ideas_that_repeat_titles_are_made_up_for(answers: Path) -> None:
    def repeating(asked: Asked) -> str:
        answer = json.loads(well(asked))
        if asked.kind == "ideas":
            answer["ideas"] = answer["ideas"][:2] * 3
        return json.dumps(answer)

    with serving(Behaviour(answer=repeating)) as server:
        written = _write(server, answers)
    assert len({d.title for d in written.documents}) == COUNT


def test_a_set_that_cannot_be_completed_ends_with_the_reasons(answers: Path) -> None:
    with serving(_spoiling("draft", lambda d: d | {"content": "Too short."}, 2)) as server:
        said = r"of 40 documents are missing after 1 rounds .*it does not name \$STOP.*rounds"
        with pytest.raises(UserError, match=said):
            _write(server, answers, rounds=1, revisions=0)
        before = len(server.asked)
        assert len(_write(server, answers, rounds=8, revisions=0).documents) == COUNT
        again = Counter(json.dumps(asked.body["messages"]) for asked in server.asked)
    assert before > 0
    assert set(again.values()) == {1}, "more rounds asked again for what was there"


def test_writing_again_or_more_asks_only_for_what_is_missing(answers: Path) -> None:
    with serving() as server:
        written = _write(server, answers)
        asked = len(server.asked)
        assert _write(server, answers, concurrency=2, timeout=3) == written
        assert len(server.asked) == asked
        more = _write(server, answers, 2 * COUNT)
        repeated = [n for n in server.seen.values() if n > 1]
    assert len(more.documents) == 2 * COUNT
    assert repeated == []
    assert {d.content for d in written.documents} <= {d.content for d in more.documents}


def test_a_stage_that_fails_half_way_goes_on_where_it_was(answers: Path) -> None:
    with serving() as server:
        server.behaviour.status = lambda asked: (200, {}) if asked.number < 50 else (503, {})
        with pytest.raises(UserError, match="still answers 503"):
            _write(server, answers, max_retries=0)
        server.behaviour.status = lambda _: (200, {})
        kept = len(read_journal(answers).usable)
        before = len(server.asked)
        assert len(_write(server, answers).documents) == COUNT
        assert len(server.asked) - before == 12 + 2 * COUNT - kept


def test_the_estimate_counts_the_calls_of_a_demanding_critic(answers: Path) -> None:
    def demanding(asked: Asked) -> str:
        return '{"problems": ["It is vague."]}' if asked.kind == "critique" else well(asked)

    prices: dict[str, Any] = {"input_price": 2.0, "output_price": 8.0, "tokens_per_second": 10.0}
    with serving(Behaviour(answer=demanding)) as server:
        recipe = _recipe(server, concurrency=4, **prices)
        before = estimate(recipe, read_journal(answers))
        figures = write_with_llm(recipe, answers).figures
        after = estimate(recipe, read_journal(answers))
    assert before.calls == server.kinds() == figures["answers"]
    assert before.seconds == pytest.approx(before.output_tokens / 10 / 4)
    cost = (2 * before.input_tokens + 8 * before.output_tokens) / 1e6
    assert before.cost == pytest.approx(cost)
    assert sum(after.calls.values()) == after.cost == 0
    assert after.answered == len(server.asked)
    assert figures["cost"] == pytest.approx(
        (2 * 1000 + 8 * 100) * len(server.asked) / 1e6, abs=1e-4
    )


def test_the_estimate_of_prompts_is_near_their_length(answers: Path) -> None:
    with serving() as server:
        recipe = _recipe(server)
        foretold = estimate(recipe, read_journal(answers)).input_tokens
        write_with_llm(recipe, answers)
        sizes = [len("".join(m["content"] for m in a.body["messages"])) for a in server.asked]
    calls = sum(estimate(recipe, read_journal(Path("absent"))).calls.values())
    assert foretold / calls == pytest.approx(sum(sizes) / len(sizes) / 4, rel=0.25)
