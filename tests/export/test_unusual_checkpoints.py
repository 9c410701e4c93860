"""Checkpoints that are unusual, and yet can be computed exactly: their scores are PyTorch's."""

import os
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2ForSequenceClassification

from checkpoints import copy_of, edit_json, make_model, make_tokenizer, refused, save_checkpoint
from harmless_export import export_checkpoint, verify_artifact
from harmless_export.parity import parity_pairs
from harmless_export.reference import pytorch_scores
from harmless_runtime import Gpt2HarmlessScorer
from harmless_runtime.errors import CheckpointError

IS_TRANSFORMERS_4 = version("transformers").startswith("4.")

Tensors = dict[str, torch.Tensor]


def exported(folder: Path, out: Path, **options: Any) -> None:
    """Export a checkpoint, and check the report of its parity with PyTorch."""
    artifact = export_checkpoint(str(folder), out, **options)
    assert artifact.manifest.parity[0].relative < 1e-4


def scores_of(artifact: Path, rows: list[dict[str, str]], **config: Any) -> list[float]:
    """Score rows as a user does."""
    return Gpt2HarmlessScorer({"model": str(artifact), "provider": "cpu", **config}).score_batch(
        rows
    )


def without_prefix(tensors: Tensors) -> Tensors:
    return {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}


def with_buffers(tensors: Tensors) -> Tensors:
    mask = torch.ones(1, 1, 1024, 1024, dtype=torch.bool)
    return tensors | {
        "transformer.h.0.attn.bias": mask,
        "transformer.h.0.attn.masked_bias": torch.tensor(-1e4),
    }


@pytest.mark.parametrize("change", [without_prefix, with_buffers])
def test_names_of_old_weights(
    change: Callable[[Tensors], Tensors], checkpoint: Path, tmp_path: Path, demo_truth: list[float]
) -> None:
    folder = copy_of(checkpoint, tmp_path)
    save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors")
    exported(folder, tmp_path / "artifact")
    pairs = parity_pairs()[: len(demo_truth)]
    np.testing.assert_array_equal(pytorch_scores(folder, pairs, 1024).tolist(), demo_truth)


@pytest.mark.parametrize("is_old", [False, True], ids=["mapped", "before PyTorch 1.6"])
def test_pickles_are_read_if_they_are_allowed(
    is_old: bool, checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = copy_of(checkpoint, tmp_path)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin", _use_new_zipfile_serialization=not is_old)
    with pytest.raises(CheckpointError, match=r"only as a pickle (.|\n)*hint: .*`allow_pickle`"):
        export_checkpoint(str(folder), tmp_path / "refused")
    exported(folder, tmp_path / "artifact", allow_pickle=True)
    assert "such checks have had gaps" in caplog.text
    with pytest.raises(CheckpointError, match="only as a pickle"):
        verify_artifact(tmp_path / "artifact")
    verify_artifact(tmp_path / "artifact", allow_pickle=True)
    # The same weights give the same bytes, wherever they come from.
    export_checkpoint(str(checkpoint), tmp_path / "other", verify=False)
    for name in ("model.onnx", "model.onnx.data"):
        assert (tmp_path / "artifact" / name).read_bytes() == (
            tmp_path / "other" / name
        ).read_bytes()


def test_sharded_pickles(checkpoint: Path, tmp_path: Path) -> None:
    folder = copy_of(checkpoint, tmp_path)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    parts = {"pytorch_model-00001-of-00002.bin": names[:9], "pytorch_model-00002-of-00002.bin":
             names[9:]}  # fmt: skip
    for file, own in parts.items():
        torch.save({name: tensors[name] for name in own}, folder / file)
    weight_map = {name: file for file, own in parts.items() for name in own}
    (folder / "pytorch_model.bin.index.json").write_text("{}")
    edit_json(folder / "pytorch_model.bin.index.json", {"weight_map": weight_map, "metadata": {}})
    exported(folder, tmp_path / "artifact", allow_pickle=True)
    (folder / "pytorch_model-00002-of-00002.bin").unlink()
    with pytest.raises(CheckpointError, match=r"incomplete: pytorch_model-00002-of-00002\.bin is"):
        export_checkpoint(str(folder), tmp_path / "other", allow_pickle=True)


class Bomb:
    """Runs a command when it is loaded from a pickle."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.target}",)


def test_pickles_that_would_run_code(checkpoint: Path, tmp_path: Path) -> None:
    folder = copy_of(checkpoint, tmp_path)
    (folder / "model.safetensors").unlink()
    pickle = folder / "pytorch_model.bin"
    for is_new in (True, False):
        torch.save(
            {"score.weight": Bomb(tmp_path / "ran")}, pickle, _use_new_zipfile_serialization=is_new
        )
        with pytest.raises(CheckpointError, match="holds more than tensors"):
            export_checkpoint(str(folder), tmp_path / "artifact", allow_pickle=True)
    pickle.write_bytes(pickle.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=r"cannot read the weights|holds more than tensors"):
        export_checkpoint(str(folder), tmp_path / "artifact", allow_pickle=True)
    torch.save([torch.ones(1)], pickle)
    with pytest.raises(CheckpointError, match="no mapping of names to tensors"):
        export_checkpoint(str(folder), tmp_path / "artifact", allow_pickle=True)
    assert not (tmp_path / "ran").exists()


def test_a_tokenizer_that_cuts_on_the_left(checkpoint: Path, tmp_path: Path) -> None:
    folder = copy_of(checkpoint, tmp_path)
    edit_json(folder / "tokenizer_config.json", {"truncation_side": "left"})
    exported(folder, tmp_path / "artifact", max_length=40)
    rows = [{"instruction": "word " * i, "output": "other text " * (30 - i)} for i in range(30)]
    pairs = [(f"\n\nHuman: {r['instruction']}\n\nAssistant:", r["output"]) for r in rows]
    scores = scores_of(tmp_path / "artifact", rows)
    np.testing.assert_allclose(scores, pytorch_scores(folder, pairs, 40), atol=2e-4)
    cut_right = pytorch_scores(checkpoint, pairs, 40)
    assert np.abs(np.array(scores) - cut_right).max() > 0.01


def test_a_pad_token_that_the_config_contradicts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The scorer that this one replaces takes the tokenizer's. Texts that end with it differ."""
    folder = save_checkpoint(tmp_path / "checkpoint", make_model(pad_token_id=0))
    tokenizer = make_tokenizer()
    tokenizer.pad_token = "!"
    tokenizer.save_pretrained(folder)
    exported(folder, tmp_path / "artifact")
    pad = tokenizer.pad_token_id
    assert f"pad_token_id is 0, but the tokenizer pads with {pad}, which is taken" in caplog.text
    texts = ["Stop", "Stop!", "Stop!!! Now!", "!!!"]
    scores = scores_of(tmp_path / "artifact", [{"instruction": "Hi", "output": t} for t in texts])
    # As the original does it: all texts in one batch, padded.
    model = GPT2ForSequenceClassification.from_pretrained(folder, num_labels=1).eval()
    model.config.pad_token_id = pad
    question = ["\n\nHuman: Hi\n\nAssistant:"] * len(texts)
    batch = tokenizer(question, texts, padding=True, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        truth = model(**batch).logits[:, 0].numpy()
    np.testing.assert_allclose(scores, truth, atol=2e-4)


def test_a_pad_token_that_is_no_number(
    checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = copy_of(checkpoint, tmp_path)
    edit_json(folder / "config.json", {"pad_token_id": "0"})
    if not IS_TRANSFORMERS_4:
        refused(folder, tmp_path, "has no usable tokenizer: .*pad_token_id")
        return
    export_checkpoint(str(folder), tmp_path / "artifact", verify=False)
    assert "pad_token_id is '0', which is no number of a token" in caplog.text


@pytest.mark.parametrize(
    "changes",
    [
        {"id2label": {"0": "a", "1": "b"}},
        {"id2label": None, "num_labels": 3},
        {"activation_function": "gelu_fast"},
        {"activation_function": "gelu_accurate"},
        {"reorder_and_upcast_attn": True},
        {"return_dict": False},
        pytest.param(
            {"attn_implementation": "nonsense"},
            marks=pytest.mark.skipif(not IS_TRANSFORMERS_4, reason="Transformers 5 refuses it"),
        ),
    ],
)
def test_settings_that_change_no_score(
    changes: dict[str, Any], checkpoint: Path, tmp_path: Path
) -> None:
    folder = copy_of(checkpoint, tmp_path)
    edit_json(folder / "config.json", changes)
    exported(folder, tmp_path / "artifact")


def test_a_mean_and_a_deviation_of_rewards_are_told_and_change_no_score(
    checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """OpenRLHF writes them, and normalises by them only if it is asked to."""
    folder = copy_of(checkpoint, tmp_path)
    changes = {"mean": 1.5, "std": 2.25, "normalize_reward": True, "value_head_prefix": "score"}
    edit_json(folder / "config.json", changes)
    exported(folder, tmp_path / "artifact")
    assert "config.json has mean 1.5 and std 2.25" in caplog.text
    export_checkpoint(str(checkpoint), tmp_path / "plain", verify=False)
    rows = [{"instruction": "Hi", "output": "Hello"}]
    assert scores_of(tmp_path / "artifact", rows) == scores_of(tmp_path / "plain", rows)
    assert caplog.text.count("config.json has mean") == 1


def test_float64_weights_are_rounded_as_pytorch_does(checkpoint: Path, tmp_path: Path) -> None:
    folder = copy_of(checkpoint, tmp_path)
    tensors = load_file(folder / "model.safetensors")
    doubles = {name: tensor.double() * (1 + 1e-12) for name, tensor in tensors.items()}
    save_file(doubles, folder / "model.safetensors", metadata={"format": "pt"})
    exported(folder, tmp_path / "artifact")
