"""The benchmarks' own promises: equal rows, right scores, and a README that shows their results."""

import importlib.util
import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer

import report
import workload


def test_the_readme_shows_the_results() -> None:
    _, _, rest = report.README.read_text().partition(report.BEGIN)
    shown, mark, _ = rest.partition(report.END)
    assert mark
    assert shown == f"\n{report.tables()}\n", "run python benchmarks/report.py"


def test_results_have_right_scores() -> None:
    for path, result in report.load("throughput"):
        assert result["machine"]["versions"], path
        assert all(r["right"] for r in result["results"] if "right" in r), path


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
    rows = workload.load_rows(str(path), 9)
    assert "".join(rows[0].pair) == chosen
    assert rows[1].pair == ("\n\nHuman: Hi\n\nAssistant:", "Yes?")


def test_a_random_checkpoint_tokenises_to_bytes(tmp_path: Path) -> None:
    workload.byte_tokenizer().save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert len(tokenizer("\n\nHuman: é")["input_ids"]) == len("\n\nHuman: é".encode())


@pytest.mark.skipif(not importlib.util.find_spec("matplotlib"), reason="matplotlib is not here")
def test_plots(tmp_path: Path) -> None:
    for path, result in report.load("throughput"):
        report.plot_throughput(tmp_path / path.name, result)
        drawn = (tmp_path / path.name).with_suffix(".svg").read_text()
        assert drawn.startswith("<?xml")
        assert path.with_suffix(".svg").exists(), "run report.py --plots"
