"""Each hint about rows that cannot be scored is followed to the letter, and they can be scored."""

import csv
import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest
from pyarrow import parquet

from harmless_runtime.cli.failures import settings_as_flags
from harmless_runtime.cli.settings import settings_in
from harmless_runtime.config import load_config, make_config
from harmless_runtime.errors import InputError, ShapeError
from harmless_runtime.model.load import load_engine
from harmless_runtime.rows.inputs import open_inputs
from harmless_runtime.rows.items import Items
from harmless_runtime.rows.prompt import question_and_answer
from harmless_runtime.rows.records import Pair, Reject
from harmless_runtime.rows.shapes import Reading, reading_of
from harmless_runtime.scorer import Gpt2HarmlessScorer
from reading import read_rows

AB = question_and_answer("a", "", "b")
USER, BOT = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
DIALOGUE = "\n\nHuman: a\n\nAssistant:"
LONG = f"{DIALOGUE} b\n\nHuman: c\n\nAssistant:"


@dataclass(frozen=True)
class Case:
    """Rows, and what is scored of the first one if somebody follows the hint.

    `words` are those of the hint. `known` is what stands for FIELD or ROLE, in turn. `rest` are
    rows that come after the first hundred.
    """

    row: dict[str, Any]
    texts: tuple[tuple[str, str], ...] = (AB,)
    words: str = "--columns"
    known: tuple[str, ...] = ()
    pairs: bool = False
    rest: tuple[dict[str, Any], ...] = ()
    columns: dict[str, str] = field(default_factory=dict)


def pair(*answers: str, asked: str = DIALOGUE) -> tuple[tuple[str, str], ...]:
    return tuple((asked, answer) for answer in answers)


CASES = {
    # Names of public data sets.
    **{f"{q}, {a}": Case({q: "a", a: "b"}) for q, a in [
        ("query", "reply"), ("instruction", "generation"), ("inputs", "targets"),
        ("user_input", "model_output"), ("input", "target"), ("problem", "solution"),
        ("Behavior", "generation"), ("goal", "target"), ("prompt", "gpt4_response"),
        ("question", "GPT4_response"), ("input_text", "output_text"), ("user", "assistant"),
        ("human", "bot"), ("message_1", "message_2"), ("User Prompt", "Model Response"),
        ("prompt", "answer"), ("input", "output"), ("instrution", "ouput"),
    ]},
    "an id of another name": Case({"UID": 7, "Prompt": "a", "Response": "b"}, words="id=UID"),
    "a context": Case(
        {"question": "a", "context": "c", "response": "b", "category": "x"},
        (question_and_answer("a", "c", "b"),), "input=context",
    ),
    "an input": Case(
        {"Instruction": "a", "input": "c", "response": "b"},
        (question_and_answer("a", "c", "b"),), "input=input",
    ),
    # Texts that are further inside. Of several answers the first is read.
    "responses": Case({"prompt": "a", "responses": ["b", "c"]}, words="the first of several"),
    "completions": Case({"instruction": "a", "completions": [{"model": "m", "response": "b"}]}),
    "answers": Case({"question": "a", "answers": [{"answer": "b"}, {"answer": "c"}]}),
    "choices": Case({"prompt": "a", "choices": [{"message": {"content": "b"}}]}),
    "a message of choices": Case(
        {"messages": [USER], "choices": [{"index": 0, "message": BOT, "finish_reason": "stop"}]}
    ),
    "texts of choices": Case({"prompt": "a", "choices": [{"text": "b"}]}),
    "a batch": Case({"request": {"body": {"messages": [USER]}}, "response": {"body": {
        "id": "x", "choices": [{"message": BOT}]}}}),
    "a text of a question": Case({"question": {"full_text": "a"}, "answer_0": "b"}),
    "lists of lists": Case({"doc": {"question": "a"}, "resps": [["b"]], "target": "c"}),
    "instances": Case(
        {"instruction": "a", "instances": [{"input": "c", "output": "b"}]},
        (question_and_answer("a", "c", "b"),),
    ),
    "parts of a content": Case({"prompt": "a", "response": [{"type": "text", "text": "b"}]}),
    # Conversations.
    "turns of another name": Case({"dialog": [USER, BOT]}, words="messages=dialog"),
    "turns further inside": Case({"data": {"turns": [USER, BOT]}}, words="messages=data.turns"),
    "a response beside messages": Case({"messages": [USER], "response": "b", "model": "m"}),
    "an answer of no usual name": Case(
        {"messages": [USER], "x7": "b"}, known=("x7",), words="output=FIELD"
    ),
    "messages that are an answer": Case({"prompt": "a", "messages": [BOT]}),
    "unknown speakers": Case(
        {"messages": [{"role": "guest", "content": "a"}, {"role": "host", "content": "b"}]},
        words="--roles guest=ROLE,host=ROLE", known=("user", "assistant"),
    ),
    "unknown speakers of other data": Case(
        {"conversations": [{"from": "Customer 1", "value": "a"}, {"from": "gpt", "value": "b"}]},
        words="--roles 'Customer 1=ROLE'", known=("user",),
    ),
    "unknown fields of turns": Case(
        {"messages": [{"who": "user", "said": "a"}, {"who": "bot", "said": "b"}]},
        words="messages=messages,role=FIELD,content=FIELD", known=("who", "said"),
    ),
    "an unknown text of turns": Case(
        {"conversations": [{"from": "human", "msg": "a"}, {"from": "gpt", "msg": "b"}]},
        words="role=from,content=FIELD", known=("msg",),
    ),
    "two texts in turn": Case({"conversations": ["a", "b"]}, words="if the user speaks first"),
    "texts in turn": Case(
        {"id": 3, "data": ["a", "b", "c", "d"]},
        (("\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:", "d"),), "jq -c ",
    ),
    "exchanges": Case(
        {"source": "x", "conversation": [{"input": "a", "output": "b"},
                                         {"input": "c", "output": "d"}]},
        (("\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:", "d"),), "jq -c ",
    ),
    # One text.
    "a dialogue": Case({"transcript": f"{DIALOGUE} b"}, pair(" b"), "output=transcript"),
    "a template": Case(
        {"text": "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"},
        words="output=text",
    ),
    "a text that is neither": Case(
        {"text": "### Human: a ### Assistant: b", "x": "a", "y": "b"}, known=("x", "y"),
        words="a text has to be wholly turns of a chat template",
    ),
    "a named text that is neither": Case(
        {"text": "a b", "x": "a", "y": "b"}, columns={"output": "text"}, known=("x", "y"),
        words="a text has to be wholly turns of a chat template",
    ),
    # Values.
    "nulls": Case({"instruction": "a", "output": None}, words="leave the rows without output out",
                  rest=({"instruction": "a", "output": "b"},)),
    "numbers": Case({"instruction": "a", "output": 7}, (question_and_answer("a", "", "7"),),
                    words="make texts of the values of output"),
    "an input to turns": Case({"prompt": [USER], "input": "c", "response": "b"},
                              words="leave input out",
                              columns={"input": "input"}),
    "a long row": Case({"instruction": "a", "output": "b " * 2_500_000},
                       (question_and_answer("a", "", "b " * 2_500_000),), "--max-line-bytes 5000"),
    # Rows that are elsewhere.
    **{f"rows in {name}": Case({"version": 1, name: [{"instruction": "a", "output": "b"}] * 2},
                               words=f"if {name} holds the rows")
       for name in ("data", "rows", "examples")},
    "rows of a name with a space": Case({"my rows": [{"prompt": "a", "response": "b"}]},
                                        words="""jq -c '."my rows"[]' FILE"""),
    # Preference pairs, to be scored as rows.
    "chosen, rejected": Case({"prompt": "a", "chosen": "b", "rejected": "c"},
                             words="harmless eval"),
    "dialogues": Case({"chosen": f"{DIALOGUE} b", "rejected": f"{DIALOGUE} c"}, pair(" b")),
    "another request": Case({"problem": "a", "chosen": "b", "rejected": "c"}),
    "no request": Case({"chosen": "b", "rejected": "c", "x": "a"}, known=("x",)),
    "one of two": Case({"prompt": "a", "response_0": "b", "response_1": "c", "better": 1}),
    "ranked": Case({"prompt": DIALOGUE, "answers": [{"answer": "b", "rank": 1}]}),
    # Preference pairs for eval.
    "other pairs": Case({"q": "a", "good": "b", "bad": "c"}, pair("b", "c"), known=("q",),
                        pairs=True, words="instruction=FIELD"),
    "lists": Case({"prompt": "a", "chosen": ["b", "x"], "rejected": ["c"]}, pair("b", "c"),
                  pairs=True, words="output=chosen.0,rejected=rejected.0"),
    "objects": Case({"instruction": "a", "chosen": {"text": "b"}, "rejected": {"text": "c"}},
                    pair("b", "c"), pairs=True),
    "longer names": Case({"query": "a", "chosen_response": "b", "rejected_response": "c",
                          "chosen_id": "1", "rejected_id": "2"}, pair("b", "c"), pairs=True),
    **{f"{name} is {value}": Case(
        {"prompt": "a", "response_0": "b", "response_1": "c", name: value},
        pair(*("bc", "cb")[value]), pairs=True, words="jq -c ",
    ) for name in ("safer_response_id", "better_response_id") for value in (0, 1)},
    **{f"the winner is {value}": Case(
        {"winner": value, "conversation_a": [USER, BOT],
         "conversation_b": [USER, {**BOT, "content": "c"}]},
        pair(*texts), pairs=True, words="jq -c ",
    ) for value, texts in (("model_a", "bc"), ("model_b", "cb"))},
    "human_ref_A": Case({"history": "a", "human_ref_A": "b", "human_ref_B": "c", "labels": 0},
                        pair("c", "b"), pairs=True, words="jq -c "),
}  # fmt: skip
# The word of a hint that is an option, and what comes after it.
OPTION = re.compile(r"(--(?:columns|roles|max-line-bytes)) ('[^']*'|\S+)")


def write(path: Path, case: Case) -> Path:
    rows = [case.row] * (100 if len(str(case.row)) < 10_000 else 1)
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, *case.rest]))
    return path


def hint_of(path: Path, reading: Reading) -> str:
    with pytest.raises(ShapeError) as caught:
        open_inputs([str(path)], reading).shape()
    assert caught.value.hint is not None
    return settings_as_flags(caught.value.hint)


def filled(hint: str, known: tuple[str, ...]) -> str:
    """Return a hint with what a person knows, and nothing else, in the places for it."""
    for value in known:
        hint = re.sub("=(FIELD|ROLE)", f"={value}", hint, count=1)
    assert "=FIELD" not in hint
    assert "=ROLE" not in hint
    return hint


def options_in(hint: str) -> list[str]:
    """Return the first option of each name in a hint, as a shell gives it to the command."""
    found: dict[str, str] = {}
    for name, value in OPTION.findall(hint):
        found.setdefault(name, shlex.split(value.rstrip(";,"))[0])
    return [word for option in found.items() for word in option]


def jq_in(hint: str) -> str | None:
    found = re.search(r"jq -c .* FILE(?= \| harmless (?:score|eval) - …$)", hint)
    return found[0] if found else None


def followed(hint: str, case: Case, path: Path) -> list[Pair | Reject]:
    """Read rows as a hint says."""
    if command := jq_in(hint):
        path = path.with_name("changed.jsonl")
        shell = f"{command.replace('FILE', 'rows.jsonl')} > {path}"
        subprocess.run(["bash", "-c", shell], cwd=path.parent, check=True)
    given = dict(zip(*[iter(options_in(hint))] * 2, strict=True))
    assert command or given, hint
    none = dict.fromkeys(("batch_size", "device", "columns", "roles"))
    flags = settings_in({**none, "columns": given.get("--columns"), "roles": given.get("--roles")})
    columns = (case.columns if "--columns" not in given else {}) | (flags["columns"] or {})
    most = int(given.get("--max-line-bytes", 2**22))
    config = load_config(None, flags | {"columns": columns, "max_line_bytes": most})
    reading = replace(reading_of(config), pairs=case.pairs)
    return list(open_inputs([str(path)], reading).rows())


@pytest.mark.parametrize("name", CASES)
def test_a_hint_that_is_followed_gives_the_texts(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    path = write(tmp_path / "rows.jsonl", case)
    hint = hint_of(path, Reading(columns=case.columns, pairs=case.pairs))
    assert case.words in hint
    items = followed(filled(hint, case.known), case, path)
    assert len(items) >= len(case.texts)
    for item, texts in zip(items, case.texts, strict=False):
        assert isinstance(item, Pair), item
        assert (item.question, item.answer) == texts
    assert not [item for item in items if isinstance(item, Reject)]


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_hint_that_is_followed_in_a_shell_gives_scores(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    write(tmp_path / "rows.jsonl", case)
    named = ",".join(f"{target}={path}" for target, path in case.columns.items())
    columns = ["--columns", named] if named else []
    what, out = ("eval" if case.pairs else "score"), ["-o", "scores.jsonl", "--model", "demo"]

    def shell(command: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        harmless = f'harmless() {{ {shlex.quote(sys.executable)} -m harmless_runtime "$@"; }}\n'
        return subprocess.run(["bash", "-c", f"set -o pipefail\n{harmless}{command}"],
                              cwd=tmp_path, env=environment, capture_output=True, text=True,
                              check=False)  # fmt: skip

    done = shell(shlex.join(["harmless", what, "rows.jsonl", *out, *columns]))
    assert done.returncode == 2, done.stderr
    hint = filled(done.stderr.partition("hint: ")[2].replace("\n", ""), case.known)
    source = jq_in(hint)
    options = options_in(hint)
    kept = [] if "--columns" in options else columns
    command = shlex.join(["harmless", what, "-" if source else "rows.jsonl", *out, *options, *kept])
    done = shell(f"{source.replace('FILE', 'rows.jsonl')} | {command}" if source else command)
    assert done.returncode == 0, done.stderr
    engine = load_engine(make_config({"model": "demo"}))
    expected = engine.score(engine.tokenizer.encode(list(case.texts))).tolist()
    scores = [row["score"] for row in read_rows(tmp_path / "scores.jsonl")]
    assert scores[: len(expected)] == pytest.approx(expected, abs=1e-5)


def test_cells_of_windows(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes("instruction,output\nNaïve?,Café\n".encode("windows-1252"))
    hint = hint_of(path, Reading())
    command = re.search("iconv.*", hint)
    assert command is not None
    shell = command[0].replace("NEW_FILE", "new.csv").replace("FILE", "rows.csv")
    subprocess.run(["bash", "-c", shell], cwd=tmp_path, check=True)
    (item,) = open_inputs([str(tmp_path / "new.csv")]).rows()
    assert isinstance(item, Pair)
    assert (item.question, item.answer) == question_and_answer("Naïve?", "", "Café")


def test_lines_of_windows(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes('{"instruction": "Naïve?", "output": "Café"}\n'.encode("windows-1252"))
    assert "iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW_FILE" in hint_of(path, Reading())


def test_cells_with_what_python_shows(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    with path.open("w") as file:
        csv.writer(file).writerows([["messages"], [str([USER, BOT])]])
    assert "json.dumps" in hint_of(path, Reading())


def test_answers_that_became_times(tmp_path: Path) -> None:
    rows = [{"prompt": "When?", "response": "2024-01-01"}]
    lines, path = tmp_path / "rows.jsonl", tmp_path / "rows.parquet"
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    loaded = datasets.load_dataset(
        "json", data_files=str(lines), split="train", cache_dir=str(tmp_path / "cache")
    )
    loaded.to_parquet(path)
    assert "Dataset.from_list" in hint_of(path, Reading())
    datasets.Dataset.from_list(rows).to_parquet(path)
    for each in (path, lines):
        (item,) = open_inputs([str(each)]).rows()
        assert isinstance(item, Pair)
        assert item.answer == "2024-01-01"
    parquet.write_table(pa.table({"prompt": ["a"], "response": [7]}), path)
    hint = hint_of(path, Reading())
    assert "make texts of the values of response" in hint
    assert "jq" not in hint


def test_the_fields_in_use_are_not_named_again(tmp_path: Path) -> None:
    for turn in ({"role": "tool", "content": "x"}, {**USER, "content": [{"type": "image"}]}):
        path = write(tmp_path / "rows.jsonl", Case({"messages": [USER, turn, BOT]}))
        hint = hint_of(path, Reading())
        assert "leave rows with tools or images out" in hint
        assert "messages=messages" not in hint


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"instruction": "a", "output": "b", "history": "once"}, "give a field that holds"),
        ({"instruction": "a", "source": "b"}, "instruction=instruction,output=FIELD"),
        ({"foo": "a", "bar": "b"}, "instruction=FIELD,output=FIELD"),
        ({"messages": [{"role": "user", "content": 5}, BOT]}, "stand at messages[0].content"),
        ({"messages": [USER, {**BOT, "content": None}]}, "leave rows with empty turns out"),
        ({"messages": [BOT]}, "a user's turn has to come before the answer"),
    ],
)
def test_a_field_that_only_may_be_the_answer_is_not_named(
    row: Any, words: str, tmp_path: Path
) -> None:
    assert words in hint_of(write(tmp_path / "rows.jsonl", Case(row)), Reading())


@pytest.mark.parametrize(
    "row", [{"prompt": "a", "response_0": "b", "response_1": "c"}, {"instruction": "a"}]
)
def test_no_columns_are_named_that_would_turn_pairs(row: Any, tmp_path: Path) -> None:
    hint = hint_of(write(tmp_path / "rows.jsonl", Case(row)), Reading(pairs=True))
    assert "output=FIELD,rejected=FIELD, where output is the better response" in hint


def test_rows_in_memory_have_hints_too() -> None:
    for rows in ([{"query": "a", "reply": "b"}], {"query": ["a"], "reply": ["b"]}):
        with pytest.raises(InputError) as caught:
            Gpt2HarmlessScorer({"model": "demo"}).score_batch(rows)
        assert "instruction=query,output=reply" in str(caught.value.hint)
    (item,) = Items(rows, Reading(columns={"instruction": "query", "output": "reply"})).pairs()
    assert isinstance(item, Pair)
