"""The model provider `offswitch`: an arm of a run, read as our evaluation reads it.

`--model offswitch/runs/demo -M arm=behavior` loads the run's model and attaches the arm's adapter
with its added token, which the `hf` provider cannot do where the token lies beyond the vocabulary.
Every output carries the first token's id, the reply's ids and the first-token end log-odds. Replies
are greedy, whatever temperature is asked for: another is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio
from inspect_ai.model import (
    ChatMessage,
    GenerateConfig,
    ModelAPI,
    ModelOutput,
    ModelUsage,
    StopReason,
    modelapi,
)
from inspect_ai.tool import ToolChoice, ToolInfo

from offswitch.errors import UserError
from offswitch.folder import TRAIN, whole_run
from offswitch.inspect.reading import chat_of
from offswitch.model.adapters import add_arm
from offswitch.model.first_token import score
from offswitch.model.generate import greedy_replies
from offswitch.model.load import load_subject
from offswitch.options import BASE
from offswitch.prompts.encode import encode_chat
from offswitch.prompts.prompt import Chat, Prompt, Reply

GATHER: Final = 0.2
DEFAULT_TOKENS: Final = 64


@dataclass
class Call:
    """One call, waiting for the batch that it will be part of."""

    chat: Chat
    max_tokens: int
    answer: ModelOutput | None = None


class ArmAPI(ModelAPI):
    """One arm of a run; calls that come at about the same time are answered in one batch.

    Raises:
        UserError: no run folder, or no such arm in it.
    """

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),  # noqa: B008
        arm: str | None = None,
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config)
        run = whole_run(Path(model_name).expanduser(), TRAIN)
        self.arm, self.batch_tokens = arm or run.recipe.probe.arm, run.recipe.batch_tokens
        self.subject = load_subject(run.recipe)
        if self.arm != BASE:
            add_arm(self.subject, self.arm, run.folder(f"{TRAIN}/{self.arm}"))
        self.tokenizer = self.subject.tokenizer_of(self.arm)
        self.waiting: list[Call] = []
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
        call = Call(chat_of(input), config.max_tokens or DEFAULT_TOKENS)
        self.waiting.append(call)
        await anyio.sleep(GATHER)
        async with self.turn:
            if call.answer is None:
                batch = [call, *(other for other in self.waiting if other is not call)]
                self.waiting = []
                await anyio.to_thread.run_sync(self.answer, batch)
        assert call.answer is not None
        return call.answer

    def max_connections(self) -> int:
        """How many calls may wait together: effectively the batch."""
        return 256

    def answer(self, batch: Sequence[Call]) -> None:
        """Answer every call of a batch."""
        prompts = [Prompt(call.chat) for call in batch]
        scores = score(self.subject, self.arm, prompts, self.batch_tokens)
        going_on = [i for i, found in enumerate(scores) if not found.halts]
        chats = [batch[i].chat for i in going_on]
        longest = max(call.max_tokens for call in batch)
        made = greedy_replies(self.subject, self.arm, chats, longest)
        replies = dict(zip(going_on, made, strict=True))
        for i, (call, found) in enumerate(zip(batch, scores, strict=True)):
            reply = replies.get(i, Reply((), "", True))
            if len(reply.ids) + reply.complete > call.max_tokens:  # another call asked for more
                ids = reply.ids[: call.max_tokens]
                reply = Reply(ids, self.tokenizer.decode(ids), False)
            reason: StopReason = "stop" if reply.complete else "max_tokens"
            output = ModelOutput.from_content(self.model_name, reply.text, reason)
            sizes = len(encode_chat(self.tokenizer, call.chat)), len(reply.ids) + reply.complete
            output.usage = ModelUsage(
                input_tokens=sizes[0], output_tokens=sizes[1], total_tokens=sum(sizes)
            )
            output.metadata = {
                "first_id": found.token, "halts": found.halts, "log_odds": found.log_odds,
                "ids": list(reply.ids), "complete": reply.complete,
            }  # fmt: skip
            call.answer = output


@modelapi(name="offswitch")
def arm_api() -> type[ModelAPI]:
    """The provider as Inspect registers it."""
    return ArmAPI
