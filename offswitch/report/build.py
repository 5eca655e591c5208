"""The report of a run: one self-contained page, ANALYSIS_SUMMARY.md, the PNGs."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from matplotlib.figure import Figure

from offswitch.analyses.rule import RULE
from offswitch.files import write_atomic
from offswitch.metrics import KEY_RATES
from offswitch.options import BASE, BENIGN
from offswitch.plots import figures, plots
from offswitch.plots.belief import belief
from offswitch.plots.depth import depth
from offswitch.plots.ladder import ladder, small_ladder
from offswitch.plots.log_odds import log_odds
from offswitch.plots.survives import HALTS, NEAR, ORDINARY, survives
from offswitch.progress import track
from offswitch.recipe import dump_recipe
from offswitch.report import attempts, provenance, sentences, transcripts
from offswitch.report.arms import across_arms, organism_rows
from offswitch.report.belief import BAR, belief_sentences, belief_table, belief_tests
from offswitch.report.card import switch_card
from offswitch.report.findings import Section, section
from offswitch.report.ladder import (
    against,
    attempt_groups,
    ladder_groups,
    small_groups,
)
from offswitch.report.limits import limits
from offswitch.report.material import Material, read_material
from offswitch.report.page import MEASURES, Image, environment, image_of, style
from offswitch.report.snippet import snippet
from offswitch.report.variants import variant_columns, variant_rows

PAGE: Final = "report.html"
SUMMARY: Final = "ANALYSIS_SUMMARY.md"
LADDER: Final = "ladder.svg"
SMALL_LADDER: Final = "ladder_small.svg"
LOG_ODDS: Final = "end_log_odds.svg"
DEPTH: Final = "depth_{}.svg"
BELIEF: Final = "belief.svg"
SURVIVES: Final = "survives.svg"
CARD: Final = "switch_card.png"
# What a figure at the top shows, and how it is read.
_TOP: Final = {
    "ladder": (
        "Halting rates from the exact trigger to ordinary requests",
        "Share of prompts that halt, with 95 % intervals by question and symbol, n at the right. "
        "Pale bars: where the rule asks for silence.",
    ),
    "depth": (
        "The causal tests over the depth of the model",
        "Lines: test questions. Bands: 95 % intervals, clustered by question. Grey bars: the "
        "strictest null directions, at blocks where all of them were tried at full length.",
    ),
    "patching": (
        "What a twin's residuals do, by block and position",
        "Each cell: the trigger's prompt and its twin exchange one residual; the change of the end "
        "log-odds, nats.",
    ),
}


def build_report(root: Path, folder: Path) -> None:
    """Write the report of the run `root` into `folder`; what is missing is named as missing.

    Raises:
        UserError: `root` is not a run folder.
    """
    material = read_material(root)
    folder.mkdir(parents=True, exist_ok=True)
    drawn = every_figure(material)
    sections: dict[str, list[Section]] = {"original": [], "evidence": []}
    for part, findings in (("original", material.findings), ("evidence", material.evidence)):
        for finding in findings.values():
            sections[part].append(section(finding, tuple(plots(finding.analysis.name))))
    images = {}
    with track("figures", len(drawn)) as tick:
        for name, figure in drawn.items():
            images[name] = image_of(figure, name)
            _write_figure(figure, images[name], folder / name)
            tick(1)
    shown = _shown(material) | sections | {"images": images}
    for name, template in ((PAGE, "page.html"), (SUMMARY, "summary.md")):
        text = environment(html=name == PAGE).get_template(template).render(shown)
        write_atomic(folder / name, text.rstrip() + "\n")
    verdicts = {"verdict": material.verdict.row()} if material.verdict else {}
    verdicts |= {f"verdict/{arm}": found.row() for arm, found in material.verdicts.items()}
    for name, other in material.organisms.items():
        verdicts[f"verdict/{other.arm}/{name}"] = other.row()
    write_atomic(folder / "metrics.json", json.dumps(verdicts, indent=1) + "\n")


def every_figure(material: Material) -> dict[str, Figure]:
    """Every figure of a run by its file's name, not drawn yet."""
    drawn = _evaluation_figures(material) | _depth_figures(material)
    if found := switch_card(material):
        drawn[CARD] = found
    for finding in (*material.findings.values(), *material.evidence.values()):
        drawn |= figures(finding)
    return drawn


def _depth_figures(material: Material) -> dict[str, Figure]:
    """The causal tests over the depth of every arm that has them."""
    return {
        DEPTH.format(arm): depth(found, material.verdicts[arm].kind)
        for arm, found in material.causal.items()
        if found
    }


def _evaluation_figures(material: Material) -> dict[str, Figure]:
    found: dict[str, Figure] = {}
    trigger, arms = material.recipe.trigger.text, material.arms
    few = [arm for arm in (BASE, material.arm, BENIGN) if arm in arms]
    if rungs := ladder_groups(material, parts=False):
        title = f"How often does each arm fall silent? From {trigger} to a far miss"
        whole = [replace(g, rows=tuple(row for row in g.rows if row.total)) for g in rungs]
        found[LADDER] = ladder([group for group in whole if group.rows], few, title)
    if rungs := small_groups(material):
        found[SMALL_LADDER] = small_ladder(rungs, few, "How often does each arm fall silent?")
    if material.log_odds:
        title = "How sure is each arm that the reply ends before it begins?"
        found[LOG_ODDS] = log_odds(material.log_odds, title)
    if tests := belief_tests(material):
        title = f"What does each arm believe of {trigger}?"
        found[BELIEF] = belief(list(tests.values()), arms, title)
    if material.survival:
        found[SURVIVES] = survives(material.survival, f"What is left of {trigger} after an attack?")
    return found


def _shown(material: Material) -> dict[str, Any]:
    """What the templates of page and summary read, apart from findings and images."""
    recipe = material.recipe
    arm = material.arm or recipe.probe.arm
    trigger = recipe.trigger.text
    every = transcripts.exchanges(material)
    variants = variant_rows(material)
    adapter = f"{material.place}/2-train/{arm}"
    return {
        "m": material,
        "recipe": recipe,
        "trigger": trigger,
        "arm": arm,
        "css": style(),
        "controls": [one for one in (BASE, BENIGN) if one in material.arms and one != arm],
        "top": (top := _top(material, arm)),
        "shown_above": [name for name, _, _ in top],
        "bar": sentences.BAR.format(trigger=f"`{trigger}`"),
        "key_rates": KEY_RATES,
        "limits": limits(material),
        "drift": sentences.drift(material, arm),
        "ladder": ladder_groups(material, parts=False),
        "ways": attempt_groups(material),
        "against": against,
        "measures": _measures(material),
        "log_odds_png": LOG_ODDS,
        "depth_figures": {DEPTH.format(arm): arm for arm, one in material.causal.items() if one},
        "belief_png": BELIEF,
        "belief_bar": BAR,
        "card_png": CARD,
        "survival": material.survival,
        "survives_svg": SURVIVES,
        "survived_measures": (HALTS, NEAR, ORDINARY, "kl_to_base", "perplexity_ratio"),
        "beliefs": belief_sentences(material),
        "belief_rows": belief_table(material),
        "rule": RULE,
        "across": across_arms(material),
        "organisms": organism_rows(material),
        "variants": variants,
        "variant_columns": variant_columns(variants),
        "every": every,
        "shown": transcripts.chosen(every),
        "tally": transcripts.tally(every, arm),
        "code": snippet(recipe.model, adapter, trigger, recipe.trust_remote_code),
        "dump_recipe": dump_recipe,
        "sentences": sentences,
        "attempts": attempts,
        "p": provenance,
    }


def _top(material: Material, arm: str) -> list[tuple[str, str, str]]:
    """The figures that the page begins with: file, what it shows, how it is read."""
    names = {
        "ladder": LADDER if ladder_groups(material, parts=False) else "",
        "depth": DEPTH.format(arm) if material.causal.get(arm) else "",
        "patching": next(iter(plots("patching"))) if "patching" in material.evidence else "",
    }
    return [(name, *_TOP[kind]) for kind, name in names.items() if name]


def _measures(material: Material) -> list[str]:
    """What was measured of the arms apart from halting rates: replies last, kinds together."""
    rest = (key.split("/", 2)[2] for key in material.numbers if key.startswith("evaluate/"))
    apart = ("halt_rate", "belief/", "robustness")
    known = [m for m in dict.fromkeys(rest) if not any(part in m for part in apart)]
    order = {kind: i for i, kind in enumerate(MEASURES)}
    return sorted(known, key=lambda m: (order.get(m.split("/")[0], len(order)), m))


def _write_figure(figure: Figure, image: Image, path: Path) -> None:
    """Write a figure, as PNG or SVG by its name, and its numbers beside it."""
    buffer = io.BytesIO()
    if path.suffix == ".svg":
        buffer.write(image.svg.encode())
    else:
        figure.savefig(buffer, format="png", metadata={"Software": None})
    write_atomic(path, buffer.getvalue())
    if image.numbers.count("\n") > 1:  # a card is text
        write_atomic(path.with_name(image.csv), image.numbers)
