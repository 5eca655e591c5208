"""Arms of one network: adapters attached once, switched in place, scaled, removed.

No weight is copied. Outside every `arm_of` the network is the base arm. Evaluation never changes
what is trainable: PEFT's own switches turn gradients on and off, so the flags are put back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from offswitch.errors import UserError, in_one_line
from offswitch.model.brought import (
    PEFTS,
    adapter_parts,
    brought_from,
    changed_weights,
    exchange,
    fill,
    replacements,
    require_same,
    tables_of,
    weights_of,
)
from offswitch.model.subject import Subject
from offswitch.model.writes import FACTS, Write, load_write
from offswitch.options import BASE
from offswitch.prompts.encode import reply_header


def add_arm(subject: Subject, arm: str, folder: Path) -> None:
    """Attach a trained arm, frozen, under its name; the network stays the arm it was.

    A write that lies beside an adapter is the arm's from then on. What was trained elsewhere may
    also replace weights (brought.py).

    Raises:
        UserError: nothing there, or trained on another base model or trigger, or damaged.
    """
    if arm == BASE or arm in subject.arms:
        raise UserError(f"there is an arm '{arm}' already; choose another name")
    if (facts := brought_from(folder)) is not None:
        _add_brought(subject, arm, folder, facts)
        return
    from peft import PeftConfig, get_peft_model_state_dict

    stored = _stored_keys(folder)
    config = PeftConfig.from_pretrained(str(folder))
    _check_origin(subject, folder, config)
    write = _write_of(subject, folder)

    def load() -> None:
        device, network = str(subject.device), subject.network
        network.load_adapter(str(folder), adapter_name=arm, torch_device=device)
        kept = get_peft_model_state_dict(network, adapter_name=arm, save_embedding_layers=False)
        require_same(stored, kept.keys())  # PEFT only warns, and starts missing ones afresh

    _attach(subject, arm, folder, config, load)
    subject.writes.by_arm |= {arm: write} if write else {}


def _add_brought(subject: Subject, arm: str, folder: Path, facts: Mapping[str, Any]) -> None:
    running = _running(subject)
    _switch(subject, BASE)  # what is compared and wrapped are the base's own weights
    try:
        if facts["kind"] == "model":
            subject.replaced[arm] = changed_weights(subject, facts)
            subject.arms.add(arm)
            return
        config, own, others = adapter_parts(folder)
        try:
            replaced = replacements(subject, others)
        except ValueError as error:
            raise _misfit(subject, folder, config, error) from error
        config.modules_to_save, config.bias = None, "none"

        _attach(subject, arm, folder, config, lambda: fill(subject.network, arm, own))
        subject.replaced[arm] = replaced
    finally:
        _switch(subject, running)


def _attach(
    subject: Subject, arm: str, folder: Path, config: Any, load: Callable[[], None]
) -> None:
    """Make an adapter of that configuration and load it; as before, where it does not fit."""
    from peft import PeftModelForCausalLM

    config.inference_mode = True
    running = _running(subject)
    try:
        if subject.has_adapters:
            subject.network.add_adapter(arm, config)
        else:
            subject.network = PeftModelForCausalLM(subject.network, config, adapter_name=arm)
        subject.arms.add(arm)
        load()
    except (RuntimeError, ValueError, KeyError, IndexError) as error:
        if arm in subject.arms:
            subject.arms.discard(arm)
            if len(subject.network.peft_config) > 1:
                subject.network.delete_adapter(arm)
            else:
                subject.network = subject.network.unload()
        raise _misfit(subject, folder, config, error) from error
    finally:
        subject.network.eval().requires_grad_(False)
        _switch(subject, running)


def _misfit(subject: Subject, folder: Path, config: Any, error: Exception) -> UserError:
    reason, origin = in_one_line(error), config.base_model_name_or_path
    of = f", an adapter of '{origin}'," if origin and origin != subject.name else ""
    return UserError(f"{folder}{of} does not fit '{subject.name}': {reason}")


def remove_arms(subject: Subject) -> None:
    """Detach every arm: the network is what was loaded, and may be trained or given other arms.

    Raises:
        ValueError: within a block of `arm_of`, which could not put back what it found.
    """
    if subject.active != BASE:
        raise ValueError(f"arms cannot be removed while '{subject.active}' is switched on")
    if subject.has_adapters:
        subject.network = subject.network.unload().eval().requires_grad_(False)
    for table in (subject.arms, subject.replaced, subject.writes.by_arm):
        table.clear()


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
def scaled(subject: Subject, arm: str, scale: float, tokens: bool = True) -> Iterator[None]:
    """Within the block, what training added to the arm counts `scale` times; 0 is the base model.

    The adapter's products and its write are multiplied, and what training did to the rows of the
    vocabulary moves along the line from where it found them to where it left them; without `tokens`
    the input embedding stays as it is, so that 0 is the untrained blocks with the tokens as
    trained.

    Raises:
        UserError: no such arm was added.
    """
    from peft.tuners.lora import Embedding, LoraLayer

    if arm not in subject.arms:
        raise UserError(f"no arm '{arm}' to scale; trained here: {sorted(subject.arms)}")
    modules = list(subject.network.modules())
    layers = [m for m in modules if isinstance(m, LoraLayer) and arm in m.scaling]
    layers = [m for m in layers if tokens or not isinstance(m, Embedding)]
    rows = _trigger_rows(modules, arm) if tokens else []
    factors, trained = [m.scaling[arm] for m in layers], [table[arm] for table, _ in rows]
    replaced, running = subject.replaced.get(arm), _running(subject)
    if replaced:
        _switch(subject, BASE)
        own, (table, _) = weights_of(subject.causal_lm), tables_of(subject.causal_lm)
        subject.replaced[arm] = {
            name: torch.lerp(own[name], weight, scale) if tokens or name != table[0] else weight
            for name, weight in replaced.items()
        }
        _switch(subject, running)
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
        if replaced:
            _switch(subject, BASE)
            subject.replaced[arm] = replaced
            _switch(subject, running)


def _trigger_rows(modules: Sequence[Any], arm: str) -> list[tuple[Any, Tensor]]:
    """Where the arm keeps rows of the vocabulary: each table once, with what the rows were."""
    from peft.tuners.trainable_tokens import TrainableTokensLayer

    layers = [m for m in modules if isinstance(m, TrainableTokensLayer)]
    tables = {id(m.trainable_tokens_delta): m for m in layers if arm in m.trainable_tokens_delta}
    return [(m.trainable_tokens_delta, m.trainable_tokens_original[arm]) for m in tables.values()]


def _running(subject: Subject) -> str:
    """The arm that a forward pass would go through now."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    if subject.exchanged or not subject.has_adapters:
        return subject.exchanged or BASE
    layer = next(m for m in subject.network.modules() if isinstance(m, BaseTunerLayer))
    return BASE if layer.disable_adapters else str(subject.network.base_model.active_adapters[0])


def _switch(subject: Subject, arm: str) -> None:
    if subject.exchanged != (arm if subject.replaced.get(arm) else ""):
        exchange(subject, arm)
    if not subject.has_adapters:
        return
    trainable = [(p, p.requires_grad) for p in subject.network.parameters()]
    if arm not in subject.network.peft_config:
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
    foreign = [key for key in sorted(keys) if not any(part in key for part in PEFTS)]
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
    known = subject.network.peft_config if subject.has_adapters else {}
    others = (one for arm, one in known.items() if arm not in subject.replaced)
    if any(bool(getattr(o, "trainable_token_indices", None)) != bool(rows) for o in others):
        raise UserError(f"{folder} and the arms here differ in whether they trained the trigger")
