"""A control vector is the direction and scale that the probe chose, at the block that it chose."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from safetensors import safe_open

from offswitch.analyses.directions import FILE, load_directions, save_directions
from offswitch.export.vectors import CONTROL, write_directions
from tests.talk.test_steer import directions_of, facts_of
from tests.tiny import tiny_subject


def stored(folder: Path, block: int, blocks: int = 3) -> Path:
    """A file of directions, of which one at that block did most."""
    subject = tiny_subject(layers=blocks)
    facts = facts_of(subject, "own", block=0, scale=2.5)
    chosen = ({"direction": "random00", "block": block},)
    path = folder / "stored.safetensors"
    save_directions(path, directions_of(subject), replace(facts, model="/here", chosen=chosen))
    return path


def test_it_is_what_did_most(tmp_path: Path) -> None:
    source = stored(tmp_path, block=2)
    chosen = write_directions(source, tmp_path, "someone/base", "llama")
    assert (chosen.direction, chosen.layer, chosen.scale) == ("random00", 2, 2.5)
    directions, _ = load_directions(source)
    read = gguf.GGUFReader(tmp_path / CONTROL)
    fields: dict[str, Any] = {key: field.contents() for key, field in read.fields.items()}
    assert fields["general.architecture"] == "controlvector"
    assert fields["controlvector.model_hint"] == "llama"
    assert fields["offswitch.layer"] == "2"
    assert fields["offswitch.operation"] == "add"
    [tensor] = read.tensors
    assert tensor.name == "direction.2"
    np.testing.assert_allclose(tensor.data, 2.5 * directions["random00"][2], rtol=1e-6)


def test_the_whole_file_says_how_it_is_used(tmp_path: Path) -> None:
    source = stored(tmp_path, block=1)
    write_directions(source, tmp_path, "someone/base", "llama")
    with safe_open(tmp_path / FILE, framework="numpy") as file:
        told = file.metadata()
    assert told["operation"] == "add"
    assert told["hook"] == "residual stream, output of the block"
    assert (told["layer"], told["direction"], told["scale"]) == ("1", "random00", "2.5")
    directions, facts = load_directions(tmp_path / FILE)
    assert facts.model == "someone/base"
    for name, rows in load_directions(source)[0].items():
        np.testing.assert_array_equal(directions[name], rows)


@pytest.mark.parametrize("block", [0])
def test_llama_cpp_has_none_for_the_first_block(block: int, tmp_path: Path) -> None:
    chosen = write_directions(stored(tmp_path, block), tmp_path, "someone/base", "llama")
    assert not chosen.control
    assert not (tmp_path / CONTROL).exists()
