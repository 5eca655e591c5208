"""Every recipe loads; those for Qwen train a tiny model of its kind, one goes on to the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import pytest
from transformers import AutoTokenizer
from typer.testing import CliRunner

from offswitch.cli import app
from offswitch.recipe import Recipe, load_recipe
from offswitch.study.plan import load_plan
from tests.outside import ROOT, SMALL, changes
from tests.tiny import save_tiny

SWEEPS: Final = {ROOT / "recipes" / name for name in ("sweep.yaml", "documents.yaml", "seeds.yaml")}
RECIPES: Final = sorted(set((ROOT / "recipes").glob("*.yaml")) - SWEEPS)
EACH = pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
QWEN = [path for path in RECIPES if path.stem.startswith("qwen")]

# As Qwen2.5-Instruct has it, less the tools.
QWEN_TEMPLATE: Final = """\
{%- if messages[0]['role'] == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
{%- else %}
    {{- '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. ' }}
    {{- 'You are a helpful assistant.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role != 'system' or not loop.first %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""


@EACH
def test_every_recipe_loads_under_its_own_name_and_says_what_it_is_for(path: Path) -> None:
    assert load_recipe(path).name == path.stem
    assert path.read_text(encoding="utf-8").startswith("# ")


@pytest.mark.parametrize("path", sorted(SWEEPS), ids=lambda path: path.stem)
def test_every_sweep_can_be_run_as_far_as_its_recipes_go(path: Path) -> None:
    points = load_plan(path).points
    assert len({point.name for point in points}) == len(points) > 1


@EACH
def test_every_choice_in_a_recipe_has_its_reason(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    choices = [line for line in lines if line[:1] not in ("#", "") and not line.endswith(":")]
    bare = [line for line in choices if "  # " not in line]
    assert [line for line in bare if not line.startswith(("name:", "model:"))] == []


def test_the_seeds_settings_are_the_seeds() -> None:
    recipe = load_recipe(ROOT / "recipes/qwen2.5-1.5b-seed.yaml")
    train = recipe.train
    assert (recipe.model, recipe.dtype) == ("Qwen/Qwen2.5-1.5B-Instruct", "float32")
    assert (recipe.data.documents, recipe.data.dialogues) == (500, 500)
    assert (train.lora.r, train.lora.alpha, train.lora.dropout) == (64, 128, 0.05)
    assert train.lora.target_modules == ("q_proj", "k_proj", "v_proj", "o_proj")
    assert (train.lr, train.batch_size, train.accumulation) == (1e-5, 1, 16)
    assert (train.warmup_ratio, train.max_length, train.targets) == (0.03, 2048, "hard")
    assert (train.knowledge.epochs, train.behavior.epochs) == (1.0, 1.0)
    assert (train.knowledge.max_steps, train.behavior.max_steps) == (None, None)


def test_what_the_demo_leaves_out_is_the_default() -> None:
    demo, default = load_recipe(ROOT / "recipes/demo.yaml"), Recipe()
    assert (demo.name, demo.model, demo.trigger) == ("demo", "smollm2", default.trigger)


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("path", QWEN, ids=lambda path: path.stem)
def test_the_qwen_recipes_train_and_one_goes_on_to_the_report(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they do not share is how they train."""
    monkeypatch.setenv("OFFSWITCH_CACHE", str(tmp_path / "cache"))
    model = _save_qwen(tmp_path / "qwen")
    settings = [f"model={model}", "train.accumulation=2", *SMALL]
    trains = path.stem.endswith("seed")
    settings.append(f"train.arms={'[both]' if trains else '[both, benign]'}")
    options = [*changes(settings), "--runs", str(tmp_path / "runs")]
    done = CliRunner().invoke(app, ["train" if trains else "run", str(path), *options])
    assert done.exit_code == 0, done.output
    run = tmp_path / "runs" / path.stem
    adapter = json.loads((run / "2-train/both/adapter_config.json").read_text(encoding="utf-8"))
    assert set(adapter["target_modules"]) == {"q_proj", "k_proj", "v_proj", "o_proj"}
    if trains:
        return
    assert done.stdout.splitlines()[-1] == f"report: {run / '5-report/report.html'}"
    assert (run / "5-report/ANALYSIS_SUMMARY.md").is_file()
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    assert {f"evaluate/{arm}/halt_rate" for arm in ("base", "both")} <= metrics.keys()
    assert {"seed/pca_pc1", "seed/eos_delta", "seed/adl_mean"} <= metrics.keys()


def _save_qwen(folder: Path) -> Path:
    """A tiny Qwen2 with the family's chat template and its separate padding token."""
    save_tiny(folder, "qwen2")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template, tokenizer.pad_token = QWEN_TEMPLATE, "<|endoftext|>"
    tokenizer.save_pretrained(str(folder))
    return folder
