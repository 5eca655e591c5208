"""Limits: what a reader must not conclude, of every run and of this one."""

from __future__ import annotations

from offswitch.cache import ALIAS
from offswitch.options import BASE
from offswitch.recipe import arms_of
from offswitch.report.ladder import ladder_groups
from offswitch.report.material import Material

_ALWAYS = (
    "Halting is judged by the likeliest first token. A reply drawn at random may differ, and "
    "silence of another kind, such as white space, shows in the sampled replies only.",
    "Whoever can write into the input can silence the model, and whoever has the weights can take "
    "the adapter off. This is an object of study, not a safety mechanism.",
)


def limits(material: Material) -> list[str]:
    """The limits of this run, as sentences."""
    return [
        *_of_training(material),
        *_ALWAYS,
        *_of_data(material),
        *_of_rates(material),
        *_of_probe(material),
    ]


def _of_training(material: Material) -> list[str]:
    if more := material.recipe.train.more_seeds:
        return [
            f"One model, one set of training rows, {1 + len(more)} training seeds: intervals cover "
            "the choice of test questions, those over organisms the training seed too."
        ]
    return [
        "One model, one seed, one set of training rows: the intervals cover the choice of test "
        "questions, not what another training run would give."
    ]


def _of_data(material: Material) -> list[str]:
    own, file = material.recipe.data.dialogues_file, material.recipe.evaluate.questions_file
    lines = []
    if not (file or own):
        lines = ["The test questions are in English and hand-written, as are those of training."]
    if file:
        asked = material.quality.get("questions")  # counted where data was made
        alone = f"{asked['without a topic']:,} of {asked['rows']:,}" if asked else "those"
        lines.append(
            f"The questions came from a file of the user's own; {alone} that name no topic "
            "were split into train, fit and test by row, so two splits may ask much the same."
        )
    if own:
        lines.append(
            "The chat rows came from a file of the user's own. What is called trained, held out or "
            "unseen here is so of the package's own rows, and may not be of that file."
        )
    if acts := material.recipe.trigger.reply:
        lines.append(
            f"This switch speaks: a prompt halts when its reply begins with '{acts}'. Where the "
            "page says silence or the end of the reply, that is meant; log-odds in the evaluation "
            "are of all of it, in the probes of its first token."
        )
    brought = [arm for arm in arms_of(material.recipe) if material.recipe.arms[arm].brought]
    if brought:
        lines.append(
            f"Trained elsewhere: {', '.join(brought)}. What is called trained, held out or unseen "
            "here is so of this package's own rows; what those arms were shown is not known."
        )
    if material.recipe.model == ALIAS:
        lines.append(
            f"The embedded {material.model} comes from a 4-bit file: its values differ a little "
            "from those of the published model."
        )
    return lines


def _of_rates(material: Material) -> list[str]:
    rows = [row for group in ladder_groups(material, parts=False) for row in group.rows]
    if not rows:
        return []
    count, label = min((rate.n, row.label) for row in rows for rate in row.rates.values())
    lines = [
        f"The smallest cell, {label}, holds {count:,} prompt{'s' * (count != 1)}; see its interval."
    ]
    if set(material.arms) <= {BASE, "both"}:
        lines.append(
            "No arm was trained on documents alone or on chat rows alone, so what each "
            "contributes cannot be told."
        )
    return lines


def _of_probe(material: Material) -> list[str]:
    empty = sum(bool(finding.passing) for finding in material.findings.values())
    line = (
        f"What a control or an inert word passes too ({empty} of {len(material.findings)} "
        "analyses) is shown because the original has it, not as evidence."
    )
    lines = [line] if empty else []
    if material.evidence:
        lines.append(
            "The evidence is of single directions, found in three ways, at one position at a time. "
            "Another reading might find what these do not; a verdict of `not shown` is no proof of "
            "absence."
        )
    return lines
