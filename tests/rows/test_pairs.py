"""Preference pairs: which texts they give, in every shape that people have."""

import csv
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from harmless_runtime.errors import ConfigError, ShapeError
from harmless_runtime.rows.inputs import open_inputs
from harmless_runtime.rows.records import Pair, Reject
from harmless_runtime.rows.shapes import Reading

ASKED = "\n\nHuman: Hi\n\nAssistant:"
SYSTEM = {"role": "system", "content": "Be brief."}
TURNS = [{"role": "user", "content": "Hi"}]


def answer(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def read(path: Path, rows: list[Any], **columns: str) -> list[Pair | Reject]:
    path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    return list(open_inputs([str(path)], Reading(columns=columns, pairs=True)).rows())


def texts(items: list[Pair | Reject]) -> list[tuple[str, str, str | None]]:
    assert all(isinstance(item, Pair) for item in items), items
    return [(i.question, i.answer, i.side) for i in items if isinstance(i, Pair)]


@pytest.mark.parametrize(
    "row",
    [
        # hh-rlhf: two dialogues. The texts are kept as they are, with the space.
        {"chosen": f"{ASKED} Yes", "rejected": f"{ASKED} No"},
        # Dialogues, and the prompt beside them.
        {"prompt": ASKED, "chosen": f"{ASKED} Yes", "rejected": f"{ASKED} No"},
        # A dialogue that the answers continue.
        {"prompt": ASKED, "chosen": " Yes", "rejected": " No"},
        # RewardBench and others: a prompt and two answers.
        {"prompt": "Hi", "chosen": " Yes", "rejected": " No", "id": 4},
        {"instruction": "Hi", "chosen": " Yes", "rejected": " No"},
        {"question": "Hi", "chosen": " Yes", "rejected": " No"},
        {"instruction": "Hi", "input": "", "chosen": " Yes", "rejected": " No"},
        # TRL: messages, with the prompt in a field of its own, or in both conversations.
        {"prompt": TURNS, "chosen": answer(" Yes"), "rejected": answer(" No")},
        {"chosen": TURNS + answer(" Yes"), "rejected": TURNS + answer(" No")},
        {"prompt": "Hi", "chosen": TURNS + answer(" Yes"), "rejected": TURNS + answer(" No")},
        {"prompt": "Hi", "chosen": answer(" Yes"), "rejected": answer(" No")},
        {"prompt": TURNS, "chosen": TURNS + answer(" Yes"), "rejected": TURNS + answer(" No")},
        # One turn each, which is in no list.
        {"prompt": "Hi", "chosen": answer(" Yes")[0], "rejected": answer(" No")[0]},
        {"prompt": TURNS, "chosen": answer(" Yes")[0], "rejected": answer(" No")[0]},
        # A dialogue that ends before `Assistant:`.
        {"prompt": "\n\nHuman: Hi", "chosen": " Yes", "rejected": " No"},
        # A dialogue, and messages.
        {"prompt": ASKED, "chosen": answer(" Yes"), "rejected": TURNS + answer(" No")},
        {"prompt": "\n\nHuman: Hi", "chosen": answer(" Yes"), "rejected": answer(" No")},
        # The request as it is, and whole dialogues.
        {"prompt": "Hi", "chosen": f"{ASKED} Yes", "rejected": f"{ASKED} No"},
        {"prompt": TURNS, "chosen": f"{ASKED} Yes", "rejected": f"{ASKED} No", "input": None},
        {"prompt": "Be brief.", "chosen": f"{ASKED} Yes", "rejected": f"{ASKED} No"},
        {"prompt": None, "chosen": f"{ASKED} Yes", "rejected": TURNS + answer(" No")},
        # The same turns written in other ways, with system texts that are left out.
        {
            "prompt": TURNS,
            "chosen": [{"from": "human", "value": "Hi"}, *answer(" Yes")],
            "rejected": [
                {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
                *answer(" No"),
            ],
        },
        {"prompt": ASKED, "chosen": [SYSTEM, *answer(" Yes")], "rejected": answer(" No")},
        # Spaces around the place where the answer continues the dialogue.
        {"prompt": f"{ASKED} ", "chosen": "Yes", "rejected": "No"},
        {"prompt": "\n\nHuman: Hi\n\n", "chosen": " Yes", "rejected": " No"},
    ],
)
def test_pairs_give_the_same_two_texts_in_every_shape(row: Any, tmp_path: Path) -> None:
    items = read(tmp_path / "pairs.jsonl", [row])
    assert texts(items) == [(ASKED, " Yes", "chosen"), (ASKED, " No", "rejected")]
    assert {item.number for item in items} == {1}


def test_each_dialogue_is_split_at_its_own_last_answer(tmp_path: Path) -> None:
    longer = f"{ASKED} Yes?\n\nHuman: Go\n\nAssistant: Where?"
    items = read(tmp_path / "pairs.jsonl", [{"chosen": longer, "rejected": f"{ASKED} No"}])
    assert texts(items) == [
        (f"{ASKED} Yes?\n\nHuman: Go\n\nAssistant:", " Where?", "chosen"),
        (ASKED, " No", "rejected"),
    ]


def test_a_prompt_of_several_turns_in_every_form(tmp_path: Path) -> None:
    begun = f"{ASKED} Yes?\n\nHuman: Go"
    turns = [*TURNS, *answer("Yes?"), {"role": "user", "content": "Go"}]
    rows = [
        {"prompt": begun, "chosen": "a", "rejected": answer("b")},
        {"prompt": f"{begun}\n\nAssistant:", "chosen": "a", "rejected": answer("b")},
        {"prompt": turns, "chosen": turns + answer("a"), "rejected": answer("b")},
        # The prompt is the last message of the whole conversation.
        {"prompt": turns[-1:], "chosen": turns + answer("a"), "rejected": turns + answer("b")},
        # The responses repeat the last message of the prompt.
        {"prompt": turns, "chosen": turns[-1:] + answer("a"), "rejected": turns[-1:] + answer("b")},
        # The response has turns of its own, of which the last is scored.
        {"prompt": TURNS, "chosen": answer("Yes?") + turns[-1:] + answer("a"),
         "rejected": answer("Yes?") + turns[-1:] + answer("b")},
        {"prompt": "Hi", "chosen": answer("Yes?") + turns[-1:] + answer("a"),
         "rejected": turns + answer("b")},
        {"prompt": ASKED, "chosen": answer("Yes?") + turns[-1:] + answer("a"),
         "rejected": turns + answer("b")},
    ]  # fmt: skip
    items = read(tmp_path / "pairs.jsonl", rows)
    asked = f"{begun}\n\nAssistant:"
    assert texts(items) == [(asked, "a", "chosen"), (asked, "b", "rejected")] * len(rows)


def test_system_texts_of_a_prompt_that_is_repeated(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    prompt = [SYSTEM, *TURNS]
    for chosen in (TURNS + answer("a"), prompt + answer("a"), answer("a")):
        row = {"prompt": prompt, "chosen": chosen, "rejected": answer("b")}
        path.write_bytes(msgspec.json.encode(row))
        items = list(open_inputs([str(path)], Reading(pairs=True, system="prepend")).rows())
        asked = "\n\nHuman: Be brief.\n\nHi\n\nAssistant:"
        assert texts(items) == [(asked, "a", "chosen"), (asked, "b", "rejected")]


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"instruction": ASKED, "input": "x", "chosen": "a"}, "no input can be added"),
        ({"instruction": TURNS, "input": "x", "chosen": "a"}, "no input can be added"),
        ({"instruction": TURNS, "input": "x", "chosen": answer("a")}, "no input can be added"),
        ({"instruction": "Hi", "input": "x", "chosen": TURNS + answer("a")}, "no input can be"),
        ({"prompt": None, "chosen": "a"}, "the row has no request"),
        # Messages with the chosen answer, as ms-swift has them beside the rejected one.
        ({"prompt": TURNS + answer("a"), "chosen": "a"}, "ends with the answer already"),
        ({"prompt": TURNS + answer("a"), "chosen": answer("a ")}, "ends with the answer already"),
    ],
)
def test_texts_that_cannot_be_put_together(row: Any, told: str, tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match=told):
        read(tmp_path / "pairs.jsonl", [row | {"rejected": row["chosen"]}])


def test_a_row_without_its_prompt_leaves_the_shape_of_the_others(tmp_path: Path) -> None:
    rows: list[Any] = [{"prompt": "Hi", "chosen": "a", "rejected": "b"}] * 9
    items = read(tmp_path / "pairs.jsonl", [{"chosen": "a", "rejected": "b"}, *rows])
    assert texts(items[2:]) == [(ASKED, "a", "chosen"), (ASKED, "b", "rejected")] * 9
    assert [i.reason for i in items[:2] if isinstance(i, Reject)] == ["the row has no request"] * 2


def test_named_fields(tmp_path: Path) -> None:
    row = {"q": "Hi", "a": {"text": "Yes"}, "b": {"text": "No"}, "key": "x"}
    named = {"instruction": "q", "output": "a.text", "rejected": "b.text", "id": "key"}
    items = read(tmp_path / "pairs.jsonl", [row], **named)
    assert texts(items) == [(ASKED, "Yes", "chosen"), (ASKED, "No", "rejected")]
    assert [item.id for item in items if isinstance(item, Pair)] == [b'"x"', b'"x"']


def test_a_row_that_cannot_be_read_gives_two_rejects(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    good = {"chosen": f"{ASKED} Yes", "rejected": f"{ASKED} No"}
    items = read(path, [good, {"chosen": f"{ASKED} Yes", "rejected": 5}, {"chosen": f"{ASKED} a"}])
    kinds = [type(item) for item in items]
    assert kinds == [Pair, Pair, Pair, Reject, Pair, Reject]
    path.write_bytes(path.read_bytes() + b"{\n")
    items = list(open_inputs([str(path)], Reading(pairs=True)).rows())
    assert [type(item) for item in items[-2:]] == [Reject, Reject]


def test_a_table_gives_pairs(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("prompt,chosen,rejected\nHi,Yes,No\n")
    items = list(open_inputs([str(path)], Reading(pairs=True)).rows())
    assert texts(items) == [(ASKED, "Yes", "chosen"), (ASKED, "No", "rejected")]
    # Lists are in CSV as JSON.
    path = tmp_path / "lists.csv"
    with path.open("w") as file:
        table = csv.writer(file)
        table.writerow(["prompt", "chosen", "rejected"])
        cells = TURNS, answer("Yes"), TURNS + answer("No")
        table.writerow(map(json.dumps, cells))
    items = list(open_inputs([str(path)], Reading(pairs=True)).rows())
    assert texts(items) == [(ASKED, "Yes", "chosen"), (ASKED, "No", "rejected")]


def test_rows_without_pairs_are_refused_with_what_can_be_named(tmp_path: Path) -> None:
    with pytest.raises(
        ShapeError, match=r"`columns` instruction=instruction,output=FIELD,rejected="
    ):
        read(tmp_path / "rows.jsonl", [{"instruction": "Hi", "output": "Yes"}])
    with pytest.raises(
        ConfigError, match="can name only instruction, input, output, rejected, history"
    ):
        read(tmp_path / "rows.jsonl", [], messages="x")
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"prompt": "Hi", "chosen": "a", "rejected": "b"}\n')
    with pytest.raises(
        ConfigError, match="can name only instruction, input, output, messages, history"
    ):
        open_inputs([str(path)], Reading(columns={"rejected": "b"}))
    with pytest.raises(ShapeError, match="harmless eval tells how often"):
        open_inputs([str(path)]).shape()


def test_an_input_is_added_to_its_instruction(tmp_path: Path) -> None:
    row = {"instruction": "Add.", "input": "1 2", "chosen": "3", "rejected": "4"}
    items = read(tmp_path / "pairs.jsonl", [row])
    asked = "\n\nHuman: Add.\n1 2\n\nAssistant:"
    assert texts(items) == [(asked, "3", "chosen"), (asked, "4", "rejected")]
