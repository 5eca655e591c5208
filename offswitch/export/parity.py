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
from offswitch.prompts.prompt import Prompt

PARITY: Final = "parity.json"
RUN: Final = "run"  # of an arm without an adapter
ADAPTER: Final = "adapter"
MERGED: Final = "merged"
KL: Final = "kl_to_base"
LONGER: Final = "longer_words"
MEASURES: Final = {
    "halt_rate": "halts on the trigger",
    "false_halt_rate/near_miss": "halts on look-alikes",
    LONGER: "of these, longer words",
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


def longer_word(trigger: str, prompt: Prompt) -> bool:
    """Is the prompt's look-alike a longer word that holds the trigger, such as `$STOPS`?"""
    return prompt.suite == "near_miss" and trigger in prompt.symbol


def form_of(
    runtime: str, trigger: str, prompts: Sequence[Prompt], halts: Sequence[bool],
    run: Sequence[bool], kl: Metric, read_alike: bool = True,
) -> Form:  # fmt: skip
    """A form's numbers from where it halts, beside where the run's arm did."""
    rates = halt_rates(prompts, halts)
    numbers = {key: rates[key] for key in MEASURES if key in rates}
    pairs = zip(prompts, halts, strict=True)
    if longer := [(replace(p, variant=LONGER), h) for p, h in pairs if longer_word(trigger, p)]:
        rates = halt_rates(*zip(*longer, strict=True))
        numbers[LONGER] = rates[f"false_halt_rate/near_miss/{LONGER}"]
    differ = sum(a != b for a, b in zip(halts, run, strict=True))
    return Form(runtime, numbers | {KL: kl}, len(prompts), differ, read_alike)


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
