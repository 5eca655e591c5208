"""The probe stage: the model is read and intervened on once, then analyses work on saved arrays."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from offswitch.analyses.analysis import Finding, investigate
from offswitch.analyses.nulls import seed_symbols
from offswitch.analyses.registry import EVIDENCE, SEED_ANALYSES
from offswitch.analyses.store import BATTERY, SEED, load_evidence, load_views, save_findings
from offswitch.cache import reply_cache
from offswitch.errors import UserError
from offswitch.model.session import Session
from offswitch.options import BASE
from offswitch.progress import Tick, track
from offswitch.run import PROBE, find_run

FINDINGS: Final = "findings.json"
METRICS: Final = "metrics.json"


def write_probe(session: Session, folder: Path) -> None:
    """The seed's collection and the battery, of every arm; then every analysis."""
    from offswitch.probe.battery import STEPS, run_battery
    from offswitch.probe.collect_original import collect_seed

    recipe, arms = session.recipe, session.arms
    trigger, control = recipe.trigger.text, recipe.trigger.control
    symbols = seed_symbols(trigger, control, recipe.seed, recipe.probe.null_words)
    subject, scratch = session.with_arms(), session.run.scratch(PROBE)
    with track("the seed's activations", 1 + len(arms)) as tick:
        collect_seed(subject, arms, symbols, scratch / SEED, tick)
    with track("the battery, arm by arm", (1 + len(arms)) * STEPS) as tick:
        run_battery(subject, arms, recipe, scratch, reply_cache(), tick)
    analyse(scratch, recipe.probe.arm)  # what was measured stays there if an analysis fails
    for part in (SEED, BATTERY, FINDINGS, METRICS, BASE, *arms):
        shutil.move(scratch / part, folder / part)


def analyse(folder: Path, arm: str, out: Path | None = None) -> None:
    """The analyses alone, on saved arrays: needs no model and gives the same numbers again.

    Writes findings.json and metrics.json into `out`, or beside the arrays: the seed's analyses of
    one arm, and the evidence of every arm, in ARM/findings.json.
    """
    target = out or folder
    target.mkdir(parents=True, exist_ok=True)
    arms = load_evidence(folder, arm).arms
    metrics: dict[str, Any] = {}
    with track("analyses", len(SEED_ANALYSES) + len(arms) * len(EVIDENCE)) as tick:
        findings = list(_seed_findings(folder, arm, tick))
        save_findings(target / FINDINGS, findings)
        metrics |= _entries(findings)
        for each in arms:
            evidence = list(_evidence(folder, each, tick))
            (target / each).mkdir(parents=True, exist_ok=True)
            save_findings(target / each / FINDINGS, evidence)
            metrics |= _entries(evidence)
    text = json.dumps(dict(sorted(metrics.items())), indent=1)
    (target / METRICS).write_text(text + "\n", encoding="utf-8")


def analyse_again(root: Path, out: Path) -> list[str]:
    """The analyses of a run once more, into `out`; the files that differ from the run's.

    Raises:
        UserError: no run, nothing measured in it, or `out` is where the run keeps its own.
    """
    run = find_run(root)
    folder = run.folder(PROBE)
    if out.resolve() == folder.resolve():
        raise UserError(f"{out} holds the run's own findings; choose another folder")
    analyse(folder, run.recipe.probe.arm, out)
    made = sorted(path.relative_to(out) for path in out.rglob("*.json"))
    return [
        str(name)
        for name in made
        if not (folder / name).is_file()
        or (folder / name).read_bytes() != (out / name).read_bytes()
    ]


def _seed_findings(folder: Path, arm: str, tick: Tick) -> Iterator[Finding[Any]]:
    views = load_views(folder / SEED, arm)
    for analysis in SEED_ANALYSES:
        yield investigate(analysis, views)
        tick(1)


def _evidence(folder: Path, arm: str, tick: Tick) -> Iterator[Finding[Any]]:
    views = load_evidence(folder, arm)
    for analysis in EVIDENCE:
        yield investigate(analysis, views)
        tick(1)


def _entries(findings: Iterable[Finding[Any]]) -> dict[str, Any]:
    return {key: row for finding in findings for key, row in finding.entries().items()}
