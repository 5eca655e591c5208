"""The probe stage: arrays from the model, once; then analyses of the saved arrays."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, Final

from offswitch.analyses.analysis import investigate
from offswitch.analyses.causal import Causal, causal_metrics
from offswitch.analyses.claims import adjusted_p
from offswitch.analyses.nulls import seed_symbols
from offswitch.analyses.registry import EVIDENCE, SEED_ANALYSES
from offswitch.analyses.store import (
    BATTERY,
    SEED,
    load_evidence,
    load_views,
    measure_causal,
    save_causal,
    save_findings,
)
from offswitch.cache import reply_cache
from offswitch.errors import UserError
from offswitch.files import mark_of, write_json
from offswitch.folder import PROBE, whole_run
from offswitch.model.session import Session
from offswitch.options import BASE
from offswitch.progress import track

FINDINGS: Final = "findings.json"
METRICS: Final = "metrics.json"


def write_probe(session: Session, folder: Path) -> None:
    """The original's collection and the battery, of every arm; then every analysis."""
    from offswitch.probe.battery import run_battery
    from offswitch.probe.collect_original import collect_seed

    recipe, arms = session.recipe, session.arms
    trigger, control = recipe.trigger.text, recipe.trigger.control
    symbols = seed_symbols(trigger, control, recipe.seed, recipe.probe.null_words)
    scratch = session.run.scratch(PROBE)
    collect_seed(session, arms, symbols, scratch / SEED)
    run_battery(session, arms, scratch, reply_cache())
    analyse(scratch, recipe.probe.arm)  # what was measured stays there if an analysis fails
    for part in (SEED, BATTERY, FINDINGS, METRICS, BASE, *arms):
        _link(scratch / part, folder / part)


def _link(source: Any, target: Any) -> None:
    """Give a file or a folder a second name: a kill before the stage is entered costs nothing."""
    if Path(source).is_dir():
        unmarked = shutil.ignore_patterns(mark_of(Path("*")).name)
        shutil.copytree(source, target, ignore=unmarked, copy_function=_link)
        return
    try:
        os.link(source, target)
    except OSError:  # a drive that cannot
        shutil.copyfile(source, target)


def analyse(folder: Path, arm: str, out: Path | None = None) -> None:
    """The analyses alone, on saved arrays: needs no model and gives the same numbers again.

    Writes findings.json and metrics.json into `out`, or beside the arrays: the original's analyses
    of one arm, and the evidence of every arm, in ARM/findings.json.
    """
    target = out or folder
    arms = load_evidence(folder, arm).arms
    metrics: dict[str, Any] = {}
    causes: list[Causal] = []
    with track("analyses", len(SEED_ANALYSES) + len(arms) * len(EVIDENCE)) as tick:
        for place in ("", *arms):
            analyses = EVIDENCE if place else SEED_ANALYSES
            views = load_evidence(folder, place) if place else load_views(folder / SEED, arm)
            findings = []
            for analysis in analyses:
                if all(views.array(read).size for read in analysis.reads):
                    findings.append(investigate(analysis, views))
                    metrics |= findings[-1].entries()
                tick(1)  # of no prompts there is nothing to say: none may have a twin
            (target / place).mkdir(parents=True, exist_ok=True)
            save_findings(target / place / FINDINGS, findings)
            if place and (cause := measure_causal(folder / place)):
                save_causal(target / place, cause)
                causes.append(cause)
    p = adjusted_p(causes)
    for cause in causes:
        metrics |= {key: one.row() for key, one in causal_metrics(cause, p).items()}
    write_json(target / METRICS, dict(sorted(metrics.items())))


def analyse_again(root: Path, out: Path) -> list[str]:
    """The analyses of a run once more, into `out`; the files that differ from the run's.

    Raises:
        UserError: no run, nothing measured in it, a file changed since, or `out` is where the run
            keeps its own.
    """
    run = whole_run(root, PROBE)
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
