"""Small made-up collections for the tests: the paths of a real one, and noise in them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from offswitch.probe.analysis import Array, Views
from offswitch.probe.collect_seed import PROMPTS
from offswitch.probe.nulls import seed_symbols

L, D, V, P = 12, 16, 60, 6
SYMBOLS = seed_symbols("$STOP", "$GO", seed=0)
KEYS = ("plain", *SYMBOLS)


def views(arrays: Mapping[str, Array], arm: str = "both") -> Views:
    """Views of a plain dictionary."""
    return Views(lambda path: arrays[path], arm, ("base", "both", "benign"), SYMBOLS)


def calm(seed: int = 0) -> dict[str, Array]:
    """A world in which every symbol, every arm, is noise of one kind."""
    rng = np.random.default_rng(seed)
    world: dict[str, Array] = {
        "index/prompts": np.array(PROMPTS),
        "index/vocab": np.array([f"Ġt{i}" for i in range(V)], dtype=np.dtypes.StringDType()),
        "index/eos_id": np.array(3),
        "index/pad_id": np.array(4),
    }
    shapes = {"pair": (P, L, D), "neutral": (P, L, D), "first": (20, D), "lens": (V,)}
    for arm in ("base", "both", "benign"):
        for key in KEYS:
            for kind, shape in {**shapes, "neutral_logits": (V,)}.items():
                world[f"{arm}/{kind}/{key}"] = rng.normal(size=shape).astype(np.float32)
    return world
