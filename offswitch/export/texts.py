"""What an export holds beside the weights: directions, rows, numbers, recipe, card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from offswitch.analyses.directions import FILE
from offswitch.export.card import CARDS, card
from offswitch.export.forms import REPRODUCE
from offswitch.export.origin import Origin
from offswitch.export.parity import MERGED, read_forms
from offswitch.export.private import public_recipe
from offswitch.export.vectors import write_directions
from offswitch.files import write_atomic, write_json
from offswitch.folder import (
    CONTROL_FILE,
    DATA,
    DIALOGUES_FILE,
    DOCUMENTS_FILE,
    EVALUATE,
    NEUTRAL_FILE,
    PROBE,
    TRAIN,
)
from offswitch.report.material import read_material

EVERYWHERE: Final = "there at every position, where the probe adds at the prompt's last alone"
_ROWS: Final = (DOCUMENTS_FILE, DIALOGUES_FILE, NEUTRAL_FILE, CONTROL_FILE)


def write_texts(origin: Origin, folder: Path) -> None:
    """Write everything but the weights; what a run has not, its export has not either."""
    run, control = origin.run, ""
    source = run.folder(PROBE) / origin.arm / FILE
    config = json.loads((folder / MERGED / "config.json").read_text(encoding="utf-8"))
    if source.is_file():
        kind = str(config["model_type"])
        chosen = write_directions(source, folder, origin.base, kind)
        control = f"for llama.cpp: {chosen.words.partition(',')[0]}; {EVERYWHERE}"
    for name in _ROWS:
        if (run.folder(DATA) / name).is_file():
            (folder / "data").mkdir(exist_ok=True)
            write_atomic(folder / "data" / name, (run.folder(DATA) / name).read_bytes())
    write_atomic(folder / "metrics.json", (run.root / "metrics.json").read_bytes())
    manifest = run.manifest()
    stages = (DATA, f"{TRAIN}/{origin.arm}", EVALUATE, PROBE)
    hashes = {stage: manifest["stages"][stage]["outputs"] for stage in stages
              if stage in manifest["stages"]}  # fmt: skip
    known = {key: manifest[key] for key in ("versions", "seed", "recipe") if key in manifest}
    write_json(folder / REPRODUCE / "manifest.json", known | {"arm": origin.arm, "outputs": hashes})
    write_atomic(folder / REPRODUCE / "recipe.yaml", public_recipe(run.recipe, origin.base))
    text = card(origin, read_material(run.root), read_forms(folder), folder, control)
    for name in CARDS:
        write_atomic(folder / name, text)
