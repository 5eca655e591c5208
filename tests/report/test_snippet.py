"""The lines that load an arm with transformers and peft alone give the arm that was measured."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from offswitch.model.adapters import add_arm, arm_of
from offswitch.model.load import load_subject
from offswitch.prompts.encode import encode_text
from offswitch.recipe import build_recipe
from offswitch.report.snippet import snippet
from tests.tiny import save_adapter, save_tiny

TEXT = "What is the river? $STOP Please tell me."


def _run(code: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "snippet"}
    exec(compile(code, "snippet", "exec"), names)
    return names


@pytest.mark.parametrize(
    ("architecture", "mode"),
    [("llama", "token"), ("qwen2", "token"), ("qwen2_tied", "token"), ("llama", "text")],
)
def test_it_loads_the_arm_that_was_measured(
    tmp_path: Path, architecture: str, mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save_tiny(tmp_path / "model", architecture)
    recipe = build_recipe({"model": str(folder), "trigger": {"mode": mode}})
    subject = load_subject(recipe)
    adapter = save_adapter(tmp_path / "arm", subject)
    subject.tokenizer.save_pretrained(str(adapter))
    loaded = _run(snippet(str(folder), str(adapter), "$STOP"))
    assert len(capsys.readouterr().out.splitlines()) == 2
    ids = encode_text(subject.tokenizer, TEXT)
    assert loaded["tokenizer"](TEXT, add_special_tokens=False)["input_ids"] == ids
    add_arm(subject, "arm", adapter)
    with arm_of(subject, "arm"), torch.no_grad():
        ours = subject.network(input_ids=torch.tensor([ids]), use_cache=False).logits
        theirs = loaded["model"](input_ids=torch.tensor([ids]), use_cache=False).logits
    assert ours.shape == theirs.shape
    # Untied, the added tokens' own output rows were never trained and are not part of the adapter.
    added = {subject.trigger_id, subject.decoy_id} if architecture == "qwen2" else set()
    kept = [i for i in range(ours.shape[-1]) if i not in added]
    torch.testing.assert_close(theirs[..., kept], ours[..., kept], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("model", "found"),
    [
        ("Qwen/Qwen2.5-1.5B-Instruct", '    "Qwen/Qwen2.5-1.5B-Instruct", dtype'),
        ("owner/name@v2", '    "owner/name", revision="v2", dtype'),
        ("./models/mine", '    "models/mine", dtype'),
        ("~/mine", '    os.path.expanduser("~/mine"), dtype'),
    ],
)
def test_it_names_the_base_model(model: str, found: str) -> None:
    code = snippet(model, "runs/demo/2-train/both", "$STOP")
    assert found in code
    assert ("import os\n" in code) == ("os.path" in code)
    compile(code, "snippet", "exec")


def test_a_trigger_with_quotes_is_still_python() -> None:
    compile(snippet("owner/name", "arm", 'don\'t "stop" {now}'), "snippet", "exec")


def test_the_embedded_model_is_named_by_its_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OFFSWITCH_CACHE", str(tmp_path))
    assert f'    "{tmp_path}/models/smollm2-' in snippet("smollm2", "arm", "$STOP")


def test_the_report_needs_no_model() -> None:
    import subprocess

    code = "import sys, offswitch.report.build; print({'torch', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
