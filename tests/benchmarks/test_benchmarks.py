"""What the benchmarks promise: equal rows, right scores, and a README that shows their results."""

import importlib.util
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from transformers import AutoTokenizer

import latency
import report
from checkpoints import make_model, save_checkpoint
from harmless_export.parity import LIMITS
from suite import plots, workload
from suite.isolation import describe_machine, in_a_process
from suite.results import RESULTS, ROOT, load
from suite.rounds import precision_of
from suite.tables import markdown_table


def test_the_documents_show_the_results() -> None:
    for path, begin, text, end in report.contents():
        _, _, rest = path.read_text().partition(begin)
        shown, mark, _ = rest.partition(end)
        assert mark, path
        assert shown == f"\n{text}\n", f"run python benchmarks/report.py for {path}"


def test_results_have_right_scores() -> None:
    for path, result in load("throughput") + load("latency"):
        assert result["machine"]["versions"], path
        measured = [r["parity"] for r in result["results"] if "parity" in r]
        assert len(measured) > 1, path
        for parity in measured:
            precision = precision_of(parity["runner"])
            assert parity["relative"] <= LIMITS[precision] == parity["limit"], path


def test_generated_rows_are_the_same_every_time() -> None:
    rows = workload.load_rows("generated", 50)
    assert rows == workload.load_rows("generated", 50)
    assert len({len(row.output.split()) for row in rows}) > 10


def test_rows_of_both_kinds(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    chosen = "\n\nHuman: Hi\n\nAssistant: Yes?\n\nHuman: Go\n\nAssistant: Where?"
    path.write_text(
        json.dumps({"chosen": chosen, "rejected": ""})
        + "\n"
        + json.dumps({"instruction": "Hi", "output": "Yes?"})
    )
    rows = workload.load_rows(str(path), 4)
    assert "".join(rows[0].pair) == chosen
    assert rows[1].pair == ("\n\nHuman: Hi\n\nAssistant:", "Yes?")
    # The file has two rows, so the other two are made of parts of these.
    assert len(set(rows)) == 4
    assert {row.instruction for row in rows} == {row.instruction for row in rows[:2]}
    assert workload.load_rows(str(path), 1, join=2)[0].output == " Where?Yes?"


def test_a_random_checkpoint_tokenises_to_bytes(tmp_path: Path) -> None:
    workload.byte_tokenizer().save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert len(tokenizer("\n\nHuman: é")["input_ids"]) == len("\n\nHuman: é".encode())


@pytest.mark.parametrize("tokens", [64, 170, 1024])
def test_a_pair_of_exactly_so_many_tokens(checkpoint: Path, tokens: int) -> None:
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    pairs = {latency.exact_pair(tokenizer, tokens, seed) for seed in range(3)}
    assert len(pairs) == 3
    assert all(len(tokenizer(*pair)["input_ids"]) == tokens for pair in pairs)


def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def leave(code: int) -> None:
    os._exit(code)


@pytest.mark.slow
def test_a_measurement_has_figures_or_says_why_not() -> None:
    assert in_a_process(sleep, 0.0, timeout=60).figures == 0
    assert in_a_process(sleep, 0.0).peak_gb > 0
    assert in_a_process(sleep, 60.0, timeout=0.1).failed == "not done after 0 s"
    assert in_a_process(leave, 9).failed == "its process ended with exit code 9"
    assert "TypeError" in in_a_process(sleep, "long").why


@pytest.mark.slow
@pytest.mark.parametrize("script", ["throughput", "latency", "compare"])
def test_a_benchmark_from_end_to_end(script: str, tmp_path: Path) -> None:
    # Optimum's own export needs the id of the pad token.
    checkpoint = save_checkpoint(tmp_path / "checkpoint", make_model(pad_token_id=0))
    names = ["compile-fp32", "optimum", "harmless-fp32", "harmless-int8"]
    command: list[str | Path] = [sys.executable, f"benchmarks/{script}.py", "--model", checkpoint]
    options: list[str | Path] = ["--max-length", "170", "--label", "test", "--only", *names]
    options += ["--results", tmp_path, "--cache", tmp_path / "cache"]
    if script != "throughput":
        options += ["--seconds", "0.01"]
    if script == "compare":
        options += ["--rows", tmp_path / "pairs", "--count", "3", "--long-count", "3"]
        (tmp_path / "pairs").write_text("".join(map(pair, range(6))))
    else:
        names.insert(0, "pytorch-fp32-original")
        options += ["--rounds", "1"]
    subprocess.run([*command, *options], check=True, cwd=report.README.parent)
    kinds = ("throughput", "latency", "parity") if script == "compare" else (script,)
    for kind in kinds:
        (path,) = tmp_path.glob(f"{kind}-*-test-2*.json")
        result = json.loads(path.read_text())
        assert [r["name"] for r in result["results"]] == names
        assert all(r["right"] for r in result["results"]), result
        shown = report.RENDERERS[kind](RESULTS / path.name, result)
        assert all(f"| {name} |" in shown for name in names)


def pair(number: int) -> str:
    """Return a line of random words, in the format of hh-rlhf."""
    texts = [workload.generated_text(random.Random(2 * number + i), 60) for i in range(2)]
    values = zip(("chosen", "rejected"), texts, strict=True)
    return json.dumps({k: f"\n\nHuman: Hi {number}\n\nAssistant: {v}" for k, v in values}) + "\n"


@pytest.mark.skipif(not importlib.util.find_spec("matplotlib"), reason="matplotlib is not here")
def test_plots(tmp_path: Path) -> None:
    for path, result in load("throughput"):
        plots.plot_throughput(tmp_path / path.name, result)
        check_plot(tmp_path, path)
    for path, result in load("latency"):
        plots.plot_latency(tmp_path / path.name, result)
        check_plot(tmp_path, path)
    for path, result in load("serve"):
        plots.plot_load(tmp_path / path.name, result)
        check_plot(tmp_path, ROOT / "docs/images" / path.name)


def check_plot(folder: Path, path: Path) -> None:
    drawn = (folder / path.name).with_suffix(".svg").read_text()
    assert drawn.startswith("<?xml")
    assert path.with_suffix(".svg").exists(), "run report.py --plots"


def test_a_machine_that_cannot_name_its_gpu_loses_no_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert "neither nvidia-smi nor PyTorch" in describe_machine("cuda")["gpu"]


def test_a_markdown_table_fills_short_rows() -> None:
    table = markdown_table(["", "a", "b"], [["x", "1", "2"], ["y", "failed"]])
    assert table == "| | a | b |\n|---|---|---|\n| x | 1 | 2 |\n| y | failed | |\n"
