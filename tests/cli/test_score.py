"""`harmless score` end to end, through real processes, against PyTorch."""

import gzip
import json
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from harmless_runtime import bundled
from harmless_runtime.model.artifact import Artifact
from harmless_runtime.output.paths import rejects_path
from processes import COMMAND, Harmless, in_a_shell, wait_for
from reading import names_in, read_rows

ROWS = read_rows(bundled.ROWS)


def test_scores_are_pytorchs_in_order(
    artifact: Artifact, demo_truth: list[float], tmp_path: Path, harmless: Harmless
) -> None:
    out = tmp_path / "scores.jsonl"
    done = harmless("score", bundled.ROWS, "-o", out, "--model", artifact.folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    lines = read_rows(out)
    assert [line["id"] for line in lines] == [row["id"] for row in ROWS]
    assert [list(line) for line in lines] == [["id", "score"]] * len(ROWS)
    np.testing.assert_allclose([line["score"] for line in lines], demo_truth, atol=2e-4)
    assert names_in(tmp_path) == ["scores.jsonl", "scores.jsonl.run.json"]
    assert f"{len(ROWS)} rows" in done.stderr
    assert "truncated to 1024 tokens" in done.stderr
    assert "cpu, fp32" in done.stderr


def test_bad_rows_are_set_aside(artifact: Artifact, tmp_path: Path, harmless: Harmless) -> None:
    good = b'{"id": "x", "instruction": "a", "output": "b"}'
    bad = [b"{", b'{"instruction": "\xff", "output": "b"}', b'{"instruction": null, "output": ""}']
    other = b'{"instruction": "a"}'
    rows = tmp_path / "rows.jsonl"
    rows.write_bytes(b"\n".join([good, bad[0], b"", good, bad[1], bad[2], good, other]))
    out = tmp_path / "scores.jsonl"
    done = harmless("score", rows, "-o", out, "--model", artifact.folder)
    assert done.returncode == 3
    assert "rows that could not be scored: 4, see " in done.stderr
    assert "  1 × other reasons\n" in done.stderr
    assert str(tmp_path / "scores.rejects.jsonl") in done.stderr
    assert [line["id"] for line in read_rows(out)] == ["x"] * 3
    rejects = read_rows(rejects_path(out))
    assert [entry["line"] for entry in rejects] == [2, 5, 6, 8]
    assert rejects[0]["raw"] == "{"
    assert all(entry["reason"] and entry["source"] == str(rows) for entry in rejects)

    # A rerun over clean rows leaves no stale rejects behind.
    rows.write_bytes(good)
    done = harmless("score", rows, "-o", out, "--model", artifact.folder, "--overwrite")
    assert done.returncode == 0, done.stderr
    assert not rejects_path(out).exists()

    rows.write_bytes(b"\n".join([good, *bad]))
    done = harmless("score", rows, "-o", tmp_path / "s", "--model", artifact.folder, "--strict")
    assert done.returncode == 1
    assert f"error: {rows}, line 2: not valid JSON" in done.stderr
    assert not (tmp_path / "s").exists()


def test_standard_input_ids_and_details(
    artifact: Artifact, tmp_path: Path, harmless: Harmless
) -> None:
    ids = ["1", '"1"', "123456789012345678901234567890", "1.50", "null", '{"a": [1]}']
    rows = [f'{{"id": {i}, "instruction": "a", "output": "{"word " * 90}"}}' for i in ids]
    rows.append('{"instruction": "a", "output": ""}')
    done = harmless(
        "score", "-", "-o", tmp_path / "o", "--model", artifact.folder, "--details",
        "--max-length", "64", input="\n".join(rows),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "o").read_text().splitlines()
    for i, line in zip([*ids, '""'], lines, strict=True):
        assert line.startswith(f'{{"id": {i}, "score": ')
    details = [(json.loads(line)["tokens"], json.loads(line)["truncated"]) for line in lines]
    assert details[0] == (64, True)
    assert details[-1][1] is False
    assert done.stderr.count("truncated to 64 tokens") == 5
    assert "6 rows were truncated in all" in done.stderr


def test_empty_input(tmp_path: Path, harmless: Harmless) -> None:
    (tmp_path / "rows.jsonl").write_text("\n\n")
    done = harmless("score", tmp_path / "rows.jsonl", "-o", tmp_path / "o", "--model", "demo")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "o").read_bytes() == b""


def test_usage_errors(artifact: Artifact, tmp_path: Path, harmless: Harmless) -> None:
    expected: list[tuple[int, str, tuple[str | Path, ...]]] = []

    def fails(code: int, message: str, *args: str | Path) -> None:
        expected.append((code, message, args))

    model = ("--model", artifact.folder)
    out = ("-o", tmp_path / "o")
    (tmp_path / "there").touch()
    (tmp_path / "c.yaml").write_text("batch_sise: 8\n")
    fails(1, "cannot read nothing.jsonl: No such file", "nothing.jsonl", *out, *model)
    fails(1, "--overwrite", bundled.ROWS, "-o", tmp_path / "there", *model)
    fails(1, "is not a folder", bundled.ROWS, "-o", tmp_path / "there" / "where", *model)
    fails(2, "unknown key 'batch_sise'", bundled.ROWS, *out, "--config", tmp_path / "c.yaml")
    fails(2, "batch_size is 0", bundled.ROWS, *out, *model, "--batch-size", "0")
    fails(2, "max_length 2048 exceeds the 1024", bundled.ROWS, *out, *model, "--max-length", "2048")
    fails(2, "precision is 'fp16'", bundled.ROWS, *out, *model, "--precision", "fp16")
    fails(2, "there is no such folder", bundled.ROWS, *out, "--model", "./nowhere")
    fails(1, "neither an artifact", bundled.ROWS, *out, "--model", tmp_path)
    fails(1, "error: cannot run on CUDA: ", bundled.ROWS, *out, *model, "--provider", "cuda")
    fails(2, "no output is named", bundled.ROWS)
    fails(2, "the output cannot be standard output", bundled.ROWS, "-o", "-", *model)
    fails(1, "is not a regular file", bundled.ROWS, "-o", "/dev/null", "--overwrite", *model)
    fails(1, "bf16 needs a GPU", bundled.ROWS, *out, "--model", "a/b", "--precision", "bf16")
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(b"{}")[:-9])
    fails(1, "data is damaged or ends early", tmp_path / "rows.jsonl.gz", *out, *model)
    with ThreadPoolExecutor(2) as pool:
        finished = pool.map(lambda each: harmless("score", *each[2]), expected)
        for (code, message, _), done in zip(expected, finished, strict=True):
            assert done.returncode == code, done.stderr
            assert message in done.stderr
            assert "Traceback" not in done.stderr
            assert done.stderr.count("error: ") == 1 or code == 2
            assert "`" not in done.stderr, "settings are shown as flags"
    assert not (tmp_path / "o").exists()


def test_the_configuration_may_be_a_pipe(tmp_path: Path) -> None:
    script = f"$0 score {bundled.ROWS} -o o.jsonl --config <(echo 'model: demo')"
    done = in_a_shell(script, tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(read_rows(tmp_path / "o.jsonl")) == len(ROWS)


def test_scoring_imports_neither_torch_nor_transformers(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from harmless_runtime import Gpt2HarmlessScorer\n"
        "Gpt2HarmlessScorer({'model': 'demo'}).score_item({'instruction': 'a', 'output': 'b'})\n"
        "assert not {'torch', 'transformers', 'onnx', 'harmless_export'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path)


def test_an_interrupt_leaves_no_output(artifact: Artifact, tmp_path: Path) -> None:
    explicit = ("--format", "alpaca")  # otherwise it would wait for more rows to recognise
    process = subprocess.Popen(
        [COMMAND, "score", "-", "-o", tmp_path / "o", "--model", artifact.folder, *explicit],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stderr is not None
    process.stdin.write(b'{"instruction": "a", "output": "b"}\n')
    process.stdin.flush()
    wait_for(tmp_path / "o.partial")
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    # Standard input is still open. The blocked read must not keep the process alive.
    assert process.wait(timeout=20) == 130
    assert b"interrupted" in process.stderr.read()
    assert not (tmp_path / "o").exists()
    process.stdin.close()
    process.stderr.close()


@pytest.mark.parametrize("seconds", [0.0, 0.5, 2.0])
def test_an_interrupt_while_rows_are_scored(tmp_path: Path, seconds: float) -> None:
    row = json.dumps({"instruction": "word " * 200, "output": "other " * 200})
    (tmp_path / "rows.jsonl").write_text(f"{row}\n" * 20_000)
    process = subprocess.Popen(
        [COMMAND, "score", tmp_path / "rows.jsonl", "-o", tmp_path / "o", "--model", "demo"],
        stderr=subprocess.PIPE,
    )
    wait_for(tmp_path / "o.partial")
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert b"interrupted" in errors
    assert not (tmp_path / "o").exists()
