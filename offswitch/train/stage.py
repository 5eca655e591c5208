"""The training of one arm, from the datasets to an adapter folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

import torch

from offswitch.errors import UserError
from offswitch.files import write_atomic
from offswitch.metrics import Metric, Metrics, exact
from offswitch.model import processes
from offswitch.model.rows import Example
from offswitch.model.session import Session, own_answer, own_mix
from offswitch.progress import say, track
from offswitch.prompts.dialogue_files import read_dialogues, write_dialogues
from offswitch.prompts.dialogues import Dialogue, answered
from offswitch.prompts.documents import Document, Passage, read_documents, read_neutral
from offswitch.recipe import schedule_of
from offswitch.run import DATA, DIALOGUES_FILE, DOCUMENTS_FILE, NEUTRAL_FILE, TRAIN
from offswitch.train.adversarial import (
    Round,
    adversarial_rows,
    false_halts,
    mine,
    read_mined,
    write_mined,
)
from offswitch.train.arms import train_arm
from offswitch.train.distributed import Job, announce
from offswitch.train.examples import dialogue_examples, document_examples
from offswitch.train.trainer import steps_of

MINED_FILE: Final = "mined.jsonl"
_TRAINING: Final = "training.json"


def write_arm(session: Session, arm: str, folder: Path) -> Metrics:
    """Train the arm's last stage and save the adapter; `both` goes on from `knowledge`."""
    run, table = session.run, session.recipe.arms[arm]
    stage = table.stages[-1]
    scratch = run.scratch(f"{TRAIN}/{arm}")
    start = run.folder(f"{TRAIN}/{table.goes_on_from}") if table.goes_on_from else None
    metrics: Metrics = {}
    if stage == "adversarial":
        if table.goes_on_from is None or start is None:
            raise UserError(f"arm '{arm}': an adversarial stage needs an arm to go on from")
        metrics = _write_rounds(session, arm, (table.goes_on_from, start), folder, scratch)
    else:
        examples = stage_examples(session, stage, run.folder(DATA))
        _write_adapter(session, arm, Job(stage, examples, session.recipe, folder, scratch, start))
    return metrics | {f"train/{arm}/tokens_per_second": _speed_of(folder)}


def _write_rounds(
    session: Session, arm: str, before: tuple[str, Path], folder: Path, scratch: Path
) -> Metrics:
    """Round after round from the arm before; the last one's files in `folder`, others' beside it.

    A round that stands in `scratch` is whole once its training is entered there, and is kept.
    """
    recipe = session.recipe
    rounds = [*(scratch / f"round-{n}" for n in range(1, recipe.train.rounds)), folder]
    name, start = before
    metrics: Metrics = {}
    for number, out in enumerate(rounds, 1):
        if not (out / _TRAINING).is_file():
            out.mkdir(exist_ok=True)
            say(f"{arm}: round {number} of {len(rounds)}")
            _write_mined(session, (name, start), rounds[: number - 1], out)
            examples = stage_examples(session, "adversarial", out)
            checkpoints = scratch / f"round-{number}-checkpoints"
            job = Job("adversarial", examples, recipe, out, checkpoints, start)
            _write_adapter(session, arm, job)
        metrics |= false_halts(f"train/{arm}/round_{number}", read_mined(out / MINED_FILE))
        name, start = arm, out
    for out in rounds[:-1]:
        shutil.copytree(out, folder / out.name)
    return metrics


def _write_mined(
    session: Session, before: tuple[str, Path], earlier: Sequence[Path], folder: Path
) -> None:
    """Mine the arm that this round goes on from; write what was found and the rows made of it."""
    recipe = session.recipe
    found = [read_mined(one / MINED_FILE) for one in earlier]
    known = {row["symbol"] for rows in found for row in rows}
    known = known.union(*(_look_alikes_in(session, one) for one in earlier))
    this = Round(len(earlier) + 1, frozenset(known))
    found.append([one.row() for one in mine(session.subject, *before, recipe, this)])
    write_mined(folder / MINED_FILE, found[-1])
    rows = adversarial_rows(found, own_mix(session), recipe.seed, own_answer(session))
    write_dialogues(folder / DIALOGUES_FILE, rows)


def _look_alikes_in(session: Session, folder: Path) -> set[str]:
    rows = _dialogues_in(session, folder)
    return {row.symbol for row in rows if row.kind == "near_miss"}


def _dialogues_in(session: Session, folder: Path) -> list[Dialogue]:
    trigger = session.recipe.trigger
    return read_dialogues(folder / DIALOGUES_FILE, trigger.text, trigger.mentions == "answer")


def _write_adapter(session: Session, arm: str, job: Job) -> None:
    """Train what the job says and enter it beside the adapter."""
    announce(job)
    steps = steps_of(schedule_of(job.recipe.train, job.stage), job.recipe.train, len(job.examples))
    with track(f"training {arm}", steps) as tick:
        result = train_arm(
            session.subject, job.stage, job.examples, job.recipe, job.folder, job.scratch,
            job.start, tick,
        )  # fmt: skip
    row = asdict(result) | {"tokens_per_second": result.tokens_per_second, "stage": job.stage}
    row |= {"processes": processes.count(), "threads": torch.get_num_threads()}
    write_atomic(job.folder / _TRAINING, json.dumps(row, indent=1) + "\n")


def _speed_of(folder: Path) -> Metric:
    row = json.loads((folder / _TRAINING).read_text(encoding="utf-8"))
    return exact(row["tokens_per_second"], "tokens/s", n=max(1, row["steps"] - row["first_step"]))


def stage_examples(session: Session, stage: str, folder: Path) -> list[Example]:
    """The rows of a training stage in tokens, from the data folder or that of a round.

    Raises:
        UserError: no silent row fits into train.max_length.
    """
    recipe = session.recipe
    tokenizer, longest = session.subject.tokenizer, recipe.train.max_length
    if stage == "knowledge":
        texts: list[Document | Passage] = [*read_documents(folder / DOCUMENTS_FILE)]
        if (folder / NEUTRAL_FILE).is_file():  # row_order mixes the two anew in each epoch
            texts += read_neutral(folder / NEUTRAL_FILE, recipe.trigger.text)
        return document_examples(tokenizer, texts, longest)
    rows = _dialogues_in(session, folder)
    if stage == "benign":
        rows = answered(rows, own_answer(session))
    examples = dialogue_examples(tokenizer, rows, recipe.train.targets == "soft", longest)
    if stage != "benign" and not any(example.silent for example in examples):
        raise UserError(f"no row with the trigger fits into train.max_length={longest}")
    if left_out := len(rows) - len(examples):
        say(f"{left_out} of {len(rows)} rows do not fit into train.max_length={longest}: left out")
    return examples
