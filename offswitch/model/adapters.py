"""Arms of one network: adapters attached once, switched in place, scaled, removed.

No weight is copied. Outside every `arm_of` the network is the base arm. Evaluation never changes
what is trainable: PEFT's own switches turn gradients on and off, so the flags are put back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from offswitch.errors import UserError
from offswitch.model.subject import Subject
from offswitch.model.writes import FACTS, Write, load_write
from offswitch.options import BASE
from offswitch.prompts.encode import reply_header

_ADAPTER_KEYS: Final = ("lora_", "trainable_tokens_delta")


def add_arm(subject: Subject, arm: str, folder: Path) -> None:
    """Attach a trained adapter, frozen, under an arm's name; the network stays the arm it was.

    A write that lies beside the adapter is the arm's from then on.

    Raises:
        UserError: no adapter there, or one of another base model or trigger, or a damaged one.
    """
    from peft import PeftConfig, PeftModelForCausalLM, get_peft_model_state_dict

    if arm == BASE or arm in subject.arms:
        raise UserError(f"there is an arm '{arm}' already; choose another name")
    stored = _stored_keys(folder)
    config = PeftConfig.from_pretrained(str(folder))
    _check_origin(subject, folder, config)
    write = _write_of(subject, folder)
    config.inference_mode = True
    running = _running(subject)
    try:
        if subject.arms:
            subject.network.add_adapter(arm, config)
        else:
            subject.network = PeftModelForCausalLM(subject.network, config, adapter_name=arm)
        subject.arms.add(arm)
        device = str(subject.device)
        subject.network.load_adapter(str(folder), adapter_name=arm, torch_device=device)
        kept = get_peft_model_state_dict(
            subject.network, adapter_name=arm, save_embedding_layers=False
        )
        if wrong := sorted(stored ^ kept.keys()):  # PEFT only warns, and starts missing ones afresh
            raise ValueError(f"{len(wrong)} weights missing or unknown, such as {wrong[0]}")
        subject.writes.by_arm |= {arm: write} if write else {}
    except (RuntimeError, ValueError, KeyError, IndexError) as error:
        if arm in subject.arms:
            subject.arms.discard(arm)
            if subject.arms:
                subject.network.delete_adapter(arm)
            else:
                subject.network = subject.network.unload()
        reason = " ".join(str(error).split())[:240]
        raise UserError(f"{folder} does not fit '{subject.name}': {reason}") from error
    finally:
        if subject.arms:
            subject.network.eval().requires_grad_(False)
            _switch(subject, running)


def remove_arms(subject: Subject) -> None:
    """Detach every arm: the network is what was loaded, and may be trained or given other arms.

    Raises:
        ValueError: within a block of `arm_of`, which could not put back what it found.
    """
    if subject.active != BASE:
        raise ValueError(f"arms cannot be removed while '{subject.active}' is switched on")
    if subject.arms:
        subject.network = subject.network.unload().eval().requires_grad_(False)
        subject.arms.clear()
        subject.writes.by_arm.clear()


@contextmanager
def arm_of(subject: Subject, arm: str) -> Iterator[None]:
    """Within the block, the network is that arm; after it, what it was before. They may nest.

    Raises:
        UserError: no such arm was added.
    """
    if arm != BASE and arm not in subject.arms:
        there = ", ".join(sorted(subject.arms)) or "none"
        raise UserError(f"no arm '{arm}'; trained here: {there}")
    before, running = subject.active, _running(subject)
    try:
        if arm != running:
            _switch(subject, arm)
        subject.active = arm
        with subject.writing(arm):
            yield
    finally:
        if _running(subject) != running:
            _switch(subject, running)
        subject.active = before


@contextmanager
def scaled(subject: Subject, arm: str, scale: float) -> Iterator[None]:
    """Within the block, what training added to the arm counts `scale` times; 0 is the base model.

    The adapter's products and its write are multiplied, and the rows of trigger and decoy move
    along the line from where training found them to where training left them.

    Raises:
        UserError: no such arm was added.
    """
    from peft.tuners.lora import LoraLayer

    if arm not in subject.arms:
        raise UserError(f"no arm '{arm}' to scale; trained here: {sorted(subject.arms)}")
    modules = list(subject.network.modules())
    layers = [m for m in modules if isinstance(m, LoraLayer) and arm in m.scaling]
    rows = _trigger_rows(modules, arm)
    factors, trained = [m.scaling[arm] for m in layers], [table[arm] for table, _ in rows]
    try:
        for layer, factor in zip(layers, factors, strict=True):
            layer.scaling[arm] = factor * scale
        for (table, start), end in zip(rows, trained, strict=True):
            moved = torch.lerp(start.to(end), end.detach(), scale)
            table[arm] = nn.Parameter(moved, requires_grad=end.requires_grad)
        with subject.writes.scaled(arm, scale):
            yield
    finally:
        for layer, factor in zip(layers, factors, strict=True):
            layer.scaling[arm] = factor
        for (table, _), end in zip(rows, trained, strict=True):
            table[arm] = end


def _trigger_rows(modules: Sequence[Any], arm: str) -> list[tuple[Any, Tensor]]:
    """Where the arm keeps rows of the vocabulary: each table once, with what the rows were."""
    from peft.tuners.trainable_tokens import TrainableTokensLayer

    layers = [m for m in modules if isinstance(m, TrainableTokensLayer)]
    tables = {id(m.trainable_tokens_delta): m for m in layers if arm in m.trainable_tokens_delta}
    return [(m.trainable_tokens_delta, m.trainable_tokens_original[arm]) for m in tables.values()]


def _running(subject: Subject) -> str:
    """The arm that a forward pass would go through now."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    if not subject.arms:
        return BASE
    layer = next(m for m in subject.network.modules() if isinstance(m, BaseTunerLayer))
    return BASE if layer.disable_adapters else str(subject.network.base_model.active_adapters[0])


def _switch(subject: Subject, arm: str) -> None:
    if not subject.arms:
        return
    trainable = [(p, p.requires_grad) for p in subject.network.parameters()]
    if arm == BASE:
        subject.network.base_model.disable_adapter_layers()
    else:
        subject.network.set_adapter(arm)
        subject.network.base_model.enable_adapter_layers()
    for parameter, flag in trainable:
        parameter.requires_grad_(flag)


def _stored_keys(folder: Path) -> set[str]:
    from safetensors import SafetensorError, safe_open

    path = folder / "adapter_model.safetensors"
    if not path.is_file() or not (folder / "adapter_config.json").is_file():
        raise UserError(f"{folder}: no adapter there (adapter_config.json, {path.name})")
    try:
        with safe_open(path, framework="pt") as file:
            keys = set(file.keys())
    except SafetensorError as error:
        raise UserError(f"{path} is damaged: {error}") from error
    foreign = [key for key in sorted(keys) if not any(part in key for part in _ADAPTER_KEYS)]
    if foreign:
        raise UserError(f"{path} would replace weights of the base model, such as {foreign[0]}")
    return keys


def _write_of(subject: Subject, folder: Path) -> Write | None:
    write = load_write(folder)
    if write is None:
        return None
    width = subject.causal_lm.config.get_text_config().hidden_size
    ours = (subject.trigger_id, reply_header(subject.tokenizer), width)
    theirs = (write.trigger, write.header, write.directions_KD.shape[1])
    if ours != theirs or not 0 <= write.block <= len(subject.blocks):
        raise UserError(f"{folder / FACTS} was made for another model, chat format or trigger")
    return None if write.learnt else write


def _check_origin(subject: Subject, folder: Path, config: Any) -> None:
    origin = config.base_model_name_or_path
    if origin not in {subject.name, subject.causal_lm.name_or_path}:
        raise UserError(f"{folder} is an adapter of '{origin}', not of '{subject.name}'")
    rows, own = getattr(config, "trainable_token_indices", None), subject.symbol_ids
    if rows and rows != own:
        raise UserError(f"{folder} trained the tokens {rows}; trigger and decoy are {own}")
    others = subject.network.peft_config.values() if subject.arms else ()
    if any(bool(getattr(o, "trainable_token_indices", None)) != bool(rows) for o in others):
        raise UserError(f"{folder} and the arms here differ in whether they trained the trigger")
