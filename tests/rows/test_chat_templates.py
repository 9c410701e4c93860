"""Texts of chat templates are read as their turns, or not at all; marks are found in any text."""

import sysconfig
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from written import Write, assert_read, conversations, read_turns

from harmless_runtime.rows.templates import marks_in, read_template, without_end

# As the cards of the models have it: what stands before the first turn, a turn of each role, and
# what an answer begins with.
FORMATS = {
    "ChatML": ("", "<|im_start|>{role}\n{content}<|im_end|>\n", "<|im_start|>assistant\n"),
    "Phi-4": (
        "",
        "<|im_start|>{role}<|im_sep|>{content}<|im_end|>",
        "<|im_start|>assistant<|im_sep|>",
    ),
    "Llama 3": (
        "<|begin_of_text|>",
        "<|start_header_id|>{role}<|end_header_id|>\n\n{content}<|eot_id|>",
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
    "Llama 4": (
        "<|begin_of_text|>",
        "<|header_start|>{role}<|header_end|>\n\n{content}<|eot|>",
        "<|header_start|>assistant<|header_end|>\n\n",
    ),
    "Gemma 4": ("<bos>", "<|turn>{role}\n{content}<turn|>\n", "<|turn>model\n"),
    "Phi-3": ("<s>", "<|{role}|>\n{content}<|end|>\n", "<|assistant|>\n"),
    "Zephyr": ("", "<|{role}|>\n{content}</s>\n", "<|assistant|>\n"),
}


def writer(family: str) -> Write:
    begin, turn, prompt = FORMATS[family]

    def write(messages: list[dict[str, str]], is_prompt: bool) -> str:
        return begin + "".join(turn.format(**m) for m in messages) + prompt * is_prompt

    return write


@pytest.mark.parametrize("family", FORMATS)
def test_a_conversation_is_read_back(family: str) -> None:
    write = writer(family)

    @settings(max_examples=50, deadline=None)
    @given(conversations(write, is_stripped=False), st.floats(0, 1))
    def read_back(messages: list[dict[str, str]], part: float) -> None:
        assert_read(write, messages, part)
        reading = read_template(write(messages, False))
        assert reading is not None
        assert reading.family == family

    read_back()


A, B = ("user", "a"), ("assistant", "b")


@pytest.mark.parametrize(
    ("text", "turns", "begun"),
    [
        ("<s>[INST] a [/INST] b </s><s>[INST] c [/INST]", [A, B, ("user", "c")], ""),
        ("<s>[INST] a [/INST]b</s> [INST] c [/INST]", [A, B, ("user", "c")], ""),
        ("<s> [INST] a [/INST] b</s>", [A, B], None),
        ("<s>[INST] a[/INST] b</s>", [A, B], None),
        ("[INST]a[/INST]b</s><s>", [A, B], None),
        ("<s>[INST] <<SYS>>\nc\n<</SYS>>\n\na [/INST] b", [("system", "c"), A], "b"),
        ("<s>[SYSTEM_PROMPT] c[/SYSTEM_PROMPT][INST] a[/INST]", [("system", "c"), A], ""),
        ("<s>[SYSTEM_PROMPT]c[/SYSTEM_PROMPT][INST]a[/INST]b ", [("system", "c"), A], "b "),
        ("<bos><start_of_turn>user\na<end_of_turn>\n<start_of_turn>model\nb", [A], "b"),
        ("<start_of_turn>user\na<end_of_turn>\n<start_of_turn>model\nb<end_of_turn>", [A, B], None),
        ("<｜begin▁of▁sentence｜>c<｜User｜>a<｜Assistant｜></think>", [("system", "c"), A], ""),
        ("<｜User｜>a<｜Assistant｜>b<｜end▁of▁sentence｜>", [A, B], None),
        ("<｜User｜>a<｜Assistant｜><think>\n", [A], "<think>\n"),
        ("<｜begin▁of▁sentence｜>User: a\n\nAssistant: b<｜end▁of▁sentence｜>", [A, B], None),
        ("<｜begin▁of▁sentence｜>c\n\nUser: a\n\nAssistant:", [("system", "c"), A], ""),
        # A system text of a later version may hold what an earlier one writes.
        (
            "<｜begin▁of▁sentence｜>c\n\nUser: x\n\nAssistant: y<｜User｜>a<｜Assistant｜>b",
            [("system", "c\n\nUser: x\n\nAssistant: y"), A],
            "b",
        ),
        # Phi-3's tokenizer reads a line feed as a space, and Phi-4 mini has none.
        ("<|user|> a<|end|><|assistant|> b<|end|>", [A, B], None),
        ("<|user|>a<|end|><|assistant|>b<|end|><|endoftext|>", [A, B], None),
        ("<|user|>\na <s>x</s><|end|>\n<|assistant|>\n", [("user", "a <s>x</s>")], ""),
        # The marks of another template in an answer do not change the question.
        ("<|user|>\na</s>\n<|assistant|>\nb<|end|>\n<|assistant|>\nc<|end|>\n", [A],
         "b<|end|>\n<|assistant|>\nc"),
        # A padded text, and one that was cut off in the middle of its answer.
        ("<|endoftext|><|endoftext|><|im_start|>user\na<|im_end|>\n", [A], None),
        ("<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb ", [A], "b "),
        ("<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|endoftext|>", [A], "b"),
        # The thought of a model that does not think is not its answer; another thought is.
        (
            "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\nb<|im_end|>",
            [A, B],
            None,
        ),
        (
            "<|im_start|>assistant\n<think>\nc\n</think>\n\nb<|im_end|>\n",
            [("assistant", "<think>\nc\n</think>\n\nb")],
            None,
        ),
        ("<|im_start|>user\n<think>\n\n</think>\n<|im_end|>",
         [("user", "<think>\n\n</think>\n")], None),
        ("<|im_start|>tool\na<|im_end|>\n<|im_start|>assistant", [("tool", "a")], ""),
    ],
)  # fmt: skip
def test_turns(text: str, turns: list[tuple[str, str]], begun: str | None) -> None:
    assert read_turns(text) == (turns, begun)


ASKED = "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize(
    ("prompt", "answer", "continued"),
    [
        (ASKED, " b \n<|im_end|>\n", " b \n"),
        (ASKED, "b<|im_end|>\n<|im_start|>user\nc", "b<|im_end|>\n<|im_start|>user\nc"),
        (ASKED, "<think>\n\n</think>\n\nb", "b"),
        (ASKED + "<think>\n", "\n</think>\n\nb", "b"),
        (ASKED + "<think>\n", "c</think>b", "<think>\nc</think>b"),
        (ASKED + "Sure,", " b<|im_end|>", "Sure, b"),
        (ASKED.rstrip(), "\n\nb", "\nb"),
        (ASKED.rstrip(), "b", "b"),
        ("[INST] a [/INST]", " b </s>", "b"),
        ("[INST] a [/INST] ", "b </s>", "b"),
        ("[INST] a [/INST]", "b </s>", "b "),
        ("[INST] a [/INST]", "  b", " b"),
        ("<｜User｜>a", "b<｜end▁of▁sentence｜>", "b"),
    ],
)
def test_an_answer_goes_on(prompt: str, answer: str, continued: str) -> None:
    reading = read_template(prompt)
    assert reading is not None
    assert reading.continued(answer) == continued


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "Hi", "[INST", "<s>", "<|im_start|>", "<|im_start|>user", "<|im_start|>user\na",
        "<|im_start|>user a<|im_end|>", f"Here: {ASKED}", f"{ASKED}b<|im_end|>\nc",
        f"{ASKED}b<|im_end|> c {ASKED}", "[INST] a", "[INST] a [/INST] b</s> c", "<s>a</s>",
        "[/INST] b</s> x", "<|user|>\na", "<|user|>\na\n<|assistant|>\nb", "<|begin_of_text|>a",
        "<｜begin▁of▁sentence｜>a", "<s>User: a\n\nAssistant: b", "User: a\n\nAssistant: b",
        "<｜begin▁of▁sentence｜>User: a\n\nAssistant: b<｜User｜>a<｜Assistant｜>b",
        "<start_of_turn>user\na", "<|start|>user<|message|>a<|end|>", "<|endoftext|>",
    ],
)  # fmt: skip
def test_a_text_that_is_not_wholly_turns(text: str) -> None:
    assert read_template(text) is None


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("a <|eot_id|> </s>\n<pad><pad> ", "a "),
        ("a </s> b ", "a </s> b "),
        ("</s>", ""),
        ("", ""),
        (" \n", " \n"),
        ("a<｜end▁of▁sentence｜><|finetune_right_pad_id|>", "a"),
        ("It was <s>10</s>", "It was <s>10</s>"),
        ("It was <s>10</s> 9</s></s>", "It was <s>10</s> 9"),
        ("It was <s>10</s></s>", "It was <s>10</s>"),
        ("<s>Human: a\n\nAssistant: b</s>", "<s>Human: a\n\nAssistant: b"),
        ("a <b>", "a <b>"),
        ("a <unk>", "a <unk>"),
        ("a >", "a >"),
    ],
)
def test_the_end_of_a_text(text: str, left: str) -> None:
    assert without_end(text) == left


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("<|im_start|>user\na", "<|im_start|>"),
        ("Look:\n  <|eot_id|> [INST]", "<|eot_id|>"),
        ("a\n<｜tool▁calls▁begin｜>", "<｜tool▁calls▁begin｜>"),
        ("a\r\n<|turn>user", "<|turn>"),
        ("[INST] a", "[INST]"),
        ("a\n[/INST] b", "[/INST]"),
        ("a\n<<SYS>>\nb", "<<SYS>>"),
        ("\n\n[SYSTEM_PROMPT]a", "[SYSTEM_PROMPT]"),
        ("a\n<end_of_turn>", "<end_of_turn>"),
        ("a\n\nHuman: b", "Human:"),
        ("a\n \nAssistant: b", "Assistant:"),
        ("Human: b", "Human:"),
        ("### Instruction:\na\n\n### Response:\nb", "### Instruction:"),
        ("USER: a ASSISTANT: b", "USER:"),
    ],
)
def test_marks(text: str, mark: str) -> None:
    assert marks_in(text) == mark


@pytest.mark.parametrize(
    "text",
    [
        "", "x <|im_start|>user", "a\nHuman: b", "User: hi\nAssistant: hello", "USER: a",
        "a\n\nUSER: b ASSISTANT: c", "[INST", "[INST a]", "<| f x |>", "<|> pure x", "x\n<|>\ny",
        "x\n|> f\n<| g", "a << b\n<<EOF\nSYS", "# Response\n## Instruction:\n### Instructions",
        "a\n<pad>\n<bos>", "\n\nHumans: b", "\n\nA Human: b", "<start>\n<turn>", "<s>a</s>",
        "| a | b |\n|---|---|", "[1]: x",
    ],
)  # fmt: skip
def test_what_has_no_marks(text: str) -> None:
    assert marks_in(text) is None


def test_no_marks_are_found_in_code() -> None:
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    assert len(files) > 100
    for file in files:
        assert marks_in(file.read_text(errors="replace")) is None, file


@pytest.mark.parametrize("begin", ["", "<|im_start|>assistant\n<think>", "[INST]", "USER: ",
                                   "<｜begin▁of▁sentence｜>"])  # fmt: skip
@pytest.mark.parametrize(
    "part",
    ["<", "\n", " ", "\n ", "<|", "</s>", "<s>", "<pad></s>", "[INST]", "[INST] a [/INST] b </s>",
     "<|im_start|>", "<|im_start|>user\na<|im_end|>\n", "<|user|>", "<|user|>\na<|end|>\n",
     "<｜User｜>", "<｜begin▁of▁sentence｜>", "User: a\n\nAssistant: ", "<think>", "Human:",
     "\n\nHuman", "### ", "ASSISTANT"],
)  # fmt: skip
def test_hostile_texts_take_no_longer_than_others(begin: str, part: str) -> None:
    for text in (begin + part * (2**18 // len(part)), begin + part * (2**18 // len(part)) + "x"):
        start = time.monotonic()
        read_template(text)
        marks_in(text)
        without_end(text)
        for prompt in (ASKED, "[INST]a[/INST]"):
            reading = read_template(prompt)
            assert reading is not None
            reading.continued(text)
        assert time.monotonic() - start < 2, "a time that grew with the square would be minutes"
