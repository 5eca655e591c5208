"""What is measured on: the demo's behaviour rows, prompts, models of random weights.

Made once, before any clock starts, and read by every peer from the same files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from offswitch.cache import reply_cache
from offswitch.folder import Run
from offswitch.model.generate import cached_base_replies
from offswitch.model.load import load_subject
from offswitch.model.rows import Example
from offswitch.model.session import Held, Session
from offswitch.model.subject import Subject, attention_modules
from offswitch.probe.inputs import make_inputs
from offswitch.prompts.dialogues import Mix, make_dialogues
from offswitch.prompts.encode import encode_chat, has_system_turn
from offswitch.prompts.prompt import Chat, Reply
from offswitch.recipe import Recipe, load_recipe, training_seed
from offswitch.train.examples import dialogue_examples
from offswitch.train.order import row_order

ROOT: Final = Path(__file__).resolve().parents[1]
TRAINING: Final = "training.json"
PROMPTS: Final = "prompts.json"
INITIAL: Final = "initial"
LORA_RANK: Final = 64
SPARE: Final = 16  # rows that the model leaves unanswered, or that are too long, are left out


@dataclass(frozen=True)
class Task:
    """Rows to train on in the recipe's tokens, the order they are seen in, and rows kept apart."""

    rows: list[list[int]]
    starts: list[int]
    order: list[int]
    held_rows: list[list[int]]
    held_starts: list[int]
    batch: int

    @property
    def seen(self) -> list[tuple[list[int], int]]:
        """Rows and where their loss begins, in the order of training."""
        return [(self.rows[i], self.starts[i]) for i in self.order]

    @property
    def tokens(self) -> int:
        """Ids that training sees, padding not among them."""
        return sum(len(row) for row, _ in self.seen)

    @property
    def steps(self) -> int:
        """How many batches that makes."""
        return len(self.order) // self.batch


def bench_recipe(model: str) -> Recipe:
    """The demo's recipe, with what lets every peer compute the same loss.

    The trigger is ordinary text, so that LoRA is all that is trained (TRL refuses a trained row of
    tied embeddings); targets are hard; no step is spent at a rate of zero.
    """
    changes = [f"model={model}", "device=cpu", "trigger.mode=text", "train.targets=hard",
               "train.warmup_ratio=0", "train.precision=float32",
               f"train.lora.r={LORA_RANK}"]  # fmt: skip
    return load_recipe(ROOT / "recipes" / "demo.yaml", changes)


def write_training(job: dict[str, Any]) -> dict[str, float]:
    """Write the rows of `steps` batches and one more, and the adapter that all peers begin with."""
    recipe, folder, steps = bench_recipe(job["model"]), Path(job["folder"]), int(job["steps"])
    subject, batch = load_subject(recipe), recipe.train.batch_size
    examples = examples_of(subject, recipe, (steps + 1) * batch, recipe.train.max_length)
    train, held = examples[: steps * batch], examples[steps * batch :]
    task = {
        "rows": [list(one.ids) for one in train],
        "starts": [one.start for one in train],
        "order": row_order(train, steps * batch, training_seed(recipe)),
        "held_rows": [list(one.ids) for one in held],
        "held_starts": [one.start for one in held],
        "batch": batch,
    }
    (folder / TRAINING).write_text(json.dumps(task), encoding="utf-8")
    write_adapter(subject, folder / INITIAL, training_seed(recipe))
    return {"rows": len(train), "tokens": sum(len(one.ids) for one in train)}


def read_training(folder: Path) -> Task:
    """What `write_training` wrote."""
    return Task(**json.loads((folder / TRAINING).read_text(encoding="utf-8")))


def write_prompts(job: dict[str, Any]) -> dict[str, float]:
    """Write `count` prompts of the battery as chats and as ids of the chat template."""
    recipe = bench_recipe(job["model"])
    tokenizer = load_subject(recipe).base_tokenizer
    asked = make_inputs(recipe, tokenizer).asked
    chosen = [asked[i * len(asked) // job["count"]] for i in range(job["count"])]
    ids = [encode_chat(tokenizer, one.chat) for one in chosen]
    content = {"chats": [one.chat for one in chosen], "ids": ids}
    (Path(job["folder"]) / PROMPTS).write_text(json.dumps(content), encoding="utf-8")
    return {"prompts": len(ids), "tokens": sum(map(len, ids))}


def read_prompts(folder: Path) -> tuple[list[Chat], list[list[int]]]:
    """What `write_prompts` wrote: chats, and their ids."""
    content = json.loads((folder / PROMPTS).read_text(encoding="utf-8"))
    return [tuple(chat) for chat in content["chats"]], content["ids"]


def write_adapter(subject: Subject, folder: Path, seed: int, far: float = 0.0) -> Path:
    """A fresh adapter of the recipe's shape; `far` moves it from where it changes nothing."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    config = LoraConfig(
        r=LORA_RANK,
        lora_alpha=2 * LORA_RANK,
        lora_dropout=0,
        target_modules=attention_modules(subject),
        base_model_name_or_path=subject.name,
        task_type="CAUSAL_LM",
    )
    adapted: Any = get_peft_model(subject.network, config)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.add_(far * torch.randn_like(weight))
    adapted.peft_config["default"].base_model_name_or_path = subject.name
    adapted.save_pretrained(str(folder), save_embedding_layers=False)
    adapted.unload()
    return folder


def write_random(config: Any, tokenizer: Any, folder: Path, dtype: torch.dtype) -> Path:
    """A model of random weights and a tokenizer, in a folder: how long it takes is the same."""
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        build: Callable[..., Any] = AutoModelForCausalLM.from_config
        network = build(config, dtype=dtype)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def session_on(subject: Subject, recipe: Recipe, folder: Path) -> Session:
    """A session that does every arm in this process, on the model that is loaded."""
    alone = recipe.model_copy(update={"processes": 1})
    return Session(Run(folder, alone), Held(subject))


def examples_of(subject: Subject, recipe: Recipe, count: int, longest: int) -> list[Example]:
    """So many chat rows of a recipe in tokens, none longer; targets as the recipe has them.

    Raises:
        ValueError: there are fewer.
    """
    mix = Mix(
        recipe.trigger.text,
        count + SPARE,
        recipe.data.near_miss_share,
        system_turns=has_system_turn(subject.tokenizer),
        decoy=recipe.trigger.twin,
    )

    def answer(chats: Sequence[Chat]) -> list[Reply]:
        return cached_base_replies(subject, chats, recipe.data.reply_tokens, reply_cache())

    rows = make_dialogues(mix, recipe.seed, answer)
    soft = recipe.train.targets == "soft"
    found = dialogue_examples(subject.tokenizer, rows, soft, longest)
    if len(found) < count:
        raise ValueError(f"expected {count} rows, got {len(found)}")
    return found[:count]
