"""Guess which fields of rows hold the texts, by the names that they have in public data."""

import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from harmless_runtime.rows.conversations import SPEAKER_FIELDS, is_known_speaker, turns_in
from harmless_runtime.rows.dialogues import read_whole
from harmless_runtime.rows.shapes import Reading
from harmless_runtime.rows.templates import read_template

Columns = dict[str, str]

# Names of fields, the commonest first.
_REQUESTS = (
    "instruction", "prompt", "question", "query", "request", "user_input", "user_prompt",
    "user_message", "input", "inputs", "input_text", "user", "human", "problem", "goal", "behavior",
    "task", "test_case", "messages", "conversation", "conversations", "dialog", "dialogue", "chat",
    "context", "message_1",
)  # fmt: skip
_ANSWERS = (
    "output", "response", "completion", "answer", "reply", "assistant", "model_output",
    "model_response", "output_text", "generation", "resps", "target", "targets", "chosen",
    "solution", "bot", "generated_solution", "generated_answer", "prediction", "message_2",
    "outputs", "responses",
    "completions", "answers", "replies", "generations", "choices", "candidates", "predictions",
    "messages",
)  # fmt: skip
# Other names end in one of these, of which one may be numbered.
_LIKE_REQUESTS = re.compile(r"(?!system).*(instruction|prompt|question|query|request)s?")
_LIKE_ANSWERS = re.compile(
    r"(?!.*reject).*(response|completion|answer|reply|output|generation)s?[ _]?(\d|a)?"
)
# What a text is called within a field of these names.
_INNER = frozenset(
    {
        "content",
        "text",
        "value",
        "message",
        "messages",
        "generated_text",
        "full_text",
        "parts",
        "body",
    }
)
_CONTEXTS = ("input", "context")
_IDS = ("id", "uid", "uuid", "_id", "guid")
# Words for the better and the worse response, and what may stand beside one in a name.
_BETTER = (
    ("chosen", "rejected"), ("preferred", "rejected"), ("preferred", "dispreferred"),
    ("better", "worse"), ("good", "bad"), ("win", "lose"), ("winner", "loser"),
    ("positive", "negative"),
)  # fmt: skip
_NOUNS = ("response", "answer", "completion", "output", "messages", "text")
# Of the names of fields, those that an option can have. Dots are read as part of a name only if it
# is that of the row's own field.
_NAMEABLE = re.compile(r"(?!\s)[^,=]+(?<!\s)")

_DEPTH = 5
_TRIED_FIELDS = 4


def leaves(value: Any, path: str = "", depth: int = _DEPTH) -> Iterator[tuple[str, Any]]:
    """Yield what a row holds to some depth, by its path. Of a list only the first element counts.

    Lists of turns are not looked into.
    """
    if path:
        yield path, value
    if depth == 0 or is_turns(value) or is_turns([value]):
        return
    inner: Mapping[Any, Any] = {}
    if isinstance(value, Mapping):
        inner = value
    elif isinstance(value, list) and value:
        inner = {"0": value[0]}
    for name, part in inner.items():
        if isinstance(name, str) and _NAMEABLE.fullmatch(name) and not (path and "." in name):
            yield from leaves(part, f"{path}.{name}" if path else name, depth - 1)


def is_turns(value: Any) -> bool:
    """Return whether a value is a list of turns, each of which names its speaker."""
    return isinstance(value, list) and bool(value) and all(map(_names_speaker, value))


def _names_speaker(turn: Any) -> bool:
    if not isinstance(turn, Mapping):
        return False
    # A part of a content has a type too.
    *fields, kind = SPEAKER_FIELDS
    named = any(name in turn for name in fields)
    return named or (isinstance(turn.get(kind), str) and is_known_speaker(turn[kind]))


def request_in(row: Mapping[str, Any]) -> str | None:
    """Return the path of what seems to be the request of a row, or None."""
    return next(iter(_named(row, _REQUESTS, _LIKE_REQUESTS)), None)


def columns_for(
    rows: Sequence[Mapping[str, Any]],
    reading: Reading,
    reads: Callable[[Columns], int],
    *,
    untried: bool = False,
) -> Columns | None:
    """Return the columns with which most rows can be scored, or None if none can.

    Args:
        rows: the first ones, of which there is at least one.
        reading: how they are read. Columns that it names are kept, if rows have them.
        reads: returns how many rows can be scored with some columns.
        untried: return what the names alone say, with FIELD for what has no usual name.
    """
    row = rows[0]
    ids = next((name for name in row if str(name).lower() in _IDS), None)
    also = {"id": ids} if ids and "id" not in row else {}
    kept = {t: path for t, path in reading.columns.items() if path.split(".")[0] in row}
    if untried:
        asked = request_in(row) or "FIELD"
        guess = {"instruction": asked, "output": "FIELD"}
        if reading.pairs:
            guess |= {"rejected": "FIELD"} | next(_guesses_of_pairs(row), {})
        else:
            answers = (path for path in _named(row, _ANSWERS, _LIKE_ANSWERS) if path != asked)
            guess["output"] = next(answers, "FIELD")
            guess |= context_in(row, guess)
        return {**guess, **also, **kept}
    guesses = list(_guesses_of_pairs(row) if reading.pairs else _guesses(row))
    named = [{**guess, **also, **kept} for guess in guesses]
    if kept.pop("input", None):  # nothing can be added to turns
        named += [{**guess, **also, **kept} for guess in guesses]
    counts = list(map(reads, named))
    return named[counts.index(max(counts))] if any(counts) else None


def _guesses(row: Mapping[str, Any]) -> Iterator[Columns]:
    found = list(leaves(row))
    yield from ({"messages": path} for path, value in found if is_turns(value))
    answers = _named(row, _ANSWERS, _LIKE_ANSWERS)[:_TRIED_FIELDS]
    for asked in _named(row, _REQUESTS, _LIKE_REQUESTS)[:_TRIED_FIELDS]:
        for answer in answers:
            if asked != answer:
                columns = {"instruction": asked, "output": answer}
                if context := context_in(row, columns):
                    yield columns | context
                yield columns
    yield from ({"output": path} for path, value in found if _is_whole(value))


def _is_whole(value: Any) -> bool:
    """Return whether a value is a text that holds a whole conversation."""
    if not isinstance(value, str):
        return False
    return any(read(value) is not None for read in (read_whole, read_template, turns_in))


def _guesses_of_pairs(row: Mapping[str, Any]) -> Iterator[Columns]:
    found = dict(leaves(row))
    asked = _named(row, _REQUESTS, _LIKE_REQUESTS)[:_TRIED_FIELDS]
    for better, worse in _BETTER:
        for form in ("{}", *(f"{{}}_{n}" for n in _NOUNS), *(f"{n}_{{}}" for n in _NOUNS)):
            one, other = form.format(better), form.format(worse)
            for path, value in found.items():
                same = other + path.removeprefix(one)
                if path.split(".")[0] == one and same in found and _is_text(value):
                    columns = {"output": path, "rejected": same}
                    yield from ({"instruction": each, **columns} for each in asked)
                    yield columns


def context_in(row: Mapping[str, Any], columns: Columns) -> Columns:
    """Return the field of a text that belongs to the request, if there is one."""
    before = columns["output"].rpartition(".")[0]
    texts = {path.lower(): path for path, value in leaves(row) if isinstance(value, str)}
    for name in _CONTEXTS:
        for path in (f"{before}.{name}", name):
            found = texts.get(path.lower())
            if found and found not in columns.values():
                return {"input": found}
    return {}


def _named(row: Mapping[str, Any], usual: Sequence[str], like: re.Pattern[str]) -> list[str]:
    """Return the paths of texts and turns that have a usual name, the likeliest first."""
    ranks: dict[str, tuple[int, int]] = {}
    for path, value in leaves(row):
        if _is_text(value):
            parts = [part for part in path.lower().split(".") if not part.isdecimal()]
            rank = _rank(parts, usual, like)
            if rank is not None:
                ranks[path] = rank, len(parts)
    return sorted(ranks, key=lambda path: ranks[path])


def _rank(parts: list[str], usual: Sequence[str], like: re.Pattern[str]) -> int | None:
    """Return the place of a path among the usual names, or None if it is no such path."""
    for place, part in enumerate(parts):
        part = part.strip().replace(" ", "_")
        if part in usual:
            rank = usual.index(part)
        elif like.fullmatch(part):
            rank = len(usual)
        elif len(parts) == 1 and difflib.get_close_matches(part, usual[:5], 1, 0.8):
            rank = len(usual) + 1
        else:
            continue
        inner = (each in _INNER or each in usual for each in parts[place + 1 :])
        return rank if all(inner) else None
    return None


def _is_text(value: Any) -> bool:
    return isinstance(value, str) or is_turns(value) or is_turns([value])
