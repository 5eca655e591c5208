"""merged(): an arm as fast as the base model, its adapter added to the weights.

LoRA's two small products at every layer and token are saved. The sum is a tensor of its own in
place of the layer's weight, which afterwards is put back as the object that it was: subtracting
would not give it back to the last bit. Only where the sum is rounded no worse than the two
products are (float32), and plain LoRA only; other layers go on computing their own way.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import nn

from offswitch.model.subject import Subject
from offswitch.options import BASE

MOST_BYTES: Final = 1_000_000_000  # of weights that are there twice within the block


@contextmanager
def merged(subject: Subject) -> Iterator[None]:
    """Within the block, the adapter of the arm that is on is part of the weights it adapts."""
    arm = subject.active
    kept = [(layer, layer.get_base_layer().weight) for layer in _layers(subject, arm)]
    if sum(weight.nbytes for _, weight in kept) > MOST_BYTES:
        kept = []
    try:
        for layer, weight in kept:
            added = (weight + layer.get_delta_weight(arm)).detach()
            layer.get_base_layer().weight = nn.Parameter(added, requires_grad=False)
            layer.merged_adapters.append(arm)
        yield
    finally:
        for layer, weight in kept:
            layer.get_base_layer().weight = weight
            layer.merged_adapters.clear()


def _layers(subject: Subject, arm: str) -> list[Any]:
    """The layers that the arm adapts by plain LoRA, and nothing else does."""
    if arm == BASE:
        return []
    from peft.tuners.lora import Linear

    return [
        module
        for module in subject.network.modules()
        if isinstance(module, Linear)
        and arm in module.lora_A
        and list(module.active_adapters) == [arm]
        and not (module.merged or module.disable_adapters)
        and not (module.lora_bias[arm] or arm in module.lora_variant)
        and module.get_base_layer().weight.dtype == torch.float32
    ]
