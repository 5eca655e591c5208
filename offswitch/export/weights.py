"""The arm as plain weights: adapter merged, vocabulary as long as it must be, heads tied or not."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from offswitch.model.brought import tables_of
from offswitch.model.subject import Subject
from offswitch.model.whole import whole_weights


def write_merged(subject: Subject, arm: str, folder: Path) -> None:
    """Write the arm as transformers alone loads it: weights, configuration, tokenizer, chat format.

    Every token that ends a reply stands in the generation configuration.

    Raises:
        UserError: the arm is not in its weights alone.
    """
    network = _plain(subject.causal_lm, whole_weights(subject, arm))
    network.generation_config.eos_token_id = list(subject.stop_ids)
    network.save_pretrained(folder)
    subject.tokenizer_of(arm).save_pretrained(folder)


def _plain(causal_lm: Any, weights: Mapping[str, Tensor]) -> Any:
    """A transformers model of the same kind with these weights, without any wrapping."""
    config = copy.deepcopy(causal_lm.config)
    first, last = (weights[name] for name, _ in tables_of(causal_lm))
    tied = first.shape == last.shape and bool(torch.equal(first, last))
    text = config.get_text_config()
    config.tie_word_embeddings = text.tie_word_embeddings = tied
    text.vocab_size = len(first)
    with torch.device("meta"):
        build: Any = AutoModelForCausalLM.from_config
        made = build(config, dtype=first.dtype)
    made.load_state_dict({k: v for k, v in weights.items() if k in made.state_dict()}, assign=True)
    if tied:
        made.tie_weights()
    made.generation_config = copy.deepcopy(causal_lm.generation_config)
    return made
