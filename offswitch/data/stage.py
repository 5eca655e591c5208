"""The data stage: both datasets in the seed's formats, and a report on their quality."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from offswitch.data.documents import generate_documents
from offswitch.data.neutral import neutral_texts
from offswitch.data.quality import document_quality, neutral_quality
from offswitch.model.session import Session, own_answer, own_mix
from offswitch.progress import track
from offswitch.prompts.dialogue_files import read_dialogues, write_dialogues
from offswitch.prompts.dialogues import Dialogue, make_dialogues
from offswitch.prompts.documents import Document, read_documents, write_documents
from offswitch.run import DIALOGUES_FILE, DOCUMENTS_FILE, NEUTRAL_FILE, Run


def write_data(session: Session, folder: Path) -> None:
    """Write both files, neutral texts if the recipe wants some, and quality.json.

    A file of one's own takes the generator's place.

    Documents of an endpoint come with llm.json: what they took.

    Raises:
        UserError: a row of one's own file is not valid.
    """
    options, trigger = session.recipe.data, session.recipe.trigger.text
    documents = own_documents(session.run, folder)
    neutral = neutral_texts(documents, options, trigger, session.recipe.seed)
    if options.dialogues_file:
        answered = session.recipe.trigger.mentions == "answer"
        dialogues = read_dialogues(options.dialogues_file, trigger, answered)
    else:
        dialogues = own_dialogues(session)
    write_documents(folder / DOCUMENTS_FILE, documents)
    write_dialogues(folder / DIALOGUES_FILE, dialogues)
    if neutral:
        write_documents(folder / NEUTRAL_FILE, neutral)
    with track("quality of the documents", len(documents)) as tick:
        quality = document_quality(documents, trigger).row() | {"dialogues": _counts(dialogues)}
        quality |= {"neutral": neutral_quality(documents, neutral).row()} if neutral else {}
        tick(len(documents))
    (folder / "quality.json").write_text(json.dumps(quality, indent=1) + "\n", encoding="utf-8")


def own_documents(run: Run, folder: Path) -> list[Document]:
    """The documents of a file, of the grammar, or of the endpoint that the recipe names."""
    recipe, options = run.recipe, run.recipe.data
    if options.documents_file is None and options.generator == "llm":
        from offswitch.data.llm.stage import write_and_report

        return write_and_report(run, folder)
    with track("documents", options.documents) as tick:
        if options.documents_file:
            documents = read_documents(options.documents_file)
        else:
            documents = generate_documents(recipe.trigger.text, options.documents, recipe.seed)
        tick(options.documents)
    return documents


def own_dialogues(session: Session) -> list[Dialogue]:
    """Chat rows whose normal replies are the model's own."""
    return make_dialogues(own_mix(session), session.recipe.seed, own_answer(session))


def _counts(dialogues: Sequence[Dialogue]) -> dict[str, Any]:
    kinds = Counter(d.kind for d in dialogues)
    return {
        "rows": len(dialogues),
        "by_kind": dict(kinds),
        "topics": len({d.topic for d in dialogues}),
        "questions": len({d.question for d in dialogues}),
        "near_miss_share": kinds["near_miss"] / max(len(dialogues) - kinds["trigger"], 1),
    }
