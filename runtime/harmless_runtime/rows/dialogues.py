"""Read dialogues that are one text, as Anthropic's hh-rlhf has them.

A blank line and `Human:` or `Assistant:` begin each turn. What comes after that, up to the next
such mark, is kept byte for byte.
"""

import re

from harmless_runtime.rows.conversations import (
    ANSWER_START,
    ASSISTANT,
    HUMAN,
    HUMAN_START,
    Said,
)

_START = re.compile(f"{HUMAN_START}|{ANSWER_START}")


def read_request(text: str) -> tuple[list[Said], str | None] | None:
    """Return the turns of a request that is a dialogue, and what the answer begins with.

    The dialogue begins with the human's turn. Its last turn is the human's, after which no answer
    has begun; or the assistant's, of which nothing is there but perhaps white space. Anything else
    is no such request, even if it holds a dialogue, and gives None.
    """
    if not text.startswith(HUMAN_START):
        return None
    last = text.rfind(ANSWER_START)
    if text.rfind(HUMAN_START) > last:
        return _turns(text.removesuffix("\n\n")), None
    end = last + len(ANSWER_START)
    return None if text[end:].strip() else (_turns(text[:last]), text[end:])


def read_whole(text: str) -> list[Said] | None:
    """Return the turns of a whole dialogue, or None if the text is none.

    The last answer begins after the last mark of the assistant's, and is the rest of the text.
    """
    last = text.rfind(ANSWER_START)
    if last < 0 or not text.startswith(HUMAN_START):
        return None
    return [*_turns(text[:last]), Said(ASSISTANT, text[last + len(ANSWER_START) :], "")]


def _turns(text: str) -> list[Said]:
    starts = [*_START.finditer(text)]
    ends = [start.start() for start in starts[1:]] + [len(text)]
    return [
        Said(HUMAN if start[0] == HUMAN_START else ASSISTANT, text[start.end() : end], "")
        for start, end in zip(starts, ends, strict=True)
    ]
