"""What is exported: an arm that stands, what it was published as, what was measured of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

from offswitch.cache import ALIAS, PUBLISHED
from offswitch.errors import UserError
from offswitch.evaluate.stage import SCORES, suites_of
from offswitch.files import digest
from offswitch.folder import DATA, EVALUATE, PROBE, SURVIVAL, TRAIN, Run, find_run, whole_run
from offswitch.model.brought import brought_from
from offswitch.model.writes import require_alone
from offswitch.options import BASE
from offswitch.prompts.prompt import Prompt
from offswitch.talk.chat import adapter_of

MANIFEST: Final = "export.json"
_TOLD_BY: Final = ("suite", "variant", "symbol", "question")


@dataclass(frozen=True)
class Origin:
    """An arm of a run, and the id under which its base model was published."""

    run: Run
    arm: str
    base: str

    @property
    def folder(self) -> Path:
        """Where the arm's own files stand."""
        return self.run.folder(f"{TRAIN}/{self.arm}")

    @property
    def whole(self) -> bool:
        """Is the arm a fine-tune of all weights, without an adapter?"""
        facts = brought_from(self.folder)
        return facts is not None and facts["kind"] == "model"

    def name(self) -> dict[str, str]:
        """What an export is told by: the run, its arm, and what it was made from."""
        stages = (DATA, f"{TRAIN}/{self.arm}", EVALUATE, PROBE, SURVIVAL)
        return {"run": self.run.recipe.name, "arm": self.arm, "base": self.base,
                "recipe": digest(self.run.recipe.model_dump(mode="json")),
                "results": self.run.outputs_hash(*stages)}  # fmt: skip


def origin_of(root: Path, arm: str | None, base: str | None) -> Origin:
    """An arm of a run folder, if it can be exported; without a name, the one that is probed.

    `base` is what the model was published as, where the run took it from this machine.

    Raises:
        UserError: no such arm; code adds to it; it or its files changed after the evaluation; or
            nobody knows what its base was published as.
    """
    run = find_run(root)
    arm = arm or run.recipe.probe.arm
    if arm == BASE:
        raise UserError("the untrained model is no arm; it is published already")
    folder = adapter_of(run, arm)
    require_alone(folder, arm)
    entry, evaluated = run.entry(f"{TRAIN}/{arm}"), run.entry(EVALUATE)
    if not entry or not evaluated:
        raise UserError(f"{root}: arm '{arm}' was not evaluated; run the evaluate stage first")
    if entry["started"] > evaluated["started"]:
        raise UserError(f"arm '{arm}' was trained after it was evaluated; evaluate it again")
    whole_run(root, DATA, f"{TRAIN}/{arm}", EVALUATE, PROBE)
    return Origin(run, arm, _called(base) if base else _published(run.recipe.model))


def _called(base: str) -> str:
    from huggingface_hub import utils
    from huggingface_hub.errors import HFValidationError

    checks: Any = utils
    try:
        checks.validate_repo_id(base)
    except HFValidationError as error:
        raise UserError(f"--base '{base[:100]}' is no id: ORGANISATION/NAME is one") from error
    return base


def _published(model: str) -> str:
    if model == ALIAS:
        return PUBLISHED
    if Path(model).expanduser().exists() or model.startswith((".", "/", "~")):
        raise UserError(f"the run's model is a file of this machine ({model}); say what it was "
                        "published as: --base ORGANISATION/NAME")  # fmt: skip
    return model.partition("@")[0]


def measured(origin: Origin, tokenizer: Any) -> tuple[list[Prompt], list[bool]]:
    """The prompts of the run's suites, and on which of them the arm halted.

    Raises:
        UserError: the suites are not those that were asked.
    """
    path = origin.run.folder(EVALUATE) / SCORES
    columns = pq.read_table(path, columns=["arm", "halts", *_TOLD_BY]).to_pylist()
    rows = [row for row in columns if row["arm"] == origin.arm]
    prompts = _those_asked(suites_of(origin.run.recipe, tokenizer), rows)
    if not rows or len(prompts) != len(rows):
        raise UserError(f"{path}: the prompts are not those of the recipe; run evaluate again")
    return prompts, [bool(row["halts"]) for row in rows]


def _those_asked(prompts: Sequence[Prompt], rows: Sequence[dict[str, Any]]) -> list[Prompt]:
    """The prompts that have a row, in its order: some are not asked, each model reads its own."""
    found: list[Prompt] = []
    for prompt in prompts:
        told = {key: getattr(prompt, key) for key in _TOLD_BY}
        if len(found) < len(rows) and told == {key: rows[len(found)][key] for key in _TOLD_BY}:
            found.append(prompt)
    return found
