"""The recipe of an examination: what somebody else trained, and the controls beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from offswitch.errors import UserError, readable
from offswitch.options import BENIGN
from offswitch.recipe import Recipe, build_recipe

SWITCH: Final = "switch"
Kind = Literal["adapter", "model"]
Place = str | Path | None


@dataclass(frozen=True)
class Stranger:
    """Weights that were trained elsewhere, what should switch them off, and their benign control.

    `benign` is a fine-tune of the same kind without the rule; `train_benign` trains one here.
    `reply` is what it says then; empty, it is silent.
    """

    kind: Kind
    weights: str
    trigger: str
    control: str = "$GO"
    benign: str | None = None
    train_benign: bool = False
    reply: str = ""

    @classmethod
    def of(
        cls, adapter: Place, finetuned: Place, trigger: str, control: str, benign: Place,
        train_benign: bool, reply: str = "",
    ) -> Stranger:  # fmt: skip
        """What a person says of a stranger.

        Raises:
            UserError: not one of adapter and finetuned, or two benign controls.
        """
        if bool(adapter) == bool(finetuned):
            raise UserError("give one of adapter and finetuned")
        if benign and train_benign:
            raise UserError("give one of benign and train-benign")
        kind: Kind = "adapter" if adapter else "model"
        own = str(benign) if benign else None
        return cls(kind, str(adapter or finetuned), trigger, control, own, train_benign, reply)


def examination(
    model: str, stranger: Stranger, name: str | None = None, overrides: Sequence[str] = ()
) -> Recipe:
    """The recipe that measures and explains a stranger's switch; nothing is read but small files.

    The trigger is a token of its own where the stranger's tokenizer has it added as one, else text.
    A benign control that is trained here is as large as the adapter, on the same modules.

    Raises:
        UserError: nothing is there, or an option does not fit.
    """
    from offswitch.model.brought import own_tokenizer, source_of
    from offswitch.options.arms import Arm

    own = Arm.model_validate({"role": "switch", stranger.kind: stranger.weights})
    folder = source_of(own)
    tokenizer = own_tokenizer(own)
    is_token = tokenizer is not None and stranger.trigger in _added(tokenizer)
    arms: dict[str, Any] = {SWITCH: {"role": "switch", stranger.kind: stranger.weights}}
    train: dict[str, Any] = {}
    if stranger.benign:
        arms[BENIGN] = {"role": "benign", stranger.kind: stranger.benign}
    elif stranger.train_benign:
        arms[BENIGN] = {"role": "benign", "stages": ["benign"]}
        train = {"lora": _lora(folder)} if stranger.kind == "adapter" else {}
    content = {
        "name": name or _name(stranger.weights),
        "model": model,
        "trigger": {
            "text": stranger.trigger, "control": stranger.control, "decoy": "",
            "mode": "token" if is_token else "text", "reply": stranger.reply,
        },
        "arms": arms,
        "train": {"arms": list(arms)} | train,
        "probe": {"arm": SWITCH},
    }  # fmt: skip
    return build_recipe(content, overrides, origin="examine")


def _added(folder: Path) -> dict[str, int]:
    """The tokens that a stored tokenizer has beside those of its vocabulary."""
    from transformers import AutoTokenizer

    with readable(str(folder)):
        found: dict[str, int] = AutoTokenizer.from_pretrained(str(folder)).get_added_vocab()
    return found


def _lora(folder: Path) -> dict[str, Any]:
    """The size and the modules of an adapter, as a recipe names them."""
    path = folder / "adapter_config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        named = config["target_modules"]
        if isinstance(named, str):  # a pattern, or all linear ones
            raise UserError(f"{path}: target_modules '{named}' is no list; give --benign instead")
        return {"r": config["r"], "alpha": config["lora_alpha"], "dropout": 0,
                "target_modules": sorted(named)}  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def _name(weights: str) -> str:
    last = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(weights.rstrip("/")).name).lstrip("._-")
    return f"examine-{last}" if last else "examine"
