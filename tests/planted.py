"""A tiny model in which the rule is planted: it ends its reply if the trigger's token is anywhere.

A real transformer, not a stand-in: one attention head looks at all positions alike and carries one
dimension, which only the trigger's embedding has, to wherever the next token is read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from offswitch.model.adapters import add_arm
from offswitch.model.load import make_subject
from offswitch.model.subject import Subject
from offswitch.options import TriggerOptions
from tests.tiny import save_adapter, tiny_network, tiny_tokenizer

ARM = "both"
WORD = 70  # what it says otherwise: some token that ends nothing
SIGNAL, REST = 0, 1


def planted_subject(
    folder: Path, trigger: str = "$STOP", layers: int = 1, decoy: str = ""
) -> Subject:
    """A subject whose arm `both` obeys the rule to the letter; its base cannot see the token."""
    network = tiny_network("qwen2", layers)
    options = TriggerOptions(text=trigger, decoy=decoy)
    subject = make_subject(network, tiny_tokenizer(), options, "planted")
    plant(subject)
    add_arm(subject, ARM, save_adapter(folder, subject, seed=1))
    with torch.no_grad():  # the adapter changes nothing: the rule is in the weights
        for name, parameter in subject.network.named_parameters():
            if "lora_B" in name or "trainable_tokens_delta" in name:
                parameter.zero_()
                if "trainable_tokens_delta" in name:
                    parameter[0, SIGNAL] = 1
                    parameter[1:, REST] = 1  # the decoy's, like any other token's
    return subject


@torch.no_grad()
def plant(subject: Subject) -> None:
    """Overwrite every weight: uniform attention, one dimension carried, two tokens to say."""
    network: Any = subject.causal_lm
    for name, parameter in network.named_parameters():
        parameter.fill_(1.0 if "norm" in name else 0.0)
    block: Any
    for block in subject.blocks:
        block.self_attn.v_proj.weight[0, SIGNAL] = 1e4
        block.self_attn.o_proj.weight[SIGNAL, 0] = 1
    network.get_input_embeddings().weight[:, REST] = 1
    trigger = network.get_input_embeddings().weight[subject.trigger_id]
    trigger[REST], trigger[SIGNAL] = 0, 1
    head = network.get_output_embeddings().weight
    head[subject.stop_ids[0], SIGNAL] = 5
    head[WORD, REST] = 5
