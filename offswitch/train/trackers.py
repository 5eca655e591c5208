"""Where training is followed: TensorBoard in the arm's folder, or a tracker that is installed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Final

from offswitch.errors import UserError

TENSORBOARD: Final = "tensorboard"
PROJECT: Final = "offswitch"
# Where the trackers' callbacks read the project's name; Trackio takes it as an argument.
_PROJECTS: Final = {"wandb": "WANDB_PROJECT", "mlflow": "MLFLOW_EXPERIMENT_NAME"}


def require_trackers(names: Sequence[str]) -> None:
    """Refuse a tracker that is not there, before anything is trained.

    Raises:
        UserError: one is not installed.
    """
    for name in names:
        if find_spec(name) is None:
            raise UserError(
                f"train.report_to names {name}, which is not installed; pip install {name}, or "
                "--set 'train.report_to=[tensorboard]'"
            )


@contextmanager
def tracked(names: Sequence[str]) -> Iterator[None]:
    """Within the block one training is followed, under `offswitch` or as the environment says.

    A run of wandb's would go on in the next training of the process, so it is ended.

    Raises:
        UserError: one is not installed.
    """
    require_trackers(names)
    for name in _PROJECTS.keys() & {*names}:
        os.environ.setdefault(_PROJECTS[name], PROJECT)
    try:
        yield
    finally:
        if "wandb" in names and "wandb" in sys.modules:
            sys.modules["wandb"].finish()
