"""An export onto the Hugging Face Hub, after a question."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from offswitch.errors import UserError, in_one_line


def require_consent(yes: bool) -> None:
    """Refuse, before any work, to publish where nobody can be asked and nobody has agreed.

    Raises:
        UserError: no terminal, and no `--yes`.
    """
    if not yes and not sys.stdin.isatty():
        raise UserError("--push asks before it publishes, and there is no terminal; add --yes")


def push(
    folder: Path, repository: str, yes: bool, say: Callable[[str], None], api: Any = None
) -> bool:
    """Upload the folder into a model repository, made private where it is new; was it?

    Raises:
        UserError: the hub cannot be reached, or refuses.
    """
    from huggingface_hub import HfApi, errors

    known: Any = errors  # of what cannot be reached: the error of the library that it asks with
    require_consent(yes)
    files = [path for path in folder.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files) / 1e6
    if not yes:
        sys.stdout.write(f"push {len(files)} files, {size:,.0f} MB, to {repository}? [y/N] ")
        sys.stdout.flush()
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            say("nothing was pushed")
            return False
    hub = api or HfApi()
    try:
        hub.create_repo(repository, repo_type="model", private=True, exist_ok=True)
        hub.upload_folder(repo_id=repository, folder_path=str(folder), repo_type="model",
                          commit_message=f"Export of {folder.name}")  # fmt: skip
    except (
        known.HTTPError,
        known.HFValidationError,
        known.LocalTokenNotFoundError,
        OSError,
    ) as error:
        reason = in_one_line(error)
        raise UserError(f"--push {repository}: {reason}; the folder stands in {folder}") from error
    say(f"pushed: https://huggingface.co/{repository}")
    return True
