"""Hostile rows and inputs: each ends in a score, a reject, or one clear sentence."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from interrupted import score

from harmless_runtime.config import load_config
from harmless_runtime.errors import ConfigError
from harmless_runtime.model.engine import Engine
from processes import COMMAND, Harmless
from reading import read_outputs
from runs import cpu_engine

GOOD = b'{"id": "good", "instruction": "a", "output": "b"}'

LINES = {
    "a byte order mark in the middle": b"\xef\xbb\xbf" + GOOD,
    "NUL bytes": b"\0" * 50,
    "a NUL in a string": b'{"instruction": "a\0", "output": "b"}',
    "an escaped NUL": b'{"instruction": "a\\u0000", "output": "b"}',
    "a lone surrogate": b'{"instruction": "\\ud800", "output": "b"}',
    "two halves of a surrogate pair": b'{"instruction": "\\ud83d\\ude00", "output": "b"}',
    "other line separators": '{"instruction": "a\u2028\u2029\x85", "output": "\x0b"}'.encode(),
    "a carriage return": GOOD + b"\r",
    "many carriage returns": b"\r\r\r",
    "duplicate keys": b'{"id": 1, "id": 2, "instruction": "a", "instruction": "b", "output": "c"}',
    "an id beyond 64 bits": b'{"id": 36893488147419103232, "instruction": "a", "output": "b"}',
    "an id that is an object": b'{"id": {"a": [1, null]}, "instruction": "a", "output": "b"}',
    "an id with a line break": b'{"id": [1,\r2], "instruction": "a", "output": "b"}',
    "an array": b"[" + GOOD + b"]",
    "a number": b"1e999999",
    "brackets": b"[" * 10**6,
    "braces": b'{"instruction":' * 10**6,
    "a deep id": b'{"id": ' + b"[" * 10**6 + b"]" * 10**6 + b', "instruction": "a", "output": "b"}',
    "a megabyte of one letter": b'{"instruction": "' + b"a" * 10**6 + b'", "output": "b"}',
    "a megabyte of spaces": b'{"instruction": "a", "output": "' + b" " * 10**6 + b'"}',
    "private and unassigned characters": '{"instruction": "\ue000\U0010ffff", "output": "\ufffe"}'
    .encode(),
    "control characters": b'{"instruction": "\x1b[31m", "output": "b"}',
    "escaped control characters": b'{"instruction": "\\u001b[31m\\u0007", "output": "b"}',
    "UTF-16": GOOD.decode().encode("utf-16-le"),
    "the end of text, spelled out": b'{"instruction": "<|endoftext|>", "output": "<|endoftext|>"}',
}  # fmt: skip


@pytest.fixture(scope="module")
def engine() -> Engine:
    return cpu_engine()


@pytest.mark.parametrize("raw", LINES.values(), ids=LINES.keys())
def test_every_line_has_one_line_of_result(raw: bytes, engine: Engine, tmp_path: Path) -> None:
    rows, out = tmp_path / "rows", tmp_path / "o"
    rows.write_bytes(b"\n".join([GOOD, raw, GOOD]))
    score(rows, out, engine)
    scores = [json.loads(line) for line in out.read_bytes().splitlines()]
    rejects = read_outputs(out)[1].splitlines()
    blank = not raw.strip()
    assert len(scores) + len(rejects) == 3 - blank
    assert [scores[0]["id"], scores[-1]["id"]] == ["good", "good"]
    assert scores[0]["score"] == scores[-1]["score"]
    assert all(json.loads(line)["line"] == 2 for line in rejects)


def test_a_text_without_the_end_of_a_word_is_a_reject_that_a_resumed_run_knows(
    harmless: Harmless, tmp_path: Path
) -> None:
    rows, out = tmp_path / "rows.jsonl", tmp_path / "o.jsonl"
    endless = json.dumps({"id": 1, "instruction": "a", "output": "b" * 3_000_000}).encode()
    rows.write_bytes(b"\n".join([GOOD, endless, GOOD]))
    arguments = ["score", str(rows), "-o", str(out), "--model", "demo"]
    done = harmless(*arguments)
    assert done.returncode == 3, done.stderr
    (reject,) = map(json.loads, read_outputs(out)[1].splitlines())
    assert reject["line"] == 2
    assert "that cannot be tokenised piece by piece" in reject["reason"]
    assert len(out.read_bytes().splitlines()) == 2
    os.utime(rows, (0, 0))  # so that the rows are compared with those that were scored
    done = harmless(*arguments, "--resume")
    assert done.returncode == 0, done.stderr
    assert "already complete" in done.stderr
    done = harmless(*arguments, "--overwrite", "--strict")
    assert done.returncode == 1
    assert "rows.jsonl, line 2: a text has more than" in done.stderr


def test_rows_of_two_long_texts_take_little_memory(tmp_path: Path) -> None:
    rows, out = tmp_path / "rows", tmp_path / "o"
    texts = {"instruction": "Some words, ", "output": "and some more. "}
    long = {name: text * (2 * 2**20 // len(text) - 10) for name, text in texts.items()}
    middling = {name: text * (10_240 // len(text)) for name, text in texts.items()}
    with rows.open("w") as file:
        for row in [long, *[middling] * 60, long]:
            file.write(json.dumps(row) + "\n")
    code, peak = run_and_measure("score", rows, "-o", out, "--model", "demo", "--max-length", "64")
    assert code == 0
    assert 50_000 < peak < 200_000, "kilobytes"
    assert len(out.read_bytes().splitlines()) == 62


# Runs the command from a small process, because a child's peak memory begins at its parent's.
LAUNCHER = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def run_and_measure(*arguments: str | Path) -> tuple[int, int]:
    """Run the command; return its exit code and its peak memory in kilobytes."""
    launched: list[str | Path] = [sys.executable, "-S", "-c", LAUNCHER, COMMAND, *arguments]
    done = subprocess.run(launched, capture_output=True, text=True, check=True)
    code, peak = map(int, done.stdout.split())
    return code, peak


def test_a_line_without_end_takes_no_memory(tmp_path: Path) -> None:
    rows, out = tmp_path / "rows", tmp_path / "o"
    with rows.open("wb") as file:
        file.write(GOOD + b"\n")
        file.write(b'{"instruction": "')
        for _ in range(300):
            file.write(b"x" * 10**6)
        file.write(b'", "output": "b"}\n' + GOOD)
    code, peak = run_and_measure("score", rows, "-o", out, "--model", "demo")
    assert code == 3
    assert 50_000 < peak < 200_000, "kilobytes"
    (reject,) = read_outputs(out)[1].splitlines()
    told = json.loads(reject)
    assert told["line"] == 2
    assert told["reason"].startswith("the row has 300,000,034 bytes, more than max_line_bytes")
    assert len(told["raw"]) == 1000
    assert len(out.read_bytes().splitlines()) == 2


def test_standard_input_is_not_written_over(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_bytes(GOOD)
    arguments = ["score", "-", "-o", str(rows), "--overwrite", "--model", "demo"]
    with rows.open() as stdin:
        done = subprocess.run(
            [COMMAND, *arguments], stdin=stdin, capture_output=True, text=True, check=False
        )
    assert done.returncode == 1
    assert "is an input, and would be overwritten" in done.stderr
    assert rows.read_bytes() == GOOD


def test_the_longest_line_is_an_option(tmp_path: Path, harmless: Harmless) -> None:
    rows, out = tmp_path / "rows", tmp_path / "o"
    rows.write_bytes(GOOD + b"\n" + GOOD + b" \n" + GOOD)
    size = str(len(GOOD))
    done = harmless("score", rows, "-o", out, "--model", "demo", "--max-line-bytes", size)
    assert done.returncode == 3, done.stderr
    assert len(out.read_bytes().splitlines()) == 2
    (reject,) = read_outputs(out)[1].splitlines()
    assert json.loads(reject)["line"] == 2


def test_inputs_that_are_not_rows(tmp_path: Path, harmless: Harmless) -> None:
    (tmp_path / "utf16").write_text("abc", encoding="utf-16")
    (tmp_path / "empty").mkdir()
    (tmp_path / "object.json").write_text(json.dumps({"data": [{"a": 1}]}, indent=1))
    (tmp_path / "array").write_bytes(b"[\n" + GOOD + b",\n" + GOOD + b"\n]\n")
    out = ("-o", tmp_path / "o", "--model", "demo")
    for source, sentence in (
        (tmp_path / "empty", "holds no file whose name ends in .jsonl"),
        ("/dev/zero", "is a device"),
        (tmp_path / "object.json", "hint: make a line of each object: jq -c . "),
        (tmp_path / "utf16", "hint: make another file of it: iconv -f UTF-16 -t UTF-8"),
    ):
        done = harmless("score", source, *out)
        assert done.returncode == 1
        assert done.stderr.startswith("error: ")
        assert sentence in done.stderr
        assert done.stderr.count("\n") == 1 + ("hint: " in done.stderr)
    done = harmless("score", tmp_path / "array", *out)
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "o").read_bytes().splitlines()) == 2


def test_a_named_pipe(tmp_path: Path, harmless: Harmless) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=[GOOD + b"\n" + GOOD])
    writer.start()
    done = harmless("score", tmp_path / "pipe", "-o", tmp_path / "o", "--model", "demo")
    writer.join()
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "o").read_bytes().splitlines()) == 2


def test_control_characters_do_not_reach_the_terminal(tmp_path: Path, harmless: Harmless) -> None:
    evil = tmp_path / "\x1b[31mrows\x07"
    evil.write_bytes(b'{"\x1b[2J": 1}\n')
    done = harmless("score", evil, "-o", tmp_path / "o", "--model", "demo", "--strict")
    assert done.returncode == 2
    assert "\\x1b[31mrows\\x07" in done.stderr
    assert not set("\x1b\x07") & set(done.stderr)
    done = harmless(
        "score", tmp_path / "\x1b[31m\nnone:x:", "-o", tmp_path / "o", "--model", "demo"
    )
    assert done.returncode == 1
    assert "\x1b" not in done.stderr
    assert "\\nnone:x:" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_yaml_bomb_is_one_short_sentence(tmp_path: Path) -> None:
    levels = "".join(f"{c}: &{c} [{', '.join([f'*{p}'] * 9)}]\n" for p, c in zip("abcdefgh",
                     "bcdefghi", strict=True))  # fmt: skip
    (tmp_path / "c.yaml").write_text(f"a: &a [x]\n{levels}model: *i\n")
    with pytest.raises(ConfigError, match="model is") as caught:
        load_config(tmp_path / "c.yaml", {})
    assert len(str(caught.value)) < 2000
