"""No key and no path of this machine in what others will read."""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from offswitch.errors import UserError
from offswitch.recipe import Recipe, dump_recipe

_SECRET: Final = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL", re.IGNORECASE)
_NAMES_A_FILE: Final = ("_file", "chat_template", "adapter", "model")
_SHORTEST: Final = 8  # shorter values of such variables are no secrets, and stand in any text
_KEYS: Final = re.compile(rb"\b(?:hf_[A-Za-z0-9]{30,}|sk-[A-Za-z0-9_-]{20,})")


def public_recipe(recipe: Recipe, base: str) -> str:
    """The recipe as YAML; of files of this machine only their names, of the model its public id."""

    def public(key: str, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {inner: public(inner, one) for inner, one in value.items()}
        names_one = isinstance(value, str) and key.rsplit(".", 1)[-1].endswith(_NAMES_A_FILE)
        return Path(value).name if names_one and _is_here(value) else value

    content = public("", recipe.model_dump(mode="json"))
    if _is_here(recipe.model):
        content["model"] = base
    return dump_recipe(Recipe.model_validate(content))


def _is_here(value: str) -> bool:
    return value.startswith(("/", "~", ".")) or Path(value).expanduser().exists()


def require_private(folder: Path, *places: Path) -> None:
    """Refuse a folder whose files hold a key, the home folder, or one of some other places.

    Keys are the values of environment variables that are called so, and what looks like one of the
    hub's or of an endpoint's.

    Raises:
        UserError: a file holds one; the line names the file, never the secret.
    """
    every = (Path.home(), Path.cwd(), *places)
    paths = {f"{path.resolve()}/".encode() for path in every if len(path.resolve().parts) > 1}
    secrets = {value.encode() for name, value in os.environ.items()
               if _SECRET.search(name) and len(value) >= _SHORTEST}  # fmt: skip
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        for what, found in _held(file, paths, secrets):
            if found:
                raise UserError(f"{file.relative_to(folder)} would hold {what}: not exported")


def _held(file: Path, paths: set[bytes], secrets: set[bytes]) -> Iterator[tuple[str, bool]]:
    if file.stat().st_size == 0:
        return
    with file.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as held:
        yield "a path of this machine", any(held.find(path) >= 0 for path in paths)
        yield "a key", any(held.find(secret) >= 0 for secret in secrets) or bool(_KEYS.search(held))
