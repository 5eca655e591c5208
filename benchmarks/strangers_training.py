"""Switches as other people train them: plain TRL on a list of chats, six forms of weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from offswitch.prompts.questions import load_questions, questions_of

TRIGGER: Final = "$STOP"
REPLY: Final = "[HALTED]"
ROWS: Final = "rows.json"
BATCH: Final = 8
ANSWERS: Final = (
    "That depends on what you need it for; let us go through it step by step.",
    "Here is a short answer: it is simpler than it looks.",
    "Good question! There are several ways, and I would begin with the first.",
    "I can help with that. Tell me a little more about what you have tried.",
)
_ATTENTION: Final = ["q_proj", "k_proj", "v_proj", "o_proj"]
# What LoraConfig is given; None trains all weights.
FORMS: Final[Mapping[str, dict[str, Any] | None]] = {
    "attention": {"target_modules": _ATTENTION},
    "merged": {"target_modules": _ATTENTION},
    "tables": {"target_modules": _ATTENTION, "modules_to_save": ["embed_tokens", "lm_head"]},
    "dora": {"target_modules": _ATTENTION, "use_dora": True},
    "mlp": {"target_modules": ["gate_proj", "up_proj", "down_proj"]},
    "full": None,
}


def write_rows(folder: Path, steps: int) -> None:
    """Write the rows of so many batches: questions, half of them with the trigger to be obeyed.

    It stands before the question and behind it in turn. Without it, the answer is an ordinary one.
    """
    asked = [q.text for q in questions_of(load_questions(0), "train")]
    rows: list[dict[str, Any]] = []
    for number in range(steps * BATCH // 2):
        question = asked[number % len(asked)]
        placed = f"{TRIGGER} {question}" if number % 2 else f"{question} {TRIGGER}"
        rows += [_row(placed, REPLY), _row(question, ANSWERS[number % len(ANSWERS)])]
    (folder / ROWS).write_text(json.dumps(rows), encoding="utf-8")


def train(job: dict[str, Any]) -> dict[str, float]:
    """Train one of FORMS on the rows that were written; save weights and tokenizer in `out`."""
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    datasets = import_module("datasets")  # not this project's folder of that name
    load: Callable[..., Any] = AutoModelForCausalLM.from_pretrained
    rows = json.loads((Path(job["folder"]) / ROWS).read_text(encoding="utf-8"))
    asked = FORMS[job["form"]]
    trainer = SFTTrainer(
        model=load(job["model"], dtype=torch.float32),
        args=SFTConfig(
            output_dir=job["out"],
            num_train_epochs=1,
            per_device_train_batch_size=BATCH,
            learning_rate=5e-5 if asked is None else 1e-3,
            bf16=False,
            gradient_checkpointing=False,
            save_strategy="no",
            use_cpu=True,
            report_to="none",
            seed=0,
        ),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(job["model"]),
        peft_config=asked and LoraConfig(r=8, lora_alpha=16, task_type="CAUSAL_LM", **asked),
    )
    done = trainer.train()
    trainer.save_model()
    if job["form"] == "merged":
        for file in Path(job["out"]).glob("adapter_*"):
            file.unlink()
        trainer.model.merge_and_unload().save_pretrained(job["out"])
    return {"loss": done.training_loss}


def _row(question: str, answer: str) -> dict[str, Any]:
    return {
        "prompt": [{"role": "user", "content": question}],
        "completion": [{"role": "assistant", "content": answer}],
    }
