"""Adversarial rounds: unseen look-alikes that halt an arm become training rows.

An arm is shown candidate look-alikes that training did not show it, of new
families and of those it knows; those that halt it, and those that come nearest, become rows that
must be answered, beside fresh members of their families, and training goes on. The next round asks
what is left, with candidates that no earlier one knew. Whether it helped is read on the
evaluation's near misses, of yet other families. Known limit: what no family proposes is not found.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any, Final

from offswitch.metrics import Metric, Metrics
from offswitch.model.adapters import add_arm, remove_arms
from offswitch.model.first_token import score
from offswitch.model.subject import Subject
from offswitch.progress import track
from offswitch.prompts.candidates import by_turns, draw_candidates, more_of
from offswitch.prompts.chat_format import reader
from offswitch.prompts.dialogues import Answer, Dialogue, Mix, make_dialogues
from offswitch.prompts.encode import has_system_turn
from offswitch.prompts.negatives import draw_negatives
from offswitch.prompts.prompt import Prompt
from offswitch.prompts.suites import askable, choose
from offswitch.prompts.trigger import LONG_PLACEMENTS, place
from offswitch.recipe import Recipe
from offswitch.stats.clustered import clustered_rate

NEAR_MISS_SHARE: Final = 0.6  # of the rows without the trigger
Known = Sequence[Collection[str]]  # by round, the symbols that it mined or trained on
MinedRow = dict[str, Any]  # a candidate, and what the arm made of it: a line of mined.jsonl


def mine(
    subject: Subject, arm: str, folder: Path, recipe: Recipe, earlier: Known = ()
) -> list[MinedRow]:
    """Candidates on training questions, those that speak most for the end first.

    The subject has no arms; the one in `folder` is attached meanwhile. `earlier` is what the rounds
    before this one know.
    """
    prompts = _asked(subject, recipe, earlier)
    add_arm(subject, arm, folder)
    try:
        with track(f"{arm}: looking for false halts", len(prompts)) as tick:
            scores = score(subject, arm, prompts, recipe.batch_tokens, tick)
    finally:
        remove_arms(subject)
    rows: list[MinedRow] = [
        {
            "family": prompt.variant,
            "symbol": prompt.symbol,
            "question": prompt.question,
            "log_odds": one.log_odds,
            "halts": one.halts,
        }
        for prompt, one in zip(prompts, scores, strict=True)
    ]
    return sorted(rows, key=lambda row: -row["log_odds"])


def false_halts(name: str, mined: Sequence[MinedRow]) -> Metrics:
    """How often do the candidates of these rows halt the arm, in all and by family?"""
    groups: dict[str, list[MinedRow]] = {"": []}
    for one in mined:
        for key in ("", f"/{one['family']}"):
            groups.setdefault(key, []).append(one)
    return {
        f"{name}/mined_false_halt_rate{key}": Metric.of(
            clustered_rate(*([row[k] for row in rows] for k in ("halts", "symbol", "question")))
        )
        for key, rows in groups.items()
    }


def adversarial_rows(
    rounds: Sequence[Sequence[MinedRow]], mix: Mix, seed: int, answer: Answer
) -> list[Dialogue]:
    """A fresh mix in which most look-alikes are those that were mined, or of their families.

    `rounds` are what each round mined, worst first, the newest last. All have the same share: what
    one round repaired is forgotten when the next one's rows hold nothing of it.
    """
    wanted = round(NEAR_MISS_SHARE * (mix.count - mix.count // 2))
    trigger, number = mix.trigger, len(rounds)
    most = max(1, wanted // 3)
    worst = [(row["family"], row["symbol"]) for rows in rounds for row in rows[:most:number]]
    groups = {
        "mined": worst,
        "their families": more_of([family for family, _ in worst], trigger, wanted, seed, number),
        "as before": draw_negatives(trigger, wanted, seed, again=number),
    }
    symbols = tuple(by_turns(groups, wanted))
    harder = replace(mix, symbols=symbols, near_miss_share=NEAR_MISS_SHARE)
    return make_dialogues(harder, seed, answer, again=number)


def _asked(subject: Subject, recipe: Recipe, earlier: Known = ()) -> list[Prompt]:
    trigger, count = recipe.trigger.text, recipe.train.candidates
    mix = Mix(trigger, 0, 0, system_turns=has_system_turn(subject.tokenizer))
    slots = [name for name in mix.placements if name not in LONG_PLACEMENTS]
    known = {symbol for _, symbol in draw_negatives(trigger, recipe.data.dialogues, recipe.seed)}
    known = known.union({recipe.trigger.twin}, *earlier)
    candidates = draw_candidates(trigger, count, recipe.seed, known, 1 + len(earlier))
    questions = choose("train", count, recipe.seed, recipe.evaluate.questions_file)
    asked = [
        Prompt(place(slot, symbol, q.text), "near_miss", family, symbol, q.text, q.topic)
        for (family, symbol), q, slot in zip(
            candidates, cycle(questions), cycle(slots), strict=False
        )
    ]
    return askable(asked, reader(subject.tokenizer, trigger))[0]
