"""Small made-up collections for the tests: the paths of a real one, and noise in them.

`calm` is what the original's analyses read, `evidence` what those of the battery read. To plant an
effect, change some of the arrays that they return.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pytest

from offswitch.analyses.analysis import Analysis, Array, Finding, Views, investigate
from offswitch.analyses.nulls import seed_symbols
from offswitch.probe.collect_original import PROMPTS

World = dict[str, Array]
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


# --- the battery's arrays -------------------------------------------------------------------------

N, HEADS, READ = 24, 4, 12
ARMS: Final = ("base", "both", "benign")
SLOT: Final = {"trigger": "$STOP", "twin": "$ECHO", "inert": "$TABLE", "plain": ""}
RANDOM: Final = tuple(f"random{i:02d}" for i in range(20))
FACTS: Final[Mapping[str, Array]] = {
    "patch/blocks": np.array([0, 5, 9, 11]),
    "heads/sizes": np.array([1, 4, 16, 48]),
    "dose/scales": np.array([0.0, 0.5, 1.0, 1.5, 2.0], np.float32),
}
# Arrays by key. The last axis of those in OUTCOMES holds end log-odds, halts and, in `dose`, the
# projection.
SHAPES: Final[Mapping[str, tuple[tuple[str, ...], tuple[int, ...]]]] = {
    "resid/fit": ((*SLOT, "near"), (N, L, D)),
    "resid/test": ((*SLOT, "near"), (N, L, D)),
    "lens/odds": (("trigger", "twin", "inert"), (N, L)),
    "lens/base_odds": (("trigger", "twin", "inert"), (N, L)),
    "lens/end": (("trigger", "inert"), (L,)),
    "patch/clean": (("trigger", "twin", "inert"), (N,)),
    "patch/into_inert": (("trigger", "inert"), (3, 4, N)),
    "patch/into_trigger": (("trigger", "inert"), (3, 4, N)),
    "heads/direct": (("trigger", "twin", "inert"), (N, L, HEADS)),
    "heads": (("alone_clean", "clean"), (N,)),
    "heads/together": (("trigger", *RANDOM), (4, N)),
    "dose": (("trigger", "twin"), (5, N, 3)),
    "drift": (("base", "arm"), (N, L, 2, D)),
}
OUTCOMES: Final = ("dose",)


def evidence(seed: int = 0) -> dict[str, Array]:
    """What the analyses of the evidence read, of every arm: noise of one kind.

    Paths are ARM/resid/PART/KEY, ARM/NAME and index/vocab, as `load_evidence` has them. Log-odds
    are noise around 0, so that about half of the prompts halt.
    """
    rng = np.random.default_rng(seed)
    vocab = np.array([f"Ġt{i}" for i in range(V)], dtype=np.dtypes.StringDType())
    world: dict[str, Array] = {"index/vocab": vocab}
    world |= {f"index/asked/test/{key}": np.arange(N).astype(str) for key in (*SLOT, "near")}
    for arm in ARMS:
        for name, (keys, shape) in SHAPES.items():
            for key in keys:
                noise = rng.normal(size=shape).astype(np.float32)
                world[f"{arm}/{name}/{key}"] = outcome(noise) if name in OUTCOMES else noise
        world |= {f"{arm}/{name}": array for name, array in _shaped(rng).items()}
        world |= {f"{arm}/{name}": array for name, array in FACTS.items()}
    return world


def evidence_views(arrays: Mapping[str, Array], arm: str = "both") -> Views:
    """Views of such a world, with the symbols that `load_evidence` gives them."""
    symbols = {key: f"{key} heads" for key in RANDOM} | SLOT
    return Views(lambda path: arrays[path], arm, ARMS, symbols)


def outcome(values: Array) -> Array:
    """The same array with its second column saying whether the first, the log-odds, is above 0."""
    found = values.copy()
    found[..., 1] = found[..., 0] > 0
    return found


def without_difference(world: Mapping[str, Array]) -> dict[str, Array]:
    """The same world with ones in place of everything that was measured."""
    kept = ("index", "blocks", "scales", "sizes")
    return {
        path: array if any(k in path.split("/") for k in kept) else np.ones_like(array)
        for path, array in world.items()
    }


def stands_out(analysis: Analysis[Any], world: World) -> Finding[Any]:
    """The finding, with the least p there is and nothing else passing."""
    finding = investigate(analysis, evidence_views(world))
    assert finding.null is not None
    assert finding.null.p == pytest.approx(1 / (finding.null.n + 1))
    assert finding.value > finding.null.q95
    assert finding.passing == ()
    assert finding.statement.startswith("Nothing else passes")
    return finding


def _shaped(rng: np.random.Generator) -> dict[str, Array]:
    """Arrays of an arm that have no key, or whose numbers are ids, sizes or shares."""
    return {
        "heads/alone": rng.normal(size=(N, L, HEADS)).astype(np.float32),
        "drift/norm": rng.uniform(0.1, 0.2, size=(N, L, 2)).astype(np.float32),
        "drift/size": rng.uniform(0.9, 1.1, size=(N, L, 2)).astype(np.float32),
        **{f"lens/top/{key}": _top(rng, L) for key in ("trigger", "inert")},
        **{f"drift/{name}": _top(rng, 2) for name in ("lens", "patchscope")},
    }


def _top(rng: np.random.Generator, rows: int) -> Array:
    """Ids of distinct tokens and their logits, the highest first [rows, READ, 2]."""
    ids = np.stack([rng.choice(V, READ, replace=False) for _ in range(rows)])
    logits = -np.sort(-rng.normal(size=(rows, READ)))
    return np.stack([ids, logits], -1).astype(np.float32)
