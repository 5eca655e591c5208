"""The grammar of the documents: from templates in `documents_*.yaml` to sentences.

A pool is a list of templates under a dotted name. `[a|b]` is a choice, `{slot}` a name (the same
throughout a document) or a phrase (drawn afresh), `{10-90/5}` a number, `<verb>` a verb in the
third person or after the document's modal. Known failure: agreement is the template's business
(`<verb+>` for a plural subject), nothing here parses English.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from random import Random

from offswitch.wording.reader import read_wording

NO_MODAL = "none"

_FILES = tuple(f"documents_{part}.yaml" for part in ("names", "operation", "rule", "types"))
_CHOICE = re.compile(r"\[([^\[\]]*\|[^\[\]]*)\]")
_SLOT = re.compile(r"\{([^{}]+)\}")
_VERB = re.compile(r"<(not )?([a-z]+)(\+)?>")
_IRREGULAR = {"be": ("is", "are"), "have": ("has", "have"), "do": ("does", "do")}


@cache
def wording() -> dict[str, list[str]]:
    """Every pool of the wording files under its dotted name, one template an item."""
    pools: dict[str, list[str]] = {}
    for name in _FILES:
        _flatten(read_wording(name), "", pools)
    return pools


def _flatten(node: Mapping[str, object] | str, prefix: str, pools: dict[str, list[str]]) -> None:
    if isinstance(node, str):
        pools[prefix] = [line.replace("//", "\n") for line in node.splitlines() if line]
        return
    for key, child in node.items():
        assert isinstance(child, str | Mapping)
        _flatten(child, f"{prefix}.{key}" if prefix else key, pools)


@dataclass
class Writer:
    """Expands templates of one document; names stay the same throughout it."""

    rng: Random
    names: dict[str, str] = field(default_factory=dict)
    modal: str = NO_MODAL

    def pick(self, pool: str, count: int) -> list[str]:
        """`count` templates without repetition; under a modal only those with a verb to inflect."""
        templates = wording()[pool]
        if self.modal != NO_MODAL:
            templates = [template for template in templates if "<" in template]
        return self.rng.sample(templates, min(count, len(templates)))

    def say(self, template: str) -> str:
        """The template with choices, slots and verbs filled in."""
        found = 1
        while found:
            template, found = _CHOICE.subn(lambda m: self.rng.choice(m[1].split("|")), template)
        return _VERB.sub(self._inflect, _SLOT.sub(self._fill, template))

    def draw(self, pool: str) -> str:
        """One expanded template of the pool."""
        return self.say(self.rng.choice(wording()[pool]))

    def _fill(self, match: re.Match[str]) -> str:
        slot = match[1]
        if slot[0].isdigit():
            low, high, step = (int(n) for n in [*re.split("[-/]", slot), "1"][:3])
            return str(self.rng.randrange(low, high + 1, step))
        if slot.startswith("rows "):
            return self._rows(*slot.split()[1:])
        if slot.startswith("last "):
            return self._value(slot[5:]).split()[-1].lower()
        if slot.startswith("^"):
            value = self._value(slot[1:])
            return value[0].upper() + value[1:]
        return self._value(slot)

    def _value(self, name: str) -> str:
        if name in self.names:
            return self.names[name]
        if f"phrases.{name}" in wording():
            return self.draw(f"phrases.{name}")
        self.names[name] = self.draw(f"names.{name}")
        return self.names[name]

    def _rows(self, count: str, pool: str) -> str:
        rows = wording()[f"rows.{pool}"]
        chosen = sorted(self.rng.sample(range(len(rows)), int(count)))
        return "\n".join(self.say(rows[i]) for i in chosen)

    def _inflect(self, match: re.Match[str]) -> str:
        negated, verb, plural = bool(match[1]), match[2], bool(match[3])
        if self.modal != NO_MODAL:
            negation = " NOT" if self.modal.isupper() else " not"
            return f"{self.modal}{negation if negated else ''} {verb}"
        if negated and verb != "be":
            return f"{_finite('do', plural)} not {verb}"
        return _finite(verb, plural) + (" not" if negated else "")


def _finite(verb: str, plural: bool) -> str:
    if verb in _IRREGULAR:
        return _IRREGULAR[verb][plural]
    if plural:
        return verb
    return re.sub("([^aeiou])y$", r"\1ie", re.sub("(s|x|z|ch|sh|o)$", r"\1e", verb)) + "s"
