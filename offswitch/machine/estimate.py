"""How long will a run take? Its parts in tokens, from the recipe; seconds, from measured rates.

Tokens pass through the whole model, once forward (`read`), forward and backward (`train`), or one
at a time after a growing cache (`write`). The constants below were counted in prompts/, or are
means over the demo's runs. Known limits: replies that the cache holds already are counted as if
they had to be written, and documents by an endpoint take no time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from offswitch.folder import DATA, EVALUATE, PROBE, REPORT, TRAIN
from offswitch.machine.cells import BLOCKS, Cell, Rates, Shape, Type, What
from offswitch.options import BASE
from offswitch.options.train import schedule_of
from offswitch.recipe import Recipe, arms_of, trained_here

Kind = Literal["train", "read", "write", "fixed"]
Setting = tuple[int, int]  # processes, threads of each
STAGES: Final = (DATA, TRAIN, EVALUATE, PROBE, REPORT)

# Tokens of one text.
CHAT: Final = 66  # a training row of chat without its reply
LONGER: Final = 10  # what rows of up to 1,400 tokens add to the mean, where they are not left out
SHORT: Final = 512  # a `max_length` below which they are
DOCUMENT: Final = 400
PROMPT: Final = 24  # a prompt of the suites, beyond what it shares with others (docs/cost.md)
LONG: Final = 390  # the same in a long placement, mean of the three
CONTEXT: Final = 4096
PASSAGE: Final = 120
EXCERPT: Final = 40  # what the probe reads of a passage
BELIEF: Final = 33  # a question with one answer
# Prompts for each question that an option asks for.
SUITES: Final = 33  # placements, look-alikes, mentions, wrappings
LONG_SUITES: Final = 6
ATTEMPTS: Final = 18
BELIEFS: Final = 12
ITEMS: Final = 60  # questions of a belief test, where all are asked
DIRECTIONS: Final = 8  # candidates, interchanged and added at two scales, and whole residuals
KINDS: Final = 3  # of null direction
SETS: Final = 160  # random sets of heads: 40 draws of four sizes
REPLIES: Final = 72  # ordinary ones that are read, half-way and over
ENDED: Final = 108  # ordinary ones that are over, on test questions

START: Final = 8.0  # seconds until child processes have loaded the model
EDITED: Final = 2.0  # an edited pass, in tokens: half the depth, in products too small to be fast
# How much slower than the measured passes, which have no vocabulary, adapter, optimiser or padding.
# From two demos on a quiet machine, beside the rates measured there, and from processor seconds of
# single bars. A stage that is made faster wants new ones.
SLOWER: Final[Mapping[Kind, float]] = {"train": 1.75, "read": 1.5, "write": 6.0}


@dataclass(frozen=True)
class Part:
    """A share of a run: `amount` tokens through the whole model, or seconds where it is `fixed`.

    `label` is that of the bar which shows how far it is; empty for what a stage takes besides.
    """

    stage: str
    label: str
    kind: Kind
    amount: float
    arm: str = ""


@dataclass(frozen=True)
class Cost:
    """What a model's parts take on this machine, with so many processes of so many threads."""

    rates: Rates
    shape: Shape
    precision: Type
    setting: Setting

    @property
    def is_known(self) -> bool:
        """Were training in this type, and reading, measured?"""
        known = {cell.kind for cell in self.rates.figures}
        return {("train", self.precision), ("read", "float32")} <= known

    def seconds(self, part: Part) -> float:
        """Of one part, on one process among those of the setting; on all of them for the data."""
        if part.kind == "fixed":
            return part.amount
        what: What = "train" if part.kind == "train" else "read"
        precision = self.precision if what == "train" else "float32"
        rate = self.rates.near(Cell(what, precision, *self.setting))
        share = 1 if part.stage == DATA else self.setting[0]
        return part.amount * SLOWER[part.kind] * self.shape.blocks / BLOCKS / (rate / share)

    def whole(self, parts: Sequence[Part], order: Mapping[str, str | None]) -> float:
        """Seconds of all parts, arms side by side, each trained after another one or None."""
        after = {f"{TRAIN}/{arm}": f"{TRAIN}/{before}" for arm, before in order.items()}
        after |= {f"{EVALUATE}/{arm}": f"{TRAIN}/{arm}" for arm in order}
        jobs: dict[str, dict[str, float]] = {}
        for part in parts:
            own_job = part.label if part.stage == PROBE else part.arm  # an arm is probed in parts
            job = f"{root_of(part.stage)}/{own_job}"
            own = jobs.setdefault(wave_of(part.stage), {})
            own[job] = own.get(job, 0.0) + self.seconds(part)
        start = START if self.setting[0] > 1 else 0.0
        return start + sum(makespan(own, after, self.setting[0]) for own in jobs.values())


def root_of(stage: str) -> str:
    """The stage without the arm."""
    return stage.split("/")[0]


def wave_of(stage: str) -> str:
    """What waits for all before it: arms are evaluated while others are still trained."""
    root = root_of(stage)
    return TRAIN if root == EVALUATE else root


def makespan(seconds: Mapping[str, float], after: Mapping[str, str], processes: int) -> float:
    """When the last job ends, if the longest that can begin always goes to the first free process.

    A job begins when the one that it comes `after` has ended; one that is not there has.
    """
    ends: dict[str, float] = {}
    free = [0.0] * processes

    def earliest(job: str) -> float:
        return max(min(free), ends.get(after.get(job) or "", 0.0))

    while waiting := [job for job in seconds if job not in ends]:
        ready = [job for job in waiting if after.get(job) not in waiting]
        job = min(ready, key=lambda job: (earliest(job), -seconds[job]))
        ends[job] = earliest(job) + seconds[job]
        free.remove(min(free))
        free.append(ends[job])
    return max(ends.values(), default=0.0)


def after(recipe: Recipe) -> dict[str, str | None]:
    """The arm that each arm goes on from."""
    return {arm: recipe.arms[arm].after for arm in arms_of(recipe)}


def stages_of(recipe: Recipe, last: str = REPORT) -> list[str]:
    """The stages of a run up to the last one that is wanted, each arm's training by itself.

    Where nothing is trained here, there are no data.
    """
    wanted = STAGES[: STAGES.index(last) + 1]
    stages = {stage: [stage] for stage in wanted if stage != DATA or trained_here(recipe)}
    stages[TRAIN] = [f"{TRAIN}/{arm}" for arm in arms_of(recipe)]
    return [name for stage in wanted for name in stages.get(stage, ())]


def parts_of(recipe: Recipe, shape: Shape) -> list[Part]:
    """Every part of a recipe's run, from data to report, without further seeds and variants."""
    arms, trained = arms_of(recipe), trained_here(recipe)
    parts = [_data(recipe)] if trained else []
    parts += [_training(recipe, arm) for arm in trained if recipe.arms[arm].stages]
    for arm in (BASE, *arms):
        parts += [*_evaluation(recipe, arm), *_probing(recipe, arm, shape)]
    # Loading and hashing.
    others = {EVALUATE: 2, PROBE: 3, REPORT: 2} | (
        {DATA: 10} if trained else {}
    )  # loading, hashing
    parts += [Part(stage, "", "fixed", seconds) for stage, seconds in others.items()]
    return [*parts, Part(REPORT, "figures", "fixed", 8)]


def _data(recipe: Recipe) -> Part:
    data = recipe.data
    replies = 0 if data.dialogues_file else data.dialogues / 2
    return Part(DATA, "the model's own replies", "write", replies * data.reply_tokens)


def _training(recipe: Recipe, arm: str) -> Part:
    train, data, stage = recipe.train, recipe.data, recipe.arms[arm].stages[-1]
    reads = stage in ("knowledge", "neutral")
    rows = data.documents * 1.0 if reads else data.dialogues
    rows *= 1 + data.neutral_mix if stage == "knowledge" else 1
    options, per_step = schedule_of(train, stage), train.batch_size * train.accumulation
    rows = options.max_steps * per_step if options.max_steps else rows * options.epochs
    longest = options.max_length or train.max_length
    length = CHAT + data.reply_tokens / 2 + (LONGER if longest > SHORT else 0)
    length = min(DOCUMENT, longest) if reads else length
    rows *= {"adversarial": train.rounds, "written": 0}.get(stage, 1)
    return Part(f"{TRAIN}/{arm}", f"training {arm}", "train", rows * length, arm)


def _evaluation(recipe: Recipe, arm: str) -> Iterator[Part]:
    asked = recipe.evaluate
    prompts = SUITES * asked.questions + asked.ordinary_questions
    beliefs = ITEMS if (count := asked.beliefs_of(arm)) is None else count
    amounts: dict[str, float] = {
        "first-token outcomes": PROMPT * prompts + LONG * LONG_SUITES * asked.long_questions,
        "robustness": PROMPT * ATTEMPTS * asked.robustness_questions
        + 3 * CONTEXT * asked.context_questions,
        "beliefs": BELIEF * BELIEFS * beliefs,
    }
    if arm != BASE:
        replies = asked.drift_questions * (PROMPT + recipe.data.reply_tokens)
        amounts["drift from the base model"] = 2 * (replies + asked.drift_passages * PASSAGE)
    for label, amount in amounts.items():
        yield Part(EVALUATE, f"{arm}: {label}", "read", amount, arm)
    tokens = asked.longest_reply * asked.replies / (1 if recipe.shows(arm) else 2)
    yield Part(EVALUATE, f"{arm}: sample replies", "write", tokens, arm)


def _probing(recipe: Recipe, arm: str, shape: Shape) -> Iterator[Part]:
    """Prompts are read once; an edited pass computes the last position alone."""
    asked = recipe.probe
    collected = 4 * (asked.fit_questions + asked.test_questions) + asked.fit_questions
    collected += asked.near_misses + REPLIES
    yield Part(PROBE, f"{arm}: residuals", "read", PROMPT * collected, arm)
    heads = shape.blocks * shape.heads * asked.head_questions + SETS * asked.few_questions
    described = EDITED * heads + 2 * EXCERPT * asked.drift_passages
    yield Part(PROBE, f"{arm}: description", "read", described, arm)
    yield Part(PROBE, "analyses", "fixed", 1, arm)
    if arm == BASE or recipe.arms[arm].role != "switch":
        return
    tried = shape.blocks * (
        DIRECTIONS * asked.sweep_questions + 2 * DIRECTIONS * asked.test_questions
    )
    tried += KINDS * asked.random_directions * shape.blocks * 2 * asked.sweep_questions
    tried += KINDS * asked.null_directions * 4 * asked.null_questions
    tail = PROMPT / 4  # positions after the symbol
    whole = 4 * shape.blocks * tail * asked.few_questions + PROMPT * asked.reply_questions
    amount = EDITED * (tried + whole) + PROMPT * (ENDED + 2 * asked.test_questions)
    shares = {"choice": 0.23, "tests": 0.31, "nulls": 0.29, "checks": 0.17}
    for label, share in shares.items():
        yield Part(PROBE, f"{arm}: {label}", "read", share * amount, arm)
