"""Make the two texts of a row, Q and A, from its fields: one reading for all that takes rows.

A request is one of these:

- A dialogue that is one text, as hh-rlhf has it, which the answer continues (`dialogues`).
- A text that is wholly turns of one known chat template (`templates`).
- A list of messages. If the last one is the assistant's, the answer continues it.
- Any other text is the words of a human, also if it quotes a dialogue.

The answer begins where its field begins, whatever it holds, because a policy may have written it.
Only the tokens that end a text are taken off, at its very end.

A whole conversation may stand in one field: as messages, or as a text of the two forms above.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from harmless_runtime.rows import dialogues
from harmless_runtime.rows.conversations import (
    ASSISTANT,
    HUMAN,
    SYSTEM,
    BadRowError,
    Said,
    Turn,
    UsualTurn,
    said_in,
    text_in,
    write_conversation,
)
from harmless_runtime.rows.prompt import question_and_answer
from harmless_runtime.rows.shapes import Reading
from harmless_runtime.rows.templates import (
    TemplateText,
    are_words,
    marks_in,
    read_template,
    without_end,
)

_NO_TEXT = (
    "the text is neither turns of a chat template nor a dialogue of hh-rlhf, which begins with a "
    "blank line and Human:, and holds a blank line and Assistant:"
)


class Texts(NamedTuple):
    """What is scored of a row. The attributes are those of `Pair`."""

    question: str
    answer: str
    dropped_system: bool = False
    has_turns: bool = False
    lost_end: bool = False
    mark: str | None = None


class _Request(NamedTuple):
    """The turns of a request.

    Attributes:
        turns: without an answer that has begun.
        begun: what the answer begins with, if the request ends within it.
        is_words: whether the request is a text without turns of its own.
        template: what the request was written by, if it was.
    """

    turns: list[Said]
    begun: str | None = None
    is_words: bool = False
    template: TemplateText | None = None


def texts_of(record: Any, reading: Reading, turn: type[Turn] = UsualTurn) -> Texts:
    """Return the texts of a row of any shape.

    Args:
        record: the row's fields: `messages`; or `output`, perhaps with `instruction` and `input`;
            and perhaps `system`, `system_prompt` and `history`.
        reading: how rows are read.
        turn: what the turns of a history are read as.

    Raises:
        BadRowError: the row cannot be scored.
    """
    request = getattr(record, "instruction", None)
    output = getattr(record, "output", None)
    context = getattr(record, "input", None) or ""
    if reading.as_is and isinstance(request, str) and isinstance(output, str):
        return Texts(*question_and_answer(request, context, output))
    before = _system(record) + _history(record, reading, turn)
    messages = getattr(record, "messages", None)
    if messages is not None:
        turns = _after(before, said_in(messages, reading.roles))
        has_turns = False
    else:
        asked = _request(request, context, reading)
        if not before and asked.is_words and isinstance(output, str):
            return _words(asked.turns[0].text, output, reading)
        answered = _response(output, asked, reading, has_request=hasattr(record, "instruction"))
        turns = _after(before, _joined(asked, answered, context))
        has_turns = isinstance(request, str) and not asked.is_words
        has_turns |= any(turn.role != SYSTEM for turn in before)
    return _conversation(turns, reading, has_turns=has_turns)


def _words(request: str, output: str, reading: Reading) -> Texts:
    """Return the texts of a request without turns of its own, and of the answer to it."""
    answer = without_end(output)
    mark = _checked(marks_in(request) or marks_in(answer), reading)
    texts = question_and_answer(request, "", answer)
    return Texts(*texts, lost_end=len(answer) < len(output), mark=mark)


def _conversation(turns: list[Said], reading: Reading, *, has_turns: bool) -> Texts:
    question, output, dropped = write_conversation(turns, reading.system)
    if reading.as_is:
        return Texts(question, output, dropped, has_turns)
    answer = without_end(output)
    mark = None
    for turn in turns:
        if turn.role != SYSTEM and not are_words(turn.text, ""):
            mark = mark or marks_in(turn.text)
    mark = _checked(mark, reading)
    return Texts(question, answer, dropped, has_turns, len(answer) < len(output), mark)


def _checked(mark: str | None, reading: Reading) -> str | None:
    """Return a mark that was found in a text, or reject the row if none is allowed.

    Raises:
        BadRowError: there is one, and none is allowed.
    """
    if mark is not None and reading.refuse_marks:
        raise BadRowError(f"the text has {mark}, a mark of a chat template that is read as words")
    return mark


def _request(request: Any, context: str, reading: Reading) -> _Request:
    if request is None:
        asked = _Request([])
    elif not isinstance(request, str):
        turns = said_in(_listed(request), reading.roles)
        open_turn = turns.pop() if turns and turns[-1].role == ASSISTANT else None
        asked = _Request(turns, open_turn.text if open_turn else None)
    elif reading.as_is:
        asked = _as_words(request, context)
    elif (dialogue := dialogues.read_request(request)) is not None:
        asked = _Request(*dialogue)
    elif (template := read_template(request)) is not None:
        asked = _Request(said_in(template.turns), template.begun, template=template)
    else:
        asked = _as_words(request, context)
    if context and not asked.is_words:
        raise BadRowError("the request is a whole conversation, to which no input can be added")
    return asked


def _as_words(request: str, context: str) -> _Request:
    text = f"{request}\n{context}" if context else request
    return _Request([Said(HUMAN, text)], is_words=True)


def _response(output: Any, asked: _Request, reading: Reading, *, has_request: bool) -> list[Said]:
    """Return the turns of a response, which is an answer alone or a whole conversation."""
    if not isinstance(output, str):
        turns = said_in(_listed(output), reading.roles)
        place = _answer_alone(turns)
        if asked.begun and place is not None:
            _check_goes_on(asked.begun, turns[place].text)
            turns[place] = Said(ASSISTANT, asked.begun + turns[place].text)
        return turns
    _check_goes_on(asked.begun, output)
    if asked.turns or asked.begun is not None:
        continued = asked.template.continued if asked.template else (asked.begun or "").__add__
        return [Said(ASSISTANT, continued(output))]
    if (dialogue := dialogues.read_whole(output)) is not None:
        return dialogue
    template = read_template(output)
    if template is None:
        raise BadRowError("the row has no request" if has_request else _NO_TEXT)
    answer = [] if template.begun is None else [Said(ASSISTANT, template.begun)]
    return [*said_in(template.turns), *answer]


def _check_goes_on(begun: str | None, answer: str) -> None:
    """Check that an answer is not the same as what the request has begun it with.

    Raises:
        BadRowError: it is, so that it would be written twice.
    """
    if begun and begun.strip() and begun.strip() == answer.strip():
        raise BadRowError("the request ends with the answer already")


def _listed(turns: Any) -> Sequence[Turn]:
    """Return turns, of which a field may have a single one that is not in a list."""
    return [turns] if isinstance(turns, Turn) else turns


def _answer_alone(turns: Sequence[Said]) -> int | None:
    """Return the place of the first turn if it is the assistant's, so that it goes on. Or None."""
    first = next((i for i, turn in enumerate(turns) if turn.role != SYSTEM), None)
    return first if first is not None and turns[first].role == ASSISTANT else None


def _joined(asked: _Request, answered: list[Said], context: str) -> list[Said]:
    """Return the turns of a request and its response, which may repeat all or some of them."""
    if _answer_alone(answered) is not None:
        return [*asked.turns, *answered]
    if asked.is_words:
        if context:
            raise BadRowError(
                "the response is a whole conversation, to which no input can be added"
            )
        return answered  # which repeats the request
    return _without_repetition(asked.turns, answered)


def _without_repetition(before: Sequence[Said], turns: Sequence[Said]) -> list[Said]:
    """Return turns with those before them, of which the turns may repeat all or the last ones."""
    spoken = [turn for turn in turns if turn.role != SYSTEM]
    asked = [turn for turn in before if turn.role != SYSTEM]
    systems = [turn for turn in before if turn.role == SYSTEM]

    def repeats(some: Sequence[Said], place: int) -> bool:
        others = spoken[place : place + len(some)]
        return len(others) == len(some) and all(map(Said.repeats, some, others))

    if any(repeats(asked, place) for place in range(len(spoken))):
        earlier = []
    else:
        common = range(min(len(asked), len(spoken)), 0, -1)
        count = next((n for n in common if repeats(asked[-n:], 0)), 0)
        earlier = asked[: len(asked) - count]
    if len(earlier) < len(asked) and any(turn.role == SYSTEM for turn in turns):
        systems = []  # they are repeated as well
    return [*systems, *earlier, *turns]


def _after(before: list[Said], turns: list[Said]) -> list[Said]:
    """Return turns with those of other columns before them. A system text is written once."""
    if not before:
        return turns
    given = [turn for turn in turns if turn.role == SYSTEM]
    return [*(turn for turn in before if turn not in given), *turns]


def _system(record: Any) -> list[Said]:
    given = getattr(record, "system", None), getattr(record, "system_prompt", None)
    if given == (None, None):
        return []
    texts = [text_in(content) for content in given if content]
    return [Said(SYSTEM, text) for text in dict.fromkeys(texts) if text]


def _history(record: Any, reading: Reading, turn: type[Turn]) -> list[Said]:
    """Return the turns before a request, as pairs of a request and its answer, or as messages.

    Raises:
        BadRowError: they are neither.
    """
    history = getattr(record, "history", None)
    if not history:
        return []
    try:
        if isinstance(history, str):
            history = msgspec.json.decode(history)
        if history and isinstance(history[0], dict):
            return said_in(msgspec.convert(history, list[turn]), reading.roles)  # type: ignore[valid-type]
        pairs = msgspec.convert(history, list[tuple[str, str]])
    except (msgspec.DecodeError, LookupError, TypeError):
        raise BadRowError(
            "history holds neither pairs of a request and its answer, nor messages"
        ) from None
    return [said for ask, reply in pairs for said in (Said(HUMAN, ask), Said(ASSISTANT, reply))]
