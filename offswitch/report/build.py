"""From a run folder to its report: one self-contained page, ANALYSIS_SUMMARY.md, and the PNGs."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from offswitch.analyses.analysis import Finding
from offswitch.analyses.verdict import RULE
from offswitch.metrics import SHARE, compact, percent, span
from offswitch.plots import figures
from offswitch.plots.belief import belief
from offswitch.plots.ladder import ladder
from offswitch.plots.log_odds import log_odds
from offswitch.plots.rates import rates
from offswitch.progress import track
from offswitch.report import attempts, provenance, sentences, transcripts
from offswitch.report.arms import across_arms, organism_rows
from offswitch.report.belief import BAR, belief_sentences, belief_table, belief_tests
from offswitch.report.findings import Section, section
from offswitch.report.ladder import against, ladder_groups
from offswitch.report.limits import limits
from offswitch.report.material import Material, read_material
from offswitch.report.rates import rate_groups, readable
from offswitch.report.snippet import snippet
from offswitch.report.summary import summary
from offswitch.report.variants import variant_columns, variant_rows

PAGE: Final = "report.html"
SUMMARY: Final = "ANALYSIS_SUMMARY.md"
RATES: Final = "halting_rates.png"
LADDER: Final = "ladder.png"
LOG_ODDS: Final = "end_log_odds.png"
BELIEF: Final = "belief.png"
_MEASURES: Final = {
    "eos_log_odds": "first-token end log-odds",
    "kl_to_base": "KL from base, ordinary replies",
    "neutral_perplexity_ratio": "perplexity ratio, neutral prose",
    "outcomes": "sampled replies",
}
_HERE: Final = Path(__file__).parent


def build_report(root: Path, folder: Path) -> None:
    """Write the report of the run `root` into `folder`; what is missing is named as missing.

    Raises:
        UserError: `root` is not a run folder.
    """
    material = read_material(root)
    sections, drawn = _sections(material, material.findings)
    evidence, more = _sections(material, material.evidence)
    drawn |= more
    pngs: dict[str, bytes] = {}
    drawn |= _evaluation_figures(material)
    with track("figures", len(drawn)) as tick:
        for name, figure in drawn.items():
            pngs[name] = _png(figure)
            tick(1)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in pngs.items():
        (folder / name).write_bytes(content)
    page = _page(material, sections, evidence, pngs)
    (folder / PAGE).write_text(page, encoding="utf-8")
    (folder / SUMMARY).write_text(summary(material, sections, evidence), encoding="utf-8")
    verdicts = {f"verdict/{arm}": found.row() for arm, found in material.verdicts.items()}
    for name, found in material.organisms.items():
        verdicts[f"verdict/{found.arm}/{name}"] = found.row()
    if material.verdict:
        verdicts = {"verdict": material.verdict.row()} | verdicts
    (folder / "metrics.json").write_text(json.dumps(verdicts, indent=1) + "\n", encoding="utf-8")


def _sections(
    material: Material, findings: Mapping[str, Finding[Any]]
) -> tuple[list[Section], dict[str, Figure]]:
    sections: list[Section] = []
    drawn: dict[str, Figure] = {}
    for finding in findings.values():
        own = figures(finding)
        drawn |= own
        sections.append(section(finding, tuple(own), material))
    return sections, drawn


def _evaluation_figures(material: Material) -> dict[str, Figure]:
    found: dict[str, Figure] = {}
    groups, trigger = rate_groups(material), material.recipe.trigger.text
    if groups:
        found[RATES] = rates(
            groups, material.arms, f"How often does each arm fall silent? (trigger {trigger})"
        )
    if rungs := ladder_groups(material, parts=False):
        found[LADDER] = ladder(rungs, material.arms, f"From {trigger} to a far miss")
    if material.log_odds:
        found[LOG_ODDS] = log_odds(
            material.log_odds, "How sure is each arm that the reply ends before it begins?"
        )
    if tests := belief_tests(material):
        found[BELIEF] = belief(tests, material.arms, f"What does each arm believe of {trigger}?")
    return found


def _page(
    material: Material,
    sections: list[Section],
    evidence: list[Section],
    pngs: Mapping[str, bytes],
) -> str:
    every = transcripts.exchanges(material)
    arm = material.arm or material.recipe.probe.arm
    recipe = material.recipe
    return (
        _environment()
        .get_template("page.html")
        .render(
            m=material,
            recipe=recipe,
            trigger=recipe.trigger.text,
            arm=arm,
            css=Markup((_HERE / "page.css").read_text(encoding="utf-8")),
            answer=sentences.answer(material),
            bar=sentences.BAR.format(trigger=f"`{recipe.trigger.text}`"),
            by_arm=[sentences.short(material, a) for a in material.arms],
            limits=limits(material),
            drift=sentences.drift(material, arm),
            groups=rate_groups(material),
            measures=_measures(material),
            images={name: _data_uri(content) for name, content in pngs.items()},
            rates_png=RATES,
            ladder_png=LADDER,
            ladder=ladder_groups(material, parts=False),
            ways=[g for g in ladder_groups(material) if not all(r.total for r in g.rows)],
            against=against,
            attempts=attempts,
            log_odds_png=LOG_ODDS,
            belief_png=BELIEF,
            belief_bar=BAR,
            beliefs=belief_sentences(material),
            belief_rows=belief_table(material),
            sections=sections,
            evidence=evidence,
            across=across_arms(material),
            rule=RULE,
            organisms=organism_rows(material),
            variants=variant_rows(material),
            variant_columns=variant_columns(variant_rows(material)),
            other_seeds=sentences.organisms(material),
            every=every,
            shown=transcripts.chosen(every),
            tally=transcripts.tally(every, arm),
            p=provenance,
            code=snippet(
                recipe.model,
                f"{material.place}/2-train/{arm}",
                recipe.trigger.text,
                recipe.trust_remote_code,
            ),
        )
    )


def _measures(material: Material) -> list[str]:
    """What was measured of the arms apart from halting rates: replies last, kinds together."""
    rest = (key.split("/", 2)[2] for key in material.numbers if key.startswith("evaluate/"))
    apart = ("halt_rate", "belief/", "robustness")
    known = [m for m in dict.fromkeys(rest) if not any(part in m for part in apart)]
    order = {kind: i for i, kind in enumerate(_MEASURES)}
    return sorted(known, key=lambda m: (order.get(m.split("/")[0], len(order)), m))


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "ticks": ticks,
        "percent": percent,
        "compact": compact,
        "measure": measure_name,
        "interval": lambda rate: span(rate.low, rate.high, SHARE),
    }
    return environment


def ticks(text: str) -> Markup:
    """Escaped text in which what stands between backticks is code."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text))))


def measure_name(measure: str) -> str:
    """A measure of metrics.json for human eyes."""
    first, _, rest = measure.partition("/")
    name = _MEASURES.get(first, readable(first))
    return f"{name}: {readable(rest).replace('/', ', ')}" if rest else name


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _data_uri(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode()
