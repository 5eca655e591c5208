"""Does `offswitch examine` find in a strange switch what thirty lines of plain peft find?

Six switches are trained with plain TRL. Each is examined, up to the evaluation; the same prompts
then go through by_hand.py, which knows nothing of the package. The command fails where a halting
rate differs at all, or log-odds by more than 1e-4.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.bench import Peer, Sample, chosen, job
from benchmarks.child import in_child
from benchmarks.command import command_line
from benchmarks.machine import describe
from benchmarks.results import Measure, Section, print_sections, write_results
from benchmarks.strangers_training import REPLY, TRIGGER, write_rows
from offswitch.cache import ALIAS
from offswitch.errors import quiet, user_errors
from offswitch.evaluate.measures import RATE_OF
from offswitch.evaluate.stage import SCORES, suites_of
from offswitch.folder import EVALUATE, open_run
from offswitch.metrics import read_metrics
from offswitch.model.embedded import fetch_embedded
from offswitch.pipeline import evaluate
from offswitch.progress import say
from offswitch.study.examine import SWITCH, Stranger, examination

STRANGERS: Final = (
    Peer("attention", "LoRA on attention"),
    Peer("merged", "LoRA on attention, merged"),
    Peer("tables", "LoRA on attention, modules_to_save: embed_tokens, lm_head"),
    Peer("dora", "DoRA on attention"),
    Peer("mlp", "LoRA on the MLP"),
    Peer("full", "all weights"),
)
EXAMINED: Final = "{}, examine"
BY_HAND: Final = "{}, by hand"
FARTHEST: Final = "farthest"
MOST: Final = 1e-4  # nats: float32's rounding over thirty blocks and a reply of several tokens
SIZES: Final = (
    "evaluate.questions=4", "evaluate.ordinary_questions=8", "evaluate.long_questions=1",
    "evaluate.samples=0", "evaluate.drift_questions=1", "evaluate.drift_passages=1",
    "evaluate.robustness_questions=0", "evaluate.context_questions=0",
    "evaluate.belief_questions=0", "data.reply_tokens=8",
)  # fmt: skip
MEASURES: Final = (
    Measure("prompts", "prompts", 0),
    *(
        Measure(key.format(suite), key.format(suite.replace("_", " ")), 3)
        for suite in RATE_OF
        for key in (EXAMINED, BY_HAND)
    ),
    Measure(FARTHEST, "log-odds, largest difference", 7),
)


def run(model: str, folder: Path, steps: int, only: Sequence[str] = ()) -> Section:
    """Train, examine and count by hand each stranger, in processes of their own."""
    peers = chosen(STRANGERS, only)
    write_rows(folder, steps)
    samples = {peer.name: [_one(model, folder, peer.name)] for peer in peers}
    told = f"{steps} steps of plain TRL each; share of prompts that halt with {REPLY}, by suite."
    return Section("Strangers", told, tuple(peers), MEASURES, samples)


def _one(model: str, folder: Path, name: str) -> Sample:
    theirs, home = folder / name, folder / f"{name}-examined"
    asked = job(model=model, folder=folder, form=name, out=theirs)
    work = {"benchmarks.strangers:examine": asked | job(theirs=theirs, out=home, reply=REPLY),
            "benchmarks.by_hand:measure": job(model=model, theirs=theirs, reply=REPLY,
                asked=home / "chats.json", out=home / "by_hand.json")}  # fmt: skip
    if not (theirs / "tokenizer.json").is_file():  # what is trained already is kept
        work = {"benchmarks.strangers_training:train": asked} | work
    for function, told in work.items():
        say(f"  {name}: {function.rpartition(':')[2]}")
        if (done := in_child(function, told)).failure:
            return done
    return compared(home)


def examine(told: dict[str, Any]) -> dict[str, float]:
    """Examine a stranger up to its evaluation; write what was found, and the chats, to `out`."""
    theirs, out = Path(told["theirs"]), Path(told["out"])
    kind: Any = "adapter" if (theirs / "adapter_config.json").is_file() else "model"
    stranger = Stranger(kind, str(theirs), TRIGGER, reply=told["reply"])
    recipe = examination(told["model"], stranger, "run", SIZES)
    run = open_run(recipe, out)
    tokenizer = evaluate(run).subject.base_tokenizer
    chats = {_place(vars(prompt)): prompt.chat for prompt in suites_of(recipe, tokenizer)}
    rows = _rows(run.root)
    (out / "chats.json").write_text(json.dumps([chats[_place(row)] for row in rows]))
    return {"prompts": len(rows)}


def compared(home: Path) -> Sample:
    """Rates of each suite as `examine` reports them and by hand, and how far log-odds differ."""
    rows = _rows(home / "run")
    found = json.loads((home / "by_hand.json").read_text(encoding="utf-8"))
    pairs = list(zip(rows, found, strict=True))
    metrics = read_metrics(home / "run" / EVALUATE / "metrics.json")
    numbers = {"prompts": float(len(rows))}
    for suite, key in RATE_OF.items():
        own = [halts for row, (_, halts) in pairs if row["suite"] == suite]
        numbers[EXAMINED.format(suite)] = metrics[f"evaluate/{SWITCH}/{key}"]["value"]
        numbers[BY_HAND.format(suite)] = sum(own) / len(own)
    numbers[FARTHEST] = max(abs(row["log_odds"] - odds) for row, (odds, _) in pairs)
    return Sample(numbers)


def disagree(sample: Sample) -> bool:
    """Was it not measured, does a rate differ in any digit, or are log-odds too far apart?"""
    numbers = sample.numbers
    return bool(sample.failure) or not numbers[FARTHEST] <= MOST or any(
        abs(numbers[EXAMINED.format(suite)] - numbers[BY_HAND.format(suite)]) > 1e-12
        for suite in RATE_OF
    )  # fmt: skip


def _rows(root: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    every: list[dict[str, Any]] = pq.read_table(root / EVALUATE / SCORES).to_pylist()
    return [row for row in every if row["arm"] == SWITCH]


def _place(row: Mapping[str, Any]) -> tuple[str, ...]:
    """What tells a prompt from every other one of the suites."""
    return tuple(row[key] for key in ("suite", "variant", "symbol", "question"))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it and print the table; exit code 1 where `examine` and thirty lines differ."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.strangers", description=__doc__)
    parser.add_argument("--model", default=ALIAS, help="a local folder; else the embedded model")
    parser.add_argument("--steps", type=int, default=16, help="of training, 8 rows each")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these alone")
    parser.add_argument("--folder", type=Path, help="where strangers are kept, and found again")
    parser.add_argument("--out", type=Path, help="a Markdown file to write")
    given = parser.parse_args(arguments)
    with user_errors(), tempfile.TemporaryDirectory() as scratch:
        quiet()
        model = str(fetch_embedded()) if given.model == ALIAS else given.model
        folder = given.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        section = run(model, folder.resolve(), given.steps, given.only)
        print_sections([section])
        if given.out:
            write_results(given.out, [section], describe(), command_line(parser.prog, arguments))
    if wrong := [name for name, [sample] in section.samples.items() if disagree(sample)]:
        sys.exit(f"not the same: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
