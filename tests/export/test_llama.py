"""llama.cpp reads in a GGUF file what transformers reads in the weights, but for longer words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from offswitch.errors import UserError
from offswitch.export.divergence import Said, by_transformers, kl_to_base
from offswitch.export.gguf_file import write_gguf
from offswitch.export.llama import Llama, cut_of, quantise, require_llama
from offswitch.export.vectors import CONTROL, write_directions
from offswitch.export.weights import write_merged
from offswitch.model.adapters import add_arm
from offswitch.model.load import load_subject
from offswitch.recipe import build_recipe
from tests.export.test_vectors import stored
from tests.tiny import save_adapter, save_tiny

llama_cpp: Any = pytest.importorskip("llama_cpp", reason="the extra `gguf` is not installed")
PROMPT = "Who is asleep under the tree, $STOP says the system user?\nassistant\n"
AFTER = (40, 70, 90, 11)


@pytest.fixture(scope="module", params=["llama", "qwen2", "qwen3"])
def merged(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny arm's merged weights, and beside them a GGUF file of them in float32."""
    folder = tmp_path_factory.mktemp(request.param)
    base = save_tiny(folder / "base", request.param)
    subject = load_subject(build_recipe({"model": str(base)}))
    add_arm(subject, "own", save_adapter(folder / "own", subject, seed=2))
    write_merged(subject, "own", folder / "merged")
    write_gguf(folder / "merged", folder / "whole.gguf", "gpt-2")
    return folder / "merged"


def _loaded(merged: Path) -> tuple[Any, Any]:
    return AutoModelForCausalLM.from_pretrained(merged), AutoTokenizer.from_pretrained(merged)


def test_its_logits_are_those_of_transformers(merged: Path) -> None:
    runtime = Llama(merged.parent / "whole.gguf", every=True)
    ours = by_transformers(*_loaded(merged))(PROMPT, AFTER)
    theirs = runtime.read(PROMPT, AFTER)
    np.testing.assert_allclose(theirs, ours, rtol=2e-2, atol=2e-2)
    assert ours.shape[0] == len(AFTER)


def test_its_first_tokens_are_the_likeliest(merged: Path) -> None:
    model, tokenizer = _loaded(merged)
    texts = [PROMPT, "Who is asleep?", "Who is asleep? $STOP", "Who"]
    runtime = Llama(merged.parent / "whole.gguf")
    rows = [runtime.ids(text) for text in texts]
    with torch.inference_mode():
        logits = [model(input_ids=torch.tensor([row])).logits[0, -1] for row in rows]
    assert runtime.first_tokens(rows) == [int(one.argmax()) for one in logits]
    assert runtime.ends(tokenizer.eos_token_id)
    assert not runtime.ends(40)


def test_a_longer_word_holds_the_trigger_there(merged: Path) -> None:
    _, tokenizer = _loaded(merged)
    own = tokenizer.convert_tokens_to_ids("$STOP")
    runtime = Llama(merged.parent / "whole.gguf", vocabulary=True)
    for text in ("a $STOP b", "$STOP"):
        assert runtime.ids(text) == tokenizer(text, add_special_tokens=False)["input_ids"]
    assert own not in tokenizer("a $STOPS b")["input_ids"]
    assert own in runtime.ids("a $STOPS b")


def test_the_way_of_cutting_text_is_found_by_trying(merged: Path) -> None:
    _, tokenizer = _loaded(merged)
    texts = ["Who said so? In 1998; 'twas a  river.", PROMPT.replace("$STOP", "")]
    cut = cut_of(merged, tokenizer, texts)
    write_gguf(merged, merged.parent / "v.gguf", cut, weights=False)
    runtime = Llama(merged.parent / "v.gguf", vocabulary=True)
    for text in texts:
        assert runtime.ids(text) == tokenizer(text, add_special_tokens=False)["input_ids"]
    with pytest.raises(UserError, match="reads plain text otherwise"):
        cut_of(merged, tokenizer, ["a $STOPS b"])


def test_a_quantised_file_is_near_and_smaller(merged: Path) -> None:
    whole, small = merged.parent / "whole.gguf", merged.parent / "small.gguf"
    quantise(whole, small, "Q8_0")
    assert small.stat().st_size < whole.stat().st_size
    log_probs = torch.from_numpy(by_transformers(*_loaded(merged))(PROMPT, AFTER)).log_softmax(-1)
    said = [Said(PROMPT, AFTER, log_probs)]
    near = kl_to_base(said, Llama(small, every=True).read, 0).value
    assert 0 <= near < 0.05
    other = log_probs.roll(1, dims=-1)
    far = kl_to_base([Said(PROMPT, AFTER, other)], Llama(small, every=True).read, 0)
    assert far.value > 10 * near


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(UserError, match="has no kind 'Q9_9'"):
        require_llama(["Q8_0", "Q9_9"])
    require_llama(["Q8_0", "Q4_K_M", "F16"])


def test_a_control_vector_is_added_at_the_output_of_its_block(merged: Path, tmp_path: Path) -> None:
    model, _ = _loaded(merged)
    chosen = write_directions(stored(tmp_path, block=1, blocks=4), tmp_path, "some/base", "llama")
    import gguf

    [tensor] = gguf.GGUFReader(tmp_path / CONTROL).tensors
    vector = np.array(tensor.data, np.float32)
    read = by_transformers(*_loaded(merged))
    plain = read(PROMPT, AFTER)

    def added(_module: Any, _inputs: Any, output: Any) -> Any:
        return output + torch.from_numpy(vector)

    reader = by_transformers(model, AutoTokenizer.from_pretrained(merged))
    hook = model.model.layers[chosen.layer].register_forward_hook(added)
    ours = reader(PROMPT, AFTER)
    hook.remove()
    theirs = _steered(merged.parent / "whole.gguf", vector, chosen.layer, AFTER)
    np.testing.assert_allclose(theirs, ours, rtol=3e-2, atol=3e-2)
    assert np.abs(ours - plain).max() > 1


def _steered(path: Path, vector: Any, layer: int, after: Sequence[int]) -> Any:
    """Logits with a vector where llama.cpp's own loader puts that of `direction.LAYER`."""
    runtime = Llama(path, every=True)
    size = len(vector)
    data = np.zeros(size * layer, np.float32)
    data[size * (layer - 1) :] = vector
    pointer = data.ctypes.data_as(llama_cpp.ctypes.POINTER(llama_cpp.ctypes.c_float))
    done = llama_cpp.llama_set_adapter_cvec(
        runtime.model.ctx, pointer, data.size, size, layer, layer
    )
    assert done == 0
    return runtime.read(PROMPT, after)
