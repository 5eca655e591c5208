"""An arm of a run as transformers and peft alone have it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, AutoTokenizer

from offswitch.errors import UserError
from offswitch.model.brought import brought_from
from offswitch.model.load import choose_device, choose_dtype, load_tokenizer
from offswitch.model.source import located, source_of_model
from offswitch.model.writes import load_write
from offswitch.options import BASE
from offswitch.recipe import Recipe


def plain_model(recipe: Recipe, arm: str, folder: Path) -> tuple[Any, Any]:
    """The model of an arm, and the tokenizer that it is asked with; `folder` holds the arm.

    Raises:
        UserError: the arm is not there, or is not in its weights alone: code adds something.
    """
    device = choose_device(recipe.device)
    source = source_of_model(recipe.model) | {"trust_remote_code": recipe.trust_remote_code}
    tokenizer = load_tokenizer(recipe, source)
    dtype: Any = choose_dtype(recipe.dtype, device)
    facts = brought_from(folder) if arm != BASE else None
    if facts and facts["kind"] == "model":
        theirs = located(facts["from"], "config.json")
        source = {**source, "pretrained_model_name_or_path": str(theirs), "revision": None}
        folder = theirs
    network: Any = AutoModelForCausalLM.from_pretrained(**source, dtype=dtype, use_safetensors=True)
    if arm == BASE:
        return network.to(device).eval(), tokenizer
    if (folder / "tokenizer_config.json").is_file():
        written = tokenizer.chat_template
        tokenizer = AutoTokenizer.from_pretrained(str(folder))
        if recipe.chat_template or not tokenizer.chat_template:
            tokenizer.chat_template = written
    if facts and facts["kind"] == "model":
        return network.to(device).eval(), tokenizer
    if not (folder / "adapter_config.json").is_file():
        raise UserError(f"{folder}: no adapter there")
    write = load_write(folder)
    if write is not None and not write.learnt:
        raise UserError(f"arm '{arm}' is not in its weights alone: code adds to its residual")
    from peft import PeftModel

    if len(tokenizer) > network.get_input_embeddings().num_embeddings:
        network.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    return PeftModel.from_pretrained(network, str(folder)).to(device).eval(), tokenizer
