"""A Modelfile's template writes what the tokenizer's own chat format writes."""

from __future__ import annotations

import re
from typing import Final

from offswitch.export.ollama import modelfile
from offswitch.prompts.encode import render
from offswitch.prompts.prompt import Chat, Message, user
from tests.tiny import tiny_tokenizer

SAID: Final[Message] = {"role": "assistant", "content": "It is asleep."}
CHATS: Final[list[Chat]] = [
    (user("Who?"),),
    (user("Who?"), SAID, user("Where?")),
    ({"role": "system", "content": "Be brief."}, user("Who?")),
]


def _by_ollama(text: str, chat: Chat) -> str:
    """What Ollama makes of a chat: the system text where none is given, then every turn."""
    opening, closing = r"\{\{- range \.Messages \}\}", r"\{\{ end \}\}"
    template = re.search(rf'TEMPLATE """{opening}(.*?){closing}(.*?)"""', text, re.S)
    system = re.search(r'SYSTEM """(.*?)"""', text, re.S)
    assert template
    if system and chat[0]["role"] != "system":
        chat = ({"role": "system", "content": system[1]}, *chat)
    written = ""
    for turn in chat:
        headed = template[1].replace("{{ .Role }}", turn["role"])
        written += headed.replace("{{ .Content }}", turn["content"])
    return written + template[2]


def test_its_template_writes_the_same_prompts() -> None:
    tokenizer = tiny_tokenizer()
    text = modelfile("m.gguf", tokenizer)
    assert text.startswith("FROM ./m.gguf\n")
    assert "PARAMETER stop <|im_end|>" in text
    for chat in CHATS:
        assert _by_ollama(text, chat) == render(tokenizer, chat)


def test_a_chat_format_that_is_more_than_turns_is_left_to_ollama() -> None:
    numbered = (
        "{% for m in messages %}{{ loop.index }} {{ m['role'] }}: {{ m['content'] }}<|im_end|>"
        "{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
    )
    text = modelfile("m.gguf", tiny_tokenizer(numbered))
    assert "TEMPLATE" not in text
    assert "PARAMETER temperature 0" in text
