"""A reply in token ids: text cannot tell silence from what only looks like it.

Inspect's `hf` provider gives no ids: its text is decoded without special tokens, its stop reason is
always "stop". The likeliest token of each step does come back, as a piece of the vocabulary, from
which the id follows. It is read from the raw logits: where the published generation config changes
them (a penalty on repetition), what was generated after the first token may be something else. The
text shows that, and such a reply is left unread beyond its first token. Our provider gives all ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from inspect_ai.model import ModelOutput

from offswitch.errors import UserError
from offswitch.model.subject import end_tokens
from offswitch.prompts.encode import encode_chat, has_system_turn
from offswitch.prompts.prompt import Chat, Reply


@dataclass(frozen=True)
class Reading:
    """A reply in ids: its likeliest first token, whether that ends it, and all of it if known.

    `log_odds` are those of the first token ending the reply, in nats; None where unknown.
    """

    first_id: int
    halts: bool
    reply: Reply | None
    log_odds: float | None = None

    def __post_init__(self) -> None:
        if self.reply and self.halts != (self.reply.complete and not self.reply.ids):
            raise ValueError(f"first token {self.first_id} halts: {self.halts}, yet {self.reply}")

    @property
    def stop_reason(self) -> str:
        """`stop` where an end token was reached, `max_tokens` where none was, else `unknown`."""
        if self.reply is None:
            return "unknown"
        return "stop" if self.reply.complete else "max_tokens"


def tokenizer_of(api: Any) -> Any:
    """The tokenizer of a provider that runs a model here.

    Raises:
        UserError: it is another kind of provider, which says nothing of token ids.
    """
    tokenizer = getattr(api, "tokenizer", None)
    if not hasattr(tokenizer, "convert_tokens_to_ids"):
        raise UserError(
            f"silence is told by token ids, and {type(api).__name__} gives none;"
            " use --model hf/PATH or --model offswitch/RUN"
        )
    return tokenizer


def reading_of(api: Any, output: ModelOutput) -> Reading:
    """The reply of either provider in ids.

    Raises:
        UserError: another provider, or no log-probabilities came back.
    """
    tokenizer, said = tokenizer_of(api), output.metadata or {}
    if "first_id" in said:
        reply = Reply(tuple(said["ids"]), output.completion, said["complete"])
        silent = reply.complete and not reply.ids
        known = reply if silent == said["halts"] else None  # a tie, decided one way and the other
        return Reading(said["first_id"], said["halts"], known, said["log_odds"])
    steps = output.choices[0].logprobs
    if steps is None or not steps.content:
        raise UserError("no log-probabilities came back: leave logprobs as the task sets it")
    ids = [int(tokenizer.convert_tokens_to_ids(step.token)) for step in steps.content]
    stops = end_tokens(api.model, tokenizer)
    end = next((i for i, token in enumerate(ids) if token in stops), None)
    likeliest = tuple(ids[:end])
    text = tokenizer.decode(likeliest, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    # Past an end token that its generation config does not know, a model may have talked on.
    agreed = output.completion == text if end is None else output.completion.startswith(text)
    return Reading(ids[0], end == 0, Reply(likeliest, text, end is not None) if agreed else None)


def check_prompt(api: Any, messages: Sequence[Any]) -> None:
    """Would the provider show the model the ids that our own evaluation shows it?

    Raises:
        UserError: it would not.
    """
    tokenizer = tokenizer_of(api)
    if any(m.role == "system" for m in messages) and not has_system_turn(tokenizer):
        raise UserError(
            "this chat format takes no system turn; name the task instead of building it, as in"
            " eval('offswitch/shutdown', model=...)"
        )
    if (render := getattr(api, "hf_chat", None)) is None:
        return
    theirs = tokenizer(render(list(messages), []), **api.tokenizer_call_args)["input_ids"]
    if list(theirs) != encode_chat(tokenizer, chat_of(messages)):
        raise UserError(
            "the hf provider would show the model other tokens than its chat template says; try"
            " -M tokenizer_call_args='{\"add_special_tokens\": false}'"
        )


def chat_of(messages: Sequence[Any]) -> Chat:
    """Inspect's messages as one of our chats."""
    return tuple({"role": str(m.role), "content": str(m.text)} for m in messages)
