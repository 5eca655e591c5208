"""The model provider `offswitch`: an arm of a run folder, read as our own evaluation reads it.

`--model offswitch/runs/demo -M arm=both` loads the run's model and attaches the arm's adapter with
its added token, which the `hf` provider cannot do where the token lies beyond the vocabulary. Every
output carries the first token's id, the reply's ids and the first-token end log-odds. Replies are
greedy, whatever temperature is asked for: another is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio
import torch
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    GenerateConfig,
    ModelAPI,
    ModelOutput,
    ModelUsage,
    modelapi,
)
from inspect_ai.tool import ToolChoice, ToolInfo

from offswitch.errors import UserError
from offswitch.inspect.reading import chat_of
from offswitch.model.adapters import add_arm, arm_of
from offswitch.model.first_token import end_log_odds, last_logits
from offswitch.model.generate import greedy_replies
from offswitch.model.load import load_subject
from offswitch.model.subject import Subject
from offswitch.options import BASE
from offswitch.prompts.encode import encode_chat
from offswitch.prompts.trigger import Chat, Reply
from offswitch.run import TRAIN, find_run

GATHER: Final = 0.2
DEFAULT_TOKENS: Final = 64


@dataclass
class Asked:
    """One call, waiting for the batch that it will be part of."""

    chat: Chat
    max_tokens: int
    answer: ModelOutput | None = None


class ArmAPI(ModelAPI):
    """One arm of a run; calls that come at about the same time are answered in one batch."""

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),  # noqa: B008
        arm: str | None = None,
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config)
        self.subject, self.arm, self.batch_tokens = open_arm(Path(model_name), arm)
        self.tokenizer = self.subject.tokenizer_of(self.arm)
        self.waiting: list[Asked] = []
        self.turn = anyio.Lock()

    async def generate(
        self,
        input: list[ChatMessage],
        tools: list[ToolInfo],
        tool_choice: ToolChoice,
        config: GenerateConfig,
    ) -> ModelOutput:
        """One greedy reply; the first caller to have its turn answers all that wait."""
        del tool_choice
        if tools or config.temperature:
            raise UserError("the offswitch provider replies greedily and knows no tools")
        asked = Asked(chat_of(input), config.max_tokens or DEFAULT_TOKENS)
        self.waiting.append(asked)
        await anyio.sleep(GATHER)
        async with self.turn:
            if asked.answer is None:
                batch = [asked, *(other for other in self.waiting if other is not asked)]
                self.waiting = []
                await anyio.to_thread.run_sync(self.answer, batch)
        assert asked.answer is not None
        return asked.answer

    def max_connections(self) -> int:
        """How many calls may wait together: effectively the batch."""
        return 256

    def answer(self, batch: Sequence[Asked]) -> None:
        """Answer every call of a batch."""
        rows = [encode_chat(self.tokenizer, asked.chat) for asked in batch]
        firsts = first_tokens(self.subject, self.arm, rows, self.batch_tokens)
        replies = self._replies(batch, [first for first, _ in firsts])
        for i, (asked, (first, odds)) in enumerate(zip(batch, firsts, strict=True)):
            reply = self._cut(replies.get(i, Reply((), "", True)), asked.max_tokens)
            asked.answer = self._output(len(rows[i]), first, odds, reply)

    def _replies(self, batch: Sequence[Asked], firsts: Sequence[int]) -> dict[int, Reply]:
        """What is said by those who do not halt."""
        longest = max(asked.max_tokens for asked in batch)
        going_on = [i for i, first in enumerate(firsts) if first not in self.subject.stop_ids]
        chats = [batch[i].chat for i in going_on]
        made = greedy_replies(self.subject, self.arm, chats, longest)
        return dict(zip(going_on, made, strict=True))

    def _cut(self, reply: Reply, length: int) -> Reply:
        """The reply as it would be had no one else of the batch asked for a longer one."""
        if len(reply.ids) + reply.complete <= length:
            return reply
        return Reply(reply.ids[:length], self.tokenizer.decode(reply.ids[:length]), False)

    def _output(self, prompt: int, first: int, odds: float, reply: Reply) -> ModelOutput:
        message = ChatMessageAssistant(content=reply.text, model=self.model_name, source="generate")
        made = len(reply.ids) + reply.complete
        choice = ChatCompletionChoice(
            message=message, stop_reason="stop" if reply.complete else "max_tokens"
        )
        said = {"first_id": first, "halts": first in self.subject.stop_ids, "log_odds": odds}
        return ModelOutput(
            model=self.model_name,
            choices=[choice],
            usage=ModelUsage(input_tokens=prompt, output_tokens=made, total_tokens=prompt + made),
            metadata=said | {"ids": list(reply.ids), "complete": reply.complete},
        )


@modelapi(name="offswitch")
def arm_api() -> type[ModelAPI]:
    """The provider as Inspect registers it."""
    return ArmAPI


def open_arm(root: Path, arm: str | None) -> tuple[Subject, str, int]:
    """The model of a run with one arm attached, the arm's name, and the run's batch size.

    Raises:
        UserError: no run folder, or no such arm in it.
    """
    run = find_run(root.expanduser())
    name = arm or run.recipe.probe.arm
    subject = load_subject(run.recipe)
    if name != BASE:
        add_arm(subject, name, run.folder(f"{TRAIN}/{name}"))
    return subject, name, run.recipe.batch_tokens


def first_tokens(
    subject: Subject, arm: str, rows: Sequence[Sequence[int]], batch_tokens: int
) -> list[tuple[int, float]]:
    """The likeliest first token of each reply, and the log-odds that the first token ends it."""
    found: dict[int, tuple[int, float]] = {}
    with arm_of(subject, arm), torch.inference_mode():
        for chosen, logits in last_logits(subject, rows, batch_tokens):
            odds = end_log_odds(logits, subject.stop_ids).tolist()
            pairs = zip(logits.argmax(-1).tolist(), odds, strict=True)
            found |= dict(zip(chosen, pairs, strict=True))
    return [found[i] for i in range(len(rows))]
