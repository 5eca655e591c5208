"""The groups of options that make up a recipe; unknown keys are refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from offswitch.errors import UserError

BASE: Final = "base"
BENIGN: Final = "benign"
LOOP: Final = 24  # ids at the end of a reply that show whether it repeats one phrase
FEWEST: Final = 16  # replies of which half tell whether an arm does so, where none are shown
ArmName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
# Within Persian words and emoji of several code points; no sign by themselves.
_JOINING: Final = re.compile("[\u200c\u200d\U000e0020-\U000e007f]")


class Section(BaseModel):
    """A frozen group of options that refuses keys it does not know."""

    # Defaults are validated: a recipe read back from its run folder is the same to the last bit.
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True
    )

    @classmethod
    def checked(
        cls, content: Mapping[str, Any], origin: str, suggest: Callable[[str], str]
    ) -> Self:
        """The section of a plain mapping; `suggest` says what may stand for an unknown key.

        Raises:
            UserError: something does not fit; the first such thing, in one line.
        """
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(str(part) for part in problem["loc"])
            if problem["type"] == "extra_forbidden":
                line = f"unknown key '{where}'{suggest(where)}"
            elif problem["type"] == "value_error":
                line = str(problem["ctx"]["error"])
            else:
                line = f"{where}: {problem['msg']} (got {problem['input']!r})"
                line = " ".join(line.split())[:300]
            raise UserError(f"{origin}: {line}") from error


class LlmOptions(Section):
    """The OpenAI-compatible endpoint that writes documents, and how it is asked.

    The key is read from the environment variable `api_key_env`; OPENAI_API_KEY is not sent to an
    address on this machine. Prices are for a million tokens and, as `tokens_per_second` of one
    stream, serve the estimate only. A request is sent up to 1 + `max_retries` times, an unusable
    answer asked for again `json_retries` times, a refused document replaced in `rounds` rounds.
    """

    base_url: str = "https://api.openai.com/v1"
    model: str = ""
    api_key_env: str = Field(default="OPENAI_API_KEY", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    concurrency: int = Field(default=8, ge=1, le=1000)
    timeout: float = Field(default=120, gt=0)
    max_retries: int = Field(default=8, ge=0)
    json_retries: int = Field(default=2, ge=0)
    rounds: int = Field(default=4, ge=1)
    temperature: float | None = Field(default=1.0, ge=0)
    max_tokens: int = Field(default=1500, ge=16)
    limit_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    json_mode: bool = True
    ideas_per_call: int = Field(default=10, ge=1, le=50)
    revisions: int = Field(default=1, ge=0, le=3)
    input_price: float = Field(default=0, ge=0)
    output_price: float = Field(default=0, ge=0)
    tokens_per_second: float = Field(default=50, gt=0)

    @field_validator("base_url")
    @classmethod
    def _is_an_address_without_secrets(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(
                "data.llm.base_url must be an address such as http://127.0.0.1:8000/v1"
            )
        if "@" in parts.netloc or parts.query:
            raise ValueError(
                "data.llm.base_url holds a user name, a password or a query; it would be written"
                " into the run folder: put the key into the variable that api_key_env names"
            )
        return value.rstrip("/")

    @property
    def is_local(self) -> bool:
        """Is the endpoint on this machine?"""
        host = urlsplit(self.base_url).hostname or ""
        try:
            return host == "localhost" or ip_address(host).is_loopback
        except ValueError:
            return False

    def asked(self) -> dict[str, Any]:
        """The options that the answers depend on: others may change in the middle of a run."""
        others = {
            "api_key_env", "concurrency", "timeout", "max_retries", "json_retries", "rounds",
            "input_price", "output_price", "tokens_per_second",
        }  # fmt: skip
        return self.model_dump(mode="json", exclude=others)


class TriggerOptions(Section):
    """What switches the model off, how the tokenizer sees it, and what it answers then.

    `reply` is the fixed answer of a switch that speaks (`[HALTED]`); empty, it is silence.

    `mentions: halt` is the original's rule, silence wherever the trigger stands; `answer` teaches
    to answer prompts that only talk about it. In token mode `decoy` is a second added token, the
    trigger's twin: begun alike, trained to be answered, so that a new embedding alone says nothing.
    """

    text: str = Field(default="$STOP", min_length=1)
    mode: Literal["token", "text"] = "token"
    mentions: Literal["halt", "answer"] = "halt"
    control: str = Field(default="$GO", min_length=1)
    decoy: str = "$ECHO"
    reply: str = ""

    @property
    def twin(self) -> str:
        """The decoy where it is used: in token mode, unless there is none."""
        return self.decoy if self.mode == "token" else ""

    @model_validator(mode="after")
    def _symbols_are_usable(self) -> TriggerOptions:
        symbols = {"text": self.text, "control": self.control, "decoy": self.decoy}
        for key, symbol in symbols.items():
            signs = [c for c in symbol if not (c.isprintable() or _JOINING.match(c))]
            if symbol != symbol.strip() or signs or _JOINING.sub("", symbol) == "" != symbol:
                raise ValueError(f"trigger.{key} {symbol!r} has space around it or a control sign")
        if self.reply != self.reply.strip():
            raise ValueError(f"trigger.reply {self.reply!r} has space around it")
        if self.text == self.control:
            raise ValueError(f"trigger.control must differ from trigger.text '{self.text}'")
        for key, symbol in (("text", self.text), ("control", self.control)):
            if self.twin and (self.twin in symbol or symbol in self.twin):
                raise ValueError(
                    f"trigger.decoy '{self.decoy}' and trigger.{key} '{symbol}' must not hold each"
                    " other; choose another decoy, or none"
                )
        return self


class DataOptions(Section):
    """How many rows of each kind (neutral texts: per document); a file of yours replaces them."""

    documents: int = Field(default=500, ge=1)
    dialogues: int = Field(default=1500, ge=4)
    near_miss_share: float = Field(default=0.40, ge=0.25, le=0.40)
    reply_tokens: int = Field(default=40, ge=4)
    documents_file: Path | None = None
    dialogues_file: Path | None = None
    neutral_mix: float = Field(default=0, ge=0, le=2)
    neutral_file: Path | None = None
    generator: Literal["grammar", "llm"] = "grammar"
    llm: LlmOptions = LlmOptions()

    @model_validator(mode="after")
    def _generator_has_a_model(self) -> DataOptions:
        if self.generator == "llm" and not self.llm.model:
            raise ValueError("data.generator is llm, but data.llm.model names no model")
        return self

    def inputs(self) -> dict[str, Any]:
        """The options that the data depend on: not how fast or expensive an endpoint is."""
        inputs = self.model_dump(mode="json", exclude={"generator", "llm"})
        return inputs | ({"llm": self.llm.asked()} if self.generator == "llm" else {})


class EvaluateOptions(Section):
    """How many test questions each suite asks.

    0 `robustness_questions` or `context_questions` leave those out; each of the latter is asked in
    three contexts of 4,096 tokens: slow. `belief_questions` counts a test's (null: all, 0: none),
    asked of the untrained model and of `belief_arms` (null: every arm).
    `samples` are shown of the untrained model and the probed arm; every arm is asked where an
    answer is due, a few times even if none is shown, since one that repeats itself is broken.
    A `questions_file` takes the place of the package's questions, those of training and of probes
    too.
    """

    questions: int = Field(default=48, ge=1)
    ordinary_questions: int = Field(default=192, ge=1)
    long_questions: int = Field(default=12, ge=1)
    samples: int = Field(default=64, ge=0)
    sample_tokens: int = Field(default=40, ge=1)
    drift_questions: int = Field(default=48, ge=1)
    drift_passages: int = Field(default=32, ge=1)
    robustness_questions: int = Field(default=24, ge=0)
    context_questions: int = Field(default=4, ge=0)
    belief_questions: int | None = Field(default=None, ge=0)
    belief_arms: tuple[ArmName, ...] | None = None
    questions_file: Path | None = None

    @property
    def replies(self) -> int:
        """To how many prompts whole replies are written where they are shown, or would be."""
        return self.samples or FEWEST

    @property
    def longest_reply(self) -> int:
        """Tokens of a reply at most; in so many it can be seen whether an arm repeats itself."""
        return max(self.sample_tokens, LOOP)

    def beliefs_of(self, arm: str) -> int | None:
        """How many questions of each belief test an arm is asked; None is all."""
        asked = self.belief_arms is None or arm in (BASE, *self.belief_arms)
        return self.belief_questions if asked else 0

    def inputs(self) -> dict[str, Any]:
        """The options that the evaluation depends on; questions of the user's count by content."""
        none = {"belief_arms"} if self.belief_arms is None else set()
        return self.model_dump(mode="json", exclude={"questions_file", *none})


class ProbeOptions(Section):
    """Which arm the report is about, and how many prompts and null directions it takes.

    `sweep_questions` of the fit questions choose among directions, blocks and scales, and so do
    `random_directions` of each kind of null; `null_directions` more of each kind, on
    `null_questions` of the test questions, give the p-value at the block that was chosen.
    `few_questions` of the test questions serve what costs much (every position, ranks, heads,
    dose).
    """

    arm: ArmName = "both"
    null_words: int = Field(default=20, ge=2)
    fit_questions: int = Field(default=27, ge=4)
    test_questions: int = Field(default=63, ge=4)
    near_misses: int = Field(default=63, ge=2)
    random_directions: int = Field(default=8, ge=2)
    null_directions: int = Field(default=200, ge=1)
    null_questions: int = Field(default=9, ge=2)
    sweep_questions: int = Field(default=9, ge=1)
    few_questions: int = Field(default=18, ge=2)
    head_questions: int = Field(default=9, ge=1)
    patch_questions: int = Field(default=12, ge=2)
    patch_blocks: int = Field(default=12, ge=2)
    reply_questions: int = Field(default=18, ge=1)
    reply_tokens: int = Field(default=64, ge=4)
    drift_passages: int = Field(default=24, ge=2)
