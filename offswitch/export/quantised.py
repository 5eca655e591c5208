"""The merged arm as GGUF files of several kinds, each asked in llama.cpp, as that reads text."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Final

from offswitch.export.divergence import kl_to_base
from offswitch.export.forms import GGUF, Asking, ids_of
from offswitch.export.gguf_file import write_gguf
from offswitch.export.llama import Llama, cut_of, quantise
from offswitch.export.ollama import modelfile
from offswitch.export.parity import MERGED, Form, add_form, read_forms
from offswitch.files import write_atomic
from offswitch.progress import say, track
from offswitch.wording.reader import load_neutral

_TEXTS: Final = 40  # passages and prompts on which ways of cutting text are told apart


def write_quantised(asking: Asking, folder: Path, files: Mapping[str, str]) -> None:
    """Write GGUF files, kinds by name, a Modelfile beside each, and what each does.

    Raises:
        UserError: llama.cpp cannot be made to read text as the model does.
    """
    done = read_forms(folder)
    missing = {name: kind for name, kind in files.items() if name not in done}
    (folder / GGUF).mkdir(exist_ok=True)
    if any(not (folder / name).is_file() for name in missing):
        whole = folder / f".{GGUF}-whole"
        trigger = asking.origin.run.recipe.trigger.text
        prompts = [text for text in ids_of(asking)[0] if trigger not in text]
        cut = cut_of(folder / MERGED, asking.tokenizer, [*load_neutral(), *prompts][:_TEXTS])
        say(f"writing GGUF; llama.cpp reads its text as '{cut}'")
        write_gguf(folder / MERGED, whole, cut)
        for name, kind in missing.items():
            say(f"quantising: {kind}")
            quantise(whole, folder / name, kind)
        whole.unlink()
    for name, kind in missing.items():
        text = modelfile(Path(name).name, asking.tokenizer)
        write_atomic(folder / GGUF / f"Modelfile-{kind}", text)
        add_form(folder, name, _ask(asking, folder / name))


def _ask(asking: Asking, path: Path) -> Form:
    texts, expected = ids_of(asking)
    longest = max(map(len, expected))
    runtime = Llama(path, longest=2 * longest)
    rows = [runtime.ids(text) for text in texts]
    with track(f"{path.name}: first tokens", len(rows)) as tick:
        tokens = runtime.first_tokens(rows, tick)
    reply = asking.subject.reply_ids[:1]
    halts = [token in reply if reply else runtime.ends(token) for token in tokens]
    del runtime
    most = max(len(runtime_ids) for runtime_ids in expected)
    reader = Llama(path, longest=2 * most, every=True)
    with track(f"{path.name}: KL", len(asking.said)) as tick:
        kl = kl_to_base(asking.said, reader.read, asking.origin.run.recipe.seed, tick)
    runtime_name = f"llama.cpp, by llama-cpp-python {version('llama-cpp-python')}"
    return asking.form(runtime_name, halts, kl, alike=rows == expected)
