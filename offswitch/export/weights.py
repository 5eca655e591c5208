"""The arm as plain weights: adapter merged, vocabulary as long as it must be, heads tied or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from offswitch.model.adapters import arm_of
from offswitch.model.brought import weights_of
from offswitch.model.subject import Subject


@torch.no_grad()
def write_merged(subject: Subject, arm: str, folder: Path) -> None:
    """Write the arm as transformers alone loads it: weights, configuration, tokenizer, chat format.

    Sums are taken in float32 and stored in the type that the run computed in. The subject is of no
    use afterwards. Every token that ends a reply stands in the generation configuration.
    """
    with arm_of(subject, arm):
        dtype = next(subject.causal_lm.parameters()).dtype
        subject.network.float()
        if subject.has_adapters:
            subject.network.merge_adapter([arm])
        network = _plain(subject.causal_lm, weights_of(subject.causal_lm), dtype)
        network.generation_config.eos_token_id = list(subject.stop_ids)
        network.save_pretrained(folder)
        subject.tokenizer_of(arm).save_pretrained(folder)


def _plain(causal_lm: Any, weights: dict[str, Tensor], dtype: torch.dtype) -> Any:
    """A transformers model of the same configuration with these weights, without any wrapping."""
    config = causal_lm.config
    text, own = config.get_text_config(), {id(w): w.to(dtype) for w in weights.values()}
    tables = (causal_lm.get_input_embeddings(), causal_lm.get_output_embeddings())
    first, last = (_weight_of(table) for table in tables)
    tied = first.shape == last.shape and bool(torch.equal(first, last))
    config.tie_word_embeddings = text.tie_word_embeddings = tied
    text.vocab_size = len(first)
    with torch.device("meta"):
        build: Any = AutoModelForCausalLM.from_config
        made = build(config, dtype=dtype)
    state = {name: own[id(weight)] for name, weight in weights.items()}
    made.load_state_dict({k: v for k, v in state.items() if k in made.state_dict()}, assign=True)
    if tied:
        made.tie_weights()
    made.generation_config = causal_lm.generation_config
    return made


def _weight_of(layer: Any) -> Tensor:
    """The weight of a table beneath PEFT's wrapping."""
    inner = layer
    while inner is not None:
        layer, inner = inner, getattr(inner, "base_layer", getattr(inner, "original_module", None))
    weight: Tensor = layer.weight
    return weight
