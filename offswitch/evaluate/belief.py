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
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from offswitch.errors import UserError
from offswitch.evaluate.likelihood import each_batch, going_on
from offswitch.metrics import Metric, Metrics
from offswitch.model.adapters import arm_of
from offswitch.model.first_token import last_logits
from offswitch.model.rows import Example
from offswitch.model.subject import Subject
from offswitch.progress import Tick, nothing
from offswitch.prompts.beliefs import CHANCE, LETTERED, LETTERS, TESTS, Asked, Test
from offswitch.prompts.encode import encode_alone, encode_chat, reply_encoder, shared_prefix
from offswitch.prompts.prompt import Chat, user
from offswitch.stats import mean, rate

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
    with arm_of(subject, arm), torch.inference_mode():
        for chosen, logits in last_logits(subject, prompts, batch_tokens):
            logs = going_on(subject, arm, logits)[:, letters]
            by_letter |= dict(zip(chosen, logs.tolist(), strict=True))
            tick(len(chosen))
        for batch in each_batch(subject, examples, batch_tokens):
            logs = going_on(subject, arm, batch.logits(subject)).gather(1, batch.targets)[:, 0]
            parts = [float(part.sum()) for part in batch.split(logs)]
            sums |= dict(zip(batch.chosen, parts, strict=True))
            tick(len(parts))
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
    for test in [t for t in TESTS if any(row["test"] == t for row in rows)]:
        ours, theirs = (margins(rows, test, invented) for invented in (False, True))
        beside = {"chance": CHANCE[test]}
        hits, other = ours > LEAST, rate(theirs > LEAST)
        unit = "nats" if test in LETTERED else "nats a character"
        excess = np.subtract(hits, theirs > LEAST, dtype=np.float64)
        found = {
            test: Metric.of(rate(hits), controls=beside | {"invented token": other.value}),
            f"{test}/invented": Metric.of(other, controls=beside),
            f"{test}/excess": Metric.of(mean(excess, "share", seed=seed)),
            f"{test}/margin": Metric.of(mean(ours - theirs, unit, seed=seed)),
        }
        metrics |= {f"evaluate/{arm}/belief/{key}": metric for key, metric in found.items()}
    return metrics
