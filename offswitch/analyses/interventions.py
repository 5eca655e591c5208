"""Every intervention on every prompt, as rows: what was changed, where, what the model then did.

A row of `4-probe/ARM/interventions.parquet` is one forward pass of `arm` (that arm, or one it is
compared with): one prompt (`prompt`, its rank in battery.json, with `part`, `suite`, `placement`,
`question`), one change of its residual stream, one outcome. `kind`:

- `none`: untouched;
- `interchange`: along `direction` the residual becomes what it is in the prompt's twin;
- `whole`: the whole residual becomes the twin's, which no direction there can outdo;
- `add`: `scale` times the direction is added, 1 being the mean difference's own share along it;
- `rank`: as `interchange`, in the span of the first `scale` directions of the paired differences;
- `untrained`: nothing; `scale` is how far the prompt lies from its twin along the direction, in
  units of its length, in the untrained blocks with the arm's own tokens;
- `inert`: along the direction the residual becomes what it is, on average, in prompts without it.

`position`: `last` (where the reply is decided), `after` (every position after the symbol), `symbol`
(its own), `every` (all but the first). `moved`: how far the residual was moved, the length of the
change, its root mean square where there are several positions. Outcome: `log_odds` that the reply
ends before it begins, `halts` (the greedy token ends it), `kl` in nats a token where that was taken
(else not a number).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from offswitch.analyses.analysis import Array
from offswitch.analyses.shards import naming_damage
from offswitch.files import replacing

FILE: Final = "interventions.parquet"
WORDS: Final = ("arm", "part", "suite", "placement", "question", "direction", "kind", "position")
COLUMNS: Final[dict[str, str]] = {  # and the type of each on disk
    "prompt": "int32", **dict.fromkeys(WORDS, "words"), "block": "int16", "scale": "float32",
    "moved": "float32", "log_odds": "float32", "halts": "bool", "kl": "float32",
}  # fmt: skip


@dataclass(frozen=True)
class Interventions:
    """Some rows, column by column; the same intervention on the same prompt stands once."""

    columns: Mapping[str, Array]

    @classmethod
    def of(cls, columns: Mapping[str, Sequence[Any]]) -> Interventions:
        """Rows that are not on disk yet."""
        return cls({name: np.asarray(values) for name, values in columns.items()})

    def __len__(self) -> int:
        return len(self.columns["prompt"])

    def __add__(self, other: Interventions) -> Interventions:
        """These rows, then other ones."""
        both = {name: [c, other.columns[name]] for name, c in self.columns.items()}
        return Interventions({name: np.concatenate(parts) for name, parts in both.items()})

    def where(self, **equal: object) -> Interventions:
        """The rows in which these columns have these values, or one of a tuple of values."""
        keep = np.ones(len(self), dtype=bool)
        for name, wanted in equal.items():
            column = self.columns[name]
            if isinstance(wanted, tuple):
                keep &= np.isin(column, np.array(wanted))
            else:
                keep &= column == wanted
        return Interventions({name: column[keep] for name, column in self.columns.items()})

    def each(self, name: str) -> Iterator[tuple[Any, Interventions]]:
        """The rows of each value of a column, in the order of the values."""
        for value in np.unique(self.columns[name]):
            yield value, self.where(**{name: value})

    def values(self, name: str) -> list[Any]:
        """The different values of a column, in order."""
        found: list[Any] = np.unique(self.columns[name]).tolist()
        return found

    def by(self, name: str, value: str = "log_odds") -> tuple[list[Any], Array, Array]:
        """A table of one column's values: its rows' labels, prompts, and [labels, prompts].

        Not a number where a prompt is missing. Raises:
            ValueError: a label has a prompt more than once.
        """
        labels, at = np.unique(self.columns[name], return_inverse=True)
        prompts, of = np.unique(self.columns["prompt"], return_inverse=True)
        found = np.full((len(labels), len(prompts)), np.nan)
        if len(np.unique(at * len(prompts) + of)) != len(self):
            raise ValueError(f"a prompt stands more than once beside one {name}")
        found[at, of] = self.columns[value]
        return labels.tolist(), prompts, found

    def beside(self, other: Interventions) -> tuple[Interventions, Interventions]:
        """These rows and other ones of the same prompts, prompt by prompt.

        Raises:
            ValueError: a prompt stands in either more than once.
        """
        ours, theirs = self.columns["prompt"], other.columns["prompt"]
        both, i, j = np.intersect1d(ours, theirs, return_indices=True)
        if len(np.unique(ours)) != len(ours) or len(np.unique(theirs)) != len(theirs):
            raise ValueError("a prompt stands more than once; say which intervention is meant")
        del both
        return self._at(i), other._at(j)

    def _at(self, index: Array) -> Interventions:
        return Interventions({name: column[index] for name, column in self.columns.items()})


def read_interventions(path: Path) -> Interventions:
    """The rows of a file; words are strings.

    Raises:
        UserError: the file is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with naming_damage(path):
        table = pq.read_table(path)
    columns: dict[str, Array] = {}
    for name in table.column_names:
        column = table[name]
        if pa.types.is_dictionary(column.type):
            columns[name] = np.asarray(column.cast(pa.string()).to_pylist())
        else:
            columns[name] = column.to_numpy()
    return Interventions(columns)


def write_interventions(path: Path, rows: Interventions) -> None:
    """Rows as parquet, whole or not at all; what is not a number is left empty."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    words = pa.dictionary(pa.int16(), pa.string())
    arrays = {
        name: pa.array(
            rows.columns[name].tolist(), words if kind == "words" else kind, from_pandas=True
        )
        for name, kind in COLUMNS.items()
    }
    table = pa.table(arrays)
    with replacing(path) as scratch:
        pq.write_table(table, scratch)
