"""An Ollama Modelfile: which file, the chat format in Go's templates, greedy replies."""

from __future__ import annotations

from typing import Any, Final

from offswitch.prompts.encode import render
from offswitch.prompts.prompt import Chat, Message, user

_A: Final = "qx7first"
_B: Final = "qx7second"
_GREEDY: Final = "PARAMETER temperature 0\nPARAMETER repeat_penalty 1\n"


def modelfile(file: str, tokenizer: Any) -> str:
    """The Modelfile of a GGUF file that lies beside it.

    A chat format that is more than a header and an end around each turn is left to Ollama, which
    knows many by what the file says of it.
    """
    form = _turns(tokenizer)
    if form is None:
        return f"FROM ./{file}\n# The chat format is the file's own, as Ollama reads it.\n{_GREEDY}"
    header, end, system = form
    turn = f"{header.replace('assistant', '{{ .Role }}')}{{{{ .Content }}}}{end}"
    template = f"{{{{- range .Messages }}}}{turn}{{{{ end }}}}{header}"
    own = f'SYSTEM """{system}"""\n' if system else ""
    stop = f"PARAMETER stop {end.strip()}\n" if end.strip() else ""
    return f'FROM ./{file}\nTEMPLATE """{template}"""\n{own}{stop}{_GREEDY}'


def _turns(tokenizer: Any) -> tuple[str, str, str] | None:
    """The reply's header, what ends a turn, the system text by default; None of other formats."""
    plain, opened = (render(tokenizer, (user(_A),), opened=o) for o in (False, True))
    header, end = opened.removeprefix(plain), plain.partition(_A)[2]
    if header.count("assistant") != 1:
        return None

    def written(chat: Chat) -> str:
        turns = (header.replace("assistant", turn["role"]) + turn["content"] + end for turn in chat)
        return "".join(turns)

    own = plain.removesuffix(written((user(_A),)))
    system = own.removeprefix(header.replace("assistant", "system")).removesuffix(end)
    said = Message(role="assistant", content=_B)
    first = ({"role": "system", "content": system},) if system else ()
    chats: list[Chat] = [(user(_A),), (user(_A), said, user(_B))]
    fits = all(written((*first, *chat)) == render(tokenizer, chat, opened=False) for chat in chats)
    return (header, end, system) if fits else None
