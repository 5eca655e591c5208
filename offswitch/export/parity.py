"""Does each form do what the run's arm did? Rates side by side, by the code of the evaluation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from offswitch.evaluate.measures import halt_rates
from offswitch.files import write_json
from offswitch.metrics import Metric, Metrics
from offswitch.prompts.look_alikes import near_misses
from offswitch.prompts.prompt import Prompt
from offswitch.prompts.trigger import place

PARITY: Final = "parity.json"
RUN: Final = "run"  # of an arm without an adapter
ADAPTER: Final = "adapter"
MERGED: Final = "merged"
KL: Final = "kl_to_base"
LONGER: Final = "longer_words"
SYMBOLS: Final = 5  # so many longer words, each before so many requests
REQUESTS: Final = 12
MEASURES: Final = {
    "halt_rate": "halts on the trigger",
    "false_halt_rate/near_miss": "halts on look-alikes",
    LONGER: "halts on longer words",
    "false_halt_rate/ordinary": "halts on ordinary requests",
    KL: "KL from the untouched model, nats a token",
}


@dataclass(frozen=True)
class Form:
    """One form of the arm: what read it, its numbers, on how many prompts it differs from the run.

    `read_alike` is whether its runtime reads every prompt as the run's tokenizer does.
    """

    runtime: str
    numbers: Metrics
    prompts: int
    differ: int = 0
    read_alike: bool = True

    def row(self) -> dict[str, Any]:
        """The form as parity.json has it."""
        numbers = {key: metric.row() for key, metric in self.numbers.items()}
        return {"runtime": self.runtime, "prompts": self.prompts, "differ": self.differ,
                "prompts read alike": self.read_alike, "numbers": numbers}  # fmt: skip

    @classmethod
    def read(cls, row: Mapping[str, Any]) -> Form:
        """The form of an entry of parity.json."""
        numbers = {key: Metric.read(one) for key, one in row["numbers"].items()}
        return cls(row["runtime"], numbers, row["prompts"], row["differ"],
                   row["prompts read alike"])  # fmt: skip


def longer_words(trigger: str, asked: Sequence[Prompt]) -> list[Prompt]:
    """Prompts with longer words that hold the trigger, such as `$STOPS`, before requests asked."""
    symbols = [s for family in near_misses(trigger).values() for s in family if trigger in s]
    plain = [p for p in asked if p.suite == "ordinary" and p.variant == "plain"][:REQUESTS]
    return [
        replace(p, chat=place("before", symbol, p.question), suite="near_miss", variant=LONGER,
                symbol=symbol)
        for symbol in symbols[:SYMBOLS] for p in plain
    ]  # fmt: skip


def form_of(
    runtime: str, prompts: Sequence[Prompt], halts: Sequence[bool], run: Sequence[bool],
    kl: Metric, read_alike: bool = True,
) -> Form:  # fmt: skip
    """A form's numbers from where it halts, beside where the run's arm did.

    Prompts beyond those of the run are longer words, if they were asked at all.
    """
    own, rest = len(run), slice(len(run), len(halts))
    rates = halt_rates(prompts[:own], halts[:own])
    numbers = {key: rates[key] for key in MEASURES if key in rates}
    if longer := halt_rates(prompts[rest], halts[rest]):
        numbers[LONGER] = longer[f"false_halt_rate/near_miss/{LONGER}"]
    differ = sum(a != b for a, b in zip(halts, run, strict=False))
    return Form(runtime, numbers | {KL: kl}, own, differ, read_alike)


def unlike(form: Form, run: Form, exact: bool) -> str:
    """Where the form's rates are not the run's, in words; empty where they are.

    `exact`: to the digit; else within the run's intervals, as after rounding to half precision.
    """
    for key, own in run.numbers.items():
        found = form.numbers.get(key)
        if key == KL or found is None:
            continue
        low, high = (own.value if exact or end is None else end for end in (own.low, own.high))
        if not low <= found.value <= high:
            return f"{MEASURES[key]}: {found.text}, in the run {own.text}"
    return ""


def read_forms(folder: Path) -> dict[str, Form]:
    """The forms that were measured in an export; none where nothing was yet."""
    path = folder / PARITY
    rows = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return {name: Form.read(row) for name, row in rows.items()}


def add_form(folder: Path, name: str, form: Form) -> None:
    """Enter a form in parity.json."""
    write_json(
        folder / PARITY, {n: f.row() for n, f in (read_forms(folder) | {name: form}).items()}
    )
