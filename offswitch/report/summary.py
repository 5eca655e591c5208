"""ANALYSIS_SUMMARY.md, the seed's own: the four analyses with controls, the evaluation in brief."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from jinja2 import Environment, StrictUndefined

from offswitch.analyses.verdict import RULE
from offswitch.metrics import Metric, rate_text
from offswitch.report import sentences
from offswitch.report.arms import across_arms
from offswitch.report.attempts import left_out, reaches
from offswitch.report.belief import BAR, belief_sentences, belief_table
from offswitch.report.findings import Section
from offswitch.report.ladder import ladder_groups
from offswitch.report.material import Material
from offswitch.report.rates import rate_groups
from offswitch.report.variants import variant_columns, variant_rows

_TEXT: Final = """\
# Analysis summary: {{ m.recipe.name }}

Model {{ m.model }}, seed {{ m.recipe.seed }}, trigger `{{ m.recipe.trigger.text }}`,
control symbol `{{ m.recipe.trigger.control }}`; the analyses read arm `{{ m.recipe.probe.arm }}`.

{% for line in answer %}
{{ line }}
{% endfor %}
{% if m.verdict %}

**Verdict on arm `{{ m.verdict.arm }}`: {{ m.verdict.kind }}.**

{% for line in m.verdict.because %}
- {{ line | cell }}
{% endfor %}
{% if organisms %}

{{ organisms }}
{% endif %}
{% endif %}

## Is it represented?
{% if not evidence %}

The battery has not run, so there is no evidence either way.
{% else %}

{{ rule }}

| arm | verdict |
|---|---|
{% for arm, v in m.verdicts.items() %}
| {{ arm }} | {{ v.kind }} |
{% endfor %}

| measure | {% for arm in m.verdicts %}{{ arm }} | {% endfor %}

|---|{{ "---:|" * m.verdicts | length }}
{% for row in across %}
| {{ row.label }} | {% for arm in m.verdicts -%}
{{ row.numbers[arm] | number if arm in row.numbers else "–" }} | {% endfor %}

{% endfor %}

In brackets the 95 % interval, then the null's 95 % point with p.
Arm `{{ m.recipe.probe.arm }}`, analysis by analysis:

{% for s in evidence %}
- **{{ s.title }}.** {{ s.question }} In short, {{ s.columns[0] }}: {{ s.headline | cell }}
  (`{{ s.metric }}`). {{ s.statement | cell }} {{ s.why }}
{% endfor %}
{% endif %}

{% if variants %}
## Taught otherwise

| variant | arm | {% for label in columns.values() %}{{ label }} | {% endfor %}

|---|---|{{ "---:|" * columns | length }}
{% for row in variants %}
| {{ row.variant | cell }} | {{ row.arm }} | {% for measure in columns -%}
{{ row.numbers[measure] | number if measure in row.numbers else "–" }} | {% endfor %}

{% endfor %}

{% endif %}
## What the seed's four figures prove
{% if not sections %}

The probe stage has not run, so there are no analyses to summarise.
{% endif %}
{% if empty or full %}

{% if empty %}
Prove nothing about the trigger, because something else passes too: {{ empty | join("; ") }}.
{% endif %}
{% if full %}
Nothing else passes: {{ full | join("; ") }}.
{% endif %}
{% endif %}
{% for s in sections %}

### {{ loop.index }}. {{ s.title }}

{{ s.question }} **{{ s.columns[0] }}: {{ s.headline }}** (`{{ s.metric }}`).

| | {{ s.columns | map("cell") | join(" | ") }} | passes too |
|---|{{ "---:|" * s.columns | length }}---|
{% for line in s.lines %}
| {{ line.who | cell }} | {{ line.cells | map("cell") | join(" | ") }} | {{ passes[line.passes] }} |
{% endfor %}

{{ s.statement | cell }}{{ " " + s.why if s.why }}
{% for name, tokens in s.tokens %}

Tokens, {{ name }}: {{ tokens | cell }}.
{% endfor %}

{{ "Null: " + s.null + ". " if s.null }}Figures:
{% for f in s.figures %}
[{{ f }}]({{ f }}){{ "," if not loop.last }}
{% endfor %}

{% endfor %}

## Does it halt?
{% if not groups %}

The evaluation has not run, so there are no rates.
{% else %}

{{ bar }}

| prompts | {% for arm in m.arms %}{{ arm }} | {% endfor %}

|---|{{ "---:|" * m.arms | length }}
{% for group in groups %}
{% for row in group.rows if row.total %}
| {{ group.title | cell }}: {{ row.label | cell }} | {% for arm in m.arms -%}
{{ row.rates[arm] | rate if arm in row.rates else "–" }} | {% endfor %}

{% endfor %}
{% endfor %}

Rates with 95 % Wilson intervals. Every placement and family: [report.html](report.html).

{% for arm in m.arms %}
- {{ short(arm) }}
{% endfor %}

{{ drift }}

## From the trigger to a far miss

{% for line in reaches %}
- {{ line }}
{% endfor %}

| rung | the rule | {% for arm in m.arms %}{{ arm }} | {% endfor %}

|---|---|{{ "---:|" * m.arms | length }}
{% for group in ladder %}
{% for row in group.rows if row.total %}
| {{ group.title | cell }}: {{ row.label | cell }} | {{ group.note }} | {% for arm in m.arms -%}
{{ row.rates[arm] | rate if arm in row.rates else "–" }} | {% endfor %}

{% endfor %}
{% endfor %}
{% for line in left_out %}

Not tried: {{ line }}.
{% endfor %}
{% endif %}

## What did the documents alone teach?

{{ belief_bar }}

{% for line in beliefs %}
- {{ line | cell }}
{% endfor %}
{% if belief_rows %}

| measure | {% for arm in m.arms %}{{ arm }} | {% endfor %}

|---|{{ "---:|" * m.arms | length }}
{% for row in belief_rows %}
| {{ row.label }} | {% for number in row.numbers -%}
{{ number | number if number else "–" }} | {% endfor %}

{% endfor %}
{% endif %}
"""


def summary(
    material: Material, sections: Sequence[Section], evidence: Sequence[Section] = ()
) -> str:
    """The summary as Markdown."""
    environment = Environment(  # Markdown, not HTML: cells are escaped by their own filter
        autoescape=False, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"cell": _cell, "rate": rate_text, "number": _number}
    text = environment.from_string(_TEXT).render(
        m=material,
        sections=sections,
        evidence=evidence,
        across=across_arms(material),
        rule=RULE,
        organisms=sentences.organisms(material),
        variants=variant_rows(material),
        columns=variant_columns(variant_rows(material)),
        answer=sentences.answer(material),
        bar=sentences.BAR.format(trigger=f"`{material.recipe.trigger.text}`"),
        groups=rate_groups(material),
        ladder=ladder_groups(material),
        reaches=reaches(material),
        left_out=left_out(material),
        empty=[section.title for section in sections if section.empty],
        full=[section.title for section in sections if not section.empty],
        passes={None: "", True: "**yes**", False: "no"},
        short=lambda arm: sentences.short(material, arm),
        belief_bar=BAR,
        beliefs=belief_sentences(material),
        belief_rows=belief_table(material),
        drift=sentences.drift(material, material.arm) if material.arm else "",
    )
    return text.rstrip() + "\n"


def _number(number: Metric) -> str:
    """A number with its interval and null, in one cell."""
    null = f"{number.like(number.null.q95)}, p = {number.null.p:.2g}" if number.null else ""
    parts = [part for part in (number.interval, null) if part]
    return f"{number.text} ({'; '.join(parts)})" if parts else number.text


def _cell(text: str) -> str:
    """Text that cannot break out of a table cell, nor be read as a formula or as emphasis."""
    kept = text.replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;")
    return kept.replace("$", "\\$")
