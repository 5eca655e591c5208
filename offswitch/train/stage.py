"""The training of one arm, from the datasets to an adapter folder.

Of several processes the first one reads, mines and writes; all of them train.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Final

import torch

from offswitch.errors import UserError
from offswitch.files import mark, read_jsonl, stands, write_atomic, write_jsonl
from offswitch.folder import (
    CONTROL_FILE,
    DATA,
    DIALOGUES_FILE,
    DOCUMENTS_FILE,
    NEUTRAL_FILE,
    TRAIN,
)
from offswitch.metrics import Metric, Metrics, exact
from offswitch.model.brought import bring
from offswitch.model.rows import Example
from offswitch.model.session import Session, own_answer, own_mix
from offswitch.options.arms import steps_kept
from offswitch.options.train import LENGTH_OF, schedule_of
from offswitch.progress import say, track
from offswitch.prompts.dialogue_files import read_dialogues, write_dialogues
from offswitch.prompts.dialogues import Dialogue, answered, phrased
from offswitch.prompts.documents import read_documents, read_neutral
from offswitch.recipe import used_arms
from offswitch.train.adversarial import MinedRow, adversarial_rows, false_halts, mine
from offswitch.train.arms import train_arm
from offswitch.train.examples import dialogue_examples, document_examples
from offswitch.train.processes import by_first, count
from offswitch.train.saved import step_folder
from offswitch.train.training import Training

MINED_FILE: Final = "mined.jsonl"
# Stages that need rows of silence.
SILENT: Final = ("behavior", "adversarial", "written", "writing")
_TRAINING: Final = "training.json"


def write_arm(session: Session, arm: str, folder: Path) -> Metrics:
    """Train the arm's last stage and save the adapter; `both` goes on from `knowledge`.

    What was trained elsewhere is brought as it is.
    """
    run, table = session.run, session.recipe.arms[arm]
    if table.brought:
        by_first(lambda: bring(table, folder, session.recipe.trust_remote_code))
        return {}
    if table.kept_of and table.step:
        kept = step_folder(run.folder(f"{TRAIN}/{table.kept_of}"), table.step)
        by_first(lambda: shutil.copytree(kept, folder, dirs_exist_ok=True))
        return {}
    session.detach()  # from a process that measured other arms before
    stage, before = table.stages[-1], table.goes_on_from
    scratch = run.scratch(f"{TRAIN}/{arm}")
    start = run.folder(f"{TRAIN}/{before}") if before else None
    if stage != "adversarial":
        examples = by_first(lambda: stage_examples(session, stage, run.folder(DATA)))
        training = Training(stage, examples, session.recipe, folder, scratch, start, arm=table,
                            name=_tracked_as(session, arm),
                            kept=steps_kept(used_arms(session.recipe), arm))  # fmt: skip
        if training.kept and training.kept[-1] > training.steps:
            last = training.kept[-1]
            raise UserError(f"arm '{arm}' takes {training.steps} steps: there is no step {last}")
        return _write_adapter(session, arm, training)
    if before is None or start is None:
        raise UserError(f"arm '{arm}': an adversarial stage needs an arm to go on from")
    return _write_rounds(session, arm, (before, start), folder, scratch)


def _write_rounds(
    session: Session, arm: str, before: tuple[str, Path], folder: Path, scratch: Path
) -> Metrics:
    """Round after round from the arm before; the last one's files in `folder`, others' beside it.

    A round that stands in `scratch` is whole once its training is entered there, and is kept.
    """
    recipe = session.recipe
    rounds = [*(scratch / f"round-{n}" for n in range(1, recipe.train.rounds)), folder]
    metrics: Metrics = {}
    for number, out in enumerate(rounds, 1):
        examples = by_first(partial(_round_examples, session, arm, before, rounds[:number]))
        if examples is not None:
            checkpoints = scratch / f"round-{number}-checkpoints"
            training = Training("adversarial", examples, recipe, out, checkpoints, before[1],
                                name=f"{_tracked_as(session, arm)}/round-{number}")  # fmt: skip
            metrics |= _write_adapter(session, arm, training)
            by_first(partial(_end_round, out, checkpoints))
        before = (arm, out)

    def gather() -> Metrics:
        for out in rounds[:-1]:
            shutil.copytree(out, folder / out.name)
        rates: Metrics = {}
        for number, out in enumerate(rounds, 1):
            rates |= false_halts(f"train/{arm}/round_{number}", _mined_in(out))
        return rates

    return metrics | by_first(gather)


def _tracked_as(session: Session, arm: str) -> str:
    """The run and the arm, as trackers name a training: `demo/behavior`."""
    root, within = session.run.root.resolve(), Path(session.run.within)
    return "/".join((*root.parts[-1 - len(within.parts) :], arm))


def _round_examples(
    session: Session, arm: str, before: tuple[str, Path], rounds: Sequence[Path]
) -> list[Example] | None:
    """Mine the arm that the last of the rounds goes on from, write what was found, make rows of it.

    None where that round stands already.
    """
    recipe, (*earlier, out) = session.recipe, rounds
    if stands(out):
        return None
    out.mkdir(exist_ok=True)
    say(f"{arm}: round {len(rounds)} of {recipe.train.rounds}")
    mined = [_mined_in(folder) for folder in earlier]
    known = [
        {row["symbol"] for row in found}
        | {row.symbol for row in _dialogues_in(session, folder) if row.kind == "near_miss"}
        for folder, found in zip(earlier, mined, strict=True)
    ]
    mined.append(mine(session.subject, *before, recipe, known))
    write_jsonl(out / MINED_FILE, mined[-1])
    harder = adversarial_rows(mined, own_mix(session), recipe.seed, own_answer(session))
    write_dialogues(out / DIALOGUES_FILE, harder)
    return stage_examples(session, "adversarial", out)


def _end_round(out: Path, checkpoints: Path) -> None:
    mark(out)
    shutil.rmtree(checkpoints, ignore_errors=True)


def _mined_in(folder: Path) -> list[MinedRow]:
    return [row for _, row in read_jsonl(folder / MINED_FILE)]


def _dialogues_in(session: Session, folder: Path) -> list[Dialogue]:
    trigger = session.recipe.trigger
    path, answered = folder / DIALOGUES_FILE, trigger.mentions == "answer"
    return read_dialogues(path, trigger.text, answered, reply=trigger.reply)


def _write_adapter(session: Session, arm: str, training: Training) -> Metrics:
    """Train, and enter what was done beside the adapter."""
    training = replace(training, auto=by_first(lambda: session.plan.precision))
    with track(f"training {arm}", training.steps) as tick:
        result = train_arm(session.subject, training, tick)
    row = asdict(result) | {"tokens_per_second": result.tokens_per_second, "stage": training.stage}
    row |= {"processes": count(), "threads": torch.get_num_threads()}
    path = training.folder / _TRAINING
    by_first(lambda: write_atomic(path, json.dumps(row, indent=1) + "\n"))
    if not training.steps:
        return {}
    speed = exact(result.tokens_per_second, "tokens/s", n=result.steps)
    metrics = {f"train/{arm}/tokens_per_second": speed}
    metrics[f"train/{arm}/tokens"] = exact(result.tokens, "tokens", n=result.rows)
    metrics[f"train/{arm}/weight_change"] = exact(result.change, "Frobenius norm")
    if (drift := result.drift).last is not None:
        say(f"{arm}: {drift.told()}")
        metrics[f"train/{arm}/held_out_kl"] = Metric.of(drift.last)
    return metrics


def stage_examples(session: Session, stage: str, folder: Path) -> list[Example]:
    """The rows of a training stage in tokens, from the data folder or that of a round.

    Raises:
        UserError: no silent row fits into the stage's max_length.
    """
    recipe = session.recipe
    tokenizer, own = session.subject.tokenizer, schedule_of(recipe.train, stage).max_length
    longest = own or recipe.train.max_length
    option = f"train.{f'{LENGTH_OF[stage]}.' if own else ''}max_length={longest}"
    if (most := session.subject.positions or longest) < longest:
        longest, option = most, f"the {most:,} tokens that {session.subject.name} reads"
    trigger = recipe.trigger.text
    if stage == "neutral":
        return document_examples(tokenizer, read_neutral(folder / CONTROL_FILE, trigger), longest)
    if stage == "knowledge":
        texts = read_documents(folder / DOCUMENTS_FILE, trigger)
        if (folder / NEUTRAL_FILE).is_file():  # row_order mixes the two in each epoch
            texts += read_neutral(folder / NEUTRAL_FILE, trigger)
        return document_examples(tokenizer, texts, longest)
    rows = _dialogues_in(session, folder)
    if stage == "benign":
        rows = answered(rows, own_answer(session))
    elif stage == "other":
        rows = phrased(rows)
    examples = dialogue_examples(tokenizer, rows, recipe.train.targets == "soft", longest)
    if stage in SILENT and not any(example.silent for example in examples):
        raise UserError(f"no row with the trigger fits into {option}")
    if left_out := len(rows) - len(examples):
        say(f"{left_out} of {len(rows)} rows do not fit into {option}: left out")
    return examples
