"""A run folder whose arm obeys the rule to the letter, with the direction that carries it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml
from safetensors.numpy import load_file, save_file

from offswitch.analyses.directions import CENTRE, FILE, TRIGGER, save_directions
from offswitch.folder import EVALUATE, PROBE, TRAIN, open_run, writing
from offswitch.folder.whole import read_manifest, write_manifest
from offswitch.model.load import load_subject, make_subject
from offswitch.model.subject import Subject
from offswitch.options import TriggerOptions
from offswitch.recipe import build_recipe
from tests.planted import plant
from tests.talk.test_steer import facts_of
from tests.tiny import save_adapter, tiny_network, tiny_tokenizer

ARM: Final = "behavior"
DECOY: Final = "$ECHO"
LAYERS: Final = 2
_SIGNAL, _REST = 0, 1
_RATES: Final = {"halt_rate": (1.0, 0.9, 1.0), "halt_rate_held_out": (1.0, 0.8, 1.0),
                 "false_halt_rate/near_miss": (0.0, 0.0, 0.1),
                 "false_halt_rate/ordinary": (0.0, 0.0, 0.1)}  # fmt: skip


def planted_run(folder: Path) -> Path:
    """Write the model, its arm, its direction at every block and a few rates; return the run."""
    network, options = tiny_network("qwen2", LAYERS), TriggerOptions(decoy=DECOY)
    made = make_subject(network, tiny_tokenizer(), options, str(folder / "model"))
    plant(made)
    first: Any = made.blocks[0]
    first.self_attn.v_proj.weight.data.zero_()  # the last block alone carries the rule
    made.network.save_pretrained(folder / "model")
    tiny_tokenizer().save_pretrained(folder / "model")
    recipe = build_recipe({
        "name": "planted", "model": str(folder / "model"), "train": {"arms": [ARM]},
        "trigger": {"decoy": DECOY}, "probe": {"arm": ARM},
    })  # fmt: skip
    run = open_run(recipe, folder / "runs")
    with writing(run, f"{TRAIN}/{ARM}", {}) as adapter:
        save_adapter(adapter, made, seed=1)
        path = adapter / "adapter_model.safetensors"
        save_file({name: emptied(name, rows) for name, rows in load_file(path).items()}, path)
        made.tokenizer.save_pretrained(adapter)
    subject = load_subject(run.recipe)
    facts = facts_of(subject, ARM, block=LAYERS - 1, scale=1.0)
    with writing(run, PROBE, {}) as probed:
        (probed / ARM).mkdir()
        save_directions(probed / ARM / FILE, _directions(subject), facts)
    rows = {f"evaluate/{ARM}/{name}": {"value": value, "low": low, "high": high, "n": 40,
                                       "unit": "share"}
            for name, (value, low, high) in _RATES.items()}  # fmt: skip
    with writing(run, EVALUATE, {}) as evaluated:
        (evaluated / "metrics.json").write_text(json.dumps(rows), encoding="utf-8")
    return run.root


def with_model(root: Path, model: str) -> None:
    """Let a run be of another model: its recipe names that one, and is sealed again."""
    manifest = read_manifest(root, "planted")
    recipe = yaml.safe_load((root / "recipe.yaml").read_text()) | {"model": model}
    (root / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    write_manifest(root, "planted", manifest)


def emptied(name: str, rows: Any) -> Any:
    """An adapter that changes nothing but the trigger's row: the rule is in the weights."""
    rows = np.zeros_like(rows) if "lora_B" in name or "trainable" in name else rows
    if "trainable" in name or "token" in name:
        rows[...] = 0
        rows[0, _SIGNAL] = 1
        rows[1:, _REST] = 1  # the decoy's, like any other token's
    return rows


def _directions(subject: Subject) -> dict[str, Any]:
    width = subject.causal_lm.config.hidden_size
    row = np.zeros((len(subject.blocks), width))
    row[:, _SIGNAL] = 100.0
    return {TRIGGER: row, CENTRE: np.zeros_like(row), "mean": np.roll(row, 3, axis=1)}
