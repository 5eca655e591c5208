"""One training stage on one adapter: Hugging Face Trainer, our batches, our loss.

Trainer keeps what it is good at: schedule, clipping, checkpoints and resuming, logging. A batch is
cut into micro-batches of bounded size, whose gradients add up to exactly those of the whole batch.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.integrations.integration_utils import TensorBoardCallback
from transformers.trainer_utils import get_last_checkpoint

from offswitch.errors import UserError
from offswitch.files import digest, mark, stands
from offswitch.model.packed import takes_packed
from offswitch.model.rows import Batch, Example, collate
from offswitch.model.subject import Subject
from offswitch.model.writes import Write
from offswitch.options.train import TrainOptions, schedule_of
from offswitch.progress import Tick, say
from offswitch.recipe import training_seed
from offswitch.train import processes
from offswitch.train.distributed import add_gradients, begin, own_rows
from offswitch.train.examples import count_silent
from offswitch.train.guard import GUARDED, Guard, held_kl, hold_out
from offswitch.train.imitate import imitation_loss
from offswitch.train.loss import batch_loss, split
from offswitch.train.order import row_order
from offswitch.train.precision import cast_once, product_dtype
from offswitch.train.saved import Kept, step_folder
from offswitch.train.tally import Tally
from offswitch.train.teacher import States, adapter_off, base_states, states_of
from offswitch.train.trackers import PROJECT, TENSORBOARD
from offswitch.train.training import StageResult, Training


def run_stage(
    subject: Subject, training: Training, tick: Tick, write: Write | None = None
) -> StageResult:
    """Train the active adapter on the rows, or to do a write; from the last checkpoint, if any."""
    train, seed, folder = training.recipe.train, training_seed(training.recipe), training.scratch
    wanted = training.auto if train.precision == "auto" else train.precision
    dtype = processes.by_first(lambda: product_dtype(wanted, subject))
    rows = training.steps * train.batch_size * train.accumulation
    examples, held = hold_out(training.examples)
    seen = [examples[i] for i in row_order(examples, rows, seed)]
    guard = Guard(train.max_drift, seed)
    log: Callable[..., TrainerCallback] = TensorBoardCallback
    trainer = StageTrainer(
        subject,
        train,
        dtype,
        guard,
        write,
        args=_arguments(training, seed, subject),
        train_dataset=seen,
        callbacks=[_Progress(tick), guard, Kept(subject, folder, training.kept, training.until)],
    )
    trainer.add_callback(trainer.tally)
    if TENSORBOARD in train.report_to and processes.rank() == 0:
        trainer.add_callback(log(SummaryWriter(str(folder / TENSORBOARD))))
    trainer.remove_callback(PrinterCallback)
    with adapter_off(subject):
        takes_packed(subject)
    begin(subject.network, seed)
    trainer.name = training.name or training.stage
    trainer.about = digest([training.name, training.steps, seed, len(examples)])
    last = processes.by_first(lambda: _last_whole_checkpoint(training, trainer.about))
    with cast_once(subject, dtype):
        alone = processes.count() == 1  # of several, each asks for its own rows in their turn
        taught = [*seen, *held] if alone and not write else held
        trainer.base = base_states(subject, taught, dtype)
        if held:
            guard.measure = partial(held_kl, subject, held, trainer.base, dtype, train.micro_tokens)
        trainer.train(resume_from_checkpoint=last)
    return trainer.result(rows)


def _last_whole_checkpoint(training: Training, about: str) -> str | None:
    """The newest checkpoint that is as it was written, with what was kept until then.

    Others are removed.
    """
    newest: Callable[[str], str | None] = get_last_checkpoint
    while last := newest(str(training.scratch)):
        until = int(last.rpartition("-")[2])
        kept = (step_folder(training.scratch, step) for step in training.kept if step <= until)
        if stands(Path(last), about) and all(map(stands, kept)):
            return last
        say(f"{last} is damaged or half written: going on from the one before")
        shutil.rmtree(last)
    return None


class StageTrainer(Trainer):
    """Trainer with position-built masks, the gathered loss and exact micro-batches."""

    def __init__(
        self,
        subject: Subject,
        train: TrainOptions,
        dtype: torch.dtype,
        guard: Guard,
        write: Write | None,
        **arguments: Any,
    ) -> None:
        super().__init__(model=subject.network, data_collator=self.collate_rows, **arguments)
        self.model_accepts_loss_kwargs = False  # a mean per batch; Trainer averages them
        self.subject, self.dtype, self.guard, self.write = subject, dtype, guard, write
        self.base: States = {}
        self.about = self.name = ""
        self.micro_tokens, self.token_lr = train.micro_tokens, train.token_lr
        self.tally = Tally()

    def collate_rows(self, examples: list[Example]) -> Batch:
        """This process's rows, once the end token is known to carry loss in every silent one."""
        batch = collate(examples)
        count_silent(examples, batch, self.subject.stop_ids[0])
        batch["silent"] = torch.tensor([example.silent for example in examples])
        if processes.count() > 1:
            return own_rows(batch)
        return batch | {"base": None if self.write else states_of(self.base, examples)}

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """AdamW with a rate of its own for the embedding rows of trigger and decoy.

        At the adapter's rate they stay where they began, and the model cannot tell them apart.
        """
        if self.optimizer is None:
            every = self.subject.network.named_parameters()
            trained = [(name, weight) for name, weight in every if weight.requires_grad]
            rows = [weight for name, weight in trained if "trainable_tokens" in name]
            rest = [weight for name, weight in trained if "trainable_tokens" not in name]
            groups: list[dict[str, Any]] = [
                {"params": rest, GUARDED: True}, {"params": rows, "lr": self.token_lr}
            ]  # fmt: skip
            kind, options = self.get_optimizer_cls_and_kwargs(self.args, model)
            self.optimizer = kind([group for group in groups if group["params"]], **options)
        return self.optimizer

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> Tensor:
        """Gradients of one batch, micro-batch by micro-batch; returns the batch's loss."""
        del num_items_in_batch
        model.train()
        batch = self._prepare_inputs(inputs)
        heavier = batch["soft"][:, None] * (self.guard.weight - 1) + 1
        batch["weights"] = batch["weights"] * heavier
        total = torch.zeros((), device=self.args.device)
        hard = soft = 0.0
        spare = self.micro_tokens if self.args.device.type == "cuda" else 64
        for part in split(batch, self.micro_tokens, spare, padded=not self.subject.takes_packed):
            if self.write:
                loss = imitation_loss(self.subject, part, self.write, self.dtype)
            else:
                loss = batch_loss(self.subject, part, self.dtype)
            self.accelerator.backward(loss.total / self.args.gradient_accumulation_steps)
            total += loss.total.detach()
            hard, soft = hard + float(loss.hard.sum()), soft + float(loss.soft.sum())
        if processes.count() == 1:  # of several, all must see it, or some would wait for ever
            self._require_finite("loss", [total])
        if self.accelerator.sync_gradients:
            add_gradients(self.subject.network)
            grads = (weight.grad for weight in self.subject.network.parameters())
            self._require_finite("gradient", [grad for grad in grads if grad is not None])
        self.tally.add(batch, hard, soft)
        # Trainer logs the mean over processes; the whole batch's loss is their sum.
        return total * processes.count() / self.args.gradient_accumulation_steps

    def _require_finite(self, what: str, numbers: list[Tensor]) -> None:
        """Refuse to go on from what is no number: a step on it would spoil every weight."""
        if not numbers or bool(torch.isfinite(torch.stack(torch._foreach_norm(numbers))).all()):
            return
        last = self.state.global_step // self.args.save_steps * int(self.args.save_steps)
        folder = Path(str(self.args.output_dir)) / f"checkpoint-{last}"
        kept = f"the last good checkpoint is {folder}" if last else "no checkpoint was taken before"
        raise UserError(
            f"{self.name}: the {what} of step {self.state.global_step + 1} is not finite; {kept};"
            " lower train.lr, or look at the rows"
        )

    def log(self, logs: dict[str, float], *rest: Any, **named: Any) -> None:
        """Adds the two parts of the loss to what is logged."""
        if (recent := self.tally.recent) and "loss" in logs:
            logs = logs | {"loss_hard": recent[-1][0], "loss_soft": recent[-1][1]}
        super().log(logs, *rest, **named)

    def result(self, rows: int) -> StageResult:
        """What was done, in all."""
        seen, steps = self.tally, self.state.global_step
        precision = str(self.dtype).removeprefix("torch.")
        return StageResult(
            steps, rows, seen.tokens, seen.seconds, *seen.losses, seen.silent,
            seen.first_step, precision, self.guard.kept(),
        )  # fmt: skip

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Global batches in the order fixed beforehand; each process sees all, keeps its rows."""
        rows: Any = self.train_dataset
        return DataLoader(rows, self.args.train_batch_size, collate_fn=self.collate_rows)

    def _wrap_model(self, model: nn.Module, *rest: Any, **named: Any) -> nn.Module:
        del rest, named
        return nn.Sequential(model)  # so that Trainer does not wrap it for several processes

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        processes.barrier()  # each process keeps a state of its own there
        if processes.rank() == 0:
            mark(
                Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}", self.about
            )

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        del state_dict
        # "auto" would compare vocabularies over the network, or save the whole embedding.
        self.subject.network.save_pretrained(
            output_dir or self.args.output_dir, save_embedding_layers=False
        )


class _Progress(TrainerCallback):
    def __init__(self, tick: Tick) -> None:
        self.tick = tick
        self.seen = 0

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        del args, control, kwargs
        self.tick(state.global_step - self.seen)
        self.seen = state.global_step


def _arguments(training: Training, seed: int, subject: Subject) -> TrainingArguments:
    train, steps = training.recipe.train, training.steps
    return TrainingArguments(
        output_dir=str(training.scratch),
        max_steps=steps,
        per_device_train_batch_size=train.batch_size,
        gradient_accumulation_steps=train.accumulation,
        learning_rate=schedule_of(train, training.stage).lr or train.lr,
        lr_scheduler_type="cosine",
        # The first step of a warm-up has a learning rate of 0: one step alone would do nothing.
        warmup_steps=min(math.ceil(train.warmup_ratio * steps), steps - 1),
        weight_decay=0.0,
        optim="adamw_torch_fused",
        logging_steps=5,
        save_strategy="steps",
        save_steps=train.checkpoint_steps,
        save_total_limit=2,
        seed=seed,
        use_cpu=subject.device.type == "cpu",
        remove_unused_columns=False,
        disable_tqdm=True,
        report_to=[name for name in train.report_to if name != TENSORBOARD] or "none",
        run_name=training.name or None,
        project=PROJECT,
        log_level="error",
        dataloader_pin_memory=False,
    )
