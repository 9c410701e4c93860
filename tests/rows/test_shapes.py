"""The shape of rows: recognised from the first ones, named by columns, or refused with a hint."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harmless_runtime.errors import ConfigError, ShapeError
from harmless_runtime.rows.inputs import open_inputs
from harmless_runtime.rows.prompt import question_and_answer
from harmless_runtime.rows.records import Pair, Reject
from harmless_runtime.rows.shapes import KNOWN, Reading

CHAT = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
SHAREGPT = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
EXPECTED = question_and_answer("a", "", "b")


@pytest.fixture
def read(tmp_path: Path) -> Any:
    """Writes rows, and reads them back as pairs and rejects."""

    def written_and_read(*rows: Any, **reading: Any) -> list[Pair | Reject]:
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return list(open_inputs([str(path)], Reading(**reading)).rows())

    return written_and_read


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("alpaca", {"instruction": "a", "output": "b"}),
        ("prompt-response", {"prompt": "a", "response": "b"}),
        ("prompt-completion", {"prompt": "a", "completion": "b"}),
        ("question-answer", {"question": "a", "answer": "b"}),
        ("messages", {"messages": CHAT}),
        ("messages", {"messages": SHAREGPT, "prompt": "a"}),
        ("sharegpt", {"conversations": SHAREGPT}),
        ("sharegpt", {"conversations": CHAT}),
    ],
)
def test_known_shapes_are_recognised(name: str, row: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("oops\n" * 50 + json.dumps(row) + "\n")
    inputs = open_inputs([str(path)])
    assert inputs.shape() == KNOWN[name]  # type: ignore[index]
    *_, pair = inputs.rows()
    assert (pair.question, pair.answer) == EXPECTED  # type: ignore[union-attr]


def test_the_shape_that_fits_most_rows_is_taken(tmp_path: Path) -> None:
    rows = [{"messages": CHAT}] * 3 + [{"instruction": "a", "output": "b"}] * 2
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert open_inputs([str(path)]).shape().name == "messages"


@pytest.mark.parametrize(
    ("columns", "row"),
    [
        ({"instruction": "q", "output": "choices.0.text"}, {"q": "a", "choices": [{"text": "b"}]}),
        ({"instruction": "t.0", "output": "t.1"}, {"t": ["a", "b"]}),
        ({"instruction": "a.q", "output": "a.r"}, {"a.q": "a", "a": {"r": "b"}}),
        ({"output": "chosen"}, {"prompt": "a", "chosen": "b", "rejected": "c"}),
        ({"output": "response"}, {"instruction": "a", "response": "b"}),
        ({"output": "chosen"}, {"prompt": "a", "chosen": CHAT, "rejected": CHAT}),
        ({"output": "chosen"}, {"chosen": CHAT, "rejected": CHAT}),
        ({"messages": "dialog"}, {"dialog": CHAT}),
        ({"messages": "data.turns"}, {"data": {"turns": SHAREGPT}}),
        ({"instruction": "output", "output": "instruction"}, {"output": "a", "instruction": "b"}),
    ],
)
def test_columns(columns: dict[str, str], row: dict[str, Any], read: Any) -> None:
    (pair,) = read(row, columns=columns)
    assert (pair.question, pair.answer) == EXPECTED


def test_ids_have_columns_too(read: Any) -> None:
    row = {"instruction": "a", "output": "b", "uuid": 7, "meta": {"key": "k"}}
    assert [p.id for p in read(row, columns={"id": "uuid"})] == [b"7"]
    assert [p.id for p in read(row, columns={"id": "meta.key"})] == [b'"k"']
    assert [p.id for p in read(row, columns={"id": "meta"})] == [b'{"key": "k"}']
    assert [p.id for p in read(row, columns={"id": "nothing.there"})] == [b'""']


def test_a_context_can_be_named(read: Any) -> None:
    columns = {"instruction": "q", "input": "c", "output": "r"}
    (pair,) = read({"q": "a", "c": "more", "r": "b"}, columns=columns)
    assert (pair.question, pair.answer) == question_and_answer("a", "more", "b")


def test_a_path_that_leads_nowhere_is_a_reason(read: Any) -> None:
    columns = {"instruction": "q", "output": "choices.0.text"}
    rows = [{"q": "a", "choices": []}, {"q": "a"}, {"q": "a", "choices": [{"text": 3}]}, "no", 7]
    reasons = [reject.reason for reject in read(*rows, columns=columns)]
    assert reasons[:2] == ["Object missing required field `choices.0.text`"] * 2
    assert "got `int` - at `$.choices.0.text`" in reasons[2]
    assert "Expected `object`, got `str`" in reasons[3]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"instructon": "a"}, "did you mean instruction"),
        ({"output": ""}, "empty name"),
        ({"output": 'a"b'}, "no path may have quotes"),
        ({"id": "\udcff"}, "bytes that are not UTF-8"),
        ({"output": "a..b"}, "empty name"),
        ({"messages": "a", "output": "b"}, "one or the other"),
        (
            {"instruction": "a", "output": "a"},
            "the field a is named for instruction and for output",
        ),
        (
            {"instruction": "a", "output": "b", "id": "b"},
            "the field b is named for output and for id",
        ),
    ],
)
def test_columns_that_contradict(columns: dict[str, str], message: str, read: Any) -> None:
    with pytest.raises(ConfigError, match=message):
        read({}, columns=columns)


@pytest.mark.parametrize(
    ("row", "hint"),
    [
        ({"chosen": "a", "rejected": "b"}, "`columns` instruction=FIELD,output=chosen"),
        ({"prompt": "a", "chosen": "b", "rejected": "b"}, "`columns` output=chosen"),
        ({"dialog": CHAT}, "`columns` messages=dialog"),
        ({"data": [{"instruction": "a", "output": "b"}]}, "jq -c '.data[]' FILE"),
        ({"instruction": CHAT[:1], "output": "b"}, "`columns` instruction=instruction,output="),
        ({"query": "a", "reply": "b"}, "`columns` instruction=query,output=reply"),
        ({"Instruction": "a", "outputs": "b"}, "`columns` instruction=Instruction,output=outputs"),
        ({"ID": 1, "Prompt": "a", "Response": "b"}, "instruction=Prompt,output=Response,id=ID"),
        ({"instruction": "a", "context": "c", "response": "b"}, "output=response,input=context"),
        ({"request": {"a": 1}, "response": {"b": 2}}, "instruction=FIELD,output=FIELD"),
        (7, "JSON lines, a JSON array, CSV"),
        ('{"instruction": "a"}', "jq -c fromjson FILE"),
        ({"instruction": None, "output": "b"}, "leave the rows without instruction out: jq -c"),
    ],
)
def test_rows_of_no_known_shape_are_refused_with_a_hint(row: Any, hint: str, read: Any) -> None:
    with pytest.raises(ShapeError, match="none of the first rows can be scored") as caught:
        read(*[row] * 150)
    assert caught.value.hint is not None
    assert hint in caught.value.hint


def test_an_object_that_holds_the_rows_is_refused_with_a_hint(read: Any) -> None:
    with pytest.raises(ShapeError) as caught:
        read({"data": [{"instruction": "a", "output": "b"}]})
    assert "jq -c '.data[]' FILE" in (caught.value.hint or "")
    frame = pd.DataFrame([{"instruction": "a", "output": "b"}] * 3)
    for orient in ("columns", "split", "index"):
        with pytest.raises(ShapeError) as caught:
            read(json.loads(frame.to_json(orient=orient)))
        assert "to_json('NEW.jsonl', orient='records', lines=True)" in (caught.value.hint or "")
    lines = frame.to_json(orient="records", lines=True).splitlines()
    assert len(read(*map(json.loads, lines))) == 3


def test_a_context_that_is_not_read_is_a_warning(
    read: Any, caplog: pytest.LogCaptureFixture
) -> None:
    row = {"question": "a", "answer": "b", "context": "c"}
    read(row)
    assert "the field context of" in caplog.text
    assert "`columns` input=context" in caplog.text
    caplog.clear()
    (with_context,) = read(row, columns={"input": "context"})
    assert with_context.question == "\n\nHuman: a\nc\n\nAssistant:"
    read({**row, "context": ""}, {"question": "a", "answer": "b"})
    assert "is not read" not in caplog.text


def test_an_explicit_shape_is_not_refused_if_rows_have_its_fields(read: Any) -> None:
    bad: Any = {"instruction": 1, "output": 2, "a": None, "b": {}}
    assert len(read(*[bad] * 5, format="alpaca")) == 5
    assert len(read(*[bad] * 5, columns={"instruction": "a", "output": "b"})) == 5
    assert len(read(*["text"] * 5, columns={"instruction": "a", "output": "b"})) == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": {"instruction": "quer", "output": "response"}}, "quer, named for instruction"),
        ({"columns": {"output": "respons"}}, "respons, named for output; did you mean response"),
        ({"columns": {"messages": "mesages"}}, "mesages, named for messages"),
        ({"format": "sharegpt"}, "conversations, named for messages"),
    ],
)
def test_a_misspelled_field_is_told_before_anything_is_scored(
    options: Any, message: str, read: Any
) -> None:
    row = {"query": "a", "response": "b", "context": "c"}
    with pytest.raises(ShapeError, match=f"has the field {message}") as caught:
        read(row, row, **options)
    assert "The fields of" in str(caught.value)
    assert "query, response, context" in str(caught.value)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"input": "contxt"}, "contxt, named for input; did you mean context"),
        ({"id": "uid"}, "uid, named for id"),
    ],
)
def test_a_misspelled_field_that_rows_may_leave_out_is_a_warning(
    columns: Any, message: str, read: Any, caplog: pytest.LogCaptureFixture
) -> None:
    row = {"query": "a", "response": "b", "context": "c"}
    fields = {"instruction": "query", "output": "response"}
    assert len(read(row, columns=fields | columns)) == 1
    assert f"has the field {message}" in caplog.text
    caplog.clear()
    read(row, row | {"uid": 1, "contxt": ""}, columns=fields | columns)
    assert "none of the first rows" not in caplog.text


def test_one_good_row_among_the_first_is_enough(read: Any) -> None:
    rows = [{"messages": [CHAT[0]]}] * 99 + [{"messages": CHAT}] + [{"messages": []}] * 50
    assert sum(isinstance(item, Pair) for item in read(*rows)) == 1
    with pytest.raises(ShapeError, match="does not end with an assistant turn"):
        read(*rows[:99])
