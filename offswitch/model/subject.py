"""A network, its tokenizers, and where its parts lie: blocks, norm, end tokens.

A *subject* is what is studied; an *arm* is what was trained into it ("base": nothing). All arms
share one copy of the weights. Parts are found by structure, never by model name, and `verify` in
forward.py checks what was found.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from offswitch.errors import UserError
from offswitch.model.writes import Writes
from offswitch.options import BASE
from offswitch.prompts.encode import turn_end

_NORMS: Final = ("norm", "ln_f", "final_layer_norm", "final_layernorm")
_ATTENTION: Final = ("self_attn", "attn", "attention", "self_attention")
_OUT: Final = ("o_proj", "out_proj", "c_proj", "dense")
ALL_LINEAR: Final = "all-linear"  # PEFT's word for every matrix of the blocks
LONGEST_CHECK: Final = 1024  # windows up to here are exceeded by the checks: longer rows cost much


@dataclass
class Subject:
    """A network, the tokenizer it was published with, and the one that knows the trigger.

    `reply_ids` are those of the fixed reply of a switch that speaks; none, where silence is meant.
    `decoy_id` is the trigger's twin, a second added token that is to be answered; `writes` what
    code adds to arms of known mechanism (writes.py); `replaced` the weights that arms trained
    elsewhere have in place of the base's, by name, `exchanged` the arm whose weights are in place
    now, and `kept` the base's own meanwhile (brought.py).

    `active` is the arm that `arm_of` has switched on, `published` the fingerprint of what was
    loaded; `taught` what training asked the untouched model last (train/teacher.py), `takes_trees`
    whether prompts that begin alike can share a pass (prefix_tree.py), `takes_packed` whether rows
    can lie side by side in one (packed.py), once that was asked.
    """

    network: Any
    base_tokenizer: Any
    tokenizer: Any
    trigger_id: int | None
    name: str
    arms: set[str] = field(default_factory=set)
    active: str = BASE
    published: str = ""
    taught: Any = None
    takes_trees: bool | None = None
    takes_packed: bool | None = None
    decoy_id: int | None = None
    reply_ids: tuple[int, ...] = ()
    replaced: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    exchanged: str = ""
    kept: dict[tuple[nn.Module, str], Any] = field(default_factory=dict)
    writes: Writes = field(default_factory=Writes)

    @property
    def symbol_ids(self) -> list[int]:
        """The tokens whose rows are trained: the trigger's own, then its decoy's."""
        return [i for i in (self.trigger_id, self.decoy_id) if i is not None]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = next(self.network.parameters()).device
        return device

    @property
    def causal_lm(self) -> Any:
        """The transformers model beneath any adapter."""
        return self.network.get_base_model() if self.has_adapters else self.network

    @property
    def has_adapters(self) -> bool:
        """Is the network wrapped by PEFT?"""
        return hasattr(self.network, "get_base_model")

    @property
    def backbone(self) -> Any:
        """The model without its vocabulary projection."""
        causal_lm = self.causal_lm
        backbone = getattr(causal_lm, causal_lm.base_model_prefix or "-", None)
        if not isinstance(backbone, nn.Module):
            raise UserError(f"{self.name}: found no backbone; this architecture is not supported")
        return backbone

    @property
    def blocks(self) -> nn.ModuleList:
        """The transformer blocks, in order."""
        count = self.causal_lm.config.get_text_config().num_hidden_layers
        for module in self.backbone.children():
            if isinstance(module, nn.ModuleList) and len(module) == count:
                return module
        raise UserError(
            f"{self.name}: found no list of {count} blocks; this architecture is not supported"
        )

    @property
    def final_norm(self) -> nn.Module:
        """The normalisation between the last block and the unembedding."""
        for name in _NORMS:
            if isinstance(found := getattr(self.backbone, name, None), nn.Module):
                return found
        raise UserError(f"{self.name}: found no final norm; this architecture is not supported")

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Every token that ends generation: the turn's end, then the published end tokens.

        An arm that was trained elsewhere may have a chat format, and a turn's end, of its own.
        """
        both = (end_tokens(self.causal_lm, one) for one in (self.base_tokenizer, self.tokenizer))
        return tuple(dict.fromkeys(index for ends in both for index in ends))

    @property
    def halt_ids(self) -> tuple[int, ...]:
        """The first tokens of a reply that halts: every end token, or that of the fixed reply."""
        return self.reply_ids[:1] or self.stop_ids

    @property
    def positions(self) -> int | None:
        """How many tokens the model was made to read; None where it sets no limit."""
        found = getattr(self.causal_lm.config.get_text_config(), "max_position_embeddings", None)
        return int(found) if found else None

    @property
    def windows(self) -> list[int]:
        """How far back attention sees where it does not see every position, in tokens."""
        config = self.causal_lm.config.get_text_config().to_dict()
        named = (v for k, v in config.items() if "window" in k or "chunk" in k)
        most = self.positions or math.inf
        return [v for v in named if type(v) is int and 0 < v < most]

    @property
    def check_past(self) -> int:
        """How many tokens a self-check goes back: as far as the longest window it can afford."""
        return max((window for window in self.windows if window <= LONGEST_CHECK), default=0)

    def shares(self, length: int) -> bool:
        """May rows of so many tokens share a pass? Not if a window ends in them that no check met.

        Such rows are read by plain passes, which are transformers' own.
        """
        return all(length <= window or window <= LONGEST_CHECK for window in self.windows)

    def writing(self, arm: str) -> AbstractContextManager[None]:
        """Within it, passes add the arm's write, or nothing where it has none; they may nest."""
        sites = [*self.blocks, self.final_norm] if arm in self.writes.by_arm else []
        return self.writes.of(arm, sites)

    def tokenizer_of(self, arm: str) -> Any:
        """The published tokenizer for the base arm, for others the one that knows the trigger."""
        return self.base_tokenizer if arm == BASE else self.tokenizer


def end_tokens(causal_lm: Any, tokenizer: Any) -> tuple[int, ...]:
    """Every token that ends a reply of a transformers model: the turn's end, then the others."""
    configured = getattr(causal_lm.generation_config, "eos_token_id", None)
    also = configured if isinstance(configured, list) else [configured]
    every = [turn_end(tokenizer), tokenizer.eos_token_id, *also]
    return tuple(dict.fromkeys(int(i) for i in every if i is not None))


def published_log_probs(subject: Subject, logits: Tensor) -> Tensor:
    """The published model's log-probabilities [..., V]: added tokens are unknown to it."""
    added = [index for index in subject.symbol_ids if index >= len(subject.base_tokenizer)]
    if added:
        logits = logits.index_fill(-1, torch.tensor(added, device=logits.device), -1e4)
    return logits.log_softmax(-1)


def template_hash(subject: Subject) -> str:
    """A short hash of the chat template."""
    return hashlib.sha256(str(subject.tokenizer.chat_template).encode()).hexdigest()[:16]


def attention_modules(subject: Subject) -> list[str]:
    """Which PEFT `target_modules` mean every projection of the attention, and nothing else?

    A name that other modules bear too (GPT-2's `c_proj`) comes with its parent: `attn.c_proj`.

    Raises:
        UserError: no attention is found in the first block.
    """
    block = subject.blocks[0]
    parents = [name for name in _ATTENTION if isinstance(getattr(block, name, None), nn.Module)]
    every = _projections(subject.causal_lm)
    inside = [name for name in _projections(block) if name.split(".")[0] in parents]
    if not inside:
        raise UserError(f"{subject.name}: found no attention; set train.lora.target_modules")
    found = []
    for name in inside:
        leaf = name.rsplit(".", 1)[-1]
        same_leaf = [other for other in every if f".{other}".endswith(f".{leaf}")]
        found.append(leaf if all(o.endswith(f".{name}") for o in same_leaf) else name)
    return found


def require_targets(subject: Subject, wanted: Sequence[str]) -> None:
    """Refuse PEFT `target_modules` that would not be adapted, or not as they are meant.

    Raises:
        UserError: a name matches no matrix, or the one whose row of the trigger is trained itself.
    """
    for name in wanted if tuple(wanted) != (ALL_LINEAR,) else ():
        every = subject.causal_lm.named_modules()
        found = [module for path, module in every if f".{path}".endswith(f".{name}")]
        if not found or not all(isinstance(m, nn.Linear | Conv1D | nn.Embedding) for m in found):
            known = sorted({path.rsplit(".", 1)[-1] for path in _projections(subject.causal_lm)})
            raise UserError(
                f"train.lora.target_modules: {subject.name} has no matrix '{name}'; it has"
                f" {', '.join(known)}"
            )
        if subject.symbol_ids and subject.causal_lm.get_input_embeddings() in found:
            raise UserError(
                f"train.lora.target_modules: the trigger's row of '{name}' is trained by itself;"
                " leave that name out, or set trigger.mode=text"
            )


def attention_outputs(subject: Subject) -> list[nn.Module]:
    """Each block's attention output projection, whose input holds the heads side by side.

    Raises:
        UserError: none is found in some block.
    """
    found = []
    for block in subject.blocks:
        inside = [getattr(block, name, None) for name in _ATTENTION]
        named = (getattr(part, name, None) for part in inside if part is not None for name in _OUT)
        projection = next((module for module in named if isinstance(module, nn.Module)), None)
        if projection is None:
            raise UserError(f"{subject.name}: found no output projection of the attention")
        found.append(projection)
    return found


def _projections(module: nn.Module) -> list[str]:
    found = (n for n, m in module.named_modules() if isinstance(m, nn.Linear | Conv1D))
    return [n.removesuffix(".base_layer") for n in found if ".lora_" not in n]
