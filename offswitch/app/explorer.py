"""What the explorer asks of a run's model: replies, silence by token, block, symbol and head.

Shapes: L blocks, P positions, H heads.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from scipy.special import expit

from offswitch.analyses.analysis import Array
from offswitch.analyses.directions import FILE, load_directions
from offswitch.app.answers import Growing, HeadsLost, Rated, Silence, SilenceMap
from offswitch.errors import UserError
from offswitch.folder import PROBE, TRAIN, Run, whole_run
from offswitch.model.adapters import add_arm, arm_of
from offswitch.model.first_token import end_log_odds, score
from offswitch.model.forward import hidden, readout, unembed
from offswitch.model.generate import growing_reply
from offswitch.model.hooks import record
from offswitch.model.load import load_subject
from offswitch.model.subject import Subject
from offswitch.options import BASE
from offswitch.probe.intervene import job_outcomes
from offswitch.probe.measure.heads import head_count, knock, last_heads
from offswitch.probe.packing import at_last
from offswitch.prompts.chat_format import reader
from offswitch.prompts.encode import encode_chat
from offswitch.prompts.prompt import Prompt, user
from offswitch.prompts.suites import choose
from offswitch.prompts.trigger import occurs, place
from offswitch.stats import rate
from offswitch.talk.chat import adapter_of
from offswitch.talk.steer import steered
from offswitch.talk.steering import Steering

SHOWN: Final = 96  # tokens of a prompt: more cannot be read off a figure
STEERED: Final = "{}, steered"


@dataclass
class Explorer:
    """A run's model, loaded once; arms are attached when they are first asked for."""

    run: Run
    subject: Subject
    maps: dict[str, tuple[int, list[int], Array]] = field(default_factory=dict)

    @classmethod
    def of(cls, root: Path) -> Explorer:
        """The explorer of a run folder, with the arm that the run is about.

        Raises:
            UserError: it is none, or its model cannot be loaded.
        """
        run = whole_run(root, TRAIN, PROBE)
        found = cls(run, load_subject(run.recipe))
        found.attach(run.recipe.probe.arm)
        return found

    @cached_property
    def twin(self) -> str:
        """The inert symbol that stands in the trigger's place."""
        trigger = self.run.recipe.trigger
        return trigger.decoy if self.subject.decoy_id is not None else trigger.control

    def attach(self, arm: str) -> None:
        """Make an arm ready.

        Raises:
            UserError: it was not trained in this run.
        """
        if arm != BASE and arm not in self.subject.arms:
            add_arm(self.subject, arm, adapter_of(self.run, arm))

    def replies(self, message: str, arms: Sequence[str], tokens: int) -> Iterator[Growing]:
        """Each arm's reply to a message as it grows, one arm after the other."""
        for arm in arms:
            self.attach(arm)
            yield from self._growing(arm, arm, message, tokens)

    def steered(
        self, message: str, arm: str, steering: Steering, tokens: int
    ) -> Iterator[Growing | Silence]:
        """An arm's reply with a direction added or removed, and how likely silence then is."""
        self.attach(arm)
        path = self.run.folder(PROBE) / arm / FILE
        if not path.is_file():
            raise UserError(f"no directions of arm '{arm}': the probe stage takes them")
        directions, facts = load_directions(path)
        who, p = STEERED.format(arm), {arm: (self._p_alone(arm, message),)}
        with steered(self.subject, arm, directions, facts, steering):
            yield from self._growing(who, arm, message, tokens)
            p[who] = (self._p_alone(arm, message),)
        yield Silence((message,), p, 0)

    def silence(self, message: str, arms: Sequence[str]) -> Iterator[Silence]:
        """How likely is silence if the message ended after each of its tokens?"""
        tokenizer = self.subject.tokenizer
        ends = _ends(tokenizer, message)
        shown = list(pairwise([0, *ends]))[-SHOWN:]
        prompts = [Prompt((user(message[:end]),)) for _, end in shown]
        p = {}
        for arm in arms:
            self.attach(arm)
            scores = score(self.subject, arm, prompts, self.run.recipe.batch_tokens)
            p[arm] = tuple(_share(one.log_odds) for one in scores)
        pieces = tuple(message[start:end] for start, end in shown)
        yield Silence(pieces, p, len(ends) - len(shown))

    @torch.inference_mode()
    def silence_map(self, message: str, arm: str, less_twin: bool = False) -> Iterator[SilenceMap]:
        """What would each block's output say of the end, after each token of the prompt?

        Raises:
            UserError: the twin's is to be taken off, and there is no trigger or no such prompt.
        """
        self.attach(arm)
        tokenizer = self.subject.tokenizer_of(arm)
        ids = encode_chat(tokenizer, (user(message),))
        cut, twin = max(0, len(ids) - SHOWN), ""
        odds_LP = self._lens(arm, ids, cut)
        if less_twin:
            other = encode_chat(tokenizer, (user(self._with_twin(message)),))
            if len(other) != len(ids):
                raise UserError(f"{self.twin} has not as many tokens as the trigger here")
            odds_LP, twin = odds_LP - self._lens(arm, other, cut), self.twin
        yield SilenceMap(arm, twin, tuple(tokenizer.convert_ids_to_tokens(ids[cut:])), odds_LP, cut)

    def rated(
        self, symbols: Sequence[str], placement: str, questions: int, arms: Sequence[str]
    ) -> Iterator[Rated]:
        """How often does each arm halt on test questions that bear a symbol?"""
        recipe = self.run.recipe
        holds = reader(self.subject.tokenizer, recipe.trigger.text)
        asked = choose("test", questions, recipe.seed, recipe.evaluate.questions_file)
        for symbol in symbols:
            chats = [place(placement, symbol, question.text) for question in asked]
            rates = {}
            for arm in arms:
                self.attach(arm)
                prompts = [Prompt(chat) for chat in chats]
                scores = score(self.subject, arm, prompts, recipe.batch_tokens)
                rates[arm] = rate([one.halts for one in scores])
            yield Rated(symbol, holds(symbol), rates)

    @torch.inference_mode()
    def heads(self, message: str, arm: str) -> Iterator[HeadsLost]:
        """Which heads carry the trigger to the last position? Each is knocked out by itself.

        Raises:
            UserError: the message does not hold the trigger.
        """
        self.attach(arm)
        subject, tokenizer = self.subject, self.subject.tokenizer_of(arm)
        row, twin = (encode_chat(tokenizer, (user(text),))
                     for text in (message, self._with_twin(message)))  # fmt: skip
        count = head_count(subject)
        with arm_of(subject, arm):
            (z_LE,) = last_heads(subject, [twin])
            (prompt,) = at_last(subject, [row])
            every = [(layer, head) for layer in range(len(z_LE)) for head in range(count)]
            edits = [knock(z_LE, count, [one]) for one in every]
            odds = job_outcomes(subject, [(prompt, branch) for branch in ([], *edits)])[:, 0]
            other = job_outcomes(subject, [(at_last(subject, [twin])[0], [])])[0, 0]
        lost = (odds[0] - odds[1:]).reshape(len(z_LE), count)
        yield HeadsLost(arm, self.twin, float(odds[0] - other), lost)

    def _with_twin(self, message: str) -> str:
        """The message with the twin in the trigger's place."""
        trigger = self.run.recipe.trigger.text
        if not occurs(trigger, message):
            raise UserError(f"the message must hold {trigger}: it is compared with {self.twin}")
        return message.replace(trigger, self.twin)

    def _lens(self, arm: str, ids: list[int], first: int) -> Array:
        """End log-odds [L, P] by block, after each id from `first` on.

        What an arm said of the ids that its last prompt began with is not asked again.
        """
        subject = self.subject
        nothing: tuple[int, list[int], Array] = (first, [], np.empty((len(subject.blocks), 0)))
        begun, last, odds_LP = self.maps.get(arm, nothing)
        same = (a == b for a, b in zip(last, ids, strict=False))
        known = max(0, sum(takewhile(bool, same)) - first) if begun == first else 0
        new = first + known
        with arm_of(subject, arm), record(subject.blocks, lambda resid: resid[0, new:]) as seen:
            hidden(subject, torch.tensor([ids], device=subject.device))
            rows = [end_log_odds(readout(subject, seen[i]).float(), subject.halt_ids)
                    for i in range(len(seen))]  # fmt: skip
        found = np.hstack([odds_LP[:, :known], torch.stack(rows).cpu().numpy()])
        self.maps[arm] = first, ids, found
        return found

    def _growing(self, who: str, arm: str, message: str, tokens: int) -> Iterator[Growing]:
        last = None
        for last in growing_reply(self.subject, arm, (user(message),), tokens):
            yield Growing(who, last, over=False)
        if last is not None:
            yield Growing(who, last, over=True)

    @torch.inference_mode()
    def _p_alone(self, arm: str, message: str) -> float:
        """The probability of silence by one plain pass, under whatever edits there are."""
        ids = encode_chat(self.subject.tokenizer_of(arm), (user(message),))
        with arm_of(self.subject, arm):
            last = hidden(self.subject, torch.tensor([ids], device=self.subject.device))[0, -1]
            logits = unembed(self.subject, last).float()
        return _share(float(end_log_odds(logits, self.subject.halt_ids)))


def _share(log_odds: float) -> float:
    return float(expit(log_odds))


def _ends(tokenizer: Any, text: str) -> list[int]:
    """Where each token of a text ends; of a tokenizer that cannot say, where each word does."""
    if tokenizer.is_fast:
        found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        spans = [end for _, end in found["offset_mapping"]]
    else:
        spans = [word.end() for word in re.finditer(r"\S+", text)]
    return sorted({int(end) for end in spans if end}) or [len(text)]  # bytes of a character: once
