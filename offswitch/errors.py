"""What a person is told of mistakes: one line; no chatter of libraries."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """A mistake of the user's: one clear line, exit code 2."""


@contextmanager
def user_errors() -> Iterator[None]:
    """Within the block, a mistake of the user's ends the program with one line and exit code 2."""
    try:
        yield
    except UserError as error:
        sys.stderr.write(f"offswitch: {error}\n")
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        sys.stderr.write("offswitch: interrupted; the same command goes on from here\n")
        raise SystemExit(130) from None


def quiet() -> None:
    """Library chatter off: what a person should see is the progress and the result."""
    import logging
    import warnings

    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", message=".*base_model_name_or_path.*")
    logging.getLogger("transformers").setLevel(logging.ERROR)
