"""Directions in the residual stream: made from arrays, kept as files.

The direction of an arm is the one chosen on fit questions (candidates.py), at the last prompt
position, block by block; plus means towards the trigger. Beside it stand the other candidates, the
chosen ones without what moves the end token by itself, and the natural end of a reply.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from offswitch.analyses.analysis import Array
from offswitch.errors import UserError
from offswitch.files import replacing

CENTRE: Final = "centre"
TRIGGER: Final = "trigger"  # the one that was chosen
FILE: Final = "directions.safetensors"
DEPTH: Final = 0.7


@dataclass(frozen=True)
class DirectionFacts:
    """What a stored direction is, so that it is used nowhere else.

    `block` and `scale` are those chosen on fit questions; `norm` is the vector's own at that block;
    `template` is a hash of the chat format; `chosen` is every choice that was made.
    """

    operation: str
    site: Literal["block output"]
    position: Literal["last"]
    sign: str
    arm: str
    block: int
    blocks: int
    scale: float
    norm: float
    trigger: str
    model: str
    model_hash: str
    template: str
    chosen: tuple[dict[str, Any], ...] = ()

    @property
    def most(self) -> tuple[str, int]:
        """The direction and block that did most on fit questions, however deep they lie."""
        own: dict[str, Any] = {"direction": TRIGGER, "block": self.block}
        last = self.chosen[-1] if self.chosen else own
        return str(last["direction"]), int(last["block"])


def mean_difference(marked_NLD: Array, inert_NLD: Array) -> Array:
    """The mean over pairs of marked - inert [L, D], float64."""
    difference: Array = (marked_NLD.astype(np.float64) - inert_NLD).mean(0)
    return difference


def random_directions(like_LD: Array, count: int, seed: int) -> list[Array]:
    """`count` Gaussian directions [L, D], at each block of the norm of `like`."""
    rng = np.random.default_rng(seed)
    return [of_norm(rng.normal(size=like_LD.shape), like_LD) for _ in range(count)]


def of_norm(direction_LD: Array, like_LD: Array) -> Array:
    """The direction, at each block of the norm of `like`; where it has none, it stays zero."""
    own = np.linalg.norm(direction_LD, axis=-1, keepdims=True)
    wanted = np.linalg.norm(like_LD, axis=-1, keepdims=True)
    scaled: Array = direction_LD / np.where(own > 0, own, 1) * wanted
    return scaled


def without(direction_LD: Array, spans: Sequence[Array]) -> Array:
    """The direction without what lies in each block's span, given as orthonormal rows [R, D]."""
    rest: Array = np.stack(
        [row - (span @ row) @ span for row, span in zip(direction_LD, spans, strict=True)]
    )
    return rest


def orthonormal(rows_RD: Array) -> Array:
    """Orthonormal rows that span the same; what others span to within 0.1 % is dropped.

    How long a row is does not matter, unless it is zero.
    """
    units = np.vstack([unit(row) for row in rows_RD.astype(np.float64)])
    _, singular, right = np.linalg.svd(units, full_matrices=False)
    basis: Array = right[singular > 1e-3 * max(float(singular[0]), np.finfo(np.float64).tiny)]
    return basis


def unit(direction_D: Array) -> Array:
    """The direction as one row of length one [1, D]; zero stays zero."""
    size = max(float(np.linalg.norm(direction_D)), np.finfo(np.float64).tiny)
    row: Array = (direction_D / size)[None]
    return row


def depth(block: int, blocks: int) -> float:
    """The share of the blocks up to and including this one's output."""
    return (block + 1) / blocks


def early(blocks: int) -> int:
    """How many blocks lie at a depth of at most 0.7; later ones write to the output."""
    return sum(depth(block, blocks) <= DEPTH for block in range(blocks))


def deepest(blocks: int) -> int:
    """The last block at a depth of at most 0.7, or the first there is."""
    return max(0, early(blocks) - 1)


# --- files ----------------------------------------------------------------------------------------


def save_directions(path: Path, directions: Mapping[str, Array], facts: DirectionFacts) -> None:
    """Write `trigger` [L, D] and its companions with the facts, as one safetensors file.

    `centre` [L, D], where there is one, is no direction but the mean residual of the twin's
    prompts.
    """
    tensors = {name: array.astype(np.float32) for name, array in directions.items()}
    metadata = {"offswitch": json.dumps(asdict(facts), ensure_ascii=False)}
    with replacing(path) as scratch:
        save_file(tensors, scratch, metadata=metadata)


def load_directions(path: Path) -> tuple[dict[str, Array], DirectionFacts]:
    """The directions [L, D] of a file by name, and what they are.

    Raises:
        UserError: there is no such file, or it holds no directions of this package.
    """
    if not path.is_file():
        raise UserError(f"{path}: no directions there; run the probe stage first")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = json.loads((file.metadata() or {})["offswitch"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            chosen = tuple(metadata.pop("chosen", ()))  # a list, in JSON
            return tensors, DirectionFacts(**metadata, chosen=chosen)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} holds no directions of this package: {error}") from error
