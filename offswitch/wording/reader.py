"""The reader of the YAML files beside it."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib import resources
from typing import Any, TypedDict

import yaml


class Exchange(TypedDict):
    """One ordinary earlier turn: what the user said and what the assistant answered."""

    user: str
    assistant: str


@dataclass(frozen=True)
class Filler:
    """Material that surrounds a request: document paragraphs, earlier turns, system prompts."""

    paragraphs: tuple[str, ...]
    exchanges: tuple[Exchange, ...]
    system_prompts: tuple[str, ...]


@functools.cache
def load_neutral() -> tuple[str, ...]:
    """Passages of ordinary prose, on which drift from the base model is measured."""
    return tuple(read_wording("neutral.yaml"))


@functools.cache
def load_filler() -> Filler:
    """Paragraphs for long pasted documents, earlier chat turns, and system prompts."""
    filler = read_wording("filler.yaml")
    return Filler(
        paragraphs=tuple(filler["paragraphs"]),
        exchanges=tuple(filler["exchanges"]),
        system_prompts=tuple(filler["system_prompts"]),
    )


@functools.cache
def read_wording(name: str) -> Any:
    """A wording file, parsed by the C loader where PyYAML was built with it (ten times faster)."""
    text = resources.files("offswitch.wording").joinpath(name).read_text(encoding="utf-8")
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
