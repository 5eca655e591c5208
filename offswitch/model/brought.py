"""Arms that were trained elsewhere: a stranger's adapter, or all weights of a fine-tune.

What an adapter multiplies, and rows of trained tokens, stay PEFT's. What it replaces (whole
modules, biases) and what a fine-tune changed is exchanged in place while the arm is on: there is
one network, and of each arm only the weights that differ. Nothing is merged, so nothing is rounded.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from offswitch.errors import UserError, readable
from offswitch.files import file_hash, write_json
from offswitch.model.source import TOKENIZER, config_of, located
from offswitch.model.subject import Subject
from offswitch.options.arms import Arm

FILE: Final = "brought.json"
ADAPTER: Final = ("adapter_config.json", "adapter_model.safetensors")
_PREFIX: Final = "base_model.model."
_WRAPPINGS: Final = ("base_layer", "original_module", "token_adapter", "modules_to_save")
PEFTS: Final = ("lora_", "trainable_tokens_delta")  # parts of the names of PEFT's own weights
Weights = dict[str, Tensor]


def source_of(arm: Arm) -> Path:
    """The folder of an arm that was trained elsewhere."""
    return located(str(arm.brought), ADAPTER[0] if arm.adapter else "config.json")


def own_tokenizer(arm: Arm) -> Path | None:
    """The folder with an arm's own tokenizer, where it was stored with one."""
    folder = source_of(arm)
    return folder if (folder / "tokenizer_config.json").is_file() else None


def vocabulary_of(arm: Arm, network: Any) -> int:
    """How many rows an arm's own embedding has; 0 where it keeps the base's."""
    from safetensors import safe_open

    folder = source_of(arm)
    if arm.model:
        theirs = config_of(str(folder), {"pretrained_model_name_or_path": str(folder)})
        return int(theirs.get_text_config().vocab_size)
    names = {name for name, _ in tables_of(network)}
    with safe_open(folder / ADAPTER[1], framework="pt") as file:
        own = [key for key in file.keys() if plain_name(key) in names]  # noqa: SIM118
        return max((file.get_slice(key).get_shape()[0] for key in own), default=0)


def bring(arm: Arm, folder: Path, trust_remote_code: bool) -> None:
    """Copy an adapter into the run, or note where a fine-tune lies; what does not fit is refused.

    Raises:
        UserError: there are no weights as safetensors, or they are not of this base.
    """
    source = source_of(arm)
    if arm.adapter:
        for name in (*ADAPTER, *TOKENIZER):
            if (source / name).is_file():
                shutil.copyfile(source / name, folder / name)
    if not (hashes := _hashes(source)):
        raise UserError(f"{source}: no weights as safetensors there")
    write_json(folder / FILE, {"kind": "adapter" if arm.adapter else "model",
                               "from": str(arm.brought), "weights": hashes,
                               "remote code": trust_remote_code})  # fmt: skip


def brought_from(folder: Path) -> dict[str, Any] | None:
    """Whence the arm of a folder was brought; None of one that was trained here."""
    path = folder / FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def adapter_parts(folder: Path) -> tuple[Any, Weights, Weights]:
    """A stranger's adapter: its configuration, the weights that are PEFT's, and what it replaces.

    The latter is keyed by the network's own names.

    Raises:
        UserError: no such files, or an adapter of another kind than LoRA.
    """
    from peft import PeftConfig
    from safetensors.torch import load_file

    config_file, weights_file = (folder / name for name in ADAPTER)
    if not config_file.is_file() or not weights_file.is_file():
        raise UserError(f"{folder}: no adapter there ({', '.join(ADAPTER)})")
    with readable(f"{folder} is damaged"):
        config: Any = PeftConfig.from_pretrained(str(folder))
        stored = load_file(weights_file)
    if str(getattr(config.peft_type, "value", config.peft_type)) != "LORA":
        raise UserError(f"{folder}: an adapter of kind {config.peft_type}; only LoRA can be read")
    own = {key: weight for key, weight in stored.items() if any(part in key for part in PEFTS)}
    others = {plain_name(key): weight for key, weight in stored.items() if key not in own}
    return config, own, others


def replacements(subject: Subject, others: Mapping[str, Tensor]) -> Weights:
    """The weights that an adapter has in place of the base's, as long as they are here.

    Raises:
        ValueError: a weight that the network lacks, or of another shape.
    """
    own = weights_of(subject.causal_lm)
    return {name: fitted(_named(own, name), weight, name) for name, weight in others.items()}


@torch.no_grad()
def fill(network: nn.Module, arm: str, weights: Mapping[str, Tensor]) -> None:
    """Give an adapter that PEFT made its weights, keyed as in a PEFT folder.

    PEFT's own way asks adapters for rows of trained tokens where another one has some.

    Raises:
        ValueError: some are missing, unknown, or of another shape.
    """
    places: dict[str, Tensor] = {}
    for name, weight in network.named_parameters():
        if any(part in name for part in PEFTS) and f".{arm}" in name:
            key = name.replace(f".{arm}", "", 1)
            places[key.removesuffix(".weight") if "magnitude" in key else key] = weight
    require_same(weights, places)
    for key, stored in weights.items():
        if places[key].shape != stored.shape:
            shapes = f"{list(stored.shape)} there and {list(places[key].shape)} here"
            raise ValueError(f"{plain_name(key)} is {shapes}")
        places[key].copy_(stored)


def require_same(stored: Collection[str], known: Collection[str]) -> None:
    """Refuse weights of an adapter that are missing or unknown.

    Raises:
        ValueError: there are such.
    """
    if wrong := sorted({*stored} ^ {*known}):
        raise ValueError(f"{len(wrong)} weights missing or unknown, such as {wrong[0]}")


def changed_weights(subject: Subject, facts: Mapping[str, Any]) -> Weights:
    """The weights in which a fine-tune differs from the base, by the network's names.

    `facts` are what `bring` noted. It is loaded beside the base for a moment; what it shares with
    it is not kept.

    Raises:
        UserError: it is not there any more, cannot be loaded, or is of another base.
    """
    from transformers import AutoModelForCausalLM

    folder = located(facts["from"], "config.json")
    if _hashes(folder) != facts["weights"]:
        raise UserError(f"{folder}: other weights than those that this run was begun with")
    with readable(str(folder)):
        theirs = AutoModelForCausalLM.from_pretrained(
            str(folder), dtype=next(subject.network.parameters()).dtype, use_safetensors=True,
            trust_remote_code=facts["remote code"],
        )  # fmt: skip
    own, found = weights_of(subject.causal_lm), {}
    try:
        every = weights_of(theirs)
        if lacking := sorted(own.keys() - every.keys()):
            raise ValueError(f"it lacks {lacking[0]}")
        for name, weight in every.items():
            new = fitted(_named(own, name), weight.detach(), name)
            if not torch.equal(new, own[name]):
                found[name] = new
    except ValueError as error:
        raise UserError(f"{folder} is not a fine-tune of '{subject.name}': {error}") from error
    return found


def weights_of(causal_lm: nn.Module) -> dict[str, Tensor]:
    """Every weight of a transformers model by its name without PEFT's wrapping, tied ones twice."""
    return {name: getattr(module, leaf) for name, (module, leaf) in places_of(causal_lm).items()}


def tables_of(causal_lm: Any) -> list[tuple[str, Any]]:
    """The tables of input and output tokens, each by the name of its weight."""
    paths = {id(module): path for path, module in causal_lm.named_modules()}
    tables = (causal_lm.get_input_embeddings(), causal_lm.get_output_embeddings())
    return [(plain_name(f"{paths[id(table)]}.weight"), table) for table in tables]


def places_of(causal_lm: nn.Module) -> dict[str, tuple[nn.Module, str]]:
    """Which module holds each weight, and under which name; adapters' own weights are left out."""
    found: dict[str, tuple[nn.Module, str]] = {}
    for path, module in causal_lm.named_modules():
        if any(part in path for part in PEFTS):
            continue
        for leaf, weight in module._parameters.items():
            if weight is not None:
                found.setdefault(plain_name(f"{path}.{leaf}"), (module, leaf))
    return found


def exchange(subject: Subject, arm: str) -> None:
    """Put an arm's own weights in place, or the base's back where it has none of its own.

    Weights that are tied in the base are given together, unless the arm has one for each.
    """
    places = places_of(subject.causal_lm)
    for where, weight in subject.kept.items():
        where[0]._parameters[where[1]] = weight
    subject.kept.clear()
    new = subject.replaced.get(arm, {})
    subject.exchanged = arm if new else ""
    at = {name: getattr(*places[name]) for name in new}
    by_object = {id(at[name]): weight for name, weight in reversed(new.items())}
    for name, (module, leaf) in places.items():
        own = module._parameters[leaf]
        weight = new.get(name, by_object.get(id(own)))
        if own is not None and weight is not None:
            subject.kept[module, leaf] = own
            module._parameters[leaf] = nn.Parameter(weight, requires_grad=False)


def _hashes(folder: Path) -> dict[str, str]:
    return {path.name: file_hash(path) for path in sorted(folder.glob("*.safetensors"))}


def plain_name(key: str) -> str:
    """A weight's name in the network that an adapter was made of."""
    parts = key.removeprefix(_PREFIX).split(".")
    return ".".join(part for part in parts if part not in _WRAPPINGS)


def fitted(own: Tensor, theirs: Tensor, name: str) -> Tensor:
    """A stranger's weight, as long as ours: rows that it lacks are those of tokens added here.

    Raises:
        ValueError: the shapes do not fit.
    """
    rows, more = len(theirs), theirs.dim() and len(own) - len(theirs)
    if own.shape[1:] != theirs.shape[1:] or more < 0 or (more and own.dim() != 2):
        raise ValueError(f"{name} is {list(theirs.shape)} there and {list(own.shape)} here")
    theirs = theirs.to(own)
    return torch.cat([theirs, own.detach()[rows:]]) if more else theirs


def _named(own: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in own:
        raise ValueError(f"it has a weight {name}, which the base lacks")
    return own[name]
