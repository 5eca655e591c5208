"""The probe stage: activations collected once, then the analyses on the saved arrays."""

from __future__ import annotations

import json
from pathlib import Path

from offswitch.probe.analyses import SEED_ANALYSES
from offswitch.probe.analysis import investigate
from offswitch.probe.nulls import seed_symbols
from offswitch.probe.store import load_views, save_findings
from offswitch.progress import track
from offswitch.session import Session


def write_probe(session: Session, folder: Path) -> None:
    """Collect what the analyses read from every arm, then analyse the recipe's arm."""
    from offswitch.probe.collect_seed import collect_seed

    recipe = session.recipe
    trigger, control = recipe.trigger.text, recipe.trigger.control
    symbols = seed_symbols(trigger, control, recipe.seed, recipe.probe.null_words)
    subject = session.with_arms()
    with track("activations by arm", 1 + len(session.arms)) as tick:
        collect_seed(subject, session.arms, symbols, folder, tick)
    analyse(folder, recipe.probe.arm)


def analyse(folder: Path, arm: str) -> None:
    """The analyses alone, on saved arrays: needs no model and gives the same numbers again."""
    views = load_views(folder, arm)
    findings = []
    with track("analyses", len(SEED_ANALYSES)) as tick:
        for analysis in SEED_ANALYSES:
            findings.append(investigate(analysis, views))
            tick(1)
    save_findings(folder / "findings.json", findings)
    entries = {finding.metric: finding.entry() for finding in findings}
    (folder / "metrics.json").write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
