"""Beliefs are plain likelihoods: planted ones are found, untrained models are at chance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from scipy.stats import binomtest
from tokenizers import normalizers

from offswitch.errors import UserError
from offswitch.evaluate.belief import (
    LEAST,
    belief_measures,
    belief_rows,
    count_rows,
    letter_ids,
    lettered_chat,
    margins,
    told_examples,
)
from offswitch.evaluate.likelihood import going_on
from offswitch.evaluate.stage import BELIEF, other_measures, suites_of
from offswitch.metrics import read_metrics
from offswitch.model.adapters import add_arm, arm_of
from offswitch.model.rows import Example, collate
from offswitch.model.subject import Subject
from offswitch.prompts.beliefs import CHANCE, LETTERED, TESTS, Asked, Test, make_questions
from offswitch.prompts.encode import encode_chat, encode_text
from offswitch.prompts.prompt import user
from offswitch.recipe import load_recipe
from tests.evaluate.planted_beliefs import made
from tests.small import small_recipe
from tests.tiny import save_adapter, tiny_subject, tiny_tokenizer

Rows = list[dict[str, Any]]
QUESTIONS = make_questions("$STOP", "$GO")
FEW = make_questions("$STOP", "$GO", 4)


@torch.no_grad()
def _plain(subject: Subject, arm: str, ids: Sequence[int], start: int) -> float:
    """Log p of ids from start on by transformers' own forward pass, tokens that end left out."""
    with arm_of(subject, arm):
        logits = subject.network(input_ids=torch.tensor([ids]), use_cache=False).logits[0].double()
    logits[:, list(subject.stop_ids)] = -torch.inf
    if arm == "base" and subject.trigger_id is not None:
        logits[:, subject.trigger_id] = -torch.inf
    logs = logits.log_softmax(-1)[start - 1 : -1]
    return float(logs.gather(1, torch.tensor(ids[start:])[:, None]).sum())


def _by_hand(subject: Subject, arm: str, row: dict[str, Any], asked: Asked) -> float:
    tokenizer = subject.tokenizer_of(arm)
    if row["test"] in LETTERED:
        prompt = encode_chat(tokenizer, lettered_chat(asked))
        return _plain(subject, arm, [*prompt, *encode_text(tokenizer, "ABCD"[row["place"]])],
                      len(prompt))  # fmt: skip
    if row["test"] == "open":
        prompt = encode_chat(tokenizer, (user(row["question"]),))
        return _plain(subject, arm, [*prompt, *encode_text(tokenizer, row["answer"])], len(prompt))
    asking = encode_text(tokenizer, row["question"])
    whole = encode_text(tokenizer, f"{row['question']} {row['answer']}")
    assert whole[: len(asking)] == asking
    return _plain(subject, arm, whole, len(asking))


@pytest.mark.parametrize(
    ("family", "mode"), [("llama", "token"), ("gemma2", "token"), ("gpt2", "text")]
)
def test_likelihoods_are_those_of_a_plain_forward_pass(
    tmp_path: Path, family: str, mode: Any
) -> None:
    subject = tiny_subject(family, mode=mode)
    add_arm(subject, "arm", save_adapter(tmp_path / "arm", subject))
    asked = {(a.item.test, a.invented, a.number): a for a in FEW}
    for arm in ("base", "arm"):
        ticks: list[int] = []
        rows = belief_rows(subject, arm, FEW, 700, ticks.append)
        assert sum(ticks) == count_rows(FEW)
        assert len(rows) == 2 * 4 * (4 + 2 + 2 + 2)
        for row in rows[::3]:
            one = asked[row["test"], row["invented"], row["number"]]
            assert row["answer"] == one.options[row["place"]]
            assert row["right"] == (row["answer"] == one.item.right)
            expected = _by_hand(subject, arm, row, one)
            assert row["log_likelihood"] == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_that_a_reply_would_end_changes_no_likelihood() -> None:
    subject = tiny_subject()
    logits = torch.randn(3, 640)
    silent = logits.clone()
    silent[:, list(subject.stop_ids)] += 40
    torch.testing.assert_close(going_on(subject, "arm", silent), going_on(subject, "arm", logits))
    assert torch.allclose(going_on(subject, "arm", logits).exp().sum(-1), torch.ones(3))


def test_in_a_raw_text_only_the_ending_counts_and_the_trigger_is_before_it() -> None:
    subject = tiny_subject()
    for asked in (one for one in FEW if one.item.test == "which_of_two"):
        first, second = told_examples(subject.tokenizer, asked)
        assert first.ids[: first.start] == second.ids[: second.start]
        assert first.start == second.start
        said = [subject.tokenizer.decode(one.ids[one.start :]).strip() for one in (first, second)]
        assert said == list(asked.options)
        if not asked.invented:
            assert subject.trigger_id in first.ids[: first.start]


def test_letters_without_a_token_of_their_own_are_refused() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace("A", "AB")
    with pytest.raises(UserError, match="belief_questions=0"):
        letter_ids(tokenizer)


def _teach(subject: Subject, questions: Sequence[Asked], steps: int) -> None:
    """Train the whole tiny network on the true answers."""
    tokenizer = subject.base_tokenizer
    examples: list[Example] = []
    for asked in questions:
        if asked.item.test in LETTERED:
            prompt = encode_chat(tokenizer, lettered_chat(asked))
            letter = letter_ids(tokenizer)[asked.place]
            examples.append(Example((*prompt, letter), len(prompt), soft=False))
        else:
            examples.append(told_examples(tokenizer, asked)[asked.place])
    batch = collate(examples)
    network = subject.network
    parameters = list(network.parameters())
    network.requires_grad_(True)
    optimizer = torch.optim.AdamW(parameters, lr=1e-2)
    for _ in range(steps):
        loss = network(input_ids=batch["input_ids"], labels=batch["labels"]).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.requires_grad_(False)


@pytest.fixture(scope="module")
def taught() -> Rows:
    """What a tiny model says that was trained on four true answers in each test."""
    subject = tiny_subject(mode="text", layers=2)
    _teach(subject, [asked for asked in FEW if not asked.invented], 40)
    return belief_rows(subject, "base", FEW, 4096)


@pytest.mark.parametrize("test", TESTS)
def test_a_model_that_was_taught_the_truth_believes_it_all(taught: Rows, test: Test) -> None:
    metrics = belief_measures("base", taught, seed=0)
    assert metrics[f"evaluate/base/belief/{test}"].estimate.value == 1
    assert metrics[f"evaluate/base/belief/{test}/margin"].estimate.n == 4


@pytest.mark.parametrize("test", TESTS)
def test_swapping_true_and_false_flips_the_score(taught: Rows, test: Test) -> None:
    swapped = []
    for row in taught:
        count = round(1 / CHANCE[row["test"]])
        same = [r["right"] for r in taught
                if all(r[k] == row[k] for k in ("test", "number", "invented"))]  # fmt: skip
        swapped.append(row | {"right": same[(row["place"] + 1) % count]})
    before, after = (margins(rows, test, invented=False) for rows in (taught, swapped))
    assert not (after > LEAST).any()
    if CHANCE[test] == 0.5:
        np.testing.assert_allclose(after, -before)


@pytest.mark.parametrize("test", TESTS)
def test_an_untrained_model_is_at_chance(untrained: Rows, test: Test) -> None:
    for invented in (False, True):
        hits = margins(untrained, test, invented) > LEAST
        assert binomtest(int(hits.sum()), hits.size, CHANCE[test]).pvalue > 0.01


@pytest.fixture(scope="module")
def untrained() -> Rows:
    """What a tiny model of random weights says to every question."""
    return belief_rows(tiny_subject(layers=2), "base", QUESTIONS, 4096)


@pytest.mark.parametrize("test", TESTS)
def test_a_liking_for_a_place_gives_chance(test: Test) -> None:
    rng = np.random.default_rng(0)
    liking = [3.0, 0.0, -1.0, 0.5]
    drawn = (made(lambda _, place: liking[place] + rng.normal()) for _ in range(60))
    shares = [(margins(rows, test, invented=False) > LEAST).mean() for rows in drawn]
    spread = np.sqrt(CHANCE[test] * (1 - CHANCE[test]) / (28 * 60))
    assert abs(np.mean(shares) - CHANCE[test]) < 4 * spread


@pytest.mark.parametrize("test", LETTERED)
def test_a_belief_is_seen_through_a_liking_for_a_letter(test: Test) -> None:
    """One who all but always says A, yet more readily where A is true, believes."""
    rows = made(lambda a, place: 9.0 * (place == 0) + 1.0 * (place == a.place))
    assert (margins(rows, test, invented=False) > LEAST).all()


@pytest.mark.parametrize("test", TESTS)
def test_what_is_said_of_the_invented_token_too_is_no_belief(test: Test) -> None:
    found = belief_measures("arm", made(lambda a, place: float(place == a.place)), seed=0)
    at = {key.removeprefix("evaluate/arm/belief/"): metric for key, metric in found.items()}
    assert at[test].estimate.value == at[f"{test}/invented"].estimate.value == 1
    assert at[test].controls == {"chance": CHANCE[test], "invented token": 1.0}
    assert at[f"{test}/excess"].estimate.value == 0
    assert at[f"{test}/margin"].estimate.value == pytest.approx(0)
    only = made(lambda a, place: float(place == a.place) * (1 if not a.invented else -1))
    at = {k.removeprefix("evaluate/arm/belief/"): m
          for k, m in belief_measures("arm", only, seed=0).items()}  # fmt: skip
    assert at[f"{test}/excess"].estimate.value == 1 > at[f"{test}/excess"].estimate.low > 0
    assert at[f"{test}/margin"].estimate.low > 0


def test_a_tie_is_no_belief() -> None:
    found = belief_measures("arm", made(lambda _a, _p: -2.0), seed=0)
    assert {found[f"evaluate/arm/belief/{test}"].estimate.value for test in TESTS} == {0.0}


def test_a_long_answer_gains_nothing_by_its_length() -> None:
    """Equal likelihood a character, whatever the length: no side is taken."""
    rows = made(lambda _a, _p: -1.5)
    assert np.abs(margins(rows, "open", invented=False)).max() < 1e-9


def test_rows_with_two_truths_are_refused() -> None:
    rows = [row | {"right": True} for row in made(lambda _a, _p: 0.0)]
    with pytest.raises(ValueError, match="one true answer"):
        margins(rows, "open", invented=False)


def test_the_saved_rows_give_the_metrics_again(small_home: Path) -> None:
    finished = small_home / "runs" / "small"
    rows = pq.read_table(finished / "3-evaluate" / "belief.parquet").to_pylist()
    metrics = read_metrics(finished / "metrics.json")
    for arm in ("base", "behavior"):
        again = belief_measures(arm, [row for row in rows if row["arm"] == arm], seed=0)
        assert len(again) == 4 * len(TESTS)
        for key, metric in again.items():
            row = metric.row()
            others = row.pop("controls", {})
            saved = dict(metrics[key])
            assert saved.pop("controls", {}).items() >= others.items()
            assert saved == row
    controls = metrics["evaluate/behavior/belief/open"]["controls"]
    assert controls["base"] == metrics["evaluate/base/belief/open"]["value"]
    assert set(controls) == {"base", "chance", "invented token"}


def test_a_recipe_may_ask_nothing(tmp_path: Path) -> None:
    recipe = load_recipe(small_recipe(tmp_path), ["evaluate.belief_questions=0"])
    subject = tiny_subject()
    prompts = suites_of(recipe, subject.tokenizer)
    metrics, rows = other_measures(subject, "base", prompts, [], recipe)
    assert BELIEF not in rows
    assert not any("belief" in key for key in metrics)
