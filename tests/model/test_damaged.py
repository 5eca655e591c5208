"""A model folder that somebody else wrote is read, or refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from offswitch.errors import UserError
from offswitch.model.load import load_subject
from offswitch.recipe import Recipe
from tests.tiny import save_tiny, tiny_network


@pytest.mark.parametrize(
    ("name", "damage", "line"),
    [
        ("config.json", lambda c: c.update(num_hidden_layers=10**9), "1,000,000,000 blocks"),
        ("config.json", lambda c: c.update(head_dim=0), "': ZeroDivisionError: "),
        ("config.json", lambda c: c.update(model_type={}), "': TypeError: unhashable"),
        ("generation_config.json", lambda c: c.update(pad_token_id={}), "': TypeError: "),
        ("tokenizer_config.json", lambda c: c.update(pad_token=2), "': TypeError: Special token"),
        ("tokenizer_config.json", lambda c: c.update(unk_token=""), "': maximum recursion"),
        ("tokenizer.json", lambda c: c["model"]["vocab"].update({"2": 10**9}), "to 1,000,000,000"),
        ("tokenizer.json", lambda c: c["model"]["vocab"].update({"2": 9999}), "tokens more than"),
        (
            "tokenizer.json",
            lambda c: c["model"].update(continuing_subword_prefix="../.."),
            "': PanicException: ",
        ),
    ],
)
def test_a_value_that_leads_a_library_astray_is_one_line(
    tmp_path: Path, name: str, damage: Callable[[Any], None], line: str
) -> None:
    path = save_tiny(tmp_path) / name
    content = json.loads(path.read_text(encoding="utf-8"))
    damage(content)
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UserError, match=line):
        load_subject(Recipe(model=str(tmp_path)))


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path)
    (folder / "model.safetensors").unlink()
    torch.save(tiny_network().state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="safetensors") as caught:
        load_subject(Recipe(model=str(folder)))
    assert "\n" not in str(caught.value)


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(UserError) as caught:
        load_subject(Recipe(model=str(folder)))
    assert "\n" not in str(caught.value)
