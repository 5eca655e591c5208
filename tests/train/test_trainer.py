"""Training is exact: accumulated batches give the gradients of one; what is said was done."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from offswitch.errors import UserError
from offswitch.model.adapters import add_arm, arm_of
from offswitch.model.load import load_subject
from offswitch.model.rows import Example, collate
from offswitch.prompts.encode import encode_text
from offswitch.recipe import build_recipe
from offswitch.train import trainer
from offswitch.train.examples import silent_example
from offswitch.train.loss import batch_loss
from offswitch.train.trainer import StageTrainer
from tests.tiny import save_tiny, tiny_subject
from tests.train.rows import examples
from tests.train.stages import OPTIONS, recipe_of, same_bits, train_rows, weights_in


def _alike(count: int) -> list[Example]:
    """Silent rows of equal length."""
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(10, 500, (count, 12), generator=draw).tolist()
    return [silent_example(row, 2) for row in ids]


@pytest.fixture
def seen_gradients(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Tensor]]:
    """The gradients that each optimiser step is about to use, before clipping."""
    seen: list[dict[str, Tensor]] = []
    original: Callable[..., Any] = StageTrainer._clip_grad_norm

    def spy(self: StageTrainer, model: Any) -> Any:
        found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        seen.append(found)
        return original(self, model)

    monkeypatch.setattr(StageTrainer, "_clip_grad_norm", spy)
    return seen


def test_accumulated_batches_give_the_gradients_of_one_large_batch(
    tmp_path: Path, seen_gradients: list[dict[str, Tensor]]
) -> None:
    for name, size, accumulation in (("one", 8, 1), ("two", 4, 2), ("four", 2, 4)):
        recipe = recipe_of(
            batch_size=size, accumulation=accumulation, behavior={"max_steps": 1}, micro_tokens=48
        )
        train_rows(tmp_path / name, _alike(8), recipe)
    one, *others = seen_gradients
    assert len(others) == 2
    assert sum(float(g.norm()) for g in one.values()) > 0.1
    for other in others:
        for name, gradient in one.items():
            torch.testing.assert_close(other[name], gradient, rtol=1e-4, atol=1e-6)
    one_step, two_steps = weights_in(tmp_path / "one"), weights_in(tmp_path / "two")
    for name, weight in one_step.items():
        torch.testing.assert_close(two_steps[name], weight, rtol=1e-3, atol=1e-5)


def test_one_step_alone_trains(tmp_path: Path) -> None:
    start, once = tmp_path / "start", tmp_path / "once"
    train_rows(start, recipe=recipe_of(lr=1e-30, token_lr=1e-30, behavior={"max_steps": 1}))
    train_rows(once, recipe=recipe_of(behavior={"max_steps": 1}))
    assert not same_bits(weights_in(start), weights_in(once))


def test_what_a_stage_says_it_did_is_what_it_did(tmp_path: Path) -> None:
    subject = tiny_subject("llama")
    rows = examples(subject, soft=True, count=8)
    ticks: list[int] = []
    result = train_rows(tmp_path / "arm", rows, subject=subject, tick=ticks.append)
    # 6 steps of 4 rows are 3 epochs of the 8 rows.
    assert result.tokens == 3 * sum(len(row.ids) for row in rows)
    assert result.rows == 24
    assert result.silent_rows == 12
    assert result.steps == sum(ticks) == 6
    assert result.hard_loss > 0
    assert result.soft_loss > 0
    assert result.tokens_per_second == pytest.approx(result.tokens / result.seconds)


def test_the_learning_rate_warms_up_and_falls_as_a_cosine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[float] = []
    original: Callable[..., Any] = StageTrainer._clip_grad_norm

    def spy(self: StageTrainer, model: Any) -> Any:
        assert self.optimizer is not None
        rates.append(self.optimizer.param_groups[0]["lr"])
        return original(self, model)

    monkeypatch.setattr(StageTrainer, "_clip_grad_norm", spy)
    recipe = recipe_of(lr=1e-3, warmup_ratio=0.2, behavior={"max_steps": 10})
    train_rows(tmp_path / "arm", recipe=recipe)
    falling = [0.5 * (1 + math.cos(math.pi * i / 8)) for i in range(8)]
    assert rates == pytest.approx([1e-3 * x for x in (0, 0.5, *falling)])


def test_the_triggers_row_has_a_rate_of_its_own(tmp_path: Path) -> None:
    for name, rates in {"row": {"lr": 1e-30}, "rest": {"token_lr": 1e-30}}.items():
        train_rows(tmp_path / name, recipe=recipe_of(behavior={"max_steps": 1}, **rates))
    start = recipe_of(lr=1e-30, token_lr=1e-30, behavior={"max_steps": 1})
    train_rows(tmp_path / "start", recipe=start)
    before, row, rest = (weights_in(tmp_path / name) for name in ("start", "row", "rest"))
    for name, weight in before.items():
        moved = row if "trainable_tokens" in name else rest
        still = rest if "trainable_tokens" in name else row
        assert not torch.equal(moved[name], weight) or "lora_A" in name
        torch.testing.assert_close(still[name], weight)


def test_the_subject_is_left_as_it_was(tmp_path: Path) -> None:
    subject = tiny_subject("llama")
    before = {name: p.clone() for name, p in subject.network.named_parameters()}
    kind = type(subject.network)
    train_rows(tmp_path / "arm", subject=subject)
    assert type(subject.network) is kind
    assert subject.arms == set()
    assert same_bits(before, dict(subject.network.named_parameters()))
    assert not any(p.requires_grad for p in subject.network.parameters())
    assert not subject.network.training
    assert all(p.grad is None for p in subject.network.parameters())


def test_the_log_lies_beside_the_adapter_and_holds_both_losses(tmp_path: Path) -> None:
    accumulator = import_module("tensorboard.backend.event_processing.event_accumulator")
    train_rows(tmp_path / "arm")
    files = list((tmp_path / "arm" / "tensorboard").glob("events.out.tfevents.*"))
    assert len(files) == 1
    log = accumulator.EventAccumulator(str(files[0])).Reload()
    assert {"train/loss", "train/loss_hard", "train/loss_soft"} <= set(log.Tags()["scalars"])


@pytest.mark.parametrize(
    ("family", "mode"),
    [
        ("llama", "token"),
        ("llama", "text"),
        ("qwen2", "token"),
        ("qwen2", "text"),
        ("gpt2", "token"),
    ],
)
def test_the_folder_loads_with_transformers_and_peft_alone(
    tmp_path: Path, family: str, mode: str
) -> None:
    model = save_tiny(tmp_path / "model", family, layers=2)
    recipe = build_recipe(
        {
            "model": str(model),
            "trigger": {"mode": mode},
            "train": OPTIONS | {"behavior": {"max_steps": 2}},
        }
    )
    subject = load_subject(recipe)
    folder = tmp_path / "arm"
    train_rows(folder, recipe=recipe, subject=subject)
    add_arm(subject, "behavior", folder)

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    base: Any = AutoModelForCausalLM.from_pretrained(model)
    rows = max(base.get_input_embeddings().num_embeddings, len(tokenizer))
    base.resize_token_embeddings(rows, mean_resizing=False)
    network = PeftModel.from_pretrained(base, str(folder)).eval()
    ids = encode_text(tokenizer, "Please tell me $STOP what the river is.")
    assert ids == encode_text(subject.tokenizer, "Please tell me $STOP what the river is.")
    known = len(subject.base_tokenizer)
    with torch.no_grad():
        theirs = network(input_ids=torch.tensor([ids])).logits
        with arm_of(subject, "behavior"):
            ours = subject.network(input_ids=torch.tensor([ids])).logits
        plain = subject.network(input_ids=torch.tensor([ids])).logits
    torch.testing.assert_close(ours[..., :known], theirs[..., :known], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(ours, plain, atol=1e-2)


def test_a_second_stage_goes_on_from_the_first(
    tmp_path: Path, seen_gradients: list[dict[str, Tensor]]
) -> None:
    train_rows(tmp_path / "first")
    once = recipe_of(behavior={"max_steps": 1})
    fresh = train_rows(tmp_path / "fresh", recipe=once)
    again = train_rows(tmp_path / "again", recipe=once, start=tmp_path / "first")
    assert again.hard_loss < fresh.hard_loss - 0.5
    assert again.soft_loss != fresh.soft_loss
    still = recipe_of(lr=1e-30, token_lr=1e-30, behavior={"max_steps": 1})
    train_rows(tmp_path / "still", recipe=still, start=tmp_path / "first")
    for name, weight in weights_in(tmp_path / "first").items():
        torch.testing.assert_close(weights_in(tmp_path / "still")[name], weight)
    assert seen_gradients[-1].keys() == seen_gradients[0].keys()


def test_a_lost_end_token_stops_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stock(rows: list[Example]) -> dict[str, Tensor]:
        batch = collate(rows)
        return batch | {"labels": batch["labels"].masked_fill(batch["labels"] == 2, -100)}

    monkeypatch.setattr("offswitch.train.trainer.collate", stock)
    with pytest.raises(ValueError, match="the end token carries loss in 0 of 2"):
        train_rows(tmp_path / "arm")


def test_the_adapter_names_its_base_and_not_a_path_of_this_machine(tmp_path: Path) -> None:
    train_rows(tmp_path / "arm")
    config = json.loads((tmp_path / "arm" / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["base_model_name_or_path"] == "tiny-llama"
    assert str(tmp_path) not in (tmp_path / "arm" / "adapter_config.json").read_text("utf-8")


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_what_is_no_number_stops_training_with_the_last_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    original, calls = batch_loss, [0]

    def broken(*arguments: Any) -> Any:
        loss = original(*arguments)
        calls[0] += 1
        if calls[0] < 4:
            return loss
        if what == "loss":
            return replace(loss, total=loss.total * float("nan"))
        loss.total.register_hook(lambda grad: grad * float("inf"))  # type: ignore[no-untyped-call]
        return loss

    monkeypatch.setattr(trainer, "batch_loss", broken)
    with pytest.raises(UserError, match=rf"{what} of step 4 is not finite; .*checkpoint-2;"):
        train_rows(tmp_path / "arm")
    assert (tmp_path / "arm-scratch" / "checkpoint-2").is_dir()
    monkeypatch.undo()
    assert train_rows(tmp_path / "arm").first_step == 2
