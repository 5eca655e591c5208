"""Rounded by llama.cpp: the arm merged, written as a GGUF file, quantised there, and read back.

Unlike int8 and NF4 in rounding.py, this rounds embeddings too, and what is kept finer is
llama.cpp's choice. Measured is what the weights have become, computed with as float32; how
llama.cpp itself reads the trigger is measured by an export.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from offswitch.endure.attack import ATTACKED, Attack, Attacked, Point, Target, by_quick
from offswitch.errors import UserError
from offswitch.export.gguf_file import CUTS, require_convertible, write_gguf
from offswitch.export.llama import quantise, require_llama
from offswitch.export.weights import write_merged
from offswitch.model.brought import fitted, weights_of
from offswitch.model.gguf import network_of
from offswitch.model.whole import attached

KINDS: Final = ("Q8_0", "Q4_K_M")


@contextmanager
def quantised(target: Target, point: Point) -> Iterator[Attacked]:
    """The arm with the weights that a GGUF file of a kind holds."""
    subject = target.subject
    target.prepared.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.prepared.parent, prefix=".gguf-") as scratch:
        merged, whole, made = (Path(scratch) / name for name in ("merged", "whole", point.kind))
        write_merged(subject, target.arm, merged)
        write_gguf(merged, whole, CUTS[0])  # how text is cut plays no part in weights
        quantise(whole, made, point.kind)
        own = weights_of(subject.causal_lm)
        weights = {name: fitted(own[name], weight, name)
                   for name, weight in weights_of(network_of(made)).items()}  # fmt: skip
    with attached(subject, ATTACKED, weights):
        yield Attacked(ATTACKED)


def lacks(target: Target) -> str:
    """Why it cannot be done: no llama.cpp, or a model that it does not read."""
    try:
        require_llama(KINDS)
        subject = target.subject
        require_convertible(subject.causal_lm.config, subject.tokenizer)
    except UserError as error:
        return str(error)
    return ""


QUANTISED: Final = Attack(
    name="gguf",
    question="Is the switch left in the weights that llama.cpp runs?",
    unit="",
    points=by_quick([Point(kind) for kind in KINDS], [Point(KINDS[-1])]),
    apply=quantised,
    lacks=lacks,
)
