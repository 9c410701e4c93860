"""Say what to do about rows whose turns cannot be read."""

import re
import shlex
from collections.abc import Mapping
from typing import Any

import msgspec

from harmless_runtime.rows.conversations import SPEAKER_FIELDS, TEXT_FIELDS, is_known_speaker
from harmless_runtime.rows.guesses import Columns, is_turns, leaves
from harmless_runtime.rows.unread import Unread, jq, written

# The names of fields that hold the turns of one conversation, in whatever way.
_DIALOGUES = (
    "conversation", "conversations", "messages", "dialog", "dialogue", "turns", "chat", "data",
)  # fmt: skip
# The names of the two texts of an exchange in them.
_EXCHANGES = (
    ("user", "assistant"), ("human", "assistant"), ("human", "bot"), ("input", "output"),
    ("instruction", "output"), ("prompt", "response"), ("question", "answer"),
)  # fmt: skip


def exchanges(unread: Unread) -> str | None:
    """Conversations whose turns are texts in turn, or pairs of a request and its answer."""
    name = next((name for name in _DIALOGUES if unread.has(name)), None)
    if name is None or unread.reading.pairs:
        return None
    lists = [row[name] for row in unread.found if isinstance(row.get(name), list)]
    turns = [turn for turns in lists for turn in turns]
    if turns and all(isinstance(turn, str) for turn in turns):
        columns: Columns = {"instruction": f"{name}.0", "output": f"{name}.1"}
        if all(len(turns) == 2 for turns in lists):
            return f"if the user speaks first: `columns` {written(columns)}"
        return unread.changed(
            f". + {{messages: [{jq(name)} | to_entries[] | {{role: "
            '(if .key % 2 == 0 then "user" else "assistant" end), content: .value}]}',
            "if the user speaks first, and the two in turn, make messages of them",
        )
    for asked, answered in _EXCHANGES if name != "data" else ():
        if turns and all(isinstance(t, Mapping) and {asked, answered} <= t.keys() for t in turns):
            return unread.changed(
                f'. + {{messages: [{jq(name)}[] | {{role: "user", content: .{asked}}}, '
                f'{{role: "assistant", content: .{answered}}}]}}',
                f"make messages of the exchanges in {name}",
            )
    return None


def roles(unread: Unread) -> str | None:
    """Speakers that have no known name."""
    speaker = unread.reading.columns.get("role")
    fields = (speaker,) if speaker else SPEAKER_FIELDS
    names: dict[str, None] = {}
    for turn in _turns(unread):
        name = next((turn[each] for each in fields if turn.get(each) is not None), None)
        if name is not None and not isinstance(name, str):
            name = msgspec.json.encode(name, enc_hook=str).decode()
        if name and not is_known_speaker(name, unread.reading.roles):
            names[name] = None
    written = ",".join(f"{name}=ROLE" for name in list(names)[:8] if not re.search("[,=]", name))
    if not written:
        return None
    return (
        "say whose words the speakers have, with user, assistant or system for each ROLE: `roles` "
        f"{shlex.quote(written)}"
    )


def turn_fields(unread: Unread) -> str | None:
    """Turns whose fields have no known names."""
    place = next((path for path, value in leaves(unread.first) if is_dialogue(path, value)), None)
    turns = _turns(unread)
    if place is None or not turns:
        return None
    names = list(turns[0])
    speaker = next((name for name in SPEAKER_FIELDS if name in names), "FIELD")
    text = next((name for name in TEXT_FIELDS if name in names), "FIELD")
    if "FIELD" not in (speaker, text):
        return None  # it is their values
    columns = {"messages": place, "role": speaker, "content": text}
    return (
        f"the turns have the fields {', '.join(map(str, names[:12]))}: `columns` "
        f"{written(columns)} names those of the speaker and of the text"
    )


def answer_elsewhere(unread: Unread) -> str | None:
    place = next((path for path, value in leaves(unread.first) if is_turns(value)), None)
    if place is None:
        return None
    columns = {"instruction": place, "output": "FIELD"}
    return (
        "the answer has to be the last turn, and the assistant's; or a field of its own: `columns` "
        f"{written(columns)}"
    )


def no_human(_unread: Unread) -> str:
    return (
        "a user's turn has to come before the answer; or the request is a field of its own: "
        "`columns` instruction=FIELD,output=FIELD"
    )


def not_texts(_unread: Unread) -> str:
    return "the model reads texts alone: leave rows with tools or images out"


def no_words(_unread: Unread) -> str:
    return "leave rows with empty turns out"


def is_dialogue(path: str, value: Any) -> bool:
    """Return whether a list seems to hold turns, perhaps with unknown fields."""
    is_list = isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)
    return is_list and (is_turns(value) or path.split(".")[-1] in _DIALOGUES)


def _turns(unread: Unread) -> list[Mapping[str, Any]]:
    """Return the turns of all rows."""
    return [
        turn
        for row in unread.found
        for path, value in leaves(row)
        if is_dialogue(path, value)
        for turn in value
        if isinstance(turn, Mapping)
    ]
