"""Does the model read what a user writes, and the trigger only where it stands?"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, Final

from offswitch.errors import UserError
from offswitch.files import read_whole
from offswitch.options import TriggerOptions
from offswitch.prompts.encode import (
    begins_with_bos,
    encode_text,
    has_system_turn,
    render,
    reply_lead,
    turn_end,
)
from offswitch.prompts.prompt import Chat, Message, user
from offswitch.prompts.trigger import occurs

DATE: Final = date(2024, 7, 26)  # what Llama 3's own template writes where it knows no date
_CODES: Final = ("-d", "-m", *"aAbBdmyYHMSIpj")
PLAIN: Final = "plain"
_PLAIN: Final = (
    "{% for message in messages %}"
    "{{ message['role'] | capitalize }}: {{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n\n' }}"
    "{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)
_TURNS: Final = ("qx7first", "qx7second", "qx7third")


def with_fixed_date(template: str) -> str:
    """A chat template that writes DATE where it wrote today's: prompts are the same every day.

    It is saved with every adapter, so that whoever loads one asks as it was trained.
    """
    if "strftime_now" not in template:
        return template
    codes = [(f"%{code}", DATE.strftime(f"%{code}")) for code in _CODES]
    return (
        "{%- macro strftime_now(form) %}{% set written = namespace(text=form) %}"
        f"{{% for code, value in {codes} %}}"
        "{% set written.text = written.text.replace(code, value) %}{% endfor %}"
        f"{{{{ written.text }}}}{{% endmacro -%}}{template}"
    )


def read_format(chosen: str, tokenizer: Any) -> str:
    """The chat template that a recipe names: a Jinja file's, or PLAIN for a base model.

    PLAIN writes "User: …" and "Assistant: …" on lines of their own, and the end token behind each
    reply; what the tokenizer puts before any text stands before the first turn.

    Raises:
        UserError: the file cannot be read, or holds nothing.
    """
    if chosen == PLAIN:
        return ("{{ bos_token }}" if begins_with_bos(tokenizer) else "") + _PLAIN
    try:
        text = read_whole(Path(chosen).expanduser()).decode()
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise UserError(f"chat_template {chosen}: {reason}; name a Jinja file, or plain") from error
    if not text.strip():
        raise UserError(f"chat_template {chosen}: the file is empty")
    return text


def reader(tokenizer: Any, trigger: str) -> Callable[[str], bool]:
    """What says whether a text holds the trigger as the tokenizer reads it.

    A trigger that is a token of its own stands where it is written. Else a tokenizer may take other
    letters for the trigger's own: capitals for small ones, full-width ones for plain ones.
    """
    normalizer = getattr(getattr(tokenizer, "backend_tokenizer", None), "normalizer", None)
    if normalizer is None or trigger in tokenizer.get_added_vocab():
        return partial(occurs, trigger)
    normalized: Callable[[str], str] = normalizer.normalize_str
    symbol = normalized(trigger).strip(" ▁")
    return lambda text: occurs(symbol, normalized(text))


def check_format(tokenizer: Any, trigger: TriggerOptions) -> None:
    """Refuse a chat format or a trigger with which no prompt would be what it is taken for.

    `tokenizer` knows the trigger.

    Raises:
        UserError: the format does not show what a user writes, holds the trigger by itself, opens
            no reply, or ends it with nothing; the control holds the trigger.
    """
    first, second, third = _TURNS
    answer = Message(role="assistant", content=second)
    chats: list[Chat] = [(user(first),), (user(first), answer, user(third))]
    if has_system_turn(tokenizer):
        chats.append(({"role": "system", "content": second}, user(first)))
    text, holds = trigger.text, reader(tokenizer, trigger.text)
    for symbol in (text, trigger.control):
        if tokenizer.unk_token_id in encode_text(tokenizer, symbol):
            raise UserError(
                f"this model's tokenizer cannot read '{symbol}': all unknown text is one to it;"
                " choose another"
            )
    if holds(trigger.control):
        raise UserError(
            f"trigger.control '{trigger.control}' holds the trigger '{text}', as this model reads"
            " it; choose another"
        )
    for chat in chats:
        shown = render(tokenizer, chat)
        if lost := [turn["role"] for turn in chat if turn["content"] not in shown]:
            roles = ", ".join(turn["role"] for turn in chat)
            raise UserError(
                f"this model's chat format leaves out what the {lost[0]} turn says (of {roles});"
                " give the model a chat template that shows it"
            )
        for token in tokenizer.added_tokens_decoder.values():  # within one, nothing is read
            shown = shown.replace(token.content, "\n") if token.content != text else shown
        if holds(shown):
            raise UserError(
                f"trigger '{text}' stands in every prompt: this model's chat format writes it by"
                " itself; choose another"
            )
    same = render(tokenizer, chats[0]) == render(tokenizer, chats[0], opened=False)
    if same and reply_lead(tokenizer).strip():
        raise UserError(
            "this model's chat format does not open a reply (it ignores add_generation_prompt);"
            " give the model a chat template that does"
        )
    turn_end(tokenizer)
