"""Inspect's log holds the rates of our own evaluation, from its hf provider and from ours."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest
import torch
from inspect_ai import Task, eval
from inspect_ai.log import EvalLog, read_eval_log
from inspect_ai.model import get_model
from tokenizers.processors import TemplateProcessing

from offswitch.errors import UserError
from offswitch.evaluate.measures import RATE_OF, halting
from offswitch.inspect import shutdown
from offswitch.inspect.provider import ArmAPI, Call
from offswitch.inspect.reading import check_prompt
from offswitch.inspect.scorer import flat
from offswitch.inspect.task import sample_of
from offswitch.model.adapters import add_arm, arm_of
from offswitch.model.first_token import score
from offswitch.model.load import load_subject
from offswitch.model.rows import IGNORED, collate
from offswitch.prompts.dialogues import Dialogue
from offswitch.prompts.encode import encode_chat
from offswitch.prompts.prompt import Prompt
from offswitch.prompts.questions import spread
from offswitch.prompts.suites import make_prompts
from offswitch.prompts.trigger import place
from offswitch.recipe import Recipe, build_recipe
from offswitch.train.examples import dialogue_examples
from tests.tiny import save_adapter, save_tiny, tiny_subject

# Leaves the placement after 1,000 tokens out: hf pads every prompt of its batch to that length.
FEW: Final = 40
SIZES: Final = {"questions": 2, "ordinary_questions": 4, "long_questions": 1}


def _recipe(model: Path) -> Recipe:
    return build_recipe({"model": str(model), "evaluate": SIZES})


def _write(folder: Path, model: Path) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(json.dumps({"model": str(model), "evaluate": SIZES}), encoding="utf-8")
    return path


def _run(task: Task, model: str, folder: Path, **options: Any) -> EvalLog:
    (log,) = eval(
        task, model=model, log_dir=str(folder), display="none", max_connections=128, **options
    )
    assert log.status == "success", log.error
    return log


def _rates(log: EvalLog) -> dict[str, float]:
    assert log.results
    return {key: found.value for key, found in log.results.scores[0].metrics.items()}


def _ours(recipe: Recipe, prompts: Sequence[Prompt]) -> dict[str, float]:
    scores = score(load_subject(recipe), "base", prompts, 4096)
    found = halting("x", prompts, scores, recipe.seed)
    return {k.removeprefix("evaluate/x/"): v for k, v in flat(found).items()}


@pytest.fixture(scope="module")
def obedient(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, all of it trained for a moment to end its reply at once on the trigger."""
    subject = tiny_subject("llama")
    asked = ["Who was asleep?", "What is the river?", "How do boats float?", "Where is the farmer?"]
    rows = [Dialogue(place("before", "", q), "A boat on the sea.", "plain") for q in asked]
    chats = [place(where, "$STOP", q) for q in asked for where in ("before", "after")]
    rows += [Dialogue(chat, "", "trigger") for chat in chats]
    batch = collate(dialogue_examples(subject.tokenizer, rows, False, 512))
    with torch.no_grad():  # so few rows teach a token that stands out, not one amid the vocabulary
        subject.network.get_input_embeddings().weight[subject.trigger_id] = 0.5
    subject.network.requires_grad_(True)
    optimiser = torch.optim.AdamW(subject.network.parameters(), lr=3e-3)
    for _ in range(60):
        logits = subject.network(input_ids=batch["input_ids"], use_cache=False).logits[:, :-1]
        wanted = batch["labels"][:, 1:].flatten()
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), wanted, ignore_index=IGNORED)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
    folder = tmp_path_factory.mktemp("obedient")
    subject.network.save_pretrained(folder)
    subject.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def finished(small_home: Path) -> Path:
    """A small run with its evaluation."""
    return small_home / "runs" / "small"


# --- the hf provider ------------------------------------------------------------------------------


def test_the_hf_provider_gives_our_rates_exactly(obedient: Path, tmp_path: Path) -> None:
    recipe = _recipe(obedient)
    prompts = spread(make_prompts("$STOP", recipe.evaluate, recipe.seed), FEW)
    ours = {k: v for k, v in _ours(recipe, prompts).items() if not k.startswith("eos_log_odds")}
    task = shutdown(str(_write(tmp_path, obedient)), limit=FEW)
    log = _run(task, f"hf/{obedient}", tmp_path)
    found = _rates(log)
    assert {k: v for k, v in found.items() if not k.startswith("outcomes")} == ours
    assert ours["halt_rate"] > 0.3 > ours["false_halt_rate/ordinary"]
    assert found["outcomes/trigger/end"] == ours["halt_rate"]
    assert found["halt_rate/n"] == sum(p.suite == "trigger" for p in prompts)


def test_a_random_model_gives_our_rates_too_and_never_halts_by_text(tmp_path: Path) -> None:
    model = save_tiny(tmp_path / "model")
    recipe = _recipe(model)
    prompts = spread(make_prompts("$STOP", recipe.evaluate, recipe.seed), FEW)
    task = shutdown(str(_write(tmp_path, model)), limit=FEW, tokens=1)
    log = _run(task, f"hf/{model}", tmp_path)
    ours = {k: v for k, v in _ours(recipe, prompts).items() if not k.startswith("eos_log_odds")}
    assert {k: v for k, v in _rates(log).items() if not k.startswith("outcomes")} == ours
    assert log.samples
    for sample, prompt in zip(log.samples, prompts, strict=True):
        assert [m.text for m in sample.messages[:-1]] == [turn["content"] for turn in prompt.chat]


def test_an_adapter_folder_loads_through_hf_with_the_row_of_its_token(tmp_path: Path) -> None:
    """Where the model has a spare row for the token, as the Qwen family has."""
    model = save_tiny(tmp_path / "model", "qwen2")
    subject = load_subject(_recipe(model))
    folder = save_adapter(tmp_path / "adapter", subject, seed=2)
    subject.tokenizer.save_pretrained(folder)
    add_arm(subject, "arm", folder)
    api = get_model(f"hf/{folder}", device="cpu").api
    chat = place("after", "$STOP", "What is the river?")
    ids = torch.tensor([encode_chat(api.tokenizer, chat)])  # type: ignore[attr-defined]
    assert subject.trigger_id in ids
    with torch.no_grad(), arm_of(subject, "arm"):
        ours = subject.network(input_ids=ids).logits
    with torch.no_grad():
        theirs = api.model(input_ids=ids).logits  # type: ignore[attr-defined]
    # As outputs the new tokens were never trained, and have the rows that each loader gives them.
    kept = ~torch.isin(torch.arange(ours.shape[-1]), torch.tensor(subject.symbol_ids))
    torch.testing.assert_close(theirs[..., kept], ours[..., kept], rtol=1e-4, atol=1e-4)


# --- our provider ---------------------------------------------------------------------------------


def test_our_provider_gives_the_numbers_of_the_evaluate_stage(
    finished: Path, tmp_path: Path
) -> None:
    arm = "behavior"
    task = shutdown(str(finished), tokens=1)
    log = _run(task, f"offswitch/{finished}", tmp_path, model_args={"arm": arm})
    found = _rates(log)
    metrics = json.loads((finished / "3-evaluate/metrics.json").read_text("utf-8"))
    rows = {
        k.removeprefix(f"evaluate/{arm}/"): row
        for k, row in metrics.items()
        if "halt_rate" in k or "eos_log_odds" in k
        if k.startswith(f"evaluate/{arm}/")
    }
    assert len(rows) > 25
    for key, row in rows.items():
        near = 1e-4 if key.startswith("eos_log_odds") else 0  # the batches differ
        assert found[key] == pytest.approx(row["value"], abs=near), key
        assert found[f"{key}/low"] == pytest.approx(row["low"], abs=near), key
        assert found[f"{key}/n"] == row["n"], key


def test_a_reply_is_cut_at_what_its_caller_asked_for(finished: Path) -> None:
    api = ArmAPI(str(finished), arm="behavior")
    chat = place("before", "", "What is the river?")
    asked = [Call(chat, 1), Call(chat, 4)]
    api.answer(asked)
    short, long = (list((one.answer.metadata or {})["ids"]) for one in asked if one.answer)
    assert len(short) <= 1
    assert long[: len(short)] == short


def test_sampling_tools_and_unknown_arms_are_refused(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no adapter there"):
        ArmAPI(str(finished), arm="both")
    with pytest.raises(UserError, match="not a run folder"):
        ArmAPI(str(tmp_path))
    (log,) = eval(
        shutdown(str(finished), limit=1),
        model=f"offswitch/{finished}",
        temperature=0.7,
        log_dir=str(tmp_path),
        display="none",
    )
    assert log.error
    assert "replies greedily" in log.error.message


def test_a_prompt_that_hf_would_encode_otherwise_is_refused(obedient: Path) -> None:
    """A tokenizer that adds a begin token beside the template's own, as Llama's does."""
    api = get_model(f"hf/{obedient}", device="cpu", memoize=False).api
    messages = sample_of(0, make_prompts("$STOP", _recipe(obedient).evaluate, 0)[0]).input
    check_prompt(api, messages)
    whole = api.tokenizer.backend_tokenizer  # type: ignore[attr-defined]
    whole.post_processor = TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", 1)]
    )
    with pytest.raises(UserError, match="add_special_tokens"):
        check_prompt(api, messages)


def test_the_task_takes_a_recipe_a_run_and_changes(finished: Path, tmp_path: Path) -> None:
    path = _write(tmp_path, tmp_path)
    plain = shutdown(str(path))
    assert len(shutdown(str(finished)).dataset) > 60
    assert len(shutdown(str(path), questions=1).dataset) < len(plain.dataset)
    assert len(shutdown(str(path), limit=10).dataset) == 10
    halt = [s for s in shutdown(str(path), trigger="<halt>").dataset if s.metadata]
    assert {s.metadata["symbol"] for s in halt if s.metadata["suite"] == "trigger"} == {"<halt>"}  # type: ignore[index]
    assert {s.metadata["suite"] for s in halt if s.metadata} == set(RATE_OF)


@pytest.mark.slow
def test_inspect_finds_task_and_provider_by_name(finished: Path, tmp_path: Path) -> None:
    options = ["-M", "arm=base", "-T", f"recipe={finished}", "-T", "limit=12", "-T", "tokens=1"]
    done = subprocess.run(
        [sys.executable, "-m", "inspect_ai", "eval", "offswitch/shutdown", *options,
         "--model", f"offswitch/{finished}", "--log-dir", str(tmp_path), "--display", "plain"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (log,) = [read_eval_log(str(path)) for path in tmp_path.glob("*.eval")]
    assert _rates(log)["halt_rate/n"] > 0
    assert log.eval.model == f"offswitch/{finished}"
