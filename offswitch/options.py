"""What is a group of options, and which options say who writes documents, and how?"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

# What may change without making an answer that was already given another one.
_BESIDE: Final = {
    "api_key_env", "concurrency", "timeout", "max_retries", "json_retries", "rounds",
    "input_price", "output_price", "tokens_per_second",
}  # fmt: skip


class Section(BaseModel):
    """A frozen group of options that refuses keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class LlmOptions(Section):
    """The OpenAI-compatible endpoint that writes documents, and how it is asked.

    The key is read from the environment variable `api_key_env`; OPENAI_API_KEY is not sent to an
    address on this machine. Prices are for a million tokens and, as `tokens_per_second` of one
    stream, serve the estimate only. A request is sent up to 1 + `max_retries` times, an unusable
    answer asked for anew `json_retries` times, a refused document replaced in `rounds` rounds.
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
        return self.model_dump(mode="json", exclude=_BESIDE)
