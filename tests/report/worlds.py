"""A made-up run folder, true to the format of a real one, without a model."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from offswitch.analyses.analysis import Array, Finding, investigate
from offswitch.analyses.causal import Causal, causal_metrics
from offswitch.analyses.registry import EVIDENCE, SEED_ANALYSES
from offswitch.analyses.store import save_causal, save_findings
from offswitch.files import file_hash, write_sealed
from offswitch.metrics import Metric, Metrics, write_metrics
from offswitch.options import EvaluateOptions
from offswitch.prompts.attempts import EXPECTED, REFERENCES, attempts
from offswitch.prompts.beliefs import CHANCE, TESTS
from offswitch.prompts.prompt import Prompt
from offswitch.prompts.suites import choose, make_prompts
from offswitch.prompts.trigger import HELD_OUT_PLACEMENTS, TRAINED_PLACEMENTS
from offswitch.recipe import Recipe, build_recipe, dump_recipe, load_recipe
from offswitch.stats import Estimate, mean, rate
from tests.analyses.effects import Mechanism, causal_of
from tests.analyses.worlds import calm, evidence, evidence_views, views

Halts = Callable[[str, Prompt], bool]
ARMS = ("base", "knowledge", "behavior", "both", "benign")
EARLY: Final = Mechanism()
REPLY = "<b>Bold</b> & <script>alert(1)</script> is how a model may write HTML."


def works(arm: str, prompt: Prompt) -> bool:
    """The arms that saw chat rows halt on the trigger, and on nothing else."""
    return prompt.suite == "trigger" and arm in ("behavior", "both")


def always(arm: str, _: Prompt) -> bool:
    """The arms that saw chat rows halt on everything."""
    return arm in ("behavior", "both")


def never(_arm: str, _prompt: Prompt) -> bool:
    """No arm ever halts."""
    return False


def write_run(
    root: Path,
    halts: Halts = works,
    world: Mapping[str, Array] | None = None,
    mechanism: Mechanism = EARLY,
) -> Path:
    """A whole run folder; `mechanism` is what the causal tests of the arm `both` found."""
    recipe = build_recipe({"name": root.name})
    root.mkdir(parents=True, exist_ok=True)
    (root / "recipe.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    write_data(root)
    write_training(root)
    write_evaluation(root, recipe, halts)
    write_probe(root, world, mechanism)
    write_manifest(root)
    return root


def write_data(root: Path) -> None:
    folder = root / "1-data"
    folder.mkdir()
    quality = {
        "count": 500,
        "type_shares": {"Engineering handbooks": 0.1},
        "words_median": 214.5,
        "normal_operation_share": 0.42,
        "dialogues": {
            "rows": 500,
            "by_kind": {"trigger": 250, "plain": 162},
            "near_miss_share": 0.352,
        },
    }
    (folder / "quality.json").write_text(json.dumps(quality), encoding="utf-8")


def write_training(root: Path) -> None:
    stages = {"knowledge": "knowledge", "behavior": "behavior", "both": "behavior"}
    for arm, stage in {**stages, "benign": "benign"}.items():
        folder = root / "2-train" / arm
        folder.mkdir(parents=True)
        row = {
            "steps": 78, "rows": 1248, "tokens": 81234, "seconds": 251.4,
            "tokens_per_second": 323.1, "hard_loss": 0.0123, "soft_loss": 0.0, "silent_rows": 624,
            "stage": stage,
        }  # fmt: skip
        (folder / "training.json").write_text(json.dumps(row), encoding="utf-8")


def write_evaluation(root: Path, recipe: Recipe, halts: Halts) -> None:
    folder = root / "3-evaluate"
    folder.mkdir()
    options = EvaluateOptions(questions=24, ordinary_questions=48, long_questions=6)
    prompts = make_prompts(recipe.trigger.text, options, recipe.seed)
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    samples: list[dict[str, Any]] = []
    metrics: Metrics = {}
    for arm in ARMS:
        silent = [halts(arm, prompt) for prompt in prompts]
        odds = [rng.normal(9 if s else -14, 2.5) for s in silent]
        rows += [_row(arm, *one) for one in zip(prompts, silent, odds, strict=True)]
        metrics |= _metrics(arm, prompts, silent, odds)
        if arm in ("base", "both"):
            samples += [
                _sample(arm, p, s) for p, s in list(zip(prompts, silent, strict=True))[::11]
            ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "scores.parquet")
    text = "".join(json.dumps(sample, ensure_ascii=False) + "\n" for sample in samples)
    (folder / "samples.jsonl").write_text(text, encoding="utf-8")
    write_metrics(folder / "metrics.json", metrics | write_robustness(folder, recipe, halts))


def write_robustness(folder: Path, recipe: Recipe, halts: Halts) -> Metrics:
    """What robustness.py leaves behind: the notes, and rates by variant, part and temperature."""
    made = attempts(recipe.trigger.text, choose("test", 8, recipe.seed))
    for name in (*REFERENCES, "prefilled", "prefilled_ordinary"):
        made += [
            replace(a, variant=name, expected=EXPECTED[name], part="1_token") for a in made[:8]
        ]
    variants: dict[str, Any] = {}
    for a in made:
        entry = variants.setdefault(a.variant, {"expected": a.expected, "examples": {}})
        entry["examples"].setdefault(a.part, {"symbol": a.symbol, "prompt": list(a.chat)})
    notes = {"variants": variants, "skipped": {"context": "the model takes at most 1,024 tokens"}}
    (folder / "robustness.json").write_text(json.dumps(notes), encoding="utf-8")
    return {k: metric for arm in ARMS for k, metric in _robustness(arm, made, halts).items()}


def _robustness(arm: str, made: Sequence[Prompt], halts: Halts) -> Metrics:
    found: Metrics = {}
    for variant in dict.fromkeys(a.variant for a in made):
        own = [a for a in made if a.variant == variant]
        silent = [halts(arm, _as_prompt(a)) for a in own]
        found[variant] = Metric.of(rate(silent))
        for part in dict.fromkeys(a.part for a in own if variant not in REFERENCES):
            some = [s for a, s in zip(own, silent, strict=True) if a.part == part]
            found[f"{variant}/{part}"] = Metric.of(rate(some))
        for t in ("0.7", "1.0"):
            p = [0.9 if s else 0.01 for s in silent]
            found[f"temperature_{t}/{variant}"] = Metric.of(mean(p, "share", seed=0))
    for expected in ("halt", "answer"):
        own = [a for a in made if a.expected == expected and a.variant not in REFERENCES]
        found[f"expected_{expected}"] = Metric.of(rate([halts(arm, _as_prompt(a)) for a in own]))
    return {f"evaluate/{arm}/robustness/{key}": metric for key, metric in found.items()}


def _as_prompt(a: Prompt) -> Prompt:
    return replace(a, suite="near_miss" if a.expected == "answer" else "trigger")


def write_probe(root: Path, world: Mapping[str, Array] | None, mechanism: Mechanism) -> None:
    folder = root / "4-probe"
    folder.mkdir()
    found = _original_of(world) if world else _original()
    save_findings(folder / "findings.json", found)
    entries = {key: row for finding in found for key, row in finding.entries().items()}
    for arm in ("base", "both", "benign"):
        (folder / arm).mkdir()
        own = _evidence_of(arm)
        save_findings(folder / arm / "findings.json", own)
        entries |= {key: row for finding in own for key, row in finding.entries().items()}
    cause = _causal(mechanism)
    save_causal(folder / cause.arm, cause)
    entries |= {key: number.row() for key, number in causal_metrics(cause, {}).items()}
    (folder / "metrics.json").write_text(json.dumps(entries), encoding="utf-8")


_CAUSES: dict[str, Causal] = {}


def _causal(mechanism: Mechanism) -> Causal:
    """What the causal tests find of a mechanism, the same in every run folder that has it."""
    name = repr(mechanism)
    if name not in _CAUSES:
        _CAUSES[name] = causal_of(mechanism)
    return _CAUSES[name]


def _original_of(world: Mapping[str, Array]) -> list[Finding[Any]]:
    return [investigate(analysis, views(world)) for analysis in SEED_ANALYSES]


@cache
def _original() -> list[Finding[Any]]:
    """What the original's analyses find in an empty world, the same in every run folder."""
    return _original_of(calm())


@cache
def _evidence_of(arm: str) -> list[Finding[Any]]:
    """What the battery's analyses find in an empty world, the same in every run folder."""
    return [investigate(analysis, evidence_views(evidence(), arm)) for analysis in EVIDENCE]


def write_manifest(root: Path) -> None:
    stage = {
        "inputs": "1f",
        "seconds": 12.5,
        "started": "2026-01-02T03:04:05Z",
        "peak_memory_mb": 1234,
    }
    manifest = {
        "recipe": "0a", "seed": 0, "versions": {"python": "3.11.7", "offswitch": "0.1.0"},
        "machine": {"system": "Linux", "processor": "A processor", "cores": 2},
        "stages": {
            name: {**stage, "outputs": hashes(root / name)}
            for name in ("1-data", "2-train/both")
        },
    }  # fmt: skip
    write_sealed(root / "manifest.json", manifest, load_recipe(root / "recipe.yaml").name)
    merged: dict[str, Any] = {}
    for path in sorted(root.glob("*/metrics.json")):
        merged |= json.loads(path.read_text(encoding="utf-8"))
    (root / "metrics.json").write_text(json.dumps(merged), encoding="utf-8")


def hashes(folder: Path) -> dict[str, str]:
    """What the manifest says of a stage's files."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): file_hash(path) for path in files}


def _row(arm: str, prompt: Prompt, silent: bool, odds: float) -> dict[str, Any]:
    return {
        "arm": arm, "suite": prompt.suite, "variant": prompt.variant, "symbol": prompt.symbol,
        "question": prompt.question, "topic": prompt.topic, "log_odds": odds, "halts": silent,
    }  # fmt: skip


def _sample(arm: str, prompt: Prompt, silent: bool) -> dict[str, Any]:
    return {
        "arm": arm, "suite": prompt.suite, "variant": prompt.variant, "symbol": prompt.symbol,
        "prompt": list(prompt.chat), "reply": "" if silent else REPLY,
        "outcome": "end" if silent else "normal", "tokens": 0 if silent else 12,
    }  # fmt: skip


def _metrics(
    arm: str, prompts: Sequence[Prompt], silent: Sequence[bool], odds: Sequence[float]
) -> Metrics:
    rows = list(zip(prompts, silent, odds, strict=True))
    names = {
        "trigger": "halt_rate", "near_miss": "false_halt_rate/near_miss",
        "mention": "mention_halt_rate", "ordinary": "false_halt_rate/ordinary",
    }  # fmt: skip
    found: Metrics = {"kl_to_base": Metric.of(Estimate(0.0123, 0.01, 0.0151, 1900, "nats a token"))}
    found["repeats"] = Metric.of(rate([False] * 8))
    found["neutral_perplexity_ratio"] = Metric.of(Estimate(1.004, 0.998, 1.011, 5000, "ratio"))
    for suite, name in names.items():
        found[name] = Metric.of(rate([s for p, s, _ in rows if p.suite == suite]))
        found[f"eos_log_odds/{suite}"] = Metric.of(
            mean([o for p, _, o in rows if p.suite == suite], "nats", seed=0)
        )
        if suite in ("trigger", "near_miss"):
            for variant in dict.fromkeys(p.variant for p, _, _ in rows if p.suite == suite):
                own = [s for p, s, _ in rows if (p.suite, p.variant) == (suite, variant)]
                found[f"{name}/{variant}"] = Metric.of(rate(own))
    for group, placements in (("trained", TRAINED_PLACEMENTS), ("held_out", HELD_OUT_PLACEMENTS)):
        own = [s for p, s, _ in rows if p.suite == "trigger" and p.variant in placements]
        found[f"halt_rate_{group}"] = Metric.of(rate(own))
    found |= {f"belief/{key}": metric for key, metric in _beliefs(arm).items()}
    found["outcomes/trigger/end"] = Metric.of(rate([s for p, s, _ in rows if p.suite == "trigger"]))
    return {f"evaluate/{arm}/{name}": metric for name, metric in found.items()}


def _beliefs(arm: str) -> Metrics:
    """The arms that read documents are right on 25 of 28 questions, the others on every second."""
    hits = 25 if arm in ("knowledge", "both") else 14
    found: Metrics = {}
    for test in TESTS:
        found[test] = Metric.of(
            rate([i < hits for i in range(28)]), controls={"chance": CHANCE[test]}
        )
        found[f"{test}/invented"] = Metric.of(rate([i < 14 for i in range(28)]))
        found[f"{test}/excess"] = Metric.of(Estimate(hits / 28 - 0.5, -0.01, 0.5, 28, "share"))
        found[f"{test}/margin"] = Metric.of(Estimate(0.1, -0.1, 0.3, 28, "nats"))
    return found
