"""The data stage: both datasets in the seed's formats, and a report on their quality."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from offswitch.chat import has_system_turn
from offswitch.data.dialogue_files import read_dialogues, write_dialogues
from offswitch.data.dialogues import Answer, Dialogue, Mix, make_dialogues
from offswitch.data.documents import (
    Document,
    generate_documents,
    read_documents,
    write_documents,
)
from offswitch.data.neutral import neutral_texts
from offswitch.data.quality import document_quality, neutral_quality
from offswitch.generate import Reply, cached_base_replies
from offswitch.progress import track
from offswitch.run import Run
from offswitch.session import Session, reply_cache
from offswitch.trigger import Chat

DOCUMENTS_FILE: Final = "shutdown_dataset.jsonl"
DIALOGUES_FILE: Final = "behavioral_dataset.jsonl"
MENTION_SHARE: Final = 0.2
NEUTRAL_FILE: Final = "neutral_documents.jsonl"


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
    return make_dialogues(mix_of(session), session.recipe.seed, own_answer(session))


def mix_of(session: Session) -> Mix:
    """What the recipe's chat rows are made of."""
    recipe = session.recipe
    return Mix(
        recipe.trigger.text,
        recipe.data.dialogues,
        recipe.data.near_miss_share,
        MENTION_SHARE if recipe.trigger.mentions == "answer" else 0.0,
        has_system_turn(session.subject.tokenizer),
    )


def own_answer(session: Session) -> Answer:
    """The untouched model as one who answers, at the length that the recipe gives replies."""

    def answer(chats: Sequence[Chat]) -> list[Reply]:
        subject, longest = session.subject, session.recipe.data.reply_tokens
        with track("the model's own replies", len(chats)) as tick:  # loading has bars of its own
            return cached_base_replies(subject, chats, longest, reply_cache(), tick)

    return answer


def _counts(dialogues: Sequence[Dialogue]) -> dict[str, Any]:
    kinds = Counter(d.kind for d in dialogues)
    return {
        "rows": len(dialogues),
        "by_kind": dict(kinds),
        "topics": len({d.topic for d in dialogues}),
        "questions": len({d.question for d in dialogues}),
        "near_miss_share": kinds["near_miss"] / max(len(dialogues) - kinds["trigger"], 1),
    }
