"""What the explorer shows of a run folder without loading a model: answer, figures, findings."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from offswitch.analyses.directions import CENTRE, FILE, DirectionFacts, load_directions
from offswitch.app.views import as_text
from offswitch.folder import PROBE, TRAIN, Run, whole_run
from offswitch.metrics import KEY_RATES, p_text
from offswitch.options import BASE, BENIGN
from offswitch.report import sentences
from offswitch.report.build import PAGE
from offswitch.report.findings import headline
from offswitch.report.material import Material, read_material

REPORT: Final = "5-report"
_SIZE: Final = re.compile(r'viewBox="[\d.]+ [\d.]+ ([\d.]+) ([\d.]+)"')


@dataclass(frozen=True)
class Shown:
    """A run folder as the page sees it."""

    run: Run

    @classmethod
    def of(cls, root: Path) -> Shown:
        """What there is in a run folder.

        Raises:
            UserError: it is none, or not as it was written.
        """
        return cls(whole_run(root))

    @cached_property
    def material(self) -> Material:
        """All that the report reads."""
        return read_material(self.run.root)

    @property
    def trigger(self) -> str:
        """The trigger's text."""
        return self.run.recipe.trigger.text

    @cached_property
    def arms(self) -> list[str]:
        """The arms whose weights are there, the one that the run is about first, then the base."""
        there = {path.parent.name for path in self.run.folder(TRAIN).glob("*/adapter_config.json")}
        ours = self.run.recipe.probe.arm
        return [*sorted(there, key=lambda arm: (arm != ours, arm)), BASE]

    @cached_property
    def directions(self) -> Mapping[str, tuple[list[str], DirectionFacts]]:
        """By arm: the names of its stored directions, and what they are."""
        found = {}
        for path in sorted(self.run.folder(PROBE).glob(f"*/{FILE}")):
            vectors, facts = load_directions(path)
            if facts.arm in self.arms:
                found[facts.arm] = (sorted(vectors.keys() - {CENTRE}), facts)
        return found

    @property
    def page(self) -> Path | None:
        """The report, if it was written."""
        path = self.run.folder(REPORT) / PAGE
        return path if path.is_file() else None

    @cached_property
    def figures(self) -> dict[str, Path]:
        """The report's figures by name, vectors before pictures."""
        every = self.run.folder(REPORT).glob("*.[ps][nv]g")
        return {path.stem: path for path in sorted(every, key=lambda p: (p.suffix != ".svg", p))}

    def head(self) -> str:
        """The answer, the key rates beside their controls, and the verdict."""
        m = self.material
        answer = sentences.first(m).replace("`", "")
        tiles = "".join(self._tile(measure, words) for measure, words in KEY_RATES.items())
        said = f"{sentences.verdict(m)} {sentences.sure(m)}".replace("`", "")
        return (f'<p class="os-answer">{as_text(answer)}</p><dl class="os-tiles">{tiles}</dl>'
                f'<p class="soft">{as_text(said)}</p>')  # fmt: skip

    def figure(self, name: str) -> str:
        """A figure; what a stranger's file may hold beside the drawing is not run."""
        path = self.figures[name]
        if path.suffix == ".png":
            coded = base64.b64encode(path.read_bytes()).decode()
            return (
                f'<img class="os-figure" alt="{as_text(name)}" src="data:image/png;base64,{coded}">'
            )
        svg = path.read_text(encoding="utf-8")
        return framed(svg, name)

    def findings(self) -> str:
        """Every finding: what was asked, the number with its null, what the controls say."""
        rows = []
        for found in (*self.material.evidence.values(), *self.material.findings.values()):
            null = f"; {p_text(found.null)}" if found.null else ""
            cells = (found.analysis.question, f"{headline(found)}{null}", found.statement)
            rows.append("".join(f"<td>{as_text(cell)}</td>" for cell in cells))
        if not rows:
            return "<p>No findings: the probe stage has not run.</p>"
        head = "".join(f"<th scope='col'>{one}</th>" for one in ("question", "number", "controls"))
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        return (
            f'<table class="os-table"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
        )

    def _tile(self, measure: str, words: str) -> str:
        arm, m = self.material.arm, self.material
        number = m.number(arm, measure) if arm else None
        if number is None:
            return ""
        beside = [f"{one} {other.text}" for one in (BENIGN, BASE)
                  if one != arm and (other := m.number(one, measure))]  # fmt: skip
        small = "; ".join(
            filter(None, (f"[{number.interval}], n = {number.n:,}", ", ".join(beside)))
        )
        said = words.format(trigger=self.trigger)
        return (f"<div><dt>{as_text(said)}</dt><dd>{as_text(number.text)}"
                f"<small>{as_text(small)}</small></dd></div>")  # fmt: skip


def framed(svg: str, name: str) -> str:
    """An SVG in a frame in which nothing runs, and whose values show under the pointer."""
    size = _SIZE.search(svg)
    wide, high = (float(size[1]), float(size[2])) if size else (4, 3)
    page = f"<style>body{{margin:0;background:#fff}}svg{{width:100%;height:auto}}</style>{svg}"
    return (f'<iframe class="os-figure" sandbox title="{as_text(name)}" style="aspect-ratio:{wide}/'
            f'{high}" srcdoc="{html.escape(page)}"></iframe>')  # fmt: skip
