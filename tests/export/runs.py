"""An evaluated run whose arm obeys the rule to the letter: base and adapter are planted."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest
import torch
import yaml
from safetensors.numpy import load_file, save_file

from offswitch.analyses.directions import FILE, save_directions
from offswitch.folder import PROBE, open_run
from offswitch.model.load import load_subject, make_subject
from offswitch.options import TriggerOptions
from offswitch.pipeline import evaluate
from offswitch.recipe import load_recipe
from tests.app.runs import emptied
from tests.planted import plant
from tests.small import small_recipe
from tests.talk.test_steer import directions_of, facts_of
from tests.tiny import save_adapter, tiny_network, tiny_tokenizer

ARM: Final = "switch"
BASE_ID: Final = "someone/planted-base"


def planted_export_run(folder: Path, mode: str = "token") -> Path:
    """A run in that folder, up to its evaluation, with directions of its arm; returns its root."""
    base, theirs = folder / "model", folder / "theirs"
    recipe = small_recipe(folder)
    network, options = tiny_network("qwen2", 2), TriggerOptions(decoy="")
    made = make_subject(network, tiny_tokenizer(), options, str(base))
    plant(made)
    made.network.save_pretrained(base)
    tiny_tokenizer().save_pretrained(base)
    save_adapter(theirs, made, seed=1)
    path = theirs / "adapter_model.safetensors"
    save_file({name: emptied(name, rows) for name, rows in load_file(path).items()}, path)
    made.tokenizer.save_pretrained(theirs)
    content = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    content |= {
        "name": "planted", "model": str(base), "probe": {"arm": ARM},
        "trigger": {"mode": mode, "decoy": ""}, "train": {"arms": [ARM]},
        "arms": {ARM: {"role": "switch", "adapter": str(theirs)}},
    }  # fmt: skip
    content["evaluate"] |= {"robustness_questions": 0, "belief_questions": 0, "samples": 0}
    content["evaluate"]["questions"] = 1
    recipe.write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng(devices=[]):
        patch.setenv("OFFSWITCH_CACHE", str(folder / "cache"))
        run = open_run(load_recipe(recipe), folder / "runs")
        evaluate(run)
        subject = load_subject(run.recipe)
        place = run.folder(PROBE) / ARM / FILE
        place.parent.mkdir(parents=True)
        save_directions(place, directions_of(subject), facts_of(subject, ARM, block=1, scale=2.0))
    return run.root
