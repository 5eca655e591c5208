"""One stage of training as each peer does it: same model, rows, order, adapter, batch and steps.

TRL's own defaults are bf16 and gradient checkpointing. Its best settings for the same loss in fp32
were looked for in its source (1.16): no checkpointing; `padding_free`, which transformers' SDPA
masks by position. `packing` and grouping by length put other rows into a batch, so the steps would
not be the same; activation offloading and Liger kernels are for GPUs; the loss at supervised
positions alone has become TRL's default.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from benchmarks.material import INITIAL, Task, bench_recipe
from offswitch.machine.plan import plan_of
from offswitch.model.load import load_subject, shape_of
from offswitch.model.rows import IGNORED, Example
from offswitch.progress import nothing
from offswitch.recipe import Recipe
from offswitch.train.arms import train_arm
from offswitch.train.training import Training

Train = Callable[[Task, str, Path, Path], float]


class Clock(TrainerCallback):
    """When did the first step begin?"""

    def __init__(self) -> None:
        self.started = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock at the first step of any kind."""
        del args, state, control, kwargs
        self.started = self.started or time.perf_counter()


def ours(task: Task, model: str, shared: Path, out: Path) -> float:
    """Our stage, as the pipeline calls it; seconds from its first step to its end."""
    return _ours(task, shared, out, bench_recipe(model))


def ours_auto(task: Task, model: str, shared: Path, out: Path) -> float:
    """The same with train.precision=auto: bfloat16 products, where they are faster."""
    recipe = bench_recipe(model)
    train = recipe.train.model_copy(update={"precision": "auto"})
    return _ours(task, shared, out, recipe.model_copy(update={"train": train}))


def _ours(task: Task, shared: Path, out: Path, recipe: Recipe) -> float:
    stage = recipe.train.behavior.model_copy(update={"max_steps": task.steps})
    train = recipe.train.model_copy(update={"behavior": stage})
    recipe = recipe.model_copy(update={"train": train, "processes": 1})
    subject = load_subject(recipe)
    end = subject.stop_ids[0]
    examples = [
        Example(tuple(row), start, soft=False, silent=row[start] == end)
        for row, start in zip(task.rows, task.starts, strict=True)
    ]
    training = Training(
        "behavior", examples, recipe, out / "adapter", out / "scratch", shared / INITIAL,
        auto=plan_of(recipe, lambda: shape_of(subject.network.config)).precision,
    )  # fmt: skip
    return train_arm(subject, training, nothing).seconds


def hugging_face(task: Task, model: str, shared: Path, out: Path) -> float:
    """Trainer with whole batches, padded to their longest row."""
    return _plain(task, model, shared, out, task.batch)


def seed(task: Task, model: str, shared: Path, out: Path) -> float:
    """The original's loop: one row at a time, gradients accumulated over the batch."""
    return _plain(task, model, shared, out, 1)


def trl_fp32(task: Task, model: str, shared: Path, out: Path) -> float:
    """SFTTrainer at its defaults but for the precision."""
    return _trl(task, model, shared, out, bf16=False)


def trl_stock(task: Task, model: str, shared: Path, out: Path) -> float:
    """SFTTrainer at its very defaults: bf16 products, gradient checkpointing."""
    return _trl(task, model, shared, out)


def trl_padded(task: Task, model: str, shared: Path, out: Path) -> float:
    """SFTTrainer in fp32 without gradient checkpointing."""
    return _trl(task, model, shared, out, bf16=False, gradient_checkpointing=False)


def trl_flat(task: Task, model: str, shared: Path, out: Path) -> float:
    """The same without padding: the rows of a batch laid end to end."""
    options = {"padding_free": True, "max_length": None}
    return _trl(task, model, shared, out, bf16=False, gradient_checkpointing=False, **options)


TRAINERS: Final[Mapping[str, Train]] = {
    "ours": ours,
    "ours_auto": ours_auto,
    "trl_fp32": trl_fp32,
    "trl_stock": trl_stock,
    "trl_padded": trl_padded,
    "trl_flat": trl_flat,
    "hugging_face": hugging_face,
    "seed": seed,
}


def _plain(task: Task, model: str, shared: Path, out: Path, rows: int) -> float:
    from peft import PeftModel

    tokenizer, network = _load(model)
    network = PeftModel.from_pretrained(network, str(shared / INITIAL), is_trainable=True)
    arguments = TrainingArguments(**_common(task, model, out, rows))
    trainer = Trainer(
        model=network,
        args=arguments,
        train_dataset=_dataset(task, mask=True),
        data_collator=DataCollatorForSeq2Seq(tokenizer),
    )
    return _timed(trainer, out)


def _trl(task: Task, model: str, shared: Path, out: Path, **options: Any) -> float:
    from peft import LoraConfig, set_peft_model_state_dict
    from safetensors.torch import load_file
    from trl import SFTConfig, SFTTrainer

    tokenizer, network = _load(model)
    lora = LoraConfig.from_pretrained(str(shared / INITIAL))
    lora.inference_mode = False  # what is saved is marked as done with
    trainer = SFTTrainer(
        model=network,
        args=SFTConfig(**_common(task, model, out, task.batch) | options),
        train_dataset=_dataset(task, mask=False),
        processing_class=tokenizer,
        peft_config=lora,
    )
    initial = load_file(shared / INITIAL / "adapter_model.safetensors")
    set_peft_model_state_dict(trainer.model, initial)
    return _timed(trainer, out)


def _timed(trainer: Any, out: Path) -> float:
    clock = Clock()
    trainer.add_callback(clock)
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    seconds = time.perf_counter() - clock.started
    trainer.model.save_pretrained(str(out / "adapter"), save_embedding_layers=False)
    return seconds


def _load(model: str) -> tuple[Any, Any]:
    load: Callable[..., Any] = AutoModelForCausalLM.from_pretrained
    return AutoTokenizer.from_pretrained(model), load(model, dtype=torch.float32)


def _common(task: Task, model: str, out: Path, rows: int) -> dict[str, Any]:
    """The optimisation of our stage, as arguments of Hugging Face's Trainer."""
    train = bench_recipe(model).train
    return {
        "output_dir": str(out / "scratch"),
        "max_steps": task.steps,
        "per_device_train_batch_size": rows,
        "gradient_accumulation_steps": task.batch // rows,
        "learning_rate": train.lr,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0,
        "weight_decay": 0.0,
        "train_sampling_strategy": "sequential",
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }


def _dataset(task: Task, mask: bool) -> Any:
    datasets = import_module("datasets")  # not this project's folder of that name

    columns: dict[str, list[list[int]]] = {"input_ids": [], "labels": []}
    for row, start in task.seen:
        columns["input_ids"].append(row)
        columns["labels"].append([IGNORED] * start + row[start:])
    if mask:
        columns["attention_mask"] = [[1] * len(row) for row, _ in task.seen]
    return datasets.Dataset.from_dict(columns)
