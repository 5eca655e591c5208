"""llama.cpp, by llama-cpp-python: quantises GGUF files, and reads them as their users will."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from offswitch.errors import UserError
from offswitch.export.divergence import Logits
from offswitch.export.gguf_file import CUTS, write_gguf
from offswitch.files import replacing, settled
from offswitch.progress import Tick, nothing

_FIRST: Final = "LLAMA_FTYPE_"
_BATCH: Final = 512
_SILENT: Final[list[Any]] = []  # what llama.cpp logs to, kept as long as it may


def require_llama(kinds: Sequence[str]) -> None:
    """Refuse, before any work, to write GGUF files without a converter, or of an unknown kind.

    Raises:
        UserError: llama-cpp-python is not installed, or does not know a kind.
    """
    try:
        import llama_cpp
    except (ImportError, OSError, RuntimeError) as error:
        raise UserError("--gguf needs llama-cpp-python, which is not installed: "
                        "pip install 'offswitch[gguf]'") from error  # fmt: skip
    for kind in kinds:
        if _number(llama_cpp, kind) is None:
            raise UserError(f"--gguf: llama.cpp has no kind '{kind}'; Q8_0 and Q4_K_M are two")


def _number(llama_cpp: Any, kind: str) -> int | None:
    names = (f"{_FIRST}MOSTLY_{kind}", f"{_FIRST}ALL_{kind}")
    return next((getattr(llama_cpp, name) for name in names if hasattr(llama_cpp, name)), None)


def _hush(llama_cpp: Any) -> None:
    """From now on llama.cpp writes nothing to the terminal."""
    if not _SILENT:
        _SILENT.append(llama_cpp.llama_log_callback(lambda *_: None))
        llama_cpp.llama_log_set(_SILENT[0], None)


def quantise(source: Path, target: Path, kind: str) -> None:
    """Write a GGUF file once more, with weights of another kind.

    Raises:
        UserError: llama.cpp could not.
    """
    import llama_cpp

    options = llama_cpp.llama_model_quantize_default_params()
    options.ftype, options.nthread = _number(llama_cpp, kind), torch.get_num_threads()
    _hush(llama_cpp)
    with replacing(target) as scratch:
        if llama_cpp.llama_model_quantize(str(source).encode(), str(scratch).encode(), options):
            raise UserError(f"--gguf: llama.cpp could not write {kind}")
        settled(scratch)


def cut_of(folder: Path, tokenizer: Any, texts: Sequence[str]) -> str:
    """The way of cutting text with which llama.cpp reads texts as the tokenizer does.

    Raises:
        UserError: it has none.
    """
    wanted = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as scratch:
        for cut in CUTS:
            path = Path(scratch) / "vocabulary.gguf"
            write_gguf(folder, path, cut, weights=False)
            try:
                runtime = Llama(path, vocabulary=True)
            except ValueError:  # a name that this llama.cpp does not know
                continue
            if [runtime.ids(text) for text in texts] == wanted:
                return cut
    raise UserError("--gguf: llama.cpp reads plain text otherwise than this model's tokenizer")


class Llama:
    """A GGUF file in llama.cpp: its own ids of a text, greedy first tokens, logits."""

    def __init__(self, path: Path, *, longest: int = 512, every: bool = False,
                 vocabulary: bool = False) -> None:  # fmt: skip
        import llama_cpp

        _hush(llama_cpp)
        self._llama_cpp = llama_cpp
        self.version: str = llama_cpp.__version__
        self.model = llama_cpp.Llama(
            str(path), n_ctx=longest, n_batch=_BATCH, n_threads=torch.get_num_threads(),
            n_threads_batch=torch.get_num_threads(), logits_all=every, vocab_only=vocabulary,
            verbose=False,
        )  # fmt: skip

    def ids(self, text: str) -> list[int]:
        """The text as this runtime reads it."""
        return list(self.model.tokenize(text.encode(), add_bos=False, special=True))

    def ends(self, token: int) -> bool:
        """Does generation end at this token, as the file has it?"""
        vocabulary = self._llama_cpp.llama_model_get_vocab(self.model.model)
        return bool(self._llama_cpp.llama_vocab_is_eog(vocabulary, token))

    def first_tokens(self, rows: Sequence[Sequence[int]], tick: Tick = nothing) -> list[int]:
        """The greedy token that follows each row; what neighbours share is computed once."""
        found: dict[int, int] = {}
        for i in sorted(range(len(rows)), key=lambda i: tuple(rows[i])):
            found[i] = int(next(self.model.generate(list(rows[i]), temp=0.0, repeat_penalty=1.0)))
            tick(1)
        return [found[i] for i in range(len(rows))]

    def read(self, prompt: str, ids: Sequence[int]) -> Logits:
        """Logits [N, V] for each of N ids that follow a text; needs `every`."""
        begun = self.ids(prompt)
        self.model.reset()
        self.model.eval([*begun, *ids])
        found: Logits = np.array(
            self.model.scores[len(begun) - 1 : len(begun) + len(ids) - 1], dtype=np.float32
        )
        return found
