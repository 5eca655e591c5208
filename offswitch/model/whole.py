"""An arm as whole weights: what its adapter adds is added, and the sum can be changed.

Changed weights are attached as an arm of their own, like those of a fine-tune that came from
elsewhere (brought.py): the network stays one, and the base lies beside it for comparison.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from offswitch.errors import UserError
from offswitch.model.adapters import arm_of
from offswitch.model.brought import Weights, places_of, plain_name, tables_of, weights_of
from offswitch.model.forward import trained_rows
from offswitch.model.subject import Subject, attention_outputs
from offswitch.model.writes import not_alone


@torch.no_grad()
def whole_weights(subject: Subject, arm: str) -> Weights:
    """Every weight of an arm, its adapter included, by the network's own names; none is shared.

    Sums are taken in float32 and kept in the type of the base's weight.

    Raises:
        UserError: the arm is not in its weights alone: code adds something.
    """
    from peft.tuners.lora import LoraLayer

    if arm in subject.writes.by_arm:
        raise not_alone(arm)
    lm = subject.causal_lm
    with arm_of(subject, arm):
        found = {name: weight.detach().clone() for name, weight in weights_of(lm).items()}
        modules: list[tuple[str, Any]] = [*lm.named_modules()]
        for path, layer in modules:
            if isinstance(layer, LoraLayer) and arm in layer.scaling:
                merged = _merged(layer, arm)
                found |= {plain_name(f"{path}.{leaf}"): own for leaf, own in merged.items()}
        for name, table in tables_of(lm):
            if (rows := trained_rows(table)) is not None:
                own = found[name]
                own[torch.tensor(rows[0], device=own.device)] = rows[1].to(own)
    return found


def _merged(layer: Any, arm: str) -> Weights:
    """A layer's weight and bias with its adapter merged by PEFT, whatever kind of LoRA it is."""
    parameters = layer.get_base_layer()._parameters
    own = {leaf: weight for leaf, weight in parameters.items() if weight is not None}
    for leaf, weight in own.items():  # PEFT adds in place
        parameters[leaf] = nn.Parameter(weight.detach().float().clone(), requires_grad=False)
    try:
        layer.merge(adapter_names=[arm])
        return {leaf: parameters[leaf].detach().to(weight.dtype) for leaf, weight in own.items()}
    finally:
        parameters.update(own)
        layer.merged_adapters.clear()


@contextmanager
def attached(subject: Subject, arm: str, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Within the block, there is an arm of these weights; where it has none, the base's are."""
    subject.replaced[arm] = dict(weights)
    subject.arms.add(arm)
    try:
        yield
    finally:
        subject.arms.discard(arm)
        del subject.replaced[arm]


@contextmanager
def based_on(subject: Subject, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Within the block, the untrained model itself has these weights: an adapter learns on them."""
    kept: list[tuple[nn.Module, str, Any]] = []
    try:
        for name, (module, leaf) in places_of(subject.causal_lm).items():
            if name in weights:
                kept.append((module, leaf, module._parameters[leaf]))
                module._parameters[leaf] = nn.Parameter(weights[name], requires_grad=False)
        yield
    finally:
        for module, leaf, own in kept:
            module._parameters[leaf] = own


def matrices(subject: Subject) -> list[str]:
    """The weights of every linear map in the blocks, by the network's names."""
    return [name for name, _ in _linear(subject)]


def writers(subject: Subject) -> dict[str, bool]:
    """What writes to the residual stream: embeddings, and in each block attention and MLP.

    By the name of the weight, biases included: does its last axis lie along the stream? Else its
    first does. Known limit: where a norm follows before the sum (Gemma 2, 3), it rescales what is
    written.

    Raises:
        UserError: a block has no MLP that can be told from its shape.
    """
    lm = subject.causal_lm
    outputs = {id(getattr(one, "base_layer", one)) for one in attention_outputs(subject)}
    width = lm.config.get_text_config().hidden_size
    found = {plain_name(f"{path}.weight"): True for path, module in lm.named_modules()
             if isinstance(module, nn.Embedding) and module.embedding_dim == width}  # fmt: skip
    count = 0
    for name, module in _linear(subject):
        turned = isinstance(module, Conv1D)  # [in, out]
        out, into = module.weight.shape[::-1] if turned else module.weight.shape
        is_output = id(module) in outputs
        if is_output or out == width != into:
            count += not is_output
            found[name] = turned
            if module.bias is not None:
                found[name.removesuffix("weight") + "bias"] = True
    if count != len(subject.blocks):
        raise UserError(
            f"{subject.name}: found {count} matrices that end an MLP, not {len(subject.blocks)}"
        )
    return found


def _linear(subject: Subject) -> list[tuple[str, Any]]:
    """The linear maps in the blocks beneath any adapter, by the names of their weights."""
    inside = {id(module) for block in subject.blocks for module in block.modules()}
    return [
        (plain_name(f"{path}.weight"), module)
        for path, module in subject.causal_lm.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and id(module) in inside and "lora_" not in path
    ]
