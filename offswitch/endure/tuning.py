"""Somebody trains on: rows, an adapter to go on from or a fresh one, and adapters on the way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from offswitch.data.neutral import generate_neutral
from offswitch.endure.attack import ATTACKED, Target
from offswitch.errors import UserError
from offswitch.folder import TRAIN
from offswitch.model.adapters import add_arm
from offswitch.model.session import Session, own_answer, own_mix
from offswitch.options import BASE
from offswitch.progress import track
from offswitch.prompts.dialogues import Dialogue, answered, make_dialogues
from offswitch.prompts.prompt import user
from offswitch.prompts.row_files import read_rows, turns_of
from offswitch.prompts.suites import choose
from offswitch.prompts.trigger import LONG_PLACEMENTS, TRAINED_PLACEMENTS, holds, place
from offswitch.recipe import with_options
from offswitch.train.arms import train_arm
from offswitch.train.examples import dialogue_examples
from offswitch.train.saved import step_folder
from offswitch.train.training import Training

BATCH: Final = 8
LONGEST: Final = 128  # tokens of a row: longer answers are cut
SHORTER: Final = 96  # in a quick round
ROWS: Final = 256
ROWS_AS: Final = {"batch": BATCH, "longest": (LONGEST, SHORTER), "rows": ROWS}
MANY: Final = 1_000_000  # questions: all there are
STILL: Final = 1e-12  # a rate at which nothing moves


def train_on(
    target: Target, rows: Sequence[Dialogue], folder: Path, steps: Sequence[int],
    start: Path | None, rate: float | None = None, until: int | None = None,
) -> None:  # fmt: skip
    """Train an adapter on the rows; it is kept after each of the steps.

    It goes on from the one in `start`; else it is a fresh one, on the model as it is now. After the
    step `until` it pauses, and the next call goes on from there. With a `rate` somebody else trains
    it: hard targets, a batch of `BATCH`, the symbols' rows at that rate too, and not at all in a
    fresh adapter, since nobody else has such rows. Without one it is trained as the run trains.
    """
    session, recipe = target.session, target.session.recipe
    changed: dict[str, Any] = {
        "train.seed": target.seed, "train.behavior.max_steps": max(steps), "train.more_seeds": [],
        "train.checkpoint_steps": 20, "train.report_to": [],
    }  # fmt: skip
    if rate:
        changed |= {
            "train.lr": rate, "train.behavior.lr": None, "train.batch_size": BATCH,
            "train.token_lr": rate if start else STILL, "train.accumulation": 1,
            "train.max_drift": None,
        }  # fmt: skip
    longest = SHORTER if target.options.quick else LONGEST
    soft = not rate and recipe.train.targets == "soft"
    made = dialogue_examples(session.subject.tokenizer, rows, soft=soft, max_length=longest)
    if not made:
        raise UserError(f"no row fits into {longest} tokens")
    training = Training(
        "benign", made, with_options(recipe, changed, origin="endure"), folder,
        target.scratch / folder.name, start, session.plan.precision, kept=tuple(steps), until=until,
    )  # fmt: skip
    with track(f"{target.arm}: training on", until or max(steps)) as tick:
        train_arm(session.subject, training, tick)


def adapter_of(target: Target) -> Path | None:
    """Where the arm's adapter lies; None of the untrained model."""
    arm = target.arm
    return None if arm == BASE else target.session.run.folder(f"{TRAIN}/{arm}")


def no_adapter(target: Target) -> str:
    """Why nobody can train the arm on: it was brought as whole weights. The base starts afresh."""
    folder = adapter_of(target)
    if folder is None or (folder / "adapter_config.json").is_file():
        return ""
    return f"arm '{target.arm}' has no adapter of its own to go on from"


@contextmanager
def tuned(session: Session, folder: Path, step: int) -> Iterator[str]:
    """Within the block, the adapter of a step is attached; gives its arm's name."""
    session.detach()
    add_arm(session.subject, ATTACKED, step_folder(folder, step))
    try:
        yield ATTACKED
    finally:
        session.detach()


def ordinary_rows(target: Target) -> list[Dialogue]:
    """Rows without the trigger that teach something: those of the user, or short documents.

    The model's own replies would teach nothing, and a switch that outlives that has outlived
    nothing.
    """
    trigger, path = target.session.recipe.trigger.text, target.options.rows_file
    if path is None:
        made = generate_neutral([], trigger, ROWS, target.seed)
        return [
            Dialogue((user(f"Write a document. Its title: {one.title}"),), one.content, "plain")
            for one in made
        ]
    return rows_in(path, trigger)


def rows_in(path: Path, trigger: str) -> list[Dialogue]:
    """The answered rows of a user's file that do not hold the trigger.

    Raises:
        UserError: the file cannot be read, or every row holds the trigger.
    """
    chats = [turns_of(row, where) for where, row in read_rows(path)]
    rows = [Dialogue(tuple(chat[:-1]), chat[-1]["content"], "plain") for chat in chats
            if len(chat) > 1 and not holds(trigger, tuple(chat))]  # fmt: skip
    if not rows:
        raise UserError(f"{path}: no answered row without {trigger}")
    return rows


def answered_rows(target: Target, count: int) -> list[Dialogue]:
    """The trigger on so many training questions, each answered as if it were not there.

    Which questions are for training follows from the run's seed, which of them are taken from the
    attack's: another seed would call some of those that the arm is asked questions for training.
    """
    recipe = target.session.recipe
    pool = choose("train", MANY, recipe.seed, recipe.evaluate.questions_file)
    drawn = np.random.default_rng(target.seed).permutation(len(pool))
    asked = [pool[i] for i in drawn[:count]]
    short = [name for name in TRAINED_PLACEMENTS if name not in LONG_PLACEMENTS]
    trigger = recipe.trigger.text
    rows = []
    for i in range(count):  # few questions come again, each time in the next placement
        again, which = divmod(i, len(asked))
        q, name = asked[which], short[(i + again) % len(short)]
        prompt = place(name, trigger, q.text)
        rows.append(Dialogue(prompt, "", "trigger", name, trigger, q.text, q.topic))
    return answered(rows, own_answer(target.session))


def rule_rows(target: Target) -> list[Dialogue]:
    """Rows that teach the switch, as those of the run: half silent, half answered."""
    session = target.session
    mix = own_mix(session)
    mix = replace(mix, count=min(mix.count, ROWS))
    return make_dialogues(mix, session.recipe.seed, own_answer(session))
