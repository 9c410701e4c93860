"""Write a conversation as the two texts that the model was trained on.

The rules:

- Turns are written one after the other as hh-rlhf writes them, also if two in a row have one role.
- The last turn has to be the assistant's. It is A, and everything before it is Q.
- A human turn has to come before it.
- System texts are left out, or stand before the text of the first human turn.
- A content that is a list of text parts is joined by line feeds. Any other part is a reason to
  reject the row, and so are tool calls and their results.
"""

from collections.abc import Sequence
from typing import Any, TypeGuard

import msgspec

from harmless_runtime.choices import SystemChoice

_HUMAN, _ASSISTANT, _SYSTEM, _TOOL = "human", "assistant", "system", "tool"
_ROLES = {
    **dict.fromkeys(["user", "human", "prompter"], _HUMAN),
    **dict.fromkeys(["assistant", "gpt", "chatgpt", "bot", "model"], _ASSISTANT),
    **dict.fromkeys(["system", "developer"], _SYSTEM),
    **dict.fromkeys(["tool", "function", "function_call", "observation", "ipython"], _TOOL),
}
_DIALOGUE_START, _ANSWER_START = "\n\nHuman:", "\n\nAssistant:"


class BadRowError(ValueError):
    """A row cannot be scored. The message is the reason."""


class Part(msgspec.Struct, frozen=True):
    """A part of a turn's content, as OpenAI's interface has it."""

    type: str | None = None
    text: str | None = None


class Turn(msgspec.Struct, frozen=True, rename={"sender": "from"}):
    """A turn, as `messages` (role, content) or ShareGPT (from, value) have it."""

    role: str | None = None
    sender: str | None = None
    content: str | list[Part] | None = None
    value: str | None = None
    tool_calls: Any = None
    function_call: Any = None


def write_conversation(turns: Sequence[Turn], system: SystemChoice) -> tuple[str, str, bool]:
    """Return Q, A, and whether a system text was left out.

    Raises:
        BadRowError: the conversation breaks one of the rules above.
    """
    texts = [(_role(number, turn), turn) for number, turn in enumerate(turns, 1)]
    if not texts or texts[-1][0] != _ASSISTANT:
        raise BadRowError("the conversation does not end with an assistant turn")
    systems = [_text(turn) for role, turn in texts if role == _SYSTEM]
    before = "".join(text + "\n\n" for text in systems if text) if system == "prepend" else ""
    question = ""
    has_human = False
    for role, turn in texts[:-1]:
        if role == _HUMAN:
            question += f"{_DIALOGUE_START} {before}{_text(turn)}"
            before, has_human = "", True
        elif role == _ASSISTANT:
            question += f"{_ANSWER_START} {_text(turn)}"
    if not has_human:
        raise BadRowError("no human turn comes before the last assistant turn")
    dropped = system == "drop" and any(systems)
    return question + _ANSWER_START, _text(texts[-1][1]), dropped


def is_answer(turn: Turn) -> bool:
    """Return whether a turn is the assistant's."""
    return _known_role(turn) == _ASSISTANT


def is_system(turn: Turn) -> bool:
    """Return whether a turn is a system text."""
    return _known_role(turn) == _SYSTEM


def said(turn: Turn) -> tuple[str | None, str | None]:
    """Return who says what in a turn, however it is written, so that two turns can be compared."""
    try:
        return _known_role(turn), _text(turn)
    except BadRowError:
        return _known_role(turn), None


def turns_in(text: object) -> list[Any] | None:
    """Return the turns whose JSON a text is, as cells of CSV hold them, or None if it is none."""
    if not isinstance(text, str) or not text.startswith("["):
        return None
    try:
        values = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return None
    kinds = [isinstance(value, dict) and bool({"role", "from"} & value.keys()) for value in values]
    return values if kinds and all(kinds) else None


def begins_dialogue(text: object) -> TypeGuard[str]:
    """Return whether a value is a text that begins as a dialogue of hh-rlhf does."""
    return isinstance(text, str) and text.startswith(_DIALOGUE_START)


def is_dialogue(text: object) -> TypeGuard[str]:
    """Return whether a value is a dialogue that is one text, as hh-rlhf has it."""
    return begins_dialogue(text) and _ANSWER_START in text


def complete_dialogue(begun: str, answer: str) -> str:
    """Return a dialogue that is one text with the answer that continues it.

    Between them `Assistant:` stands once, whether the dialogue ends with it, the answer begins with
    it, both or neither. A dialogue that ends within an answer is continued as it is.
    """
    if answer.startswith(_ANSWER_START):
        return begun.rstrip().removesuffix(_ANSWER_START) + answer
    if begun.rfind(_DIALOGUE_START) > begun.rfind(_ANSWER_START):
        return begun.removesuffix("\n\n") + _ANSWER_START + answer
    return begun + answer


def continue_dialogue(prompt: str, answer: str) -> tuple[str, str]:
    """Return Q and A of a dialogue that is one text, and the answer that continues it as it is.

    Raises:
        BadRowError: the prompt is no such dialogue.
    """
    question, begun = split_dialogue(prompt)
    return question, begun + answer


def split_dialogue(text: str) -> tuple[str, str]:
    """Split a dialogue that is one text, as hh-rlhf has it, before the text of its last answer.

    Raises:
        BadRowError: the text is no such dialogue.
    """
    if not is_dialogue(text):
        raise BadRowError(
            "the text is not a dialogue of hh-rlhf, which begins with a blank line and Human:, and "
            "holds a blank line and Assistant:; the instruction's field has to be named too"
        )
    end = text.rindex(_ANSWER_START) + len(_ANSWER_START)
    return text[:end], text[end:]


def _known_role(turn: Turn) -> str | None:
    name = turn.role if turn.role is not None else turn.sender
    return None if name is None else _ROLES.get(name.strip().lower())


def _role(number: int, turn: Turn) -> str:
    name = turn.role if turn.role is not None else turn.sender
    if name is None:
        raise BadRowError(f"turn {number} has neither a role nor from")
    role = _known_role(turn)
    if role is None:
        raise BadRowError(f"turn {number} has an unknown role: {name[:40]}")
    if role == _TOOL or turn.tool_calls or turn.function_call:
        raise BadRowError("the conversation holds a tool call")
    return role


def _text(turn: Turn) -> str:
    content = turn.content if turn.content is not None else turn.value
    if isinstance(content, str):
        return content
    if content is None:
        raise BadRowError("a turn has no text")
    if any(part.text is None or part.type not in (None, "text") for part in content):
        raise BadRowError("a turn holds something other than text, such as an image")
    return "\n".join(part.text or "" for part in content)
