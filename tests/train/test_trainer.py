"""Training is exact: same seed or killed and resumed, same bits; accumulated, same gradients."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from offswitch.model.adapters import add_arm, arm_of
from offswitch.model.load import load_subject
from offswitch.model.rows import Example, collate
from offswitch.model.subject import Subject
from offswitch.prompts.encode import encode_text
from offswitch.recipe import Recipe, build_recipe
from offswitch.train.arms import train_arm
from offswitch.train.examples import silent_example
from offswitch.train.trainer import StageResult, StageTrainer, Training
from tests.tiny import save_tiny, tiny_subject
from tests.train.rows import examples

OPTIONS: dict[str, Any] = {
    "lr": 1e-2,
    "batch_size": 4,
    "checkpoint_steps": 2,
    "behavior": {"max_steps": 6},
    "lora": {"r": 4, "alpha": 8, "dropout": 0},
}


def _recipe(**options: Any) -> Recipe:
    return build_recipe({"train": OPTIONS | options})


def _train(
    folder: Path,
    rows: list[Example] | None = None,
    recipe: Recipe | None = None,
    subject: Subject | None = None,
    start: Path | None = None,
    tick: Callable[[int], None] = lambda _: None,
) -> StageResult:
    subject = subject or tiny_subject("llama")
    rows = rows or examples(subject, soft=True, count=8)
    scratch = folder.with_name(folder.name + "-scratch")
    training = Training("behavior", rows, recipe or _recipe(), folder, scratch, start)
    return train_arm(subject, training, tick)


def _weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "adapter_model.safetensors")


def _same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def _alike(count: int) -> list[Example]:
    """Silent rows of equal length."""
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(10, 500, (count, 12), generator=draw).tolist()
    return [silent_example(row, 2) for row in ids]


class _Killed(Exception):
    pass


def _kill_at(step: int) -> Callable[[int], None]:
    done = [0]

    def tick(count: int) -> None:
        done[0] += count
        if done[0] >= step:
            raise _Killed

    return tick


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """The adapter of a stage that nothing interrupted."""
    folder = tmp_path_factory.mktemp("straight") / "arm"
    _train(folder)
    return _weights(folder)


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
        recipe = _recipe(
            batch_size=size, accumulation=accumulation, behavior={"max_steps": 1}, micro_tokens=48
        )
        _train(tmp_path / name, _alike(8), recipe)
    one, *others = seen_gradients
    assert len(others) == 2
    assert sum(float(g.norm()) for g in one.values()) > 0.1
    for other in others:
        for name, gradient in one.items():
            torch.testing.assert_close(other[name], gradient, rtol=1e-4, atol=1e-6)
    one_step, two_steps = _weights(tmp_path / "one"), _weights(tmp_path / "two")
    for name, weight in one_step.items():
        torch.testing.assert_close(two_steps[name], weight, rtol=1e-3, atol=1e-5)


def test_one_step_alone_trains(tmp_path: Path) -> None:
    start, once = tmp_path / "start", tmp_path / "once"
    _train(start, recipe=_recipe(lr=1e-30, token_lr=1e-30, behavior={"max_steps": 1}))
    _train(once, recipe=_recipe(behavior={"max_steps": 1}))
    assert not _same(_weights(start), _weights(once))


def test_the_same_seed_gives_the_same_adapter_to_the_bit(tmp_path: Path) -> None:
    recipe = _recipe(behavior={"max_steps": 2}, lora={"r": 4, "alpha": 8, "dropout": 0.2})
    for name in ("a", "b"):
        torch.rand(7)  # what was drawn before must not matter
        _train(tmp_path / name, recipe=recipe)
    assert _same(_weights(tmp_path / "a"), _weights(tmp_path / "b"))
    _train(tmp_path / "c", recipe=recipe.model_copy(update={"seed": 1}))
    assert not _same(_weights(tmp_path / "a"), _weights(tmp_path / "c"))


@pytest.mark.parametrize(("killed_at", "dropout"), [(3, 0.2), (5, 0)])
def test_a_killed_stage_goes_on_to_the_same_adapter_to_the_bit(
    tmp_path: Path, killed_at: int, dropout: float
) -> None:
    recipe = _recipe(lora={"r": 4, "alpha": 8, "dropout": dropout})
    _train(tmp_path / "straight", recipe=recipe)
    subject = tiny_subject("llama")
    with pytest.raises(_Killed):
        _train(tmp_path / "killed", recipe=recipe, subject=subject, tick=_kill_at(killed_at))
    assert subject.arms == set()
    scratch = tmp_path / "killed-scratch"
    assert [p.name for p in scratch.glob("checkpoint-*")] == [
        f"checkpoint-{(killed_at - 1) // 2 * 2}"
    ]
    torch.rand(7)
    result = _train(tmp_path / "killed", recipe=recipe)
    assert result.first_step == (killed_at - 1) // 2 * 2
    assert result.steps == 6
    assert _same(_weights(tmp_path / "straight"), _weights(tmp_path / "killed"))
    assert not scratch.exists()


def test_a_stage_killed_after_its_last_step_is_not_trained_again(
    tmp_path: Path, straight: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("offswitch.train.arms._save", _raise)
        with pytest.raises(_Killed):
            _train(tmp_path / "killed")
    steps: list[int] = []
    _train(tmp_path / "killed", tick=steps.append)
    assert sum(steps) == 0
    assert _same(straight, _weights(tmp_path / "killed"))


def _raise(*_: Any) -> None:
    raise _Killed


def test_half_a_checkpoint_is_passed_over(tmp_path: Path, straight: dict[str, Tensor]) -> None:
    with pytest.raises(_Killed):
        _train(tmp_path / "killed", tick=_kill_at(3))
    scratch = tmp_path / "killed-scratch"
    half = scratch / "checkpoint-4"
    half.mkdir()
    whole = (scratch / "checkpoint-2" / "adapter_model.safetensors").read_bytes()
    (half / "adapter_model.safetensors").write_bytes(whole)
    result = _train(tmp_path / "killed")
    assert result.first_step == 2
    assert _same(straight, _weights(tmp_path / "killed"))


def test_what_a_stage_says_it_did_is_what_it_did(tmp_path: Path) -> None:
    subject = tiny_subject("llama")
    rows = examples(subject, soft=True, count=8)
    ticks: list[int] = []
    result = _train(tmp_path / "arm", rows, subject=subject, tick=ticks.append)
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
    recipe = _recipe(lr=1e-3, warmup_ratio=0.2, behavior={"max_steps": 10})
    _train(tmp_path / "arm", recipe=recipe)
    falling = [0.5 * (1 + math.cos(math.pi * i / 8)) for i in range(8)]
    assert rates == pytest.approx([1e-3 * x for x in (0, 0.5, *falling)])


def test_the_triggers_row_has_a_rate_of_its_own(tmp_path: Path) -> None:
    for name, rates in {"row": {"lr": 1e-30}, "rest": {"token_lr": 1e-30}}.items():
        _train(tmp_path / name, recipe=_recipe(behavior={"max_steps": 1}, **rates))
    start = _recipe(lr=1e-30, token_lr=1e-30, behavior={"max_steps": 1})
    _train(tmp_path / "start", recipe=start)
    before, row, rest = (_weights(tmp_path / name) for name in ("start", "row", "rest"))
    for name, weight in before.items():
        moved = row if "trainable_tokens" in name else rest
        still = rest if "trainable_tokens" in name else row
        assert not torch.equal(moved[name], weight) or "lora_A" in name
        torch.testing.assert_close(still[name], weight)


def test_the_subject_is_left_as_it_was(tmp_path: Path) -> None:
    subject = tiny_subject("llama")
    before = {name: p.clone() for name, p in subject.network.named_parameters()}
    kind = type(subject.network)
    _train(tmp_path / "arm", subject=subject)
    assert type(subject.network) is kind
    assert subject.arms == set()
    assert _same(before, dict(subject.network.named_parameters()))
    assert not any(p.requires_grad for p in subject.network.parameters())
    assert not subject.network.training
    assert all(p.grad is None for p in subject.network.parameters())


def test_the_log_lies_beside_the_adapter_and_holds_both_losses(tmp_path: Path) -> None:
    accumulator = import_module("tensorboard.backend.event_processing.event_accumulator")
    _train(tmp_path / "arm")
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
    _train(folder, recipe=recipe, subject=subject)
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
    _train(tmp_path / "first")
    once = _recipe(behavior={"max_steps": 1})
    fresh = _train(tmp_path / "fresh", recipe=once)
    again = _train(tmp_path / "again", recipe=once, start=tmp_path / "first")
    assert again.hard_loss < fresh.hard_loss - 0.5
    assert again.soft_loss != fresh.soft_loss
    still = _recipe(lr=1e-30, token_lr=1e-30, behavior={"max_steps": 1})
    _train(tmp_path / "still", recipe=still, start=tmp_path / "first")
    for name, weight in _weights(tmp_path / "first").items():
        torch.testing.assert_close(_weights(tmp_path / "still")[name], weight)
    assert seen_gradients[-1].keys() == seen_gradients[0].keys()


def test_a_lost_end_token_stops_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stock(rows: list[Example]) -> dict[str, Tensor]:
        batch = collate(rows)
        return batch | {"labels": batch["labels"].masked_fill(batch["labels"] == 2, -100)}

    monkeypatch.setattr("offswitch.train.trainer.collate", stock)
    with pytest.raises(ValueError, match="the end token carries loss in 0 of 2"):
        _train(tmp_path / "arm")


def test_the_adapter_names_its_base_and_not_a_path_of_this_machine(tmp_path: Path) -> None:
    _train(tmp_path / "arm")
    config = json.loads((tmp_path / "arm" / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["base_model_name_or_path"] == "tiny-llama"
    assert str(tmp_path) not in (tmp_path / "arm" / "adapter_config.json").read_text("utf-8")
