"""The arm in every form, each asked again what the run's arm was asked, before it counts."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import torch

from offswitch.errors import UserError
from offswitch.export import check
from offswitch.export.asking import GGUF, Asking
from offswitch.export.divergence import by_transformers, kl_to_base
from offswitch.export.origin import Origin, measured
from offswitch.export.parity import (
    ADAPTER,
    MERGED,
    RUN,
    Form,
    add_form,
    read_forms,
    unlike,
)
from offswitch.export.weights import write_merged
from offswitch.files import settled, write_atomic, write_json
from offswitch.metrics import Metric, read_metrics
from offswitch.model.adapters import add_arm
from offswitch.model.brought import ADAPTER as ADAPTER_FILES
from offswitch.model.load import load_subject
from offswitch.model.source import TOKENIZER
from offswitch.progress import say, track

REPRODUCE: Final = "reproduce"
ASKED: Final = "asked.json"
SCRIPT: Final = "check.py"


def write_forms(origin: Origin, folder: Path, kinds: Sequence[str]) -> None:
    """Write adapter, merged weights and GGUF files, and what each does into parity.json.

    Raises:
        UserError: merged, the arm does something else than it did in the run; or it cannot be a
            GGUF file.
    """
    say(f"loading {origin.run.recipe.model}")
    subject = load_subject(origin.run.recipe)
    if kinds:
        from offswitch.export.gguf_file import require_convertible

        require_convertible(subject.causal_lm.config, subject.tokenizer)
    asking = Asking(origin, subject, *measured(origin, subject.tokenizer))
    done = read_forms(folder)
    own = read_metrics(origin.run.root / "metrics.json")[f"evaluate/{origin.arm}/kl_to_base"]
    run = asking.form(f"offswitch {version('offswitch')}", asking.run, Metric.read(own))
    if not origin.whole:
        once(folder / "adapter", lambda place: _copy_adapter(origin, place))
    add_form(folder, RUN if origin.whole else ADAPTER, run)
    _write_asked(asking, folder / REPRODUCE)
    files = {f"{GGUF}/{origin.run.recipe.name}-{kind}.gguf": kind for kind in kinds}
    if any(name not in done for name in (MERGED, *files)):
        _ = asking.said  # before anything is attached
    exact = next(subject.network.parameters()).dtype == torch.float32
    if not (folder / MERGED).exists():
        add_arm(subject, origin.arm, origin.folder)
        say("merging the adapter into the weights")
        once(folder / MERGED, lambda place: write_merged(subject, origin.arm, place))
    if MERGED not in done:
        form = _ask_merged(asking, folder)
        if why := unlike(form, run, exact):
            raise UserError(f"the merged weights do not do what arm '{origin.arm}' did: {why}")
        add_form(folder, MERGED, form)
    if files:
        from offswitch.export.quantised import write_quantised  # imports gguf's long lists

        write_quantised(asking, folder, files)


def once(target: Path, write: Callable[[Path], None]) -> None:
    """Write a folder beside its place and move it there, if it does not stand."""
    if target.exists():
        return
    fresh = target.with_name(f".{target.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    write(fresh)
    for path in fresh.iterdir():
        settled(path)
    fresh.rename(target)


def _copy_adapter(origin: Origin, place: Path) -> None:
    for name in (*ADAPTER_FILES, *TOKENIZER):
        if (origin.folder / name).is_file():
            shutil.copyfile(origin.folder / name, place / name)
    config = json.loads((place / ADAPTER_FILES[0]).read_text(encoding="utf-8"))
    config |= {"base_model_name_or_path": origin.base, "revision": None}
    write_json(place / ADAPTER_FILES[0], config)


def _write_asked(asking: Asking, folder: Path) -> None:
    """The prompts, what the run's arm did, and the script that asks them."""
    folder.mkdir(exist_ok=True)
    more = [None] * (len(asking.every) - len(asking.run))
    rows = [{"chat": list(p.chat), "suite": p.suite if halted is not None else p.variant,
             "variant": p.variant, "symbol": p.symbol, "halted": halted}
            for p, halted in zip(asking.every, [*asking.run, *more], strict=True)]  # fmt: skip
    content = {"halts": list(asking.subject.halt_ids), "prompts": rows}
    write_json(folder / ASKED, content)
    write_atomic(folder / SCRIPT, Path(check.__file__).read_bytes())


def _ask_merged(asking: Asking, folder: Path) -> Form:
    """What the merged weights do in a fresh process that has transformers and nothing of ours."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    say(f"asking the merged weights {len(asking.every)} prompts, by transformers alone")
    script = folder / REPRODUCE / SCRIPT
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "tokens.json"
        command = [sys.executable, "-I", str(script), "--out", str(out)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if not out.is_file():
            raise RuntimeError(f"{script.name} failed:\n{done.stderr[-2000:]}")
        tokens = json.loads(out.read_text(encoding="utf-8"))
    halts = [token in asking.subject.halt_ids for token in tokens]
    place = str(folder / MERGED)
    model: Any = AutoModelForCausalLM.from_pretrained(place, dtype="auto")
    model.to(asking.subject.device)
    with track("merged: KL", len(asking.said)) as tick:
        read = by_transformers(model, AutoTokenizer.from_pretrained(place))
        kl = kl_to_base(asking.said, read, asking.origin.run.recipe.seed, tick)
    return asking.form(f"transformers {version('transformers')}", halts, kl)
