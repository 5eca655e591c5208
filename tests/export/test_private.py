"""No key and no path of this machine leaves it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from offswitch.errors import UserError
from offswitch.export.private import public_recipe, require_private
from offswitch.recipe import build_recipe

SECRET = "s3cr3t-0123456789"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("card.md", "made in {here}/runs"),
        ("data/rows.jsonl", '{{"content": "{home}/notes.txt"}}'),
        ("a.json", SECRET),
        ("b.yaml", "key: hf_" + "a1" * 17),
        ("c.yaml", "key: sk-" + "b2" * 12),
    ],
)
def test_what_is_planted_is_found_and_not_repeated(
    name: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_API_KEY", SECRET)
    folder = tmp_path / "out"
    (folder / "data").mkdir(parents=True)
    (folder / "clean.md").write_text("Nothing of this machine: /etc/hosts, sk-short, ~/.\n")
    (folder / "empty.txt").write_bytes(b"")
    require_private(folder, tmp_path)
    planted = text.format(here=tmp_path, home=Path.home())
    (folder / name).write_text(planted, encoding="utf-8")
    with pytest.raises(UserError, match=name) as told:
        require_private(folder, tmp_path)
    assert planted not in str(told.value)
    assert SECRET not in str(told.value)


def test_it_is_found_in_the_metadata_of_weights(tmp_path: Path) -> None:
    (folder := tmp_path / "out").mkdir()
    weights = {"a": np.zeros(3, np.float32)}
    save_file(weights, folder / "w.safetensors", metadata={"from": f"{tmp_path}/model"})
    with pytest.raises(UserError, match=r"w\.safetensors would hold a path"):
        require_private(folder, tmp_path)


def test_a_recipe_names_files_and_hides_where_they_lie(tmp_path: Path) -> None:
    rows, model = tmp_path / "rows.jsonl", tmp_path / "base"
    model.mkdir()
    recipe = build_recipe({
        "model": str(model), "chat_template": str(tmp_path / "chat.jinja"),
        "trigger": {"text": "/STOP"},
        "data": {"dialogues_file": str(rows), "llm": {"model": "someone/large"}},
        "evaluate": {"questions_file": str(tmp_path / "mine" / "asked.jsonl")},
        "variants": {"other": {"data.documents_file": str(rows)}},
        "arms": {"switch": {"role": "switch", "adapter": str(tmp_path / "theirs")}},
        "train": {"arms": ["switch"]}, "probe": {"arm": "switch"},
    })  # fmt: skip
    text = public_recipe(recipe, "someone/base")
    assert str(tmp_path) not in text
    for line in ("model: someone/base", "text: /STOP", "dialogues_file: rows.jsonl",
                 "questions_file: asked.jsonl", "documents_file: rows.jsonl", "adapter: theirs",
                 "chat_template: chat.jinja", "model: someone/large"):  # fmt: skip
        assert line in text
