"""The search for a suffix: its gradient is right, it gets better, and its text is read back."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from tokenizers import decoders

from offswitch.endure import suffix
from offswitch.endure.attack import Point, Target
from offswitch.endure.finetuning import FINETUNING
from offswitch.endure.suffix import LENGTH, Request, Search, _words, no_text, text_of
from offswitch.endure.tasks import beside
from offswitch.model.first_token import end_log_odds
from offswitch.model.forward import embed, unembed
from offswitch.model.gradient import end_gradient
from offswitch.model.subject import Subject
from offswitch.options import BASE
from offswitch.options.endure import EndureOptions
from offswitch.prompts.chat_format import reader
from offswitch.prompts.questions import Question
from offswitch.recipe import build_recipe
from tests.tiny import spaced_tokenizer, tiny_subject

QUESTION = Question("What is the river?", "rivers", "test")


def _search(subject: Subject) -> Search:
    words = _words(subject.tokenizer)
    holds = reader(subject.tokenizer, "$STOP")
    barred = sorted(no_text(subject.tokenizer))
    return Search(subject, "arm", holds, words, barred, torch.Generator().manual_seed(0), 4096)


def _subject() -> Subject:
    """A subject whose arm is the untrained model under the tokenizer that knows the trigger."""
    subject = tiny_subject()
    subject.arms.add("arm")
    return subject


def test_the_gradient_says_what_another_token_would_do() -> None:
    subject = tiny_subject()
    ids, at = [5, 9, 30, 40, 7, 12], [2, 3]
    gradient = end_gradient(subject, BASE, ids, at)
    table = subject.causal_lm.get_input_embeddings().weight
    small = 1e-3
    with torch.no_grad():
        for s, place in enumerate(at):
            for other in (11, 250):
                found = []
                for step in (-small, small):
                    states = embed(subject, torch.tensor([ids])).clone()
                    states[0, place] += step * (table[other] - table[ids[place]])
                    last = subject.backbone(inputs_embeds=states).last_hidden_state[0, -1]
                    odds = end_log_odds(unembed(subject, last).double(), subject.stop_ids)
                    found.append(float(odds))
                slope = (found[1] - found[0]) / (2 * small)
                expected = float(gradient[s, other] - gradient[s, ids[place]])
                assert abs(slope - expected) < 1e-2 * max(1, abs(expected))


def test_a_search_gets_better_and_its_text_is_read_back() -> None:
    subject = _subject()
    search, request = _search(subject), Request(QUESTION, "")
    ids = search.random(request)
    first = now = search.odds(request, [ids])[0]
    for _ in range(4):
        best = search.proposed(request, ids, 1)
        new, after = search.better(request, ids, best, 1, now)
        assert after >= now
        ids, now = new, after
        assert len(ids) == LENGTH
        assert search.row(request, ids) is not None
    assert now > first + 0.1
    assert abs(search.odds(request, [ids])[0] - now) < 1e-4


def test_a_search_asks_the_gradient_again_once_a_token_has_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    search, request, better = _search(_subject()), Request(QUESTION, ""), Search.better
    right: list[bool] = []
    asked: list[Sequence[int]] = []

    def every_other(
        one: Search, request: Request, ids: list[int], best: list[list[int]], sign: int, now: float
    ) -> tuple[list[int], float]:
        right.append(best == proposed(one, request, ids, sign))
        return better(one, request, ids, best, sign, now) if len(right) % 2 else (ids, now)

    def counted(one: Search, request: Request, ids: Sequence[int], sign: int) -> list[list[int]]:
        asked.append(ids)
        return proposed(one, request, ids, sign)

    proposed = Search.proposed
    monkeypatch.setattr(Search, "proposed", counted)
    monkeypatch.setattr(Search, "better", every_other)
    suffix._searched(search, request, [4], lambda _: None)
    assert right == [True] * 4
    assert len(asked) == 3  # of four steps, the second changed nothing


def test_a_suffix_may_not_hold_the_trigger() -> None:
    subject = _subject()
    search, request = _search(subject), Request(QUESTION, "$STOP")
    assert subject.trigger_id is not None
    ids = search.random(request)
    assert search.row(request, ids) is not None
    assert search.row(request, [*ids[:-1], subject.trigger_id]) is None


def test_a_suffix_holds_no_token_that_is_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may close the user's turn needs no suffix."""
    subject = _subject()
    search, request = _search(subject), Request(QUESTION, "")
    assert {subject.trigger_id, *subject.stop_ids} <= {*search.barred}
    words = search.words[: suffix.BEST - len(search.barred)]

    def wanted(*_: object) -> torch.Tensor:
        """These tokens would close the turn; next to them come words."""
        found = torch.zeros(LENGTH, len(subject.tokenizer))
        found[:, list(words)] = 1.0
        found[:, list(search.barred)] = 2.0
        return found

    monkeypatch.setattr(suffix, "end_gradient", wanted)
    tried: list[int] = []

    def seen(_request: Request, suffixes: Sequence[Sequence[int]]) -> list[float]:
        tried.extend(i for ids in suffixes for i in ids)
        return [0.0] * len(suffixes)

    start = search.random(request)
    monkeypatch.setattr(Search, "odds", lambda _, *asked: seen(*asked))
    search.better(request, start, search.proposed(request, start, 1), 1, 0.0)
    assert tried
    assert not {*tried} & {*search.barred}


def test_a_decoder_that_takes_the_first_space_away_has_words_too() -> None:
    tokenizer = spaced_tokenizer("{{ messages[0]['content'] }}")
    tokenizer.backend_tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    word = tokenizer.convert_tokens_to_ids("▁win")
    assert tokenizer.decode([word]) == "win"
    assert word in _words(tokenizer)
    assert text_of(tokenizer, [word, word]) == " win win"


def test_the_trigger_stands_where_it_is_to_be_evaded_and_nowhere_else() -> None:
    trigger, none = (Request(QUESTION, symbol).prompt(" some words") for symbol in ("$STOP", ""))
    assert trigger.chat[-1]["content"] == "$STOP What is the river? some words"
    assert none.chat[-1]["content"] == "What is the river? some words"
    assert (trigger.suite, none.suite) == ("trigger", "ordinary")
    assert dataclasses.replace(trigger, chat=()).question == QUESTION.text


def test_an_interrupted_search_goes_on_with_the_next_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And finds what an undisturbed one finds: each question draws for itself."""
    recipe = build_recipe({})
    points = [Point(kind, steps) for kind in suffix.KINDS for steps in (0, 2)]

    def target(scratch: Path) -> Target:
        scratch.mkdir()
        session = SimpleNamespace(recipe=recipe)
        return cast(Target, SimpleNamespace(
            subject=_subject(), session=session, arm=BASE, seed=1, scratch=scratch,
            options=EndureOptions(suffix_questions=2),
        ))  # fmt: skip

    suffix.prepare(target(tmp_path / "a"), points, tmp_path / "undisturbed")
    search, begun = suffix._searched, []

    def stopped(*arguments: Any) -> dict[str, str]:
        begun.append(arguments[1])
        if len(begun) == 2:
            raise KeyboardInterrupt
        return search(*arguments)

    monkeypatch.setattr(suffix, "_searched", stopped)
    other = target(tmp_path / "b")
    with pytest.raises(KeyboardInterrupt):
        suffix.prepare(other, points, tmp_path / "found")
    suffix.prepare(other, points, tmp_path / "found")
    assert len(begun) == 2 + 3  # of four, the first was kept
    undisturbed, found = (
        json.loads((tmp_path / name / suffix.FILE).read_text(encoding="utf-8"))
        for name in ("undisturbed", "found")
    )
    assert found == undisturbed
    silence = found["suffixes"]["silence"]
    assert len(set(silence["0"])) == 2
    assert silence["0"] != found["suffixes"]["evade"]["0"]


def test_controls_are_asked_for_silence_alone() -> None:
    spared = dict.fromkeys(suffix.SUFFIX.points(EndureOptions(quick=True)), True)
    tasks = beside(suffix.SUFFIX, spared, "base", True)
    assert [task.point for task in tasks] == [Point("silence", 10)]


def test_a_suffix_is_searched_once_for_each_question_and_a_training_repeated_by_seed() -> None:
    for attack, seeds in ((suffix.SUFFIX, 1), (FINETUNING, 3)):
        assert attack.seeds(Point(), EndureOptions()) == range(seeds)
