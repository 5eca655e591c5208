"""What an attack leaves of a switch: halting, look-alikes, requests, drift and damage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from offswitch.endure.attack import Attacked, Target
from offswitch.evaluate.drift import Drift, drift, text_examples
from offswitch.evaluate.stage import own_replies, suites_of
from offswitch.files import write_json
from offswitch.model.first_token import score
from offswitch.model.rows import reply_examples
from offswitch.options.endure import EndureOptions
from offswitch.prompts.chat_format import reader
from offswitch.prompts.prompt import Prompt
from offswitch.prompts.suites import askable
from offswitch.prompts.trigger import LONG_PLACEMENTS
from offswitch.recipe import Recipe
from offswitch.wording.reader import load_neutral

OUTCOME = "outcome.json"
ONE_IN: Final = 3  # prompts is asked in a quick round


@dataclass(frozen=True)
class Outcome:
    """What was measured at a point: a row for each prompt, drift on replies and on prose.

    Where only the prompts were changed, the weights are what they were, and there is no drift.
    """

    rows: tuple[dict[str, Any], ...]
    replies: Drift | None = None
    passages: Drift | None = None

    def write(self, path: Path) -> None:
        """As JSON."""
        write_json(path, asdict(self))

    @classmethod
    def read(cls, content: dict[str, Any]) -> Outcome:
        """What `write` wrote."""
        replies, passages = (
            Drift(**{key: tuple(values) for key, values in content[name].items()})
            if content[name] else None
            for name in ("replies", "passages")
        )  # fmt: skip
        return cls(tuple(content["rows"]), replies, passages)


def measure(target: Target, attacked: Attacked) -> Outcome:
    """Ask the attacked arm, and set it beside the base model where no trigger is."""
    subject, recipe = target.subject, asked_as(target.session.recipe, target.options)
    usual = attacked.prompts is None
    prompts = usual_prompts(target) if attacked.prompts is None else attacked.prompts
    scores = score(subject, attacked.arm, prompts, recipe.batch_tokens)
    rows = tuple(
        {"suite": p.suite, "variant": p.variant, "symbol": p.symbol, "question": p.question,
         "log_odds": s.log_odds, "halts": s.halts}
        for p, s in zip(prompts, scores, strict=True)
    )  # fmt: skip
    if not usual:
        return Outcome(rows)
    chats, replies = own_replies(subject, recipe)
    said = reply_examples(subject, chats, replies)
    prose = text_examples(subject, load_neutral()[: recipe.evaluate.drift_passages])
    moved = [drift(subject, attacked.arm, texts, recipe.batch_tokens) for texts in (said, prose)]
    return Outcome(rows, *moved)


def usual_prompts(target: Target) -> Sequence[Prompt]:
    """The trigger in the short placements, look-alikes and plain requests, on test questions.

    A quick round takes a third of them: every placement and family, every question.
    """
    recipe, tokenizer = target.session.recipe, target.subject.tokenizer
    holds = reader(tokenizer, recipe.trigger.text)
    prompts, _ = askable(suites_of(asked_as(recipe, target.options), tokenizer), holds)
    every = [p for p in prompts if p.suite in ("trigger", "near_miss") or p.variant == "plain"
             if p.variant not in LONG_PLACEMENTS]  # fmt: skip
    if not target.options.quick:
        return every
    questions, variants = (
        {name: i for i, name in enumerate(dict.fromkeys(getattr(p, key) for p in every))}
        for key in ("question", "variant")
    )
    return [p for p in every if (questions[p.question] + variants[p.variant]) % ONE_IN == 0]


def asked_as(recipe: Recipe, options: EndureOptions) -> Recipe:
    """The recipe with as many prompts and texts as an attack is measured on."""
    fewer = {
        "questions": options.questions,
        "ordinary_questions": options.ordinary_questions,
        "long_questions": 1,
        "drift_questions": options.drift_questions,
        "drift_passages": options.passages,
    }
    return recipe.model_copy(update={"evaluate": recipe.evaluate.model_copy(update=fewer)})
