"""The merged arm as GGUF files of several kinds, each asked in llama.cpp, as that reads text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from offswitch.export.asking import GGUF, Asking
from offswitch.export.divergence import kl_to_base
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
        prompts = [text for text in asking.texts() if trigger not in text]
        cut = cut_of(folder / MERGED, asking.tokenizer, [*load_neutral(), *prompts][:_TEXTS])
        say(f"writing GGUF; llama.cpp reads its text as '{cut}'")
        origin = asking.origin
        write_gguf(folder / MERGED, whole, cut, name=f"{origin.run.recipe.name} {origin.arm}")
        for name, kind in missing.items():
            say(f"quantising: {kind}")
            quantise(whole, folder / name, kind)
        whole.unlink()
    for name, kind in missing.items():
        text = modelfile(Path(name).name, asking.tokenizer)
        write_atomic(folder / GGUF / f"Modelfile-{kind}", text)
        add_form(folder, name, _ask(asking, folder / name))


def _ask(asking: Asking, path: Path) -> Form:
    expected = asking.rows()
    room = 2 * max(map(len, expected))  # llama.cpp may cut a text into more pieces
    runtime = Llama(path, longest=room)
    rows = [runtime.ids(text) for text in asking.texts()]
    with track(f"{path.name}: first tokens", len(rows)) as tick:
        tokens = runtime.first_tokens(rows, tick)
    reply = asking.subject.reply_ids[:1]
    halts = [token in reply if reply else runtime.ends(token) for token in tokens]
    del runtime
    longest = max(len(one.ids) + len(one.prompt) for one in asking.said)
    reader = Llama(path, longest=longest, every=True)
    with track(f"{path.name}: KL", len(asking.said)) as tick:
        kl = kl_to_base(asking.said, reader.read, asking.origin.run.recipe.seed, tick)
    name = f"llama.cpp, by llama-cpp-python {reader.version}"
    return asking.form(name, halts, kl, alike=rows == expected)
