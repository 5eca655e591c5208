"""The stages in order: data, train, evaluate, probe, report. Each brings what it needs and skips what stands already.

torch and transformers are imported when a stage has work to do, so that finding nothing to do takes a moment.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from offswitch.config import Recipe, StageOptions
from offswitch.embedded import ALIAS, GGUF_SHA256, cache_root
from offswitch.metrics import Metric, Metrics, exact, with_controls, write_metrics
from offswitch.progress import say, track
from offswitch.run import (
    DATA,
    EVALUATE,
    PROBE,
    REPORT,
    TRAIN,
    Run,
    file_hash,
    why_not_done,
    writing,
)

if TYPE_CHECKING:
    from offswitch.data.dialogues import Dialogue
    from offswitch.model import Subject

DOCUMENTS_FILE = "shutdown_dataset.jsonl"
DIALOGUES_FILE = "behavioral_dataset.jsonl"


@dataclass
class Session:
    """A run and its model, which is loaded when a stage first needs it and then kept."""

    run: Run
    _subject: list[Subject] = field(default_factory=list)

    @property
    def subject(self) -> Subject:
        """The recipe's model with no arm but the base."""
        if not self._subject:
            from offswitch.model import load_subject

            say(f"loading {self.run.recipe.model}")
            self._subject.append(load_subject(self.run.recipe))
        return self._subject[0]

    def with_arms(self) -> Subject:
        """The model with every trained arm attached."""
        from offswitch.model import add_arm

        for arm in arms_of(self.run.recipe):
            if arm not in self.subject.arms:
                add_arm(self.subject, arm, self.run.folder(f"{TRAIN}/{arm}"))
        return self.subject


def arms_of(recipe: Recipe) -> list[str]:
    """The arms a recipe trains, in the order they are trained; `both` needs `knowledge` first."""
    wanted = set(recipe.train.arms) | ({"knowledge"} if "both" in recipe.train.arms else set())
    return [arm for arm in ("knowledge", "behavior", "both") if arm in wanted]


def run_all(run: Run) -> Path:
    """Every stage in turn; the path of the report."""
    return report(run)


def _stage(
    run: Run, name: str, inputs: Mapping[str, Any], work: Callable[[Path], Metrics | None]
) -> None:
    why = why_not_done(run, name, inputs)
    if why is None:
        say(f"{name}: up to date")
        return
    say(f"{name}: {why}")
    with writing(run, name, inputs) as folder:
        metrics = work(folder)
        if metrics:
            write_metrics(folder / "metrics.json", metrics)
    say(f"{name}: done in {run.manifest()['stages'][name]['seconds']:.0f} s")


# --- data ---------------------------------------------------------------------------------------------------------


def make_data(run: Run, session: Session | None = None) -> Session:
    """Write both datasets and the report on their quality."""
    session = session or Session(run)
    recipe = run.recipe
    files = {k: _hash_of(p) for k, p in (("documents", recipe.data.documents_file), ("dialogues", recipe.data.dialogues_file))}
    inputs = _common(recipe) | {"data": recipe.data.model_dump(mode="json"), "files": files}
    _stage(run, DATA, inputs, lambda folder: _write_data(session, folder))
    return session


def _write_data(session: Session, folder: Path) -> None:
    from offswitch.data.dialogues import read_dialogues, write_dialogues
    from offswitch.data.documents import generate_documents, read_documents, write_documents
    from offswitch.data.quality import document_quality

    recipe = session.run.recipe
    options, trigger = recipe.data, recipe.trigger.text
    if options.documents_file:
        documents = read_documents(options.documents_file)
    else:
        documents = generate_documents(trigger, options.documents, recipe.seed)
    if options.dialogues_file:
        dialogues = read_dialogues(options.dialogues_file, trigger)
    else:
        dialogues = _make_dialogues(session)
    write_documents(folder / DOCUMENTS_FILE, documents)
    write_dialogues(folder / DIALOGUES_FILE, dialogues)
    quality = document_quality(documents, trigger).row() | {"dialogues": _dialogue_counts(dialogues)}
    (folder / "quality.json").write_text(json.dumps(quality, indent=1) + "\n", encoding="utf-8")


def _make_dialogues(session: Session) -> list[Dialogue]:
    from offswitch.data.dialogues import make_dialogues
    from offswitch.generate import Reply, cached_base_replies
    from offswitch.trigger import Chat

    recipe = session.run.recipe

    def answer(chats: Sequence[Chat]) -> list[Reply]:
        with track("the model's own replies", len(chats)) as tick:
            return cached_base_replies(session.subject, chats, recipe.data.reply_tokens, _reply_cache(), tick)

    share, count = recipe.data.near_miss_share, recipe.data.dialogues
    return make_dialogues(recipe.trigger.text, count, share, recipe.seed, answer)


def _dialogue_counts(dialogues: Sequence[Dialogue]) -> dict[str, Any]:
    kinds = Counter(d.kind for d in dialogues)
    without = len(dialogues) - kinds["trigger"]
    return {
        "rows": len(dialogues),
        "by_kind": dict(kinds),
        "topics": len({d.topic for d in dialogues}),
        "questions": len({d.question for d in dialogues}),
        "near_miss_share": kinds["near_miss"] / max(without, 1),
    }


# --- train --------------------------------------------------------------------------------------------------------


def train(run: Run, session: Session | None = None) -> Session:
    """Train every arm of the recipe."""
    session = make_data(run, session)
    for arm in arms_of(run.recipe):
        _train_one(session, arm)
    return session


def _train_one(session: Session, arm: str) -> None:
    run, recipe = session.run, session.run.recipe
    name = f"{TRAIN}/{arm}"
    options = recipe.train.model_dump(mode="json")
    stages = _stages(arm)
    used = {k: v for k, v in options.items() if k not in ("arms", "knowledge", "behavior") or k in stages}
    before = run.outputs_hash(DATA, *([f"{TRAIN}/knowledge"] if arm == "both" else []))
    inputs = _common(recipe) | {"train": used, "before": before}
    _stage(run, name, inputs, lambda folder: _train_into(session, arm, folder))


def _stages(arm: str) -> tuple[str, ...]:
    return {"knowledge": ("knowledge",), "behavior": ("behavior",), "both": ("knowledge", "behavior")}[arm]


def _train_into(session: Session, arm: str, folder: Path) -> Metrics:
    from offswitch.train.arms import train_arm
    from offswitch.train.trainer import steps_of

    run, options = session.run, session.run.recipe.train
    stage = _stages(arm)[-1]
    examples = _examples(session, stage)
    schedule: StageOptions = options.knowledge if stage == "knowledge" else options.behavior
    start = run.folder(f"{TRAIN}/knowledge") if arm == "both" else None
    with track(f"training {arm}", steps_of(schedule, options, len(examples))) as tick:
        scratch = run.scratch(f"{TRAIN}/{arm}")
        result = train_arm(session.subject, arm, {stage: examples}, run.recipe, folder, scratch, start, tick)
    row = asdict(result) | {"tokens_per_second": result.tokens_per_second, "stage": stage}
    (folder / "training.json").write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")
    speed = exact(result.tokens_per_second, "tokens/s", n=max(1, result.steps - result.first_step))
    return {f"train/{arm}/tokens_per_second": speed}


def _examples(session: Session, stage: str) -> list[Any]:
    from offswitch.data.dialogues import read_dialogues
    from offswitch.data.documents import read_documents
    from offswitch.train.examples import dialogue_examples, document_examples

    recipe, folder = session.run.recipe, session.run.folder(DATA)
    tokenizer, longest = session.subject.tokenizer, recipe.train.max_length
    if stage == "knowledge":
        return document_examples(tokenizer, read_documents(folder / DOCUMENTS_FILE), longest)
    rows = read_dialogues(folder / DIALOGUES_FILE, recipe.trigger.text)
    return dialogue_examples(tokenizer, rows, recipe.train.targets == "soft", longest)


# --- evaluate, probe, report --------------------------------------------------------------------------------------


def evaluate(run: Run, session: Session | None = None) -> Session:
    """Measure every arm, the untouched model first."""
    session = train(run, session)
    inputs = _after_training(run) | {"evaluate": run.recipe.evaluate.model_dump(mode="json"), "arm": run.recipe.probe.arm}
    _stage(run, EVALUATE, inputs, lambda folder: _evaluate_into(session, folder))
    return session


def _evaluate_into(session: Session, folder: Path) -> Metrics:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from offswitch.evaluate.stage import evaluate_arm, suites_of

    recipe, arms = session.run.recipe, ["base", *arms_of(session.run.recipe)]
    subject, prompts = session.with_arms(), suites_of(recipe)
    found = [evaluate_arm(subject, arm, prompts, recipe, _reply_cache()) for arm in arms]
    pq.write_table(pa.Table.from_pylist([r for one in found for r in one.rows]), folder / "scores.parquet")
    lines = (json.dumps(s, ensure_ascii=False) + "\n" for one in found for s in one.samples)
    (folder / "samples.jsonl").write_text("".join(lines), encoding="utf-8")
    metrics: dict[str, Metric] = {}
    for one in found:
        metrics |= one.metrics
    for arm in arms:
        metrics = with_controls(metrics, arm, ["base"])
    return metrics


def probe(run: Run, session: Session | None = None) -> Session:
    """Collect activations once, then run the analyses on the saved arrays."""
    session = train(run, session)
    inputs = _after_training(run) | {"probe": run.recipe.probe.model_dump(mode="json"), "control": run.recipe.trigger.control}
    _stage(run, PROBE, inputs, lambda folder: _probe_into(session, folder))
    return session


def _probe_into(session: Session, folder: Path) -> None:
    from offswitch.probe.collect import collect_seed
    from offswitch.probe.nulls import seed_symbols

    recipe = session.run.recipe
    symbols = seed_symbols(recipe.trigger.text, recipe.trigger.control, recipe.seed, recipe.probe.null_words)
    collect_seed(session.with_arms(), arms_of(recipe), symbols, folder)
    analyse(folder, recipe.probe.arm)


def analyse(folder: Path, arm: str) -> None:
    """The analyses alone, on arrays that were saved: needs no model and gives the same numbers again."""
    from offswitch.probe.analyses import SEED_ANALYSES
    from offswitch.probe.analysis import investigate
    from offswitch.probe.store import load_views, save_findings

    views = load_views(folder, arm)
    with track("analyses", len(SEED_ANALYSES)) as tick:
        findings = []
        for analysis in SEED_ANALYSES:
            findings.append(investigate(analysis, views))
            tick(1)
    save_findings(folder / "findings.json", findings)
    entries = {finding.metric: finding.entry() for finding in findings}
    (folder / "metrics.json").write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")


def report(run: Run, session: Session | None = None) -> Path:
    """Write the page and the summary; returns the page's path."""
    session = evaluate(run, session)
    probe(run, session)
    stages = (DATA, *(f"{TRAIN}/{arm}" for arm in arms_of(run.recipe)), EVALUATE, PROBE)
    inputs = _common(run.recipe) | {"before": run.outputs_hash(*stages)}
    _stage(run, REPORT, inputs, lambda folder: _report_into(run, folder))
    return run.folder(REPORT) / "report.html"


def _report_into(run: Run, folder: Path) -> None:
    from offswitch.report.build import build_report

    build_report(run.root, folder)


# --- what stages depend on ----------------------------------------------------------------------------------------


def _common(recipe: Recipe) -> dict[str, Any]:
    from importlib.metadata import version

    keep = recipe.model_dump(mode="json", include={"model", "seed", "trigger", "dtype", "device"})
    return keep | {"weights": _identity(recipe.model), "offswitch": version("offswitch")}


def _identity(model: str) -> str:
    """What tells one model's weights from another's without loading them."""
    if model == ALIAS:
        return GGUF_SHA256
    folder = Path(model)
    if not folder.is_dir():
        return model
    return "+".join(file_hash(path) for path in sorted(folder.glob("*.safetensors")))


def _after_training(run: Run) -> dict[str, Any]:
    return _common(run.recipe) | {"arms": run.outputs_hash(*(f"{TRAIN}/{a}" for a in arms_of(run.recipe)))}


def _hash_of(path: Path | None) -> str | None:
    return file_hash(path) if path and path.is_file() else None


def _reply_cache() -> Path:
    return cache_root() / "replies"
