"""Make the two texts of a row, question and answer, from its fields, whichever of them it has."""

import re
from collections.abc import Sequence
from typing import Any

from harmless_runtime.choices import SystemChoice
from harmless_runtime.rows.conversations import (
    BadRowError,
    Turn,
    begins_dialogue,
    complete_dialogue,
    is_answer,
    is_dialogue,
    is_system,
    said,
    split_dialogue,
    write_conversation,
)
from harmless_runtime.rows.prompt import question_and_answer

# Q, A, and whether a system text was left out.
Texts = tuple[str, str, bool]
# A dialogue that lost its first blank line, or has other line ends.
_LIKE_DIALOGUE = re.compile(r"\s*Human:.*\n\s*Assistant:", re.DOTALL)
_NO_INPUT = "the texts are whole conversations, to which no input can be added"


def texts_of(record: Any, system: SystemChoice) -> Texts:
    """Return the texts of a row of any shape.

    Args:
        record: the row's fields: `messages`; or `output`, perhaps with `instruction` and `input`.
        system: what becomes of the system texts of conversations.

    Raises:
        BadRowError: the row cannot be scored.
    """
    messages = getattr(record, "messages", None)
    if messages is not None:
        return write_conversation(messages, system)
    instruction = getattr(record, "instruction", None)
    context = getattr(record, "input", None) or ""
    output = record.output
    if isinstance(instruction, str) and isinstance(output, str):
        return *question_and_answer(instruction, context, output), False
    if isinstance(instruction, str) and _goes_on(output):
        request = f"{instruction}\n{context}" if context else instruction
        return write_conversation([Turn(role="user", content=request), *output], system)
    if context:
        raise BadRowError(_NO_INPUT)
    if isinstance(output, str):
        if instruction is None:
            return *split_dialogue(output), False
        output = [Turn(role="assistant", content=output)]
    # An instruction that is a text is repeated by a whole conversation.
    before = instruction if isinstance(instruction, list) else []
    return write_conversation(_joined(before, output), system)


def preference_texts(record: Any, system: SystemChoice) -> Texts:
    """Return the texts of one side of a preference pair.

    They are those of `texts_of`, except that the texts of a pair may be dialogues as hh-rlhf has
    them. A response is a whole dialogue itself, or continues one that is the prompt.

    Raises:
        BadRowError: the row cannot be scored.
    """
    prompt = getattr(record, "instruction", None)
    response = record.output
    dropped = False
    if is_dialogue(response):
        dialogue = response
    elif begins_dialogue(prompt) and "\r\nAssistant:" not in prompt and _continues(response):
        answer, dropped = _answer(response, system)
        dialogue = complete_dialogue(prompt, answer)
    elif isinstance(prompt, str) and _LIKE_DIALOGUE.match(prompt) and _continues(response):
        raise BadRowError(
            "the prompt looks like a dialogue, and is not one of hh-rlhf, in which a blank line "
            "stands before each Human: and Assistant:"
        )
    elif prompt is None and hasattr(record, "instruction") and _continues(response):
        raise BadRowError("the pair has no prompt, and its texts are no whole dialogues")
    else:
        return texts_of(record, system)
    if getattr(record, "input", None):
        raise BadRowError(_NO_INPUT)
    return *split_dialogue(dialogue), dropped


def _continues(response: str | Sequence[Turn]) -> bool:
    """Return whether a response is only what comes after its prompt."""
    return isinstance(response, str) or _goes_on(response)


def _answer(response: str | Sequence[Turn], system: SystemChoice) -> tuple[str, bool]:
    """Return the text of a response to a dialogue, and whether a system text was left out."""
    if isinstance(response, str):
        return response, False
    spoken = [turn for turn in response if not is_system(turn)]
    if len(spoken) > 1 or (system == "prepend" and len(spoken) < len(response)):
        raise BadRowError("several messages continue a prompt that is a dialogue in one text")
    _, answer, dropped = write_conversation([Turn(role="user", content=""), *response], system)
    return answer, dropped


def _goes_on(turns: Sequence[Turn]) -> bool:
    """Return whether turns begin with the assistant's, so that something came before them."""
    first = next((turn for turn in turns if not is_system(turn)), None)
    return first is not None and is_answer(first)


def _joined(before: Sequence[Turn], turns: Sequence[Turn]) -> list[Turn]:
    """Return turns with those before them, of which the turns may repeat all or the last ones."""
    spoken = [said(turn) for turn in turns if not is_system(turn)]
    earlier = [turn for turn in before if not is_system(turn)]
    asked = list(map(said, earlier))
    places = range(len(spoken) - len(asked) + 1)
    if asked and not _goes_on(turns):
        repeats_all = any(spoken[place : place + len(asked)] == asked for place in places)
        common = range(min(len(asked), len(spoken)), 0, -1)
        repeated = next((n for n in common if asked[-n:] == spoken[:n]), 0)
        earlier = [] if repeats_all else earlier[: len(earlier) - repeated]
    systems = [turn for turn in before if is_system(turn)]
    if any(map(is_system, turns)) and len(earlier) < len(asked):
        systems = []  # they are repeated as well
    return [*systems, *earlier, *turns]
