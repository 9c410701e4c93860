"""Say what to do about rows none of which can be scored, by the reason and by what they hold.

Columns that a hint names were tried on the rows. FIELD, ROLE and FILE stand for what only a person
knows.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from harmless_runtime.rows import turn_hints
from harmless_runtime.rows.guesses import Columns, columns_for, context_in, request_in
from harmless_runtime.rows.unread import Unread, can_name, jq, written

OTHER_ENCODING = "if a file has another encoding: iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW_FILE"
# Two responses, the field that says which is better, and what it says of either, as JSON.
_VERDICTS = (
    ("response_0", "response_1", "safer_response_id", "0", "1"),
    ("response_0", "response_1", "better_response_id", "0", "1"),
    ("conversation_a", "conversation_b", "winner", '"model_a"', '"model_b"'),
    ("response_a", "response_b", "winner", '"model_a"', '"model_b"'),
    ("human_ref_A", "human_ref_B", "labels", "1", "0"),
)
_TYPE = re.compile(r"Expected `[^`]*`, got `(\w+)`(?: - at `\$\.(.+)`)?")
_A_TEXT = (
    "a text has to be wholly turns of a chat template, or a dialogue that begins with a blank line "
    "and Human:; otherwise the request and the answer have to be fields of their own: `columns` "
    "instruction=FIELD,output=FIELD"
)


def hint_for(unread: Unread) -> str:
    """Return what to do about rows that cannot be scored."""
    for pattern, give in _HINTS:
        if re.search(pattern, unread.reason) and (unread.found or give in _WITHOUT_FIELDS):
            hint = give(unread)
            if hint is not None:
                return hint
    return "an input is JSON lines, a JSON array, CSV with a header, Parquet or Arrow"


def _encoding(unread: Unread) -> str | None:
    if unread.form == "memory":
        return None
    return OTHER_ENCODING


def _length(unread: Unread) -> str:
    told = re.search(r"has ([\d,]+) bytes", unread.reason)
    most = int(told[1].replace(",", "")) if told else 4 * unread.reading.line_bytes
    return f"`max_line_bytes` {most} allows rows of that length"


def _table_of_pandas(unread: Unread) -> str | None:
    """A whole table in one object, as pandas writes it if it is not asked for records."""
    first = unread.first
    inner = [value for value in first.values() if isinstance(value, Mapping)]
    labels = (first.keys(), set().union(*inner))
    is_nested = len(inner) == len(first) and any(
        names and all(map(str.isdecimal, map(str, names))) for names in labels
    )
    if len(unread.rows) == 1 and (is_nested or {"columns", "index", "data"} <= first.keys()):
        return "make rows of the table: frame.to_json('NEW.jsonl', orient='records', lines=True)"
    return None


def _rows_in_texts(unread: Unread) -> str | None:
    """Rows whose JSON was written as JSON once more."""
    if unread.form == "json" and unread.rows and all(isinstance(r, str) for r in unread.rows):
        return "make rows of the texts: jq -c fromjson FILE | harmless score - …"
    return None


def _python_lists(unread: Unread) -> str | None:
    texts = (value for value in unread.first.values() if isinstance(value, str))
    if "Python" in unread.reason or any(re.match(r"\s*\[\s*\{'", text) for text in texts):
        return "lists in cells have to be JSON: write them with json.dumps, and not with str"
    return None


def _verdicts(unread: Unread) -> str | None:
    """Pairs whose better response is told by a field of its own."""
    if not unread.reading.pairs:
        return None
    for one, other, verdict, first, second in _VERDICTS:
        if not unread.has(one, other, verdict):
            continue
        asked = "history" if one == "human_ref_A" and unread.has("history") else None
        asked = asked or request_in(unread.first)
        prompt = {"prompt": unread.first[asked]} if asked else {}
        pair = prompt | {"chosen": unread.first[one], "rejected": unread.first[other]}
        if not unread.reads({}, [pair]):
            continue
        kept = f"prompt: {jq(asked)}, " if asked else ""
        return unread.changed(
            f"select(.{verdict} == {first} or .{verdict} == {second}) | if .{verdict} == {first} "
            f"then {{{kept}chosen: .{one}, rejected: .{other}}} "
            f"else {{{kept}chosen: .{other}, rejected: .{one}}} end",
            f"make chosen and rejected of {one} and {other}, as {verdict} says",
        )
    return None


def _pairs(unread: Unread) -> str | None:
    """Pairs of a chosen and a rejected response, to be scored as rows."""
    if unread.reading.pairs or not unread.has("chosen", "rejected"):
        return None
    named: list[Columns] = [{"output": "chosen"}]
    if asked := request_in(unread.first):
        named.append({"instruction": asked, "output": "chosen"})
    best = next((each for each in named if unread.reads(each)), None)
    if best is None:
        return None
    others = best | {"output": "rejected"}
    return (
        "these are pairs of a chosen and a rejected response: harmless eval tells how often the "
        f"model prefers the chosen one; or score the chosen ones with `columns` {written(best)}, "
        f"and the others with `columns` {written(others)} in a run of its own"
    )


def _columns(unread: Unread) -> str | None:
    """Fields with other names, which were tried."""
    columns = columns_for(unread.found, unread.reading, unread.reads)
    if columns is None:
        return None
    what = f"name the fields{' of the pairs' if unread.reading.pairs else ''}, for example"
    is_asked = "instruction" in columns and "input" not in columns
    if is_asked and (left := context_in(unread.first, columns)):
        what = f"leave {left['input']} out, which cannot be added to turns:"
    several = any(re.search(r"\.0(\.|$)", path) for path in columns.values())
    first = ", which reads the first of several" if several else ""
    return f"{what} `columns` {written(columns)}{first} {can_name(unread)}"


def _rows_inside(unread: Unread) -> str | None:
    """Rows that all are in one field of an object, and can be scored."""
    lists = _lists_of_objects(unread)
    name = next((n for n, rows in lists.items() if unread.reads({}, rows)), None)
    return _made_rows(unread, name)


def _rows_perhaps(unread: Unread) -> str | None:
    """Rows that may be in one field of an object, because it has no text beside them."""
    lists = _lists_of_objects(unread)
    name = next((n for n, rows in lists.items() if not turn_hints.is_dialogue(n, rows)), None)
    has_texts = any(isinstance(value, str) for value in unread.first.values())
    return None if has_texts else _made_rows(unread, name)


def _lists_of_objects(unread: Unread) -> dict[str, list[Any]]:
    return {
        name: value
        for name, value in unread.first.items()
        if isinstance(value, list) and value and isinstance(value[0], Mapping)
    }


def _made_rows(unread: Unread, name: str | None) -> str | None:
    if name is None:
        return None
    return unread.changed(f"{jq(name)}[]", f"if {name} holds the rows, make rows of them")


def _types(unread: Unread) -> str | None:
    """Values that are no texts."""
    told = _TYPE.search(unread.reason)
    if told is None:
        return None
    kind, name = told[1], told[2] or ""
    if kind in ("datetime", "date", "time", "Timestamp"):
        return (
            "texts that look like times became times where the rows were loaded: score the "
            "original file, or load its rows with datasets.Dataset.from_list, which keeps texts"
        )
    if kind not in ("null", "int", "float", "bool"):
        return None
    if name not in unread.first:
        return f"texts have to stand at {name}" if name else None
    if kind == "null":
        return unread.changed(f"select({jq(name)} != null)", f"leave the rows without {name} out")
    return unread.changed(f"{jq(name)} |= tostring", f"make texts of the values of {name}")


def _text_alone(unread: Unread) -> str | None:
    # Others are hardly the words of anybody.
    named = [name for name in ("text", "transcript", "content") if unread.has(name)]
    is_lone = named and not request_in(unread.first) and not unread.reading.pairs
    return _A_TEXT if is_lone or "output" in unread.reading.columns else None


def _history(_unread: Unread) -> str:
    return (
        "history has to hold pairs of a request and its answer, or messages: give a field that "
        "holds something else another name"
    )


def _fields(unread: Unread) -> str:
    """Fields that only a person knows."""
    columns = columns_for(unread.found, unread.reading, unread.reads, untried=True) or {}
    if unread.reading.pairs:
        return (
            f"name the fields of the pairs, for example `columns` {written(columns)}, where output "
            f"is the better response {can_name(unread)}"
        )
    return f"name the fields, for example `columns` {written(columns)} {can_name(unread)}"


# By the reason, and tried in this order.
_HINTS: tuple[tuple[str, Callable[[Unread], str | None]], ...] = (
    ("UTF-8", _encoding),
    ("max_line_bytes", _length),
    ("Python", _python_lists),
    ("got `str`", _rows_in_texts),
    ("", _table_of_pandas),
    ("", _verdicts),
    ("", _pairs),
    ("", turn_hints.exchanges),
    ("", _rows_inside),
    ("", _columns),
    ("", _rows_perhaps),
    ("unknown role", turn_hints.roles),
    ("does not name its speaker|has no text", turn_hints.turn_fields),
    ("has no text", turn_hints.no_words),
    ("does not end with an assistant turn", turn_hints.answer_elsewhere),
    ("no human turn", turn_hints.no_human),
    ("tool call|other than text", turn_hints.not_texts),
    ("history holds", _history),
    ("Expected", _python_lists),
    ("Expected", _types),
    ("neither turns of|missing required", _text_alone),
    ("", _fields),
)
# Those that need not see a row.
_WITHOUT_FIELDS = (_encoding, _length, _rows_in_texts)
