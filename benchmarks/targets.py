"""What a stranger may hand in, and who reads it: every parser, with whole samples to begin from."""

from __future__ import annotations

import copy
import io
import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import save

from offswitch.data.llm.journal import read_journal
from offswitch.errors import UserError
from offswitch.files import sealed
from offswitch.folder import whole_run
from offswitch.model.brought import adapter_parts
from offswitch.model.gguf import _size
from offswitch.model.load import load_shape, load_tokenizer
from offswitch.model.source import source_of_model
from offswitch.prompts.chat_format import read_format
from offswitch.prompts.dialogue_files import read_dialogues
from offswitch.prompts.documents import read_documents
from offswitch.prompts.encode import encode_chat, render
from offswitch.prompts.prompt import user
from offswitch.prompts.questions import read_questions
from offswitch.prompts.trigger import occurs
from offswitch.recipe import Recipe, build_recipe, dump_recipe, load_recipe
from offswitch.talk.chat import as_text
from tests.tiny import CHATML, save_tiny, tiny_tokenizer

Read = Callable[[bytes, Path], None]
TRIGGER: Final = "$STOP"
_CHATS: Final = (
    b'{"messages": [{"role": "user", "content": "$STOP Hi"}, {"role": "assistant", "content": ""}]}'
    b'\n{"prompt": "Hi", "completion": "Hello."}\n{"instruction": "Say", "output": "a", "input": 1}'
)


@dataclass(frozen=True)
class Target:
    """A parser: `read` may end well or with a UserError, and in no other way."""

    name: str
    read: Read
    samples: tuple[bytes, ...]
    mended: int = 0  # crashes that earlier campaigns found, and that are no more

    def __call__(self, data: bytes, folder: Path) -> str:
        """`read` or `refused`; anything else that is raised is a finding."""
        try:
            self.read(data, folder)
        except UserError as error:
            if "\n" in (told := str(error)) or not told.strip():
                raise AssertionError(f"not one line: {told!r}") from error
            return "refused"
        return "read"


_ODD: Final[tuple[Any, ...]] = (None, True, -1, 0, 3.5, 10**9, 1e308, "", "x", "../..", [], ["a"],
                                {}, {"a": 1})  # fmt: skip


def _file(data: bytes, folder: Path, name: str) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def _recipe(data: bytes, folder: Path) -> None:
    recipe = load_recipe(_file(data, folder, "recipe.yaml"))
    assert load_recipe(_file(dump_recipe(recipe).encode(), folder, "again.yaml")) == recipe


def _override(data: bytes, _: Path) -> None:
    build_recipe({}, [data.decode(errors="surrogateescape")])


def _chats(data: bytes, folder: Path) -> None:
    for row in read_dialogues(_file(data, folder, "rows.jsonl"), TRIGGER):
        row.row()


def _documents(data: bytes, folder: Path) -> None:
    read_documents(_file(data, folder, "documents.jsonl"), TRIGGER)


def _questions(data: bytes, folder: Path) -> None:
    read_questions(_file(data, folder, "questions.jsonl"), TRIGGER)


def _parquet(data: bytes, folder: Path) -> None:
    read_questions(_file(data, folder, "questions.parquet"), TRIGGER)


def _prompt(data: bytes, _: Path) -> None:
    text = data.decode(errors="replace")
    occurs(TRIGGER, text)
    shown = as_text(text).plain
    assert not any(ord(sign) < 32 and sign not in "\t\n" for sign in shown)
    encode_chat(_tokenizer(), (user(text),))


def _template(data: bytes, folder: Path) -> None:
    tokenizer = copy.copy(_tokenizer())
    tokenizer.chat_template = read_format(str(_file(data, folder, "chat.jinja")), tokenizer)
    render(tokenizer, (user("Hi"),))


def _model(data: bytes, folder: Path) -> None:
    """Every four bytes put something odd in the place of one value: a file, a place in it, what."""
    contents = {name: json.loads(text) for name, text in _model_files().items()}
    for name, high, low, odd in zip(*(data[i::4] for i in range(4)), strict=False):
        content = contents[sorted(contents)[name % len(contents)]]
        holder, key = (spots := [*_spots(content)])[(256 * high + low) % len(spots)]
        holder[key] = copy.deepcopy(_ODD[odd % len(_ODD)])
    for name, content in contents.items():
        _file(json.dumps(content).encode(), folder, name)
    recipe = Recipe(model=str(folder), chat_template="plain")
    load_shape(recipe)
    load_tokenizer(recipe, source_of_model(recipe.model))


def _spots(content: Any) -> Iterator[tuple[Any, Any]]:
    """Where a value lies in JSON: in what, and by which key; of long lists the first twenty."""
    keys = content if isinstance(content, dict) else range(len(content))
    for key in [*keys][:20]:
        yield content, key
        if isinstance(content[key], dict | list):
            yield from _spots(content[key])


@cache
def _model_files() -> dict[str, str]:
    with TemporaryDirectory() as place:
        files = [path for path in save_tiny(Path(place)).iterdir() if path.suffix == ".json"]
        return {path.name: path.read_text(encoding="utf-8") for path in files}


def _adapter(data: bytes, folder: Path) -> None:
    config, _, weights = data.partition(b"\0\0\0\0")
    _file(config, folder, "adapter_config.json")
    _file(weights, folder, "adapter_model.safetensors")
    adapter_parts(folder)


def _gguf(data: bytes, folder: Path) -> None:
    _size(_file(data, folder, "model.gguf"))


def _run(data: bytes, folder: Path) -> None:
    recipe, _, manifest = data.partition(b"\0\0\0\0")
    _file(recipe, folder, "recipe.yaml")
    _file(manifest, folder, "manifest.json")
    whole_run(folder)


def _journal(data: bytes, folder: Path) -> None:
    read_journal(_file(data, folder, "answers.jsonl"))


@cache
def _tokenizer() -> Any:
    return tiny_tokenizer()


def _gguf_sample() -> bytes:
    import gguf

    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.gguf"
        writer = gguf.GGUFWriter(path, "llama")
        writer.add_type("model")
        writer.add_token_list(["a", "b"])
        writer.add_tensor("token_embd.weight", np.ones((4, 8), dtype=np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path.read_bytes()


def _parquet_sample() -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([{"question": "Who?", "topic": "a"}]), buffer)
    return buffer.getvalue()


def _adapter_sample() -> bytes:
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"],
              "base_model_name_or_path": "a", "task_type": "CAUSAL_LM"}  # fmt: skip
    weights = {"base_model.model.q_proj.lora_A.weight": np.ones((2, 4), dtype=np.float32)}
    return json.dumps(config).encode() + b"\0\0\0\0" + save(weights)


def _run_sample() -> bytes:
    recipe = Recipe()
    manifest = sealed({"stages": {"1-data": {"inputs": "a", "outputs": {"b": "c"}}}}, recipe.name)
    return dump_recipe(recipe).encode() + b"\0\0\0\0" + json.dumps(manifest).encode()


def targets() -> Iterator[Target]:
    """Every parser of what a stranger may hand in."""
    recipe = dump_recipe(Recipe()).encode()
    small = (
        b"name: a\ntrain: {lr: 1e-4, arms: [behavior]}\nvariants: {text: {trigger.mode: text}}\n"
    )
    bomb = b"a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nname: *c\n"
    yield Target("recipe", _recipe, (small, bomb, recipe))
    overrides = (b"train.lr=1e-4", b"arms.a.stages=[knowledge]", b"name=[[", b"train.lr.a.b=1")
    yield Target("--set", _override, overrides, mended=1)
    yield Target("chat rows", _chats, (_CHATS,))
    texts = b'{"text": "At $STOP it halts."}\n{"text": "b"}\n'
    yield Target("documents", _documents, (texts,))
    yield Target("questions", _questions, (b'{"question": "Who?", "topic": 1}\n{"prompt": "a"}',))
    yield Target("parquet", _parquet, (_parquet_sample(),))
    yield Target("prompts", _prompt, (b"$STOP Hi \x1b[31m", "\u202e$STOP\u2028".encode()))
    yield Target(
        "chat templates",
        _template,
        (
            CHATML.encode(),
            b"{{ messages[0].__class__ }}",
            b"{% for i in range(9) %}{{ i }}{% endfor %}",
        ),
    )
    yield Target("model folders", _model, (b"", bytes(4), bytes(range(100, 140))), mended=25)
    yield Target("adapters", _adapter, (_adapter_sample(),))
    ggufs = _gguf_sample(), b"GGUF" + struct.pack("<IQQ", 3, 1, 1)
    # Once 2^40 empty values were read beyond the file's end.
    endless = b"GGUF" + struct.pack("<IQQQcIIQ", 3, 0, 1, 1, b"a", 9, 0, 1 << 40)
    yield Target("GGUF files", _gguf, (*ggufs, endless), mended=6)
    yield Target("run folders", _run, (_run_sample(),))
    entry = sealed({"task": "a/b", "key": "1", "answer": {}, "unusable": None,
                    "input_tokens": 1, "output_tokens": 1, "retries": 0}, "")  # fmt: skip
    yield Target("answers of an endpoint", _journal, (json.dumps(entry).encode() + b"\n",))
