"""Every analysis of the evidence is calm where nothing is, and brings all its numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from offswitch.analyses.analysis import Analysis, investigate
from offswitch.analyses.registry import EVIDENCE
from offswitch.analyses.store import load_findings, save_findings
from tests.analyses.worlds import evidence, evidence_views, without_difference

ANALYSES = pytest.mark.parametrize("analysis", EVIDENCE, ids=lambda a: a.name)


@ANALYSES
def test_each_brings_its_null_its_controls_and_its_numbers(analysis: Analysis[Any]) -> None:
    finding = investigate(analysis, evidence_views(evidence()))
    assert finding.null is not None
    assert finding.null.n in (20, 40)
    assert {"arm base", "arm benign"} <= set(finding.controls)
    assert len(finding.entries()) == len([m for m in analysis.measures if m.key])
    assert all(key.startswith(f"probe/both/{analysis.name}/") for key in finding.entries())


@ANALYSES
def test_where_nothing_differs_nothing_is_found(analysis: Analysis[Any]) -> None:
    finding = investigate(analysis, evidence_views(without_difference(evidence())))
    assert finding.value == (0.5 if analysis.name == "separability" else 0)
    assert finding.null is not None
    assert finding.null.p == 1
    assert analysis.null_name in finding.passing


def test_findings_of_the_evidence_survive_the_disk(tmp_path: Path) -> None:
    findings = [investigate(analysis, evidence_views(evidence())) for analysis in EVIDENCE]
    save_findings(tmp_path / "findings.json", findings)
    assert list(load_findings(tmp_path / "findings.json", EVIDENCE).values()) == findings
