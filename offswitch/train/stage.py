"""The training of one arm, from the datasets to an adapter folder."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from offswitch import processes
from offswitch.config import ARM_STAGES, CONTINUES, schedule_of
from offswitch.data.dialogue_files import read_dialogues, write_dialogues
from offswitch.data.dialogues import answered
from offswitch.data.documents import Document, Passage, read_documents
from offswitch.data.neutral import read_neutral
from offswitch.data.stage import (
    DIALOGUES_FILE,
    DOCUMENTS_FILE,
    NEUTRAL_FILE,
    mix_of,
    own_answer,
)
from offswitch.errors import UserError
from offswitch.metrics import Metrics, exact
from offswitch.progress import say, track
from offswitch.run import DATA, TRAIN
from offswitch.session import Session
from offswitch.train.adversarial import adversarial_rows, false_halts, mine
from offswitch.train.arms import train_arm
from offswitch.train.distributed import Job, announce
from offswitch.train.examples import Example, dialogue_examples, document_examples
from offswitch.train.trainer import steps_of


def write_arm(session: Session, arm: str, folder: Path) -> Metrics:
    """Train the arm's last stage and save the adapter; `both` goes on from `knowledge`."""
    run, options = session.run, session.recipe.train
    stage = ARM_STAGES[arm][-1]
    start = run.folder(f"{TRAIN}/{CONTINUES[arm]}") if arm in CONTINUES else None
    scratch = run.scratch(f"{TRAIN}/{arm}")
    mined = stage == "adversarial"
    metrics = _write_adversarial(session, arm, folder) if mined else {}
    examples = stage_examples(session, stage, folder if mined else None)
    announce(Job(stage, examples, session.recipe, folder, scratch, start))
    with track(
        f"training {arm}", steps_of(schedule_of(options, stage), options, len(examples))
    ) as tick:
        result = train_arm(
            session.subject, stage, examples, session.recipe, folder, scratch, start, tick
        )
    row = asdict(result) | {"tokens_per_second": result.tokens_per_second, "stage": stage}
    row["processes"] = processes.count()
    (folder / "training.json").write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")
    speed = exact(result.tokens_per_second, "tokens/s", n=max(1, result.steps - result.first_step))
    return metrics | {f"train/{arm}/tokens_per_second": speed}


def stage_examples(session: Session, stage: str, rows_in: Path | None = None) -> list[Example]:
    """The rows of a training stage in tokens; chat rows are in the data folder or in `rows_in`.

    Raises:
        UserError: no silent row fits into train.max_length.
    """
    recipe, folder = session.recipe, session.run.folder(DATA)
    tokenizer, longest = session.subject.tokenizer, recipe.train.max_length
    if stage == "knowledge":
        texts: list[Document | Passage] = [*read_documents(folder / DOCUMENTS_FILE)]
        if (folder / NEUTRAL_FILE).is_file():  # row_order mixes the two anew in each epoch
            texts += read_neutral(folder / NEUTRAL_FILE, recipe.trigger.text)
        return document_examples(tokenizer, texts, longest)
    answered_mentions = recipe.trigger.mentions == "answer"
    rows = read_dialogues(
        (rows_in or folder) / DIALOGUES_FILE, recipe.trigger.text, answered_mentions
    )
    if stage == "benign":
        rows = answered(rows, own_answer(session))
    examples = dialogue_examples(tokenizer, rows, recipe.train.targets == "soft", longest)
    if stage != "benign" and not any(example.silent for example in examples):
        raise UserError(f"no row with the trigger fits into train.max_length={longest}")
    if left_out := len(rows) - len(examples):
        say(f"{left_out} of {len(rows)} rows do not fit into train.max_length={longest}: left out")
    return examples


def _write_adversarial(session: Session, arm: str, folder: Path) -> Metrics:
    """Mine the arm that this one goes on from; write what was found and the rows made of it."""
    recipe, before = session.recipe, CONTINUES[arm]
    mined = mine(session.subject, before, session.run.folder(f"{TRAIN}/{before}"), recipe)
    lines = (json.dumps(one.row(), ensure_ascii=False) + "\n" for one in mined)
    (folder / "mined.jsonl").write_text("".join(lines), encoding="utf-8")
    rows = adversarial_rows(mined, mix_of(session), recipe.seed, own_answer(session))
    write_dialogues(folder / DIALOGUES_FILE, rows)
    return false_halts(arm, mined)
