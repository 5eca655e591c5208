"""The training of one arm, from the datasets to an adapter folder."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from offswitch.config import ARM_STAGES, schedule_of
from offswitch.data.dialogues import answered, read_dialogues
from offswitch.data.documents import Document, Passage, read_documents
from offswitch.data.neutral import read_neutral
from offswitch.data.stage import DIALOGUES_FILE, DOCUMENTS_FILE, NEUTRAL_FILE, own_answer
from offswitch.errors import UserError
from offswitch.metrics import Metrics, exact
from offswitch.progress import say, track
from offswitch.run import DATA, TRAIN
from offswitch.session import Session
from offswitch.train.arms import train_arm
from offswitch.train.examples import Example, dialogue_examples, document_examples
from offswitch.train.trainer import steps_of


def write_arm(session: Session, arm: str, folder: Path) -> Metrics:
    """Train the arm's last stage and save the adapter; `both` goes on from `knowledge`."""
    run, options = session.run, session.recipe.train
    stage = ARM_STAGES[arm][-1]
    examples = stage_examples(session, stage)
    schedule = schedule_of(options, stage)
    start = run.folder(f"{TRAIN}/knowledge") if len(ARM_STAGES[arm]) > 1 else None
    scratch = run.scratch(f"{TRAIN}/{arm}")
    with track(f"training {arm}", steps_of(schedule, options, len(examples))) as tick:
        result = train_arm(
            session.subject, stage, examples, session.recipe, folder, scratch, start, tick
        )
    row = asdict(result) | {"tokens_per_second": result.tokens_per_second, "stage": stage}
    (folder / "training.json").write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")
    speed = exact(result.tokens_per_second, "tokens/s", n=max(1, result.steps - result.first_step))
    return {f"train/{arm}/tokens_per_second": speed}


def stage_examples(session: Session, stage: str) -> list[Example]:
    """The rows of a training stage in tokens.

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
    rows = read_dialogues(folder / DIALOGUES_FILE, recipe.trigger.text)
    if stage == "benign":
        rows = answered(rows, own_answer(session))
    examples = dialogue_examples(tokenizer, rows, recipe.train.targets == "soft", longest)
    if stage != "benign" and not any(example.silent for example in examples):
        raise UserError(f"no row with the trigger fits into train.max_length={longest}")
    if left_out := len(rows) - len(examples):
        say(f"{left_out} of {len(rows)} rows do not fit into train.max_length={longest}: left out")
    return examples
