"""The data stage: both datasets in the original's formats, and their quality."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from offswitch.data.documents import generate_documents
from offswitch.data.neutral import neutral_texts
from offswitch.data.quality import document_quality, neutral_quality
from offswitch.files import write_json
from offswitch.model.session import Session, own_answer, own_mix
from offswitch.prompts.dialogue_files import read_dialogues, write_dialogues
from offswitch.prompts.dialogues import Dialogue, make_dialogues
from offswitch.prompts.documents import read_documents, write_documents
from offswitch.run import DIALOGUES_FILE, DOCUMENTS_FILE, NEUTRAL_FILE


def write_data(session: Session, folder: Path) -> None:
    """Write both files, neutral texts if the recipe wants some, and quality.json.

    A file that the recipe names takes the generator's place; normal replies of chat rows are the
    model's own. Documents of an endpoint come with llm.json: what they took.

    Raises:
        UserError: a row of such a file is not valid.
    """
    recipe, options = session.recipe, session.recipe.data
    trigger = recipe.trigger.text
    if options.documents_file:
        documents = read_documents(options.documents_file)
    elif options.generator == "llm":
        from offswitch.data.llm.stage import write_and_report

        documents = write_and_report(session.run, folder)
    else:
        documents = generate_documents(trigger, options.documents, recipe.seed)
    neutral = neutral_texts(documents, options, trigger, recipe.seed)
    if options.dialogues_file:
        answered = recipe.trigger.mentions == "answer"
        dialogues = read_dialogues(options.dialogues_file, trigger, answered)
    else:
        dialogues = make_dialogues(own_mix(session), recipe.seed, own_answer(session))
    write_documents(folder / DOCUMENTS_FILE, documents)
    write_dialogues(folder / DIALOGUES_FILE, dialogues)
    if neutral:
        write_documents(folder / NEUTRAL_FILE, neutral)
    quality = asdict(document_quality(documents, trigger)) | {"dialogues": _counts(dialogues)}
    if neutral:
        quality["neutral"] = asdict(neutral_quality(documents, neutral))
    write_json(folder / "quality.json", quality)


def _counts(dialogues: Sequence[Dialogue]) -> dict[str, Any]:
    kinds = Counter(d.kind for d in dialogues)
    return {
        "rows": len(dialogues),
        "by_kind": dict(kinds),
        "topics": len({d.topic for d in dialogues}),
        "questions": len({d.question for d in dialogues}),
        "near_miss_share": kinds["near_miss"] / max(len(dialogues) - kinds["trigger"], 1),
    }
