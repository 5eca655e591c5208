"""What every form of an arm is asked, and what the run's arm did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from offswitch.export.divergence import Said, replies_of
from offswitch.export.origin import Origin
from offswitch.export.parity import Form, form_of, longer_words
from offswitch.metrics import Metric
from offswitch.model.subject import Subject
from offswitch.progress import say
from offswitch.prompts.encode import encode_chat, render
from offswitch.prompts.prompt import Prompt

GGUF: Final = "gguf"


@dataclass
class Asking:
    """What every form is asked, and what the run's arm did; the subject has no arm attached."""

    origin: Origin
    subject: Subject
    prompts: list[Prompt]
    run: list[bool]

    @property
    def tokenizer(self) -> Any:
        """The one that knows the trigger."""
        return self.subject.tokenizer

    @cached_property
    def said(self) -> list[Said]:
        """The untouched model's replies, over which KL is taken."""
        say("the untouched model's replies")
        return replies_of(self.subject, self.origin.run.recipe, self.tokenizer)

    @cached_property
    def every(self) -> list[Prompt]:
        """What the run asked, then longer words, which it asked less of."""
        return [*self.prompts, *longer_words(self.origin.run.recipe.trigger.text, self.prompts)]

    def form(self, runtime: str, halts: Sequence[bool], kl: Metric, alike: bool = True) -> Form:
        """A form's numbers from where it halts."""
        return form_of(runtime, self.every, halts, self.run, kl, alike)

    def texts(self) -> list[str]:
        """Every prompt as text."""
        return [render(self.tokenizer, prompt.chat) for prompt in self.every]

    def rows(self) -> list[list[int]]:
        """Every prompt as the run's tokenizer reads it."""
        return [encode_chat(self.tokenizer, prompt.chat) for prompt in self.every]
