"""Make the two texts of a row, question and answer, from its fields, whichever of them it has."""

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
    split_dialogue,
    write_conversation,
)
from harmless_runtime.rows.prompt import question_and_answer

# Q, A, and whether a system text was left out.
Texts = tuple[str, str, bool]


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
    if isinstance(record.output, str):
        if instruction is None:
            return *split_dialogue(record.output), False
        if isinstance(instruction, str):
            return *question_and_answer(instruction, context, record.output), False
        answer = Turn(role="assistant", content=record.output)
        return write_conversation([*instruction, answer], system)
    if isinstance(instruction, str):
        request = f"{instruction}\n{context}" if context else instruction
        instruction = [Turn(role="user", content=request)]
        if not _goes_on(record.output):
            instruction = []  # the output is the whole conversation, and repeats the instruction
    return write_conversation(_joined(instruction or [], record.output), system)


def preference_texts(record: Any, system: SystemChoice) -> Texts:
    """Return the texts of one side of a preference pair.

    They are those of `texts_of`, except that the texts of a pair may be dialogues as hh-rlhf has
    them. A response is a whole dialogue itself, or continues one that is the prompt.

    Raises:
        BadRowError: the row cannot be scored.
    """
    prompt = getattr(record, "instruction", None)
    response = record.output
    if is_dialogue(response):
        dialogue = response
    elif begins_dialogue(prompt) and isinstance(response, str):
        dialogue = complete_dialogue(prompt, response)
    elif begins_dialogue(prompt) and _goes_on(response):
        if len(response) > 1:
            raise BadRowError("several messages continue a prompt that is a dialogue in one text")
        _, answer, _ = write_conversation([Turn(role="user", content=""), *response], system)
        dialogue = complete_dialogue(prompt, answer)
    else:
        return texts_of(record, system)
    if getattr(record, "input", None):
        raise BadRowError("the texts are whole dialogues, to which no input can be added")
    return *split_dialogue(dialogue), False


def _goes_on(turns: Sequence[Turn]) -> bool:
    """Return whether turns begin with the assistant's, so that something came before them."""
    first = next((turn for turn in turns if not is_system(turn)), None)
    return first is not None and is_answer(first)


def _joined(before: Sequence[Turn], turns: Sequence[Turn]) -> list[Turn]:
    """Return turns with those before them, which the turns may repeat."""
    repeated = [turn for turn in before if not is_system(turn)]
    spoken = [turn for turn in turns if not is_system(turn)]
    places = range(len(spoken) - len(repeated) + 1)
    repeats = any(spoken[place : place + len(repeated)] == repeated for place in places)
    if repeated and repeats and not _goes_on(turns):
        systems = [] if len(spoken) < len(turns) else [turn for turn in before if is_system(turn)]
        return [*systems, *turns]
    return [*before, *turns]
