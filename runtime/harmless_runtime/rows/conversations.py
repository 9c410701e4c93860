"""Write a conversation as the two texts that the model was trained on.

The rules:

- Turns are written one after the other as hh-rlhf writes them, also if two in a row have one role.
- The last turn has to be the assistant's. It is A, and everything before it is Q.
- A human turn has to come before it.
- System texts are left out, or stand before the text of the first human turn.
- A content that is a list of text parts is joined by line feeds. Any other part is a reason to
  reject the row, and so are tool calls and their results.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

import msgspec

from harmless_runtime.choices import SpeakerRole, SystemChoice

HUMAN, ASSISTANT, SYSTEM, _TOOL = "human", "assistant", "system", "tool"
# Names that speakers have in public data. One that is a person's in some data and a program's in
# other data, such as `agent`, is not among them.
_ROLES: dict[object, str] = {
    **dict.fromkeys(["user", "human", "prompter"], HUMAN),
    **dict.fromkeys(
        [
            "assistant", "gpt", "chatgpt", "bot", "model", "ai", "chatbot", "gpt-3.5", "gpt3.5",
            "gpt-4", "gpt4", "bing", "bard", "claude",
        ],
        ASSISTANT,
    ),
    **dict.fromkeys(["system", "developer"], SYSTEM),
    **dict.fromkeys(["tool", "function", "function_call", "observation", "ipython"], _TOOL),
}  # fmt: skip
# The fields of a turn that name its speaker, and those that hold its text. The first counts that is
# there. LangChain has the speaker in `type`, and Gemini the text in `parts`.
SPEAKER_FIELDS = ("role", "from", "speaker", "author", "sender", "type")
TEXT_FIELDS = ("content", "value", "text", "message", "utterance", "parts")
# The types of parts that are texts; the last two are those of OpenAI's responses.
_TEXT_TYPES = ("text", "input_text", "output_text")
_NO_ROLES: Mapping[str, SpeakerRole] = {}
# A list of parts of a content has `type` too.
_IN_CELLS = set(SPEAKER_FIELDS) - {"type"}
HUMAN_START, ANSWER_START = "\n\nHuman:", "\n\nAssistant:"


class BadRowError(ValueError):
    """A row cannot be scored. The message is the reason."""


class Part(msgspec.Struct, frozen=True):
    """A part of a content, as the interfaces of OpenAI, Anthropic, Bedrock and Gemini have it."""

    type: str | None = None
    text: str | None = None


class Turn(msgspec.Struct, frozen=True):
    """A turn: who speaks, and what is said.

    A `role` that is no text, such as a number or true, has the name that it has in JSON.
    """

    role: str | int | bool | None = None
    content: str | list[Part] | None = None
    tool_calls: Any = None
    function_call: Any = None

    @property
    def speaker(self) -> str | int | bool | None:
        """The name of the speaker."""
        return self.role

    @property
    def words(self) -> str | list[Part] | None:
        """What is said."""
        return self.content


class UsualTurn(Turn, frozen=True, rename={"from_": "from", "speaker_": "speaker"}):
    """A turn whose fields have one of the usual names.

    Only those of OpenAI's `messages` and of ShareGPT have to be texts. Others may be anything, and
    count if they are texts.
    """

    from_: str | None = None
    value: str | None = None
    speaker_: Any = None
    author: Any = None
    sender: Any = None
    type: Any = None
    text: Any = None
    message: Any = None
    utterance: Any = None
    parts: list[Part] | None = None

    @property
    def speaker(self) -> str | int | bool | None:
        """The name of the speaker."""
        if self.role is not None:
            return self.role
        if self.from_ is not None:
            return self.from_
        return _first_text(self.speaker_, self.author, self.sender, self.type)

    @property
    def words(self) -> str | list[Part] | None:
        """What is said."""
        if self.content is not None:
            return self.content
        if self.value is not None:
            return self.value
        if self.parts is not None:
            return self.parts
        return _first_text(self.text, self.message, self.utterance)


def _first_text(*values: Any) -> str | None:
    return next((value for value in values if isinstance(value, str)), None)


@lru_cache(64)
def turn_type(role: str | None, content: str | None) -> type[Turn]:
    """Return the type of turns whose fields have the names that are given, or the usual ones.

    Args:
        role: the field that names the speaker.
        content: the field of the text.
    """
    if role is None and content is None:
        return UsualTurn
    names = {"role": role or "role", "content": content or "content"}
    fields = [(name, Turn.__annotations__[name], None) for name in names]
    made = msgspec.defstruct("NamedTurn", fields, bases=(Turn,), rename=names, frozen=True)
    return cast("type[Turn]", made)


class Said(msgspec.Struct, frozen=True, gc=False):
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


def said_in(turns: Sequence[Turn], roles: Mapping[str, SpeakerRole] = _NO_ROLES) -> list[Said]:
    """Return what is said in turns.

    Args:
        turns: the turns.
        roles: the roles of speakers by their names, in lower case. They come before the usual ones.

    Raises:
        BadRowError: a turn has no known role or no text, or belongs to a tool.
    """
    said = []
    for number, turn in enumerate(turns, 1):
        # As most turns are written.
        role, content = None if roles else _ROLES.get(turn.role or ""), turn.content
        if role is None or role == _TOOL or turn.tool_calls or turn.function_call:
            role = _role(number, turn, roles)
        said.append(Said(role, content if type(content) is str else _text(turn)))
    return said


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
    for turn in turns[:-1]:
        role = turn.role
        if role == HUMAN:
            has_human = True
            if before:
                text = turn.text if turn.joint else turn.text.removeprefix(" ")
                question += f"{HUMAN_START} {before}{text}"
                before = ""
            else:
                question += f"{HUMAN_START}{turn.joint}{turn.text}"
        elif role == ASSISTANT:
            question += f"{ANSWER_START}{turn.joint}{turn.text}"
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
    return isinstance(turn.role, str) and _ROLES.get(turn.role.strip().lower()) == ASSISTANT


def is_known_speaker(name: str, roles: Mapping[str, SpeakerRole] = _NO_ROLES) -> bool:
    """Return whether it is known whose words a speaker has."""
    known = name.strip().lower()
    return known in roles or known in _ROLES


def turns_in(text: object) -> list[Any] | None:
    """Return the turns whose JSON a text is, as cells of CSV hold them, or None if it is none."""
    if not isinstance(text, str) or not text.startswith("["):
        return None
    try:
        values = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return None
    kinds = [isinstance(value, dict) and bool(_IN_CELLS & value.keys()) for value in values]
    return values if kinds and all(kinds) else None


def _role(number: int, turn: Turn, roles: Mapping[str, SpeakerRole]) -> str:
    name = turn.speaker
    if name is None:
        raise BadRowError(f"turn {number} does not name its speaker")
    if not isinstance(name, str):
        name = msgspec.json.encode(name).decode()
    known = name.strip().lower()
    role = _ROLES.get(roles.get(known, known) if roles else known)
    if role is None:
        raise BadRowError(f"turn {number} has an unknown role: {name[:40]}")
    if role == _TOOL or turn.tool_calls or turn.function_call:
        raise BadRowError("the conversation holds a tool call")
    return role


def _text(turn: Turn) -> str:
    words = turn.words
    if words is None:
        raise BadRowError("a turn has no text")
    return text_in(words)
