"""The client of an OpenAI-compatible endpoint; no answer is paid for twice.

The openai client repeats what failed on the way (cut connections, timeouts, 408, 409, 429, 5xx). An
answer that is not the JSON asked for is asked for again a few times, then given up and counted.
Every answer goes into the journal before it is used; what the journal holds is not asked for again.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, Field, ValidationError

from offswitch.data.llm.journal import Entry, Journal
from offswitch.data.llm.prompts import Request, S, UnusableError, parse_answer
from offswitch.errors import UserError
from offswitch.options import LlmOptions

if TYPE_CHECKING:
    from openai import AsyncOpenAI

HOPELESS: Final = 20  # that many unusable answers and fewer usable ones: stop paying
NO_KEY: Final = "none"
DEFAULT_VARIABLE: Final = "OPENAI_API_KEY"


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Usage(BaseModel):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Completion(BaseModel):
    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None


@dataclass
class Endpoint:
    """An open connection, the journal of its answers, and how it has done so far."""

    options: LlmOptions
    journal: Journal
    client: AsyncOpenAI
    gate: asyncio.Semaphore
    asked: set[str] = field(default_factory=set)
    usable: int = 0
    unusable: Counter[str] = field(default_factory=Counter)

    async def ask(self, request: Request[S]) -> S | None:
        """The answer, from the journal or the endpoint; None when no usable one was to be had.

        Raises:
            UserError: the endpoint fails, refuses the key, or answers with nothing but waste.
        """
        key, journal = request.key(self.options.asked()), self.journal
        self.asked.add(key)
        while key not in journal.usable:
            tries = journal.unusable.get(key, [])
            if len(tries) > self.options.json_retries:
                return None
            wanted = request.again(tries[-1].unusable or "") if tries else request
            async with self.gate:
                entry = await self._once(wanted, key)
                journal.add(entry)
            self._count(entry)
        return request.shape.model_validate(journal.usable[key].answer)

    async def _once(self, request: Request[S], key: str) -> Entry:
        """Send one request and judge the answer."""
        from openai import OpenAIError

        try:
            raw = await self.client.chat.completions.with_raw_response.create(**self._body(request))
        except OpenAIError as error:
            return Entry(request.task, key, None, _refusal(error, self.options), 0, 0)
        usage, answer, unusable = _Usage(), None, None
        try:
            completion = _Completion.model_validate_json(raw.text)
            usage = completion.usage or usage
            answer = _read(completion, request).model_dump(mode="json")
        except ValidationError:
            unusable = "it is not a chat completion"
        except UnusableError as error:
            unusable = str(error)
        spent = (usage.prompt_tokens, usage.completion_tokens)
        return Entry(request.task, key, answer, unusable, *spent, raw.retries_taken)

    def _body(self, request: Request[S]) -> dict[str, Any]:
        options = self.options
        messages = [{"role": role, "content": text} for role, text in request.messages]
        body: dict[str, Any] = {"model": options.model, "messages": messages}
        body[options.limit_field] = options.max_tokens
        if options.temperature is not None:
            body["temperature"] = options.temperature
        if options.json_mode:
            body["response_format"] = {"type": "json_object"}
        return body

    def _count(self, entry: Entry) -> None:
        if entry.unusable is None:
            self.usable += 1
            return
        self.unusable[entry.unusable] += 1
        lost = self.unusable.total()
        if lost >= HOPELESS and lost > self.usable:
            raise UserError(waste(self.unusable, lost + self.usable, self.options))


@asynccontextmanager
async def connect(options: LlmOptions, journal: Journal) -> AsyncIterator[Endpoint]:
    """An endpoint that is closed after the block.

    Raises:
        UserError: the openai package is missing, or the key is none that can be sent.
    """
    try:
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient
    except ImportError as error:
        raise UserError("data.generator llm needs: pip install 'offswitch[llm]'") from error
    # The default key is for OpenAI and is not sent to this machine.
    own = options.is_local and options.api_key_env == DEFAULT_VARIABLE
    key = NO_KEY if own else os.environ.get(options.api_key_env, "").strip() or NO_KEY
    if not (key.isascii() and key.isprintable()):
        raise UserError(f"the key in {options.api_key_env} has signs that no request can carry")
    async with AsyncOpenAI(
        base_url=options.base_url,
        api_key=key,
        timeout=options.timeout,
        max_retries=options.max_retries,
        # A proxy cannot reach this machine's own addresses.
        http_client=DefaultAsyncHttpxClient(trust_env=not options.is_local),
    ) as client:
        yield Endpoint(options, journal, client, asyncio.Semaphore(options.concurrency))


def waste(unusable: Mapping[str, int], answers: int, options: LlmOptions) -> str:
    """How many answers were unusable, and why most of them, in one line."""
    most = sorted(unusable.items(), key=lambda reason: -reason[1])[:3]
    return (
        f"{sum(unusable.values())} of {answers} answers of {options.model} at {options.base_url}"
        f" could not be used ({'; '.join(f'{n} × {why}' for why, n in most)})"
    )


def _read(completion: _Completion, request: Request[S]) -> S:
    choice = completion.choices[0]
    if choice.finish_reason == "length":
        raise UnusableError("it was cut at data.llm.max_tokens")
    if not (choice.message.content or "").strip():
        raise UnusableError("it holds no text")
    return parse_answer(choice.message.content or "", request.shape)


def _refusal(error: Exception, options: LlmOptions) -> str:
    """What a failed request says of the request alone; whatever would fail them all is raised."""
    import openai

    where = options.base_url
    if isinstance(error, openai.BadRequestError | openai.UnprocessableEntityError):
        return f"{error.status_code}: {_said(error, options)}"
    if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
        variable = options.api_key_env
        state = "the key in" if os.environ.get(variable) else "a request without a key:"
        raise UserError(f"{where} refuses {state} the environment variable {variable}") from error
    if isinstance(error, openai.NotFoundError):
        told = f"{where} knows no model '{options.model}' ({_said(error, options)})"
        raise UserError(told) from error
    kept = "what was answered is kept, and the same command goes on from there"
    tries = options.max_retries + 1
    if isinstance(error, openai.APIStatusError):
        state = f"{error.status_code} after {tries} tries ({_said(error, options)})"
        raise UserError(f"{where} still answers {state}; {kept}") from error
    cause = type(error.__cause__ or error).__name__
    raise UserError(f"{where} gives no answer in {tries} tries ({cause}); {kept}") from error


def _said(error: Exception, options: LlmOptions) -> str:
    """The server's own words, on one short line; if it repeats the key, without that."""
    said = " ".join(str(error).split())
    key = os.environ.get(options.api_key_env, "").strip()
    return (said.replace(key, "…") if key else said)[:160]
