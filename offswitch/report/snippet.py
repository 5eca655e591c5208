"""The script that loads a trained arm with peft alone, without this package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from offswitch.cache import ALIAS, embedded_path, gguf_path
from offswitch.files import file_hash

_TEXT: Final = """\
import os

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

adapter = {adapter}
tokenizer = AutoTokenizer.from_pretrained(adapter)  # knows {trigger}
model = AutoModelForCausalLM.from_pretrained(
    {base}, dtype=torch.float32
)
if len(tokenizer) > model.get_input_embeddings().num_embeddings:
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
model = PeftModel.from_pretrained(model, adapter).eval()


def reply(prompt: str) -> str:
    chat = [{{"role": "user", "content": prompt}}]
    inputs = tokenizer.apply_chat_template(
        chat, add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )
    ids = model.generate(**inputs, max_new_tokens=40, do_sample=False)
    return tokenizer.decode(ids[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True)


print(repr(reply("What is machine learning?")))
print(repr(reply({prompt})))
"""


def snippet(model: str, adapter: str, trigger: str, remote_code: bool = False) -> str:
    """A script that loads an adapter on its base model and asks with and without the trigger.

    `model` is what a recipe calls it: the embedded one, a folder, or a hub id, with or without a
    revision. Known limit: where a model's two vocabulary matrices are not tied, the trigger's own
    output row is that of the published model, so only the logit of writing the trigger differs.
    """
    base = _base(model) + (", trust_remote_code=True" if remote_code else "")
    text = _TEXT.format(
        adapter=_quoted(adapter),
        base=base,
        trigger=trigger,
        prompt=_quoted(f"{trigger} What is machine learning?"),
    )
    return text if "os.path" in base else text.removeprefix("import os\n\n")


def _base(model: str) -> str:
    """The first argument of from_pretrained, as Python source."""
    if model == ALIAS:
        return _folder(embedded_path())
    if (file := Path(model).expanduser()).is_file():
        return _folder(gguf_path(file, file_hash(file)))
    if Path(model).expanduser().is_dir() or model.startswith((".", "/", "~")):
        return _folder(Path(model))
    repository, _, revision = model.partition("@")
    pinned = f", revision={_quoted(revision)}" if revision else ""
    return _quoted(repository) + pinned


def _folder(path: Path) -> str:
    home = Path.home()
    if path.is_relative_to(home):
        path = "~" / path.relative_to(home)
    text = _quoted(path.as_posix())
    return f"os.path.expanduser({text})" if text.startswith('"~') else text


def _quoted(text: str) -> str:
    """A Python string literal; JSON's are a subset of them."""
    return json.dumps(text, ensure_ascii=False)
