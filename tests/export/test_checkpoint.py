"""Checkpoints that the export refuses. A refusal leaves nothing behind."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from checkpoints import copy_of, edit_json, make_model, make_tokenizer, refused, save_checkpoint
from harmless_export.checkpoint import locate
from harmless_runtime.errors import CheckpointError


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "llama"}, "model_type is 'llama'"),
        ({"activation_function": "gelu"}, "activation_function is 'gelu'"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx is True"),
        ({"scale_attn_weights": False}, "scale_attn_weights is False"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"n_layer": 4}, "no tensor transformer.h.3"),
        ({"n_embd": 32}, "config.json asks for"),
        ({"n_head": 7}, "not a multiple of n_head 7"),
        ({"n_head": "4"}, "n_head is '4'"),
        ({"vocab_size": 0}, "vocab_size is 0"),
        ({"num_attention_heads": 7}, "not a multiple of n_head 7"),
        ({"layer_norm_epsilon": None}, "layer_norm_epsilon is None"),
        ({"layer_norm_epsilon": "1e-5"}, "layer_norm_epsilon is '1e-5'"),
        ({"dtype": "nonsense"}, "dtype is 'nonsense', but PyTorch has no type of this name"),
        ({"dtype": None, "torch_dtype": "nonsense"}, "torch_dtype is 'nonsense'"),
    ],
)
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_refused_configs(
    changes: dict[str, Any], message: str, precision: str, checkpoint: Path, tmp_path: Path
) -> None:
    folder = copy_of(checkpoint, tmp_path)
    edit_json(folder / "config.json", changes)
    refused(folder, tmp_path, message, precision=precision)


def test_what_transformers_does_not_load_is_no_traceback(checkpoint: Path, tmp_path: Path) -> None:
    folder = copy_of(checkpoint, tmp_path)
    # Transformers 4 refuses the first, and Transformers 5 the second.
    changes = {"problem_type": "nonsense", "attn_implementation": "nonsense"}
    edit_json(folder / "config.json", changes)
    refused(folder, tmp_path, "transformers cannot load .*: .*nonsense", verify=True)


def test_refused_files(checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    refused(tmp_path / "nowhere", tmp_path, "does not exist")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", tmp_path, "no config.json")
    folder = copy_of(checkpoint, tmp_path)
    weights = folder / "model.safetensors"
    tensors = load_file(weights)

    def with_tensor(name: str, tensor: torch.Tensor) -> None:
        save_file(tensors | {name: tensor}, weights)

    for precision in ("fp32", "int8"):
        with_tensor("score.weight", tensors["score.weight"].to(torch.float8_e4m3fn))
        refused(folder, tmp_path, "score.weight is stored as F8_E4M3", precision=precision)
        with_tensor("score.weight", tensors["score.weight"].repeat(2, 1))
        refused(folder, tmp_path, "the model has 2 labels", precision=precision)
        with_tensor("score.weight", tensors["score.weight"][0])
        refused(folder, tmp_path, r"score.weight has shape \(64,\)", precision=precision)
        with_tensor("transformer.wpe.weight", tensors["transformer.wpe.weight"] * torch.inf)
        refused(folder, tmp_path, "not finite", precision=precision)
        with_tensor("transformer.ln_f.bias", tensors["transformer.ln_f.bias"] * torch.nan)
        caplog.clear()
        refused(folder, tmp_path, "not finite", precision=precision)
        assert "rounding" not in caplog.text, "it is refused before the work begins"
        product = "transformer.h.1.mlp.c_fc.weight"
        with_tensor(product, tensors[product].T.contiguous())
        refused(folder, tmp_path, r"c_fc.weight has shape \(256, 64\)", precision=precision)
    with_tensor("transformer.wte.weight", tensors["transformer.wte.weight"] * 1e5)
    refused(folder, tmp_path, "the largest fp16 number is 65504", precision="fp16")
    save_file({k: v for k, v in tensors.items() if k != "score.weight"}, weights)
    refused(folder, tmp_path, "language model without a reward head")
    renamed = {name.replace("score", "value_head"): tensor for name, tensor in tensors.items()}
    save_file(renamed, weights)
    hint = refused(folder, tmp_path, "score.weight: value_head.weight has the shape of a reward he")
    assert "rename the tensor to score.weight" in hint
    weights.write_bytes(weights.read_bytes()[:1000])
    refused(folder, tmp_path, "cannot read the weights")
    weights.unlink()
    refused(folder, tmp_path, "has no model.safetensors")
    (folder / "training_args.bin").write_bytes(b"cos\nsystem\n")
    refused(folder, tmp_path, "neither model.safetensors nor pytorch_model.bin, only training_args")
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../x"}}')
    refused(folder, tmp_path, "does not name files of its own folder")
    (folder / "config.json").write_text("[")
    refused(folder, tmp_path, "cannot read .*config.json")


def test_refused_tokenizers(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path / "small", make_model(vocab_size=300), make_tokenizer(300))
    tokenizer = make_tokenizer(300)
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    tokenizer.save_pretrained(folder)
    refused(folder, tmp_path, "ids reach 300, but the model has embeddings for 300")
    for file in folder.glob("*token*"):
        file.unlink()
    for name in ("vocab.json", "merges.txt"):
        (folder / name).unlink(missing_ok=True)
    refused(folder, tmp_path, "has no tokenizer: neither")
    (folder / "tokenizer.json").write_text("{}")
    refused(folder, tmp_path, "no usable tokenizer")


def test_refused_tokenizer_settings(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path / "checkpoint", make_model())
    edit_json(folder / "tokenizer_config.json", {"split_special_tokens": True})
    refused(folder, tmp_path, "split_special_tokens")


def test_names_that_are_no_hub_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("./missing", "/missing", "a/b/c", "~/missing"):
        with pytest.raises(CheckpointError, match="does not exist"):
            locate(name)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="owner/name is not a folder here"):
        locate("owner/name")
