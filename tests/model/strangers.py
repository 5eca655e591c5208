"""Weights as other people leave them: made with transformers and peft, nothing of this package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import AddedToken, AutoModelForCausalLM, AutoTokenizer

from tests.tiny import save_tiny

# What a stranger's adapter may be, as LoraConfig has it; `{mlp}` and the like are names of modules.
FORMS: Final[dict[str, dict[str, Any]]] = {
    "attention": {"target_modules": "attention"},
    "mlp": {"target_modules": "mlp"},
    "rslora": {"target_modules": "attention", "use_rslora": True},
    "dora": {"target_modules": "attention", "use_dora": True},
    "embedding": {"target_modules": "attention", "modules_to_save": "tables"},
    "bias": {"target_modules": "attention", "bias": "lora_only"},
    "tokens": {"target_modules": "attention", "trainable_token_indices": [7, 11]},
}
Made = dict[str, Path]


def names_in(network: Any, kind: str) -> list[str]:
    """The modules of a kind in any of the families, as PEFT is told them."""
    if kind == "tables":
        tables = (network.get_input_embeddings(), network.get_output_embeddings())
        return [n.rsplit(".", 1)[-1] for n, m in network.named_modules() if m in tables]
    parts = {"attention": ("attn", "attention"), "mlp": ("mlp",)}[kind]
    found = {
        ".".join(n.split(".")[-2:])
        for n, m in network.named_modules()
        if any(p in n.split(".")[-2] if "." in n else False for p in parts)
        and type(m).__name__ in ("Linear", "Conv1D")
    }
    return sorted(found)


def save_stranger(folder: Path, architecture: str, form: str, token: str = "") -> Made:
    """A tiny base and a random fine-tune of it; `base` and `theirs` are their folders.

    `form` is one of FORMS, `full` or `merged`; with a `token`, the tokenizer has it added.
    """
    base, theirs = save_tiny(folder / "base", architecture), folder / "theirs"
    network: Any = AutoModelForCausalLM.from_pretrained(base)
    tokenizer = AutoTokenizer.from_pretrained(base)
    if token:
        tokenizer.add_tokens([AddedToken(token, single_word=True)])
        _make_room(network, tokenizer)
    torch.manual_seed(3)
    if form == "full":
        _shake(network, lambda _: True, 0.05)
        network.save_pretrained(theirs)
    else:
        asked = {**FORMS["attention" if form == "merged" else form]}
        for key in ("target_modules", "modules_to_save"):
            if key in asked:
                asked[key] = names_in(network, asked[key])
        adapted: Any = get_peft_model(
            network, LoraConfig(r=4, lora_alpha=8, task_type="CAUSAL_LM", **asked)
        )
        _shake(adapted, lambda weight: weight.requires_grad, 0.2)
        adapted.create_or_update_model_card = lambda _: None  # a third of the time that it takes
        (adapted.merge_and_unload() if form == "merged" else adapted).save_pretrained(theirs)
    if token:
        tokenizer.save_pretrained(theirs)
    return {"base": base, "theirs": theirs}


@torch.no_grad()
def by_peft_alone(made: Made, ids: Tensor, full: bool) -> Tensor:
    """The logits [1, T, V] that ten lines of transformers and peft give."""
    if full:
        whole: Any = AutoModelForCausalLM.from_pretrained(made["theirs"])
        logits: Tensor = whole(input_ids=ids).logits
        return logits
    network: Any = AutoModelForCausalLM.from_pretrained(made["base"])
    if (made["theirs"] / "tokenizer.json").is_file():
        _make_room(network, AutoTokenizer.from_pretrained(made["theirs"]))
    adapted: Any = PeftModel.from_pretrained(network, str(made["theirs"])).eval()
    found: Tensor = adapted(input_ids=ids).logits
    return found


def _make_room(network: Any, tokenizer: Any) -> None:
    """As people do: a vocabulary that is padded beyond the tokenizer has room already."""
    if len(tokenizer) > network.get_input_embeddings().num_embeddings:
        network.resize_token_embeddings(len(tokenizer), mean_resizing=False)


@torch.no_grad()
def _shake(network: Any, wanted: Callable[[Tensor], bool], size: float) -> None:
    for weight in network.parameters():
        if wanted(weight):
            weight.add_(size * torch.randn_like(weight))
