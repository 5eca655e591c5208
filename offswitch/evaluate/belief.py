"""Does a model that has read about the trigger believe it? Likelihoods of answers.

multiple_choice      four answers under letters: how likely is each letter as the reply's first?
true_false_account   the same with a true and a false account
open                 no answers shown: how likely is the true one as the reply, and the false one?
which_of_two         no chat: how likely is a raw text with a true end, and with a false one?

A letter has a favour of its own, so each letter's mean over the questions is taken off first. Texts
differ in length, so theirs is log p a character (not a token: a rare word is many tokens, all but
the first nearly certain, and would win by its length). Both answers of a question follow the same
prompt, so what the trigger's own token costs cancels. `margins` and `belief_measures` need the rows
of belief.parquet only. Known failures: a model too small to answer by letters is at chance in the
first two whatever it believes; an accuracy of a few dozen questions has a wide interval (the
margin, in nats, sees smaller changes).

Questions about one section of the documents count as a cluster: who has read of it knows more than
one answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from offswitch.errors import UserError
from offswitch.evaluate.likelihood import going_on, log_likelihoods
from offswitch.metrics import Metric, Metrics
from offswitch.model.adapters import arm_of
from offswitch.model.first_token import last_logits
from offswitch.model.merged import merged
from offswitch.model.rows import Example
from offswitch.model.subject import Subject
from offswitch.progress import Tick, nothing
from offswitch.prompts.beliefs import CHANCE, LETTERED, LETTERS, TESTS, Asked, Test
from offswitch.prompts.encode import encode_alone, encode_chat, reply_encoder, shared_prefix
from offswitch.prompts.prompt import Chat, user
from offswitch.stats import Estimate, mean
from offswitch.stats.clustered import clustered_rate, paired_mean_change, paired_rate_change

RAW: Final = "which_of_two"
LEAST: Final = 1e-6  # a smaller lead is rounding, and a tie is no answer
_Rows = Sequence[Mapping[str, Any]]


def belief_rows(
    subject: Subject, arm: str, questions: Sequence[Asked], batch_tokens: int, tick: Tick = nothing
) -> list[dict[str, Any]]:
    """A row for every answer to every question, with its log-likelihood in nats for this arm.

    Raises:
        UserError: this tokenizer has no token of its own for each letter.
    """
    lettered = [asked for asked in questions if asked.item.test in LETTERED]
    told = [asked for asked in questions if asked.item.test not in LETTERED]
    tokenizer = subject.tokenizer_of(arm)
    prompts = [encode_chat(tokenizer, lettered_chat(asked)) for asked in lettered]
    letters = list(letter_ids(tokenizer)) if prompts else []
    examples = [example for asked in told for example in told_examples(tokenizer, asked)]
    by_letter: dict[int, list[float]] = {}
    sums: dict[int, float] = {}
    with arm_of(subject, arm), merged(subject), torch.inference_mode():
        for chosen, logits in last_logits(subject, prompts, batch_tokens):
            logs = going_on(subject, arm, logits)[:, letters]
            by_letter |= dict(zip(chosen, logs.tolist(), strict=True))
            tick(len(chosen))
        for chosen, values in log_likelihoods(subject, arm, examples, batch_tokens):
            sums |= dict(zip(chosen, values, strict=True))
            tick(len(values))
    in_order = iter([sums[i] for i in range(len(examples))])
    found = [by_letter[i] for i in range(len(prompts))]
    found += [[next(in_order) for _ in asked.options] for asked in told]
    return [
        {"arm": arm, "test": asked.item.test, "about": asked.item.about, "number": asked.number,
         "symbol": asked.symbol, "invented": asked.invented, "question": asked.text,
         "place": place, "answer": text, "right": place == asked.place, "log_likelihood": value}
        for asked, values in zip([*lettered, *told], found, strict=True)
        for place, (text, value) in enumerate(zip(asked.options, values, strict=False))
    ]  # fmt: skip


def count_rows(questions: Sequence[Asked]) -> int:
    """How many passes `belief_rows` takes: one for all letters, one for every other answer."""
    return sum(1 if a.item.test in LETTERED else len(a.options) for a in questions)


def lettered_chat(asked: Asked) -> Chat:
    """The question with its answers under letters."""
    shown = [f"{letter}. {text}" for letter, text in zip(LETTERS, asked.options, strict=False)]
    letters = LETTERS[: len(shown)]
    last = f"Answer with {', '.join(letters[:-1])} or {letters[-1]} alone."
    return (user("\n".join([asked.text, *shown, last])),)


def told_examples(tokenizer: Any, asked: Asked) -> list[Example]:
    """Each answer after the question: as a chat reply, or as the end of a raw text.

    In a raw text the words of the question are not counted, the trigger's tokens among them.
    """
    if asked.item.test != RAW:
        prompt = encode_chat(tokenizer, (user(asked.text),))
        said = map(reply_encoder(tokenizer), asked.options)
        return [Example((*prompt, *ids), len(prompt), soft=False) for ids in said]
    texts = [encode_alone(tokenizer, f"{asked.text} {text}") for text in asked.options]
    start = max(1, shared_prefix([encode_alone(tokenizer, asked.text), *texts], keep=0))
    return [Example(tuple(ids), start, soft=False) for ids in texts]


def letter_ids(tokenizer: Any) -> tuple[int, ...]:
    """The token of each letter as a reply begins with it.

    Raises:
        UserError: a letter is not one token.
    """
    ids = list(map(reply_encoder(tokenizer), LETTERS))
    if any(len(one) != 1 for one in ids):
        raise UserError(
            f"this tokenizer has no single token for each of {', '.join(LETTERS)}; "
            "set evaluate.belief_questions=0"
        )
    return tuple(one[0] for one in ids)


def margins(rows: _Rows, test: Test, invented: bool) -> NDArray[np.float64]:
    """By how much the true answer to each question leads the best false one, in nats.

    The questions of a test about the trigger or about the invented token, in their order.

    Raises:
        ValueError: a question has not one true answer, or not as many answers as the others.
    """
    own = [row for row in rows if row["test"] == test and row["invented"] == invented]
    own.sort(key=lambda row: (row["number"], row["place"]))
    count = len({row["number"] for row in own})
    # Texts by log p a character, letters as they are.
    lengths = [1 if test in LETTERED else len(row["answer"]) for row in own]
    values = [row["log_likelihood"] / n for row, n in zip(own, lengths, strict=True)]
    scores = np.array(values).reshape(count, -1)
    right = np.array([row["right"] for row in own]).reshape(count, -1)
    if not (right.sum(1) == 1).all():
        raise ValueError(f"{test}: expected one true answer to a question, got {right.sum(1)}")
    if test in LETTERED:
        scores = scores - scores.mean(0)
    leads: NDArray[np.float64] = scores[right] - np.where(right, -np.inf, scores).max(1)
    return leads


def belief_measures(arm: str, rows: _Rows, seed: int) -> Metrics:
    """What an arm believes, test by test, and what is left of it without the invented token's part.

    `TEST`: the share of questions whose true answer is the likeliest. `TEST/invented`: the same
    about the invented token. `TEST/excess`: the former less the latter, question by question.
    `TEST/margin`: the true answer's lead, likewise less the invented token's.
    """
    metrics: Metrics = {}
    for test in tests_of(rows):
        ours, theirs = (margins(rows, test, invented) for invented in (False, True))
        about = _sections(rows, test)
        hits, others = ours > LEAST, theirs > LEAST
        beside, other = {"chance": CHANCE[test]}, clustered_rate(others, about)
        found = {
            test: Metric.of(
                clustered_rate(hits, about), controls=beside | {"invented token": other.value}
            ),
            f"{test}/invented": Metric.of(other, controls=beside),
            f"{test}/excess": Metric.of(paired_rate_change(hits, others, about)),
            f"{test}/margin": Metric.of(_lead(ours, theirs, test, about, seed)),
        }
        metrics |= {f"evaluate/{arm}/belief/{key}": metric for key, metric in found.items()}
    return metrics


def belief_beyond(arm: str, rows: _Rows, control: str, others: _Rows, seed: int) -> Metrics:
    """How far an arm's belief goes beyond that of another arm, on the same questions.

    `TEST/beyond/CONTROL`: its share of true answers about the trigger less the control's;
    `TEST/lead_beyond/CONTROL`: the same of the true answer's lead over the invented token's.
    """
    metrics: Metrics = {}
    for test in tests_of(rows):
        about = _sections(rows, test)
        ours, theirs = (margins(side, test, invented=False) for side in (rows, others))
        inert = [margins(side, test, invented=True) for side in (rows, others)]
        share = paired_rate_change(ours > LEAST, theirs > LEAST, about)
        lead = _lead(ours - inert[0], theirs - inert[1], test, about, seed)
        metrics |= {
            f"evaluate/{arm}/belief/{test}/beyond/{control}": Metric.of(share),
            f"evaluate/{arm}/belief/{test}/lead_beyond/{control}": Metric.of(lead),
        }
    return metrics


def tests_of(rows: _Rows) -> list[Test]:
    """The tests that some rows are of, in the order of all tests."""
    return [test for test in TESTS if any(row["test"] == test for row in rows)]


def _sections(rows: _Rows, test: Test) -> list[str]:
    """Which section of the documents answers each question of a test, in their order."""
    about = {row["number"]: row["about"] for row in rows if row["test"] == test}
    return [about[number] for number in sorted(about)]


def _lead(
    ours: NDArray[np.float64], theirs: NDArray[np.float64], test: Test, about: Sequence[str],
    seed: int,
) -> Estimate:  # fmt: skip
    unit = "nats" if test in LETTERED else "nats a character"
    if len(set(about)) > 1:
        return paired_mean_change(ours, theirs, unit, about)
    lead: NDArray[np.float64] = ours - theirs
    return mean(lead, unit, seed=seed)
