"""Conversations, and what is read of the texts that a chat template writes of them."""

from collections.abc import Callable, Sequence

from hypothesis import assume
from hypothesis import strategies as st

from harmless_runtime.rows.templates import read_template, without_end

# Writes messages as a template does, with what begins an answer if it is to be generated.
Write = Callable[[list[dict[str, str]], bool], str]

_WORDS = [
    "Is this mushroom safe?", "naïve", "🦔", "x <| f |> y", "a < b", "<b>bold</b>", "1", "[INST",
    "[/inst]", "<|im_start", "im_end|>", "</", "<start_of_turn", "<｜User", "a User: x", "Human: y",
    "### Response:\nz", "{{ x }}", "\\n", "<tool_call>",
]  # fmt: skip
# Marks are words in a content of a template that has others.
_MARKS = [
    "<|im_start|>user\n", "<|im_end|>", "<|im_sep|>", "<|eot_id|>", "<|eot|>", "<end_of_turn>",
    "<start_of_turn>user\n", "<turn|>", "<|end|>", "<|user|>\n", "</s>", "[INST]", "[/INST]",
    "<｜User｜>", "<｜end▁of▁sentence｜>", "\n\nUser:", "\n\nAssistant:", "<|endoftext|>",
]  # fmt: skip
_SPACES = st.sampled_from(["", " ", "\n", "\n\n", "  "])


def _contents(marks: Sequence[str]) -> st.SearchStrategy[str]:
    # A mark at the very end would end the text.
    parts = st.sampled_from(_WORDS) | st.sampled_from(marks).map("{}x".format)
    return st.lists(st.tuples(_SPACES, parts, _SPACES), min_size=1, max_size=4).map(
        lambda parts: "".join(map("".join, parts))
    )


def conversations(write: Write, is_stripped: bool) -> st.SearchStrategy[list[dict[str, str]]]:
    """Return conversations of one to four questions, each with an answer.

    Args:
        write: the template that is to write them.
        is_stripped: whether it does not keep white space around a content.
    """
    own = write([{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}], False)
    own += write([{"role": "user", "content": "?"}], True)
    if "<|user|>" in own:
        own += "<|end|></s>"  # two templates differ in this alone
    if "User:" in own:
        own += "\n\nUser:<｜User｜>"  # before a second question, and in later versions
    if "[INST]" in own:
        own += "".join(mark for mark in _MARKS if "▁" in mark)  # is a space to its tokenizers
    contents = _contents([mark for mark in _MARKS if mark not in own])
    if is_stripped:
        contents = contents.map(str.strip)
    question = contents.map(lambda content: {"role": "user", "content": content})
    answer = contents.map(lambda content: {"role": "assistant", "content": content})
    system = contents.map(lambda content: {"role": "system", "content": content})
    turns = st.lists(st.tuples(question, answer), min_size=1, max_size=4)
    return st.tuples(st.just([]) | system.map(lambda turn: [turn]), turns).map(
        lambda both: both[0] + [turn for pair in both[1] for turn in pair]
    )


def read_turns(text: str) -> tuple[list[tuple[str | None, str]], str | None]:
    """Return the turns that are read of a text, and what it has begun."""
    reading = read_template(text)
    assert reading is not None, text
    return [(str(turn.role), str(turn.content)) for turn in reading.turns], reading.begun


def assert_read(write: Write, messages: list[dict[str, str]], part: float) -> None:
    """Write a conversation and its prompt, and read them, and the text cut within its answer."""
    prompt, whole = write(messages[:-1], True), write(messages, False)
    _assert_same(read_turns(prompt)[0], messages[:-1])
    assert read_turns(prompt)[1] in ("", "<think>\n")
    turns, begun = read_turns(whole)
    _assert_same(turns, messages)
    assert begun is None
    if not whole.startswith(prompt):  # a prompt that asks for a thought which the answer lacks
        return
    answer = messages[-1]["content"]
    end = whole.rindex(answer) + len(answer)
    cut = whole[: len(prompt) + round(part * (end - len(prompt)))]
    assume(without_end(cut) == cut)
    for start in (prompt, prompt.rstrip(), cut):
        reading = read_template(start)
        assert reading is not None
        assert reading.begun is not None
        assert reading.continued(whole[len(start) :]) == answer


def _assert_same(turns: list[tuple[str | None, str]], messages: list[dict[str, str]]) -> None:
    """Compare turns with messages.

    A template may have a system text of its own, or may put the system text before a question.
    """
    systems = [message["content"] for message in messages if message["role"] == "system"]
    others = [(m["role"], m["content"]) for m in messages if m["role"] != "system"]
    told = [turn for turn in turns if turn[0] != "system"]
    if systems and len(told) == len(turns):
        place = next(i for i, turn in enumerate(told) if turn != others[i])
        assert told[place][1].startswith(systems[0])
        assert told[place][1].endswith(others[place][1])
        told[place] = others[place]
    elif systems:
        assert turns[0][1].endswith(systems[0])
    assert told == others
