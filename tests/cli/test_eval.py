"""`harmless eval`: accuracy on pairs, held to PyTorch pair by pair, kept, resumed and refused."""

import gzip
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, GPT2ForSequenceClassification

from checkpoints import SHARED
from demo_training import ASSISTANT, Recipe, hold_out, read_pairs
from harmless_runtime.model.artifact import Artifact
from processes import Harmless
from reading import read_rows

HH = SHARED / "data/hh_harmless_base_test.jsonl.gz"


def make_pairs(count: int) -> list[dict[str, str]]:
    """Return pairs as hh-rlhf has them, of many lengths, and some with equal texts."""
    rng = np.random.default_rng(3)

    def words(most: int) -> str:
        return "".join(f" {'abcdefgh'[i]}{i}" for i in rng.integers(0, 8, rng.integers(1, most)))

    pairs = []
    for i in range(count):
        begun = f"\n\nHuman:{words(30)}\n\nAssistant:"
        if i % 3 == 0:
            begun += f"{words(20)}\n\nHuman:{words(9)}\n\nAssistant:"
        chosen, rejected = begun + words(60), begun + words(60)
        pairs.append({"chosen": chosen, "rejected": chosen if i % 50 == 0 else rejected})
    return pairs


def write(path: Path, pairs: list[Any]) -> Path:
    path.write_bytes(b"".join(msgspec.json.encode(pair) + b"\n" for pair in pairs))
    return path


def pytorch_score(folder: Path, texts: list[str]) -> list[float]:
    """Score dialogues one by one with transformers alone."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = GPT2ForSequenceClassification.from_pretrained(folder, num_labels=1).eval()
    model.config.pad_token_id = tokenizer.pad_token_id or tokenizer.eos_token_id
    scores = []
    for text in texts:
        cut = text.rindex(ASSISTANT) + len(ASSISTANT)
        inputs = tokenizer(text[:cut], text[cut:], return_tensors="pt")
        with torch.inference_mode():
            scores.append(model(**inputs).logits[0, 0].item())
    return scores


@pytest.mark.slow
def test_400_pairs_are_pytorchs_pair_by_pair(
    checkpoint: Path, artifact: Artifact, tmp_path: Path, harmless: Harmless
) -> None:
    pairs = make_pairs(400)
    source, out = write(tmp_path / "pairs.jsonl", pairs), tmp_path / "scores.jsonl"
    done = harmless("eval", source, "-o", out, "--model", artifact.folder, "--json",
                    "--against", "pytorch", "--checkpoint", checkpoint)  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    chosen = np.array(pytorch_score(checkpoint, [pair["chosen"] for pair in pairs]))
    rejected = np.array(pytorch_score(checkpoint, [pair["rejected"] for pair in pairs]))
    lines = read_rows(out)
    assert [line["text"] for line in lines] == ["chosen", "rejected"] * 400
    own = np.array([line["score"] for line in lines]).reshape(-1, 2)
    np.testing.assert_allclose(own, np.stack([chosen, rejected], 1), atol=2e-4)
    wins = int((chosen > rejected).sum())
    assert (found["pairs"], found["wins"], found["ties"]) == (400, wins, 8)
    assert found["accuracy"] == (wins + 4) / 400
    assert found["low"] < found["accuracy"] < found["high"]
    assert found["mean_margin"] == pytest.approx((chosen - rejected).mean(), abs=2e-4)
    against = found["against"]
    assert (against["pairs"], against["wins"], against["ties"]) == (400, wins, 8)
    assert against["turned"] == 0
    assert 0 < against["largest_difference"] < 2e-4


def test_the_tables_and_pairs_without_a_score(tmp_path: Path, harmless: Harmless) -> None:
    pairs: list[Any] = make_pairs(60)
    pairs[10] = {"chosen": pairs[10]["chosen"], "rejected": None}
    pairs[20] = {"chosen": "no dialogue", "rejected": pairs[20]["rejected"]}
    source = write(tmp_path / "pairs.jsonl", pairs)
    done = harmless("eval", source, "--model", "demo")
    assert done.returncode == 3
    assert "of 58 pairs (95 % interval" in done.stdout
    assert "2 ties count half" in done.stdout
    assert "chosen longer by 17 to 64" in done.stdout
    assert "pairs that could not be scored: 2" in done.stderr
    assert "nor a dialogue of hh-rlhf" in done.stderr
    assert "without an id" not in done.stderr, "pairs are not found by their ids"
    assert list(tmp_path.iterdir()) == [source], "nothing is kept"


def test_scores_are_kept_and_resumed(tmp_path: Path, harmless: Harmless) -> None:
    source, out = write(tmp_path / "pairs.jsonl", make_pairs(30)), tmp_path / "scores.jsonl"
    command = ("eval", source, "-o", out, "--model", "demo", "--json")
    first = harmless(*command)
    assert first.returncode == 0, first.stderr
    refused = harmless(*command)
    assert refused.returncode == 1
    assert "already exists" in refused.stderr
    again = harmless(*command, "--resume")
    assert again.returncode == 0, again.stderr
    assert again.stdout == first.stdout
    other = harmless("score", source, "-o", out, "--model", "demo", "--columns", "output=chosen",
                     "--resume", "--details")  # fmt: skip
    assert "the shape of the rows was" in other.stderr
    selected = harmless("select", source, "--scores", out, "-o", tmp_path / "x.jsonl", "--top", "3")
    assert "holds the scores of preference pairs" in selected.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "x.parquet"], "kept in a local file of JSON lines"),
        (["-o", "folder/"], "kept in a local file of JSON lines"),
        (["--resume"], "there is no output to resume"),
        (["--checkpoint", "c"], "add --against pytorch"),
        (["-", "--against", "pytorch"], "are read twice"),
    ],
)
def test_what_makes_no_sense_is_refused(
    arguments: list[str], message: str, tmp_path: Path, harmless: Harmless
) -> None:
    write(tmp_path / "pairs.jsonl", make_pairs(3))
    inputs = [] if "-" in arguments else ["pairs.jsonl"]
    done = harmless("eval", *inputs, *arguments, "--model", "demo", cwd=tmp_path, input="")
    assert done.returncode == 2, done.stderr
    assert message in done.stderr


def test_pairs_come_through_a_pipe(tmp_path: Path, harmless: Harmless) -> None:
    source = write(tmp_path / "pairs.jsonl", make_pairs(5))
    done = harmless("eval", "-", "--model", "demo", "--json", input=source.read_text())
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["pairs"] == 5


@pytest.mark.skipif(not HH.exists(), reason=f"not run: {HH} is not there")
def test_the_demo_models_figure_is_reproduced(tmp_path: Path, harmless: Harmless) -> None:
    recipe = Recipe()
    _, held = hold_out(read_pairs(HH), recipe.held_out_pairs, recipe.seed)
    source = tmp_path / "held.jsonl.gz"
    with gzip.open(source, "wb") as file:
        for chosen, rejected in held:
            file.write(msgspec.json.encode({"chosen": chosen, "rejected": rejected}) + b"\n")
    done = harmless("eval", source, "--model", "demo", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    card = json.loads(Path("runtime/harmless_runtime/demo_model/training.json").read_text())[
        "figures"
    ]
    assert found["pairs"] == card["held_out"] == 400
    assert found["accuracy"] == pytest.approx(card["held_out_accuracy"], abs=1e-9)
