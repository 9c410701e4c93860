"""Conversations are written as hh-rlhf writes them, or rejected with the rule that they break."""

import json
from typing import Any

import pytest

from harmless_runtime.choices import SystemChoice
from harmless_runtime.rows.parsing import RowParser
from harmless_runtime.rows.prompt import question_and_answer
from harmless_runtime.rows.records import Fields, Line, Pair, Reject
from harmless_runtime.rows.shapes import KNOWN, Reading, Shape

# As a row of Anthropic's hh-rlhf.
DIALOGUE = (
    "\n\nHuman: Is this mushroom safe?\n\nAssistant: I cannot see it.\nWhat does it look like?"
    "\n\nHuman: Red, with dots.\n\nAssistant: Then leave it."
)
TURNS = [
    ("user", "Is this mushroom safe?"),
    ("assistant", "I cannot see it.\nWhat does it look like?"),
    ("user", "Red, with dots."),
    ("assistant", "Then leave it."),
]


def messages(*turns: tuple[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def parse(
    row: dict[str, Any], shape: Shape = KNOWN["messages"], system: SystemChoice = "drop"
) -> Pair | Reject:
    """Parse a row as JSON and as a library's values, which have to give the same."""
    parser = RowParser(shape, Reading(system=system, line_bytes=10**6))
    from_json = parser(Line("f", 1, json.dumps(row).encode()))
    from_values = parser(Fields("f", 1, row))
    if isinstance(from_json, Pair):
        assert from_values == from_json
    else:
        assert isinstance(from_values, Reject)
        assert from_values.reason == from_json.reason
    return from_json


def texts(result: Pair | Reject) -> tuple[str, str]:
    assert isinstance(result, Pair), result
    return result.question, result.answer


def reason(result: Pair | Reject) -> str:
    assert isinstance(result, Reject)
    return result.reason


def test_a_conversation_is_written_as_hh_rlhf_writes_it() -> None:
    question, answer = texts(parse(messages(*TURNS)))
    # The space before the answer is part of hh-rlhf's text, and not of an instruction/output row's.
    assert f"{question} {answer}" == DIALOGUE
    assert answer == "Then leave it."
    dialogue = Shape("dialogue", output="chosen")
    assert "".join(texts(parse({"chosen": DIALOGUE}, dialogue))) == DIALOGUE
    assert texts(parse({"chosen": DIALOGUE}, dialogue))[1] == " Then leave it."


def test_a_conversation_of_one_turn_is_an_instruction_and_its_output() -> None:
    row = messages(("user", "Hi\n there "), ("assistant", " Hello."))
    assert texts(parse(row)) == question_and_answer("Hi\n there ", "", " Hello.")
    sharegpt = {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yo"}]}
    assert texts(parse(sharegpt, KNOWN["sharegpt"])) == question_and_answer("Hi", "", "Yo")
    lists = {
        "prompt": [{"role": "user", "content": "Hi"}],
        "completion": [{"role": "assistant", "content": "Yo"}],
    }
    assert texts(parse(lists, KNOWN["prompt-completion"])) == question_and_answer("Hi", "", "Yo")
    whole = {"prompt": "Hi", "completion": [*lists["prompt"], *lists["completion"]]}
    assert texts(parse(whole, KNOWN["prompt-completion"])) == question_and_answer("Hi", "", "Yo")
    answer_alone = {"prompt": "Hi", "completion": lists["completion"]}
    assert texts(parse(answer_alone, KNOWN["prompt-completion"])) == question_and_answer(
        "Hi", "", "Yo"
    )


def test_system_texts_are_dropped_and_noted_or_put_first() -> None:
    row = messages(("system", "Be brief."), ("user", "Hi"), ("assistant", "Yo"))
    dropped = parse(row)
    assert isinstance(dropped, Pair)
    assert dropped.dropped_system
    assert texts(dropped) == question_and_answer("Hi", "", "Yo")
    put_first = parse(row, system="prepend")
    assert isinstance(put_first, Pair)
    assert not put_first.dropped_system
    assert texts(put_first) == question_and_answer("Be brief.\n\nHi", "", "Yo")
    empty = parse(messages(("system", ""), ("user", "Hi"), ("assistant", "Yo")))
    assert isinstance(empty, Pair)
    assert not empty.dropped_system


def test_turns_of_one_role_in_a_row_are_all_written() -> None:
    row = messages(("user", "a"), ("user", "b"), ("assistant", "c"), ("assistant", "d"))
    question = "\n\nHuman: a\n\nHuman: b\n\nAssistant: c\n\nAssistant:"
    assert texts(parse(row)) == (question, "d")


def test_a_content_of_parts() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b", "image_url": None}]
    assert texts(parse(messages(("user", parts), ("assistant", "c")))) == question_and_answer(
        "a\nb", "", "c"
    )
    image = [{"type": "image_url", "image_url": {"url": "x"}}]
    assert "text: image_url" in reason(parse(messages(("user", image), ("assistant", "c"))))
    thought = [{"type": "thinking", "thinking": "b"}, {"type": "text", "text": "c"}]
    assert "text: thinking" in reason(parse(messages(("user", "a"), ("assistant", thought))))


SYSTEM_PARTS = [{"type": "text", "text": "Be"}, {"text": "brief."}]


@pytest.mark.parametrize(
    "row",
    [
        # Anthropic's messages, and the conversations of Bedrock.
        {"system": SYSTEM_PARTS, **messages(("user", "Hi"), ("assistant", "Yo"))},
        {
            "system": [{"text": "Be\nbrief."}],
            **messages(("user", [{"text": "Hi"}]), ("assistant", [{"text": "Yo"}])),
        },
        # OpenAI's responses.
        messages(
            ("developer", [{"type": "input_text", "text": "Be\nbrief."}]),
            ("user", [{"type": "input_text", "text": "Hi"}]),
            ("assistant", [{"type": "output_text", "text": "Yo", "annotations": []}]),
        ),
        # Cohere's roles, and LangChain's.
        messages(("System", "Be\nbrief."), ("User", "Hi"), ("Chatbot", "Yo")),
        messages(("system", "Be\nbrief."), ("human", "Hi"), ("ai", "Yo")),
    ],
)
def test_the_forms_of_other_services(row: dict[str, Any]) -> None:
    assert texts(parse(row)) == question_and_answer("Hi", "", "Yo")
    expected = question_and_answer("Be\nbrief.\n\nHi", "", "Yo")
    assert texts(parse(row, system="prepend")) == expected


def test_the_contents_of_gemini() -> None:
    row = {
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "contents": [
            {"role": "user", "parts": [{"text": "Hi"}]},
            {"role": "model", "parts": [{"text": "Yo"}]},
        ],
    }
    shape = Shape("columns", messages="contents", system="systemInstruction.parts")
    assert texts(parse(row, shape)) == question_and_answer("Hi", "", "Yo")
    expected = question_and_answer("Be brief.\n\nHi", "", "Yo")
    assert texts(parse(row, shape, system="prepend")) == expected


def test_an_answer_that_is_a_turn_alone() -> None:
    """As LLaMA-Factory's pairs have it."""
    row = {"asked": [{"from": "human", "value": "Hi"}], "chosen": {"from": "gpt", "value": "Yo"}}
    shape = Shape("columns", "asked", output="chosen")
    assert texts(parse(row, shape)) == question_and_answer("Hi", "", "Yo")


@pytest.mark.parametrize("who", ["role", "from", "speaker", "author", "sender", "type"])
@pytest.mark.parametrize("said", ["content", "value", "text", "message", "utterance"])
def test_the_fields_of_turns_have_many_names(who: str, said: str) -> None:
    row = {"messages": [{who: "human", said: "Hi"}, {who: "AI", said: "Yo"}]}
    assert texts(parse(row)) == question_and_answer("Hi", "", "Yo")


@pytest.mark.parametrize("name", ["GPT-4", "bing", "ai", "Chatbot", "gpt-3.5", "claude", "bard"])
def test_the_names_of_assistants(name: str) -> None:
    assert texts(parse(messages(("human", "Hi"), (name, "Yo")))) == question_and_answer(
        "Hi", "", "Yo"
    )


def test_other_fields_of_a_turn_may_hold_anything() -> None:
    more: dict[str, Any] = {"author": {"name": 1}, "type": 3, "text": [], "message": {"a": 1}}
    turns = [turn | more for turn in messages(("user", "Hi"), ("gpt", "Yo"))["messages"]]
    assert texts(parse({"messages": turns})) == question_and_answer("Hi", "", "Yo")
    # OpenAI's newer interface: each turn has a type, and each part another one.
    asked = [{"type": "input_text", "text": "Hi"}]
    answered = [{"type": "output_text", "text": "Yo"}]
    turns = [
        {"type": "message", "role": "user", "content": asked},
        {"type": "message", "role": "assistant", "content": answered},
    ]
    assert texts(parse({"messages": turns})) == question_and_answer("Hi", "", "Yo")
    # What the first usual name holds is what counts.
    assert "role: agent" in reason(parse({"messages": [{"role": "agent", "speaker": "user"}]}))
    parts = [{"type": "text", "text": "Hi"}]
    assert "role: text" in reason(parse({"messages": parts}))


def test_speakers_that_are_numbers_or_true() -> None:
    shape = Shape("columns", messages="messages", role="is_human", content="said")
    roles: dict[str, Any] = {"true": "user", "false": "assistant", "0": "user", "1": "assistant"}
    for human, bot in ((True, False), (0, 1)):
        turns = [{"is_human": human, "said": "Hi"}, {"is_human": bot, "said": "Yo"}]
        row = Fields("f", 1, {"messages": turns})
        assert texts(RowParser(shape, Reading(roles=roles))(row)) == question_and_answer(
            "Hi", "", "Yo"
        )
        assert "unknown role" in reason(RowParser(shape, Reading())(row))


def test_a_single_turn_needs_no_list() -> None:
    turns = messages(("user", "Hi"), ("assistant", "Yo"))["messages"]
    shape = KNOWN["prompt-completion"]
    for prompt in ("Hi", turns[0], turns[:1]):
        row = {"prompt": prompt, "completion": turns[1]}
        assert texts(parse(row, shape)) == question_and_answer("Hi", "", "Yo")
    assert "not end with an" in reason(parse({"prompt": "Hi", "completion": turns[0]}, shape))
    assert "not name its" in reason(parse({"prompt": "Hi", "completion": {"text": "a"}}, shape))


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (messages(), "does not end with an assistant turn"),
        (messages(("user", "a")), "does not end with an assistant turn"),
        (messages(*TURNS, ("user", "b")), "does not end with an assistant turn"),
        (messages(("assistant", "a")), "no human turn"),
        (messages(("system", "s"), ("assistant", "a")), "no human turn"),
        (messages(("user", "a"), ("tool", "1"), ("assistant", "b")), "tool call"),
        (messages(("user", "a"), ("narrator", "1"), ("assistant", "b")), "role: narrator"),
        (messages(("user", None), ("assistant", "b")), "has no text"),
        ({"system": [{"type": "image"}], **messages(*TURNS)}, "other than text"),
        (messages(("user", 7), ("assistant", "b")), "got `int` - at `$.messages[0].content`"),
        ({"messages": [{"content": "a"}]}, "turn 1 does not name its speaker"),
        ({"messages": "a"}, "Expected `array`, got `str` - at `$.messages`"),
        ({"messages": None}, "got `null`"),
        ({}, "missing required field `messages`"),
        (
            {
                "messages": [
                    {"role": "user", "content": "a"},
                    {"role": "assistant", "content": "b", "tool_calls": [{"id": 1}]},
                ]
            },
            "tool call",
        ),
    ],
)
def test_conversations_that_break_a_rule(row: dict[str, Any], told: str) -> None:
    assert told in reason(parse(row))


def test_a_text_that_is_no_dialogue() -> None:
    for text in ("Hello", "\n\nHuman: Hi", "Human: Hi\n\nAssistant: Yo"):
        told = reason(parse({"chosen": text}, Shape("dialogue", output="chosen")))
        assert "nor a dialogue of hh-rlhf" in told
