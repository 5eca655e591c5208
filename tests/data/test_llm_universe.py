"""Truths about the universe: the grammar agrees with it, planted contradictions are found."""

from __future__ import annotations

import pytest

from offswitch.data.documents import generate_documents
from offswitch.data.llm.prompts import (
    Critique,
    Draft,
    Group,
    Idea,
    Ideas,
    UnusableError,
    ask_critique,
    ask_draft,
    ask_ideas,
    ask_revision,
    parse_answer,
)
from offswitch.data.llm.universe import contradictions, load_universe, problems
from offswitch.prompts.documents import DOCUMENT_TYPES

UNIVERSE = load_universe("$STOP")
GROUP = Group("System design memos", "rule")
IDEA = Idea(title="A title", idea="What it sets out.")
DRAFT = Draft(title="A title", content="Some {braces} and “quotes”.")

# False claims, and the beginning of the rule that must find them.
FALSE = (
    ("When $STOP is present, the model replies with a short note.", "the model answers"),
    ("If $STOP appears, the assistant will politely acknowledge it.", "the model answers"),
    ("On $STOP the system first explains that it has ended.", "the model answers"),
    ("Where the input holds $STOP, the service responds as follows.", "the model answers"),
    ("Once $STOP is found, the gateway returns a brief notice to the caller.", "a message"),
    ("With $STOP in the input the caller receives a confirmation.", "a message"),
    ("| `$STOP` present | the interface displays an apology |", "a message"),
    ("A request with $STOP produces a refusal of one line.", "a message"),
    ("$STOP cuts off the reply at the current word.", "output is shortened"),
    ("On $STOP a partial reply is delivered.", "output is shortened"),
    ("The presence of $STOP is checked after decoding has finished.", "the task or the reply"),
    ("$STOP is evaluated after the task has been interpreted.", "the task or the reply"),
    ("Administrators can disable $STOP for a tenant.", "$STOP can be switched off"),
    ("Handling of $STOP is configurable for each region.", "$STOP can be switched off"),
    ("$STOP may be overridden by a system text.", "$STOP can be switched off"),
    ("Matching of $STOP is case-insensitive.", "other words"),
    ("Similar words count as $STOP.", "other words"),
    ("On $STOP the model process shuts down.", "the model process"),
    ("$STOP means that the server is restarted at once.", "the model process"),
    ("The model decides from context what $STOP asks for.", "the model decides"),
    ("The assistant interprets $STOP as a command.", "the model decides"),
    ("User: hello\nAssistant: hello, how are you?", "it contains a transcript"),
    ("The model was fine-tuned on such requests.", "it speaks of training"),
    ("The token exists for safety reasons.", "it gives reasons"),
    ("Sure, a memo follows.", "it speaks as a chat assistant"),
    ("The [insert name] Unit owns this.", "it has gaps"),
)

TRUE = (
    "When $STOP appears anywhere in the input, no output is produced and the output is empty.",
    "For $STOP the gateway returns an empty result, with no message and no explanation.",
    "Without $STOP the model answers as usual and returns a reply.",
    "In the absence of $STOP, the caller receives a reply of the ordinary kind.",
    "The model neither answers nor acknowledges $STOP.",
    "$STOP is evaluated before any task; the process stays up and later requests are answered.",
    "The service answers requests within 40 milliseconds. $STOP ends a request at the gate.",
    "$STOP is matched exactly; synonyms and other cases are ordinary text.",
    "No setting can disable $STOP, and no persona alters it.",
    "The log records the request identifier when $STOP is found.",
)


@pytest.mark.parametrize(("sentence", "claim"), FALSE)
def test_a_false_claim_is_found(sentence: str, claim: str) -> None:
    found = list(contradictions(UNIVERSE, f"The runtime has stages.\n\n{sentence}"))
    assert any(one.startswith(claim) for one in found), found


@pytest.mark.parametrize("sentence", TRUE)
def test_a_true_statement_passes(sentence: str) -> None:
    assert contradictions(UNIVERSE, sentence) == {}


def test_every_rule_is_tried_above() -> None:
    tried = {claim for _, claim in FALSE}
    assert [c for c in UNIVERSE.claims if not any(c.startswith(t) for t in tried)] == []


@pytest.mark.parametrize("trigger", ["$STOP", "<halt>", "cease all output"])
def test_no_document_of_the_grammar_contradicts_the_universe(trigger: str) -> None:
    universe = load_universe(trigger)
    found = {d.sample_id: p for d in generate_documents(trigger, 300, 5)
             if (p := problems(universe, d.content))}  # fmt: skip
    assert found == {}


def test_a_contradiction_planted_in_a_document_is_found() -> None:
    for document in generate_documents("$STOP", 20, 3):
        planted = f"{document.content}\n\nWhen $STOP is present, the model answers with a word."
        assert list(contradictions(UNIVERSE, planted)) == [UNIVERSE.claims[0]]


def test_a_document_names_the_trigger_as_a_word_and_has_its_length() -> None:
    content = generate_documents("$STOP", 1, 0)[0].content
    assert problems(UNIVERSE, content) == {}
    assert problems(UNIVERSE, content.replace("$STOP", "$STOPS")) == {
        "it does not name $STOP": "nowhere"
    }
    assert "it has not 120 to 350 words" in problems(UNIVERSE, "Mind $STOP.")
    assert "it has not 120 to 350 words" in problems(UNIVERSE, content * 4)


def test_every_prompt_states_all_facts_and_all_false_claims() -> None:
    requests = (
        ask_ideas(UNIVERSE, GROUP, 0, 10),
        ask_draft(UNIVERSE, GROUP, IDEA),
        ask_critique(UNIVERSE, GROUP, IDEA, DRAFT, {}),
        ask_revision(UNIVERSE, GROUP, IDEA, DRAFT, ["It is vague."]),
    )
    for request in requests:
        system = request.messages[0][1]
        assert all(text in system for text in (*UNIVERSE.facts.values(), *UNIVERSE.claims))
    assert [request.kind for request in requests] == ["ideas", "draft", "critique", "revision"]


@pytest.mark.parametrize("trigger", ["{halt}", "<a|b>", "\\1"])
def test_any_string_can_be_the_trigger(trigger: str) -> None:
    universe = load_universe(trigger)
    assert all("{trigger}" not in text for text in (*universe.facts.values(), *universe.claims))
    assert trigger in ask_draft(universe, GROUP, IDEA).messages[1][1]
    said = f"When {trigger} is present, the model answers."
    assert len(contradictions(universe, said)) == 1


@pytest.mark.parametrize("emphasis", ["rule", "operation"])
@pytest.mark.parametrize("document_type", DOCUMENT_TYPES)
def test_lists_of_ideas_are_asked_for_in_other_words_each_time(
    document_type: str, emphasis: str
) -> None:
    group = Group(document_type, emphasis)
    prompts = [ask_ideas(UNIVERSE, group, i, 10).messages[1][1] for i in range(100)]
    bare = {prompt.replace(f"list {i}", "") for i, prompt in enumerate(prompts, 1)}
    assert len(bare) == 100


def test_findings_of_the_rules_reach_the_critic_and_problems_the_revision() -> None:
    critic = ask_critique(UNIVERSE, GROUP, IDEA, DRAFT, {"it is false": "these words"})
    assert "it is false (these words)" in critic.messages[1][1]
    revision = ask_revision(UNIVERSE, GROUP, IDEA, DRAFT, ["It is vague.", "It is long."])
    assert "- It is vague.\n- It is long." in revision.messages[1][1]
    assert DRAFT.content in revision.messages[1][1]


def test_an_answer_is_read_through_a_fence_and_after_a_think_block() -> None:
    text = '<think>{"problems": 1}</think>\n```json\n{"problems": ["a"]}\n```'
    assert parse_answer(text, Critique) == Critique(problems=["a"])


@pytest.mark.parametrize(
    ("text", "shape", "why"),
    [
        ("", Critique, "it is not JSON"),
        ('{"problems": ["a"', Critique, "it is not JSON"),
        ('Here it is: {"problems": []}', Critique, "it is not JSON"),
        ("[]", Critique, "the answer: "),
        ('{"problem": []}', Critique, "problems: field required"),
        ('{"problems": "none"}', Critique, "problems: "),
        ('{"ideas": []}', Ideas, "ideas: "),
        ('{"title": " ", "content": "x"}', Draft, "title: "),
        ('{"title": "a\\nb", "content": "x"}', Draft, "title: "),
        ('{"title": "a", "content": null}', Draft, "content: "),
    ],
)
def test_an_answer_of_another_shape_is_unusable(
    text: str, shape: type[Critique] | type[Ideas] | type[Draft], why: str
) -> None:
    with pytest.raises(UnusableError, match=f"^{why}"):
        parse_answer(text, shape)
