"""A GPT-2 of the smallest real size, with the real vocabulary, on real text. It takes minutes."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, GPT2ForSequenceClassification

from checkpoints import SHARED, make_model, save_checkpoint
from harmless_runtime.model.artifact import open_artifact
from processes import Harmless

VOCABULARY = SHARED / "data/gpt2-tokenizer"
PAIRS = SHARED / "data/hh_harmless_base_test.jsonl.gz"


def real_rows(count: int) -> list[dict[str, str]]:
    """Return the first conversations of hh-rlhf. All before the last answer is the instruction."""
    rows = []
    with gzip.open(PAIRS, "rt", encoding="utf-8") as file:
        for number, line in zip(range(count), file, strict=False):
            question, _, answer = json.loads(line)["chosen"].rpartition("\n\nAssistant:")
            question = question.removeprefix("\n\nHuman: ")
            rows.append({"id": f"hh-{number}", "instruction": question, "output": answer})
    return rows


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="the real vocabulary and pairs are not here")
def test_export_and_score_equal_pytorch_on_real_rows(tmp_path: Path, harmless: Harmless) -> None:
    model = make_model(vocab_size=50257, n_embd=768, n_layer=12, n_head=12)
    with torch.no_grad():
        # The scores spread by about 1, as a reward model's do. Rounding grows with the scores.
        model.score.weight /= 8
    tokenizer = AutoTokenizer.from_pretrained(VOCABULARY)
    checkpoint = save_checkpoint(tmp_path / "checkpoint", model, tokenizer)
    done = harmless("export", checkpoint, "-o", tmp_path / "artifact", "--no-verify")
    assert done.returncode == 0, done.stderr
    assert open_artifact(tmp_path / "artifact").manifest.parameters > 124e6

    rows = real_rows(200)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = harmless(
        "score", tmp_path / "rows.jsonl", "-o", tmp_path / "scores.jsonl",
        "--model", tmp_path / "artifact", "--provider", "cpu",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == [row["id"] for row in rows]

    reference = GPT2ForSequenceClassification.from_pretrained(checkpoint).eval()
    truth = []
    with torch.inference_mode():
        for row in rows:
            question = f"\n\nHuman: {row['instruction']}\n\nAssistant:"
            inputs = tokenizer(
                question, row["output"], truncation=True, max_length=1024, return_tensors="pt"
            )
            truth.append(reference(**inputs).logits[0, 0].item())
    assert np.std(truth) > 0.5
    scores = [line["score"] for line in lines]
    print(f"largest difference {np.abs(np.subtract(scores, truth)).max():.2g}", end=" ")
    print(f"of scores with a standard deviation of {np.std(truth):.2g}")
    np.testing.assert_allclose(scores, truth, atol=1e-4, rtol=0)
