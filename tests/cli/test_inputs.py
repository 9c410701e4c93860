"""What the command says and does with rows of every shape."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from processes import Harmless
from reading import names_in, read_rows

CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
SYSTEM = {"role": "system", "content": "Be brief."}
DEMO = ("--model", "demo", "--provider", "cpu")


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_wrong_shape_publishes_nothing(tmp_path: Path, harmless: Harmless) -> None:
    rows = write(
        tmp_path / "r.jsonl", *[{"query": "a", "reply": "b", "uuid": n} for n in range(300)]
    )
    out = tmp_path / "o.jsonl"
    done = harmless("score", rows, "-o", out, *DEMO)
    assert done.returncode == 2
    assert "error: none of the first rows can be scored: " in done.stderr
    assert "The fields of" in done.stderr
    assert "query, reply, uuid" in done.stderr
    assert (
        "hint: name the fields, for example --columns instruction=query,output=reply" in done.stderr
    )
    assert names_in(tmp_path) == ["r.jsonl"]
    done = harmless(
        "score", rows, "-o", out, *DEMO, "--columns", "instruction=query,output=reply,id=uuid"
    )
    assert done.returncode == 0, done.stderr
    assert [row["id"] for row in read_rows(out)] == list(range(300))


def test_an_explicit_shape_rejects_what_does_not_fit(tmp_path: Path, harmless: Harmless) -> None:
    rows = write(tmp_path / "r.jsonl", {"query": "a"}, {"query": "b"}, {"messages": CHAT[:1]}, 7)
    done = harmless("score", rows, "-o", tmp_path / "o.jsonl", *DEMO, "--format", "messages")
    assert done.returncode == 3
    assert "  2 × Object missing required field `messages`\n" in done.stderr
    assert "  1 × the conversation does not end with an assistant turn\n" in done.stderr
    assert (tmp_path / "o.jsonl").read_bytes() == b""


def test_the_choice_is_printed(tmp_path: Path, harmless: Harmless) -> None:
    rows = write(tmp_path / "r.jsonl", {"messages": CHAT, "prompt": "a", "response": "b", "id": 1})
    done = harmless("score", rows, "-o", tmp_path / "o.jsonl", *DEMO)
    assert done.returncode == 0
    assert (
        "the rows are read as prompt-response (instruction=prompt, output=response, id); they also "
        "fit messages\n"
    ) in done.stderr


def test_rows_without_an_id_are_told_once(tmp_path: Path, harmless: Harmless) -> None:
    rows = write(tmp_path / "r.jsonl", *[{"messages": CHAT}] * 5)
    done = harmless("score", rows, "-o", tmp_path / "o.jsonl", *DEMO)
    assert done.stderr.count("warning: rows without an id") == 1
    assert "--columns id=FIELD" in done.stderr
    assert "5 without an id" in done.stderr
    detailed = harmless("score", rows, "-o", tmp_path / "d.jsonl", *DEMO, "--details")
    assert "warning" not in detailed.stderr  # each row is known by its line
    lines = read_rows(tmp_path / "d.jsonl")
    assert [(line["id"], line["source"], line["line"]) for line in lines] == [
        ("", str(rows), n) for n in range(1, 6)
    ]


def test_system_texts_are_told_and_counted(tmp_path: Path, harmless: Harmless) -> None:
    rows = write(
        tmp_path / "r.jsonl",
        *[{"id": 1, "messages": [SYSTEM, *CHAT]}] * 3,
        {"id": 2, "messages": CHAT},
    )
    done = harmless("score", rows, "-o", tmp_path / "o.jsonl", *DEMO)
    assert done.stderr.count("system texts are left out") == 1
    assert "--system prepend" in done.stderr
    assert "3 without their system text" in done.stderr
    dropped, _, _, plain = (row["score"] for row in read_rows(tmp_path / "o.jsonl"))
    assert dropped == plain
    done = harmless("score", rows, "-o", tmp_path / "p.jsonl", *DEMO, "--system", "prepend")
    assert "system text" not in done.stderr
    assert read_rows(tmp_path / "p.jsonl")[0]["score"] != plain


def test_the_yaml_file_names_columns_too(tmp_path: Path, harmless: Harmless) -> None:
    rows = write(tmp_path / "r.jsonl", {"q": "a", "a": {"text": "b"}, "id": 1})
    config = tmp_path / "c.yaml"
    config.write_text("model: demo\ncolumns: {instruction: q, output: a.text}\n")
    done = harmless("score", rows, "-o", tmp_path / "o.jsonl", "--config", config)
    assert done.returncode == 0, done.stderr
    config.write_text("colums: {instruction: q}\n")
    done = harmless("score", rows, "-o", tmp_path / "p.jsonl", "--config", config)
    assert done.returncode == 2
    assert "unknown key 'colums' (did you mean columns?)" in done.stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--columns", "instruction"), "has to be like instruction=prompt,output=response"),
        (("--columns", "outptu=a"), "did you mean output?"),
        (("--format", "aplaca"), "aplaca"),
        (("--model", "nodir"), "there is no such folder"),
        (("--model", "artifacts/nodir"), "there is no such folder"),
    ],
)
def test_wrong_options(
    flags: tuple[str, str], message: str, tmp_path: Path, harmless: Harmless
) -> None:
    (tmp_path / "artifacts").mkdir()
    rows = write(tmp_path / "r.jsonl", {"instruction": "a", "output": "b"})
    done = harmless("score", rows, "-o", tmp_path / "o.jsonl", *flags, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert names_in(tmp_path) == ["artifacts", "r.jsonl"]


def test_a_folder_that_is_missing_is_made(tmp_path: Path, harmless: Harmless) -> None:
    rows = write(tmp_path / "r.jsonl", {"id": 1, "instruction": "a", "output": "b"})
    done = harmless("score", rows, "-o", tmp_path / "new" / "deep" / "o.jsonl", *DEMO)
    assert done.returncode == 0, done.stderr
    assert names_in(tmp_path / "new" / "deep") == ["o.jsonl", "o.jsonl.run.json"]


def test_a_strict_run_that_fails_speaks_of_its_error_alone(
    tmp_path: Path, harmless: Harmless
) -> None:
    rows = write(tmp_path / "r.jsonl", {"id": 1, "instruction": "a", "output": "b"}, {"id": 2})
    done = harmless("score", rows, "-o", tmp_path / "o.jsonl", *DEMO, "--strict")
    assert done.returncode == 1
    assert "resume" not in done.stderr
    assert f"error: {rows}, line 2: Object missing required field" in done.stderr


def test_a_dry_run(tmp_path: Path, harmless: Harmless) -> None:
    chats = [
        {"messages": [*CHAT[:1], {"role": "assistant", "content": "word " * n}]}
        for n in range(3000)
    ]
    rows = write(tmp_path / "r.jsonl", *chats[:50], {"messages": []}, *chats[50:])
    done = harmless("score", rows, "--dry-run", *DEMO)
    assert done.returncode == 0, done.stderr
    told = done.stderr
    assert "the rows are read as messages" in told
    assert "  | Human: Hi\n  | \n  | Assistant:\n" in told
    assert "from the first 2,000 rows:\n" in told
    assert "  1 rows would be rejected: the conversation does not end" in told
    assert "rows would be truncated to 1,024" in told
    assert "in all 3,001 rows, about " in told
    assert "scoring takes about" in told
    assert names_in(tmp_path) == ["r.jsonl"]
    few = write(tmp_path / "few.jsonl", *chats[:5])
    done = harmless("score", few, "--dry-run", *DEMO)
    assert "from all 5 rows:\n" in done.stderr
    assert "in all 5 rows, " in done.stderr


def test_mistakes_in_the_names_of_fields(tmp_path: Path, harmless: Harmless) -> None:
    write(tmp_path / "r.jsonl", *[{"query": "a", "reply": "b", "uid": 7}] * 3)
    for fields, status, told in (
        ("instruction=quer,output=reply", 2, "field quer, named for instruction; did you mean"),
        ("output=reply,output=query", 2, "columns names output twice"),
        ("instruction=query,output=reply,id=ui", 0, "field ui, named for id; did you mean uid?"),
    ):
        for more in (["-o", f"{status}.jsonl"], ["--dry-run"]):
            command = ["score", "r.jsonl", *more, "--columns", fields, *DEMO]
            done = harmless(*command, cwd=tmp_path)
            assert done.returncode == status, done.stderr
            assert told in done.stderr
    assert names_in(tmp_path) == ["0.jsonl", "0.jsonl.run.json", "r.jsonl"]


def test_a_dry_run_of_rows_that_cannot_be_scored_fails(tmp_path: Path, harmless: Harmless) -> None:
    write(tmp_path / "r.jsonl", {"instruction": "a", "output": 7})
    options = ("--columns", "instruction=instruction,output=output", "--dry-run", *DEMO)
    done = harmless("score", "r.jsonl", *options, cwd=tmp_path)
    assert done.returncode == 2
    assert "error: no row can be scored: Expected `str | object | array`, got `int`" in done.stderr


def test_inputs_without_rows_are_told_of(tmp_path: Path, harmless: Harmless) -> None:
    (tmp_path / "r.jsonl").touch()
    done = harmless("score", "r.jsonl", "-o", "o.jsonl", *DEMO, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "warning: the inputs hold no rows" in done.stderr


def test_rows_in_another_encoding_get_a_hint(tmp_path: Path, harmless: Harmless) -> None:
    text = "id,instruction,output\n1,a,b\n2,Grüße,c\n"
    (tmp_path / "r.csv").write_bytes(text.encode("cp1252"))
    done = harmless("score", "r.csv", "-o", "o.jsonl", *DEMO, cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert "hint: if a file has another encoding: iconv -f WINDOWS-1252" in done.stderr
    (tmp_path / "all.csv").write_bytes("id,instruction,output\n1,Grüße,b\n".encode("cp1252"))
    done = harmless("score", "all.csv", "-o", "a.jsonl", *DEMO, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "hint: if a file has another encoding: iconv -f WINDOWS-1252" in done.stderr
    with zipfile.ZipFile(tmp_path / "book.xlsx", "w") as book:
        book.writestr("[Content_Types].xml", "<Types/>")
    done = harmless("score", "book.xlsx", "-o", "x.jsonl", *DEMO, cwd=tmp_path)
    assert "book.xlsx is a workbook\nhint: save its sheet as CSV" in done.stderr


def test_a_folder_of_spark_with_a_part_without_rows(tmp_path: Path, harmless: Harmless) -> None:
    folder = tmp_path / "rows.json"
    folder.mkdir()
    (folder / "part-00000-a-c000.json").write_text('{"instruction": "Hi", "output": "Yo"}\n')
    (folder / "part-00001-a-c000.json").write_text("")
    done = harmless("score", folder, "-o", tmp_path / "o.jsonl", *DEMO)
    assert done.returncode == 0, done.stderr
    assert f"these inputs hold no rows: {folder}/part-00001-a-c000.json" in done.stderr
