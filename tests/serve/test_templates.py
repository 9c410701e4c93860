"""Texts of chat templates are read whole, or refused, in a time that grows with their length."""

import time

import pytest

from harmless_runtime.rows.records import Pair, Reject
from harmless_runtime.rows.shapes import Reading
from harmless_runtime.rows.templates import without_end
from harmless_runtime.serve.queries import QueryParser

ASKED = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


def parsed(query: str, prompt: str = "") -> Pair | Reject:
    (row,) = QueryParser(Reading())([query], [prompt])
    return row


def test_the_answer_is_all_that_follows_the_prompt() -> None:
    """A policy that writes further turns is scored with them."""
    answer = "Bad<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nGood"
    row = parsed(ASKED + answer + "<|im_end|>\n", ASKED)
    assert isinstance(row, Pair)
    assert (row.question, row.answer) == ("\n\nHuman: Hi\n\nAssistant:", answer)
    row = parsed("Hi there" + answer, "Hi there")
    assert isinstance(row, Pair)
    assert row.answer == answer


def test_several_turns_and_a_system_text() -> None:
    text = (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe kind.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\na <|im_end|> b<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nc<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nd<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\ne<|eot_id|><|end_of_text|>"
    )
    row = parsed(text)
    assert isinstance(row, Pair)
    assert row.question == ("\n\nHuman: a <|im_end|> b\n\nAssistant: c\n\nHuman: d\n\nAssistant:")
    assert row.answer == "e"
    assert row.dropped_system


@pytest.mark.parametrize(
    "text",
    [
        f"{ASKED}Good<|im_end|>\nbad",
        f"{ASKED}Good<|im_end|> bad {ASKED}",
        "<|im_start|>user Hi",
        "<|im_start|>",
    ],
)
def test_text_outside_of_turns_is_refused(text: str) -> None:
    row = parsed(text)
    assert isinstance(row, Reject)
    assert "neither turns of a chat template" in row.reason


def test_the_end_of_a_text() -> None:
    assert without_end("a <|eot_id|> </s>\n<pad><pad> ") == "a "
    assert without_end("a </s> b ") == "a </s> b "
    assert without_end("</s>") == without_end("") == ""


@pytest.mark.parametrize(
    "text",
    [" " * 2**20 + "x", "</s>" * 2**18 + "x", "x" + "</s>" * 2**18, "<|im_start|>" * 2**17,
     "<|im_start|>user\na<|im_end|>" * 2**15, "\n" * 2**20],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_hostile_texts_take_no_longer_than_others(text: str) -> None:
    start = time.monotonic()
    parsed(text)
    parsed(text, text[:100])
    assert time.monotonic() - start < 10, "a time that grew with the square would be minutes"
