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
from typing import Any, NamedTuple

import msgspec

from harmless_runtime.choices import SystemChoice

HUMAN, ASSISTANT, SYSTEM, _TOOL = "human", "assistant", "system", "tool"
_ROLES = {
    **dict.fromkeys(["user", "human", "prompter"], HUMAN),
    **dict.fromkeys(["assistant", "gpt", "chatgpt", "bot", "chatbot", "ai", "model"], ASSISTANT),
    **dict.fromkeys(["system", "developer"], SYSTEM),
    **dict.fromkeys(["tool", "function", "function_call", "observation", "ipython"], _TOOL),
}
# The types of parts that are texts; the last two are those of OpenAI's responses.
_TEXT_TYPES = ("text", "input_text", "output_text")
HUMAN_START, ANSWER_START = "\n\nHuman:", "\n\nAssistant:"


class BadRowError(ValueError):
    """A row cannot be scored. The message is the reason."""


class Part(msgspec.Struct, frozen=True):
    """A part of a content, as the interfaces of OpenAI, Anthropic, Bedrock and Gemini have it."""

    type: str | None = None
    text: str | None = None


class Turn(msgspec.Struct, frozen=True, rename={"sender": "from"}):
    """A turn, as `messages` (role, content), ShareGPT (from, value) or Gemini (parts) have it."""

    role: str | None = None
    sender: str | None = None
    content: str | list[Part] | None = None
    value: str | None = None
    parts: list[Part] | None = None
    tool_calls: Any = None
    function_call: Any = None


class Said(NamedTuple):
    """What HUMAN, ASSISTANT or SYSTEM says in a turn.

    `joint` stands between the mark of the turn and its text. A turn of a dialogue that is one text
    has its own white space there, as part of the text.
    """

    role: str
    text: str
    joint: str = " "

    def repeats(self, other: "Said") -> bool:
        """Return whether two turns say the same, however they are written."""
        return self.role == other.role and self._words == other._words

    @property
    def _words(self) -> str:
        return self.text if self.joint else self.text.removeprefix(" ")


def said_in(turns: Sequence[Turn]) -> list[Said]:
    """Return what is said in turns.

    Raises:
        BadRowError: a turn has no known role or no text, or belongs to a tool.
    """
    return [Said(_role(number, turn), _text(turn)) for number, turn in enumerate(turns, 1)]


def write_conversation(turns: Sequence[Said], system: SystemChoice) -> tuple[str, str, bool]:
    """Return Q, A, and whether a system text was left out.

    Raises:
        BadRowError: the conversation breaks one of the rules above.
    """
    if not turns or turns[-1].role != ASSISTANT:
        raise BadRowError("the conversation does not end with an assistant turn")
    systems = [turn.text for turn in turns if turn.role == SYSTEM and turn.text]
    before = "".join(text + "\n\n" for text in systems) if system == "prepend" else ""
    question = ""
    has_human = False
    for role, text, joint in turns[:-1]:
        if role == HUMAN and before:
            question += f"{HUMAN_START} {before}{text if joint else text.removeprefix(' ')}"
            before = ""
        elif role != SYSTEM:
            question += f"{HUMAN_START if role == HUMAN else ANSWER_START}{joint}{text}"
        has_human |= role == HUMAN
    if not has_human:
        raise BadRowError("no human turn comes before the last assistant turn")
    dropped = system == "drop" and bool(systems)
    return question + ANSWER_START, turns[-1].text, dropped


def text_in(content: str | Sequence[Part]) -> str:
    """Return the text of a content, whose parts are joined by line feeds.

    Raises:
        BadRowError: a part is no text.
    """
    if isinstance(content, str):
        return content
    for part in content:
        kind = part.type or "text"
        if kind not in _TEXT_TYPES:
            raise BadRowError(f"a turn holds something other than text: {kind[:40]}")
        if part.text is None:
            raise BadRowError("a turn holds something other than text")
    return "\n".join(part.text or "" for part in content)


def is_answer(turn: Turn) -> bool:
    """Return whether a turn is the assistant's."""
    return _known_role(turn) == ASSISTANT


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
    given = (turn.content, turn.value, turn.parts)
    content = next((each for each in given if each is not None), None)
    if content is None:
        raise BadRowError("a turn has no text")
    return text_in(content)
