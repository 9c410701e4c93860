"""Make small GPT-2 reward checkpoints with random weights, large enough that errors show."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import GPT2Config, GPT2ForSequenceClassification, GPT2TokenizerFast

from harmless_export import export_checkpoint
from harmless_runtime import bundled
from harmless_runtime.errors import CheckpointError

EOS = "<|endoftext|>"
# The column of Optimum in a parity report. Optimum does not take Transformers 5.
OPTIMUM = ["optimum (cpu)"] if find_spec("optimum") else []
SHARED = Path(__file__).parents[2] / "shared"


def make_tokenizer(vocab_size: int = 600) -> GPT2TokenizerFast:
    """Train a byte-level BPE on the demo rows."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(bundled.ROWS.read_text(encoding="utf-8").splitlines(), trainer)
    return GPT2TokenizerFast(tokenizer_object=tokenizer, bos_token=EOS, eos_token=EOS)


def make_model(
    seed: int = 0, outliers: float = 0.0, **config: Any
) -> GPT2ForSequenceClassification:
    """Build a model in which all weights are random, LayerNorms and biases included.

    Args:
        seed: of the weights.
        outliers: added to three channels of the residual stream at the first position, and a
            thirtieth of it at the others, as in trained GPT-2 models (theirs reach some thousands).
        config: of GPT2Config; small by default.
    """
    torch.manual_seed(seed)
    defaults: dict[str, Any] = {
        "vocab_size": 600,
        "n_positions": 1024,
        "n_embd": 64,
        "n_layer": 3,
        "n_head": 4,
        "num_labels": 1,
    }
    model = GPT2ForSequenceClassification(GPT2Config(**(defaults | config)))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                # The products keep the size of their inputs, so that every layer matters.
                parameter.normal_(0, 1.0 if "score" in name else 1.5 / parameter.shape[0] ** 0.5)
            elif name.endswith("weight"):
                parameter.normal_(1, 0.3)
            else:
                parameter.normal_(0, 0.3)
        model.transformer.wte.weight.normal_(0, 0.7)
        model.transformer.wpe.weight.normal_(0, 0.4)
        if outliers:
            channels = torch.tensor([3, 17, 42])
            size = outliers * torch.tensor([1.0, -0.7, 0.4])
            model.transformer.wpe.weight[0, channels] += size
            model.transformer.wpe.weight[1:, channels] += size / 30
    return model.eval()


def save_checkpoint(
    folder: Path,
    model: GPT2ForSequenceClassification,
    tokenizer: GPT2TokenizerFast | None = None,
    dtype: torch.dtype = torch.float32,
    **save: Any,
) -> Path:
    """Save a model and its tokenizer as a Hugging Face checkpoint folder."""
    tokenizer = tokenizer or make_tokenizer()
    model.to(dtype).save_pretrained(folder, **save)
    tokenizer.save_pretrained(folder)
    return folder


def copy_of(checkpoint: Path, tmp_path: Path) -> Path:
    """Copy a checkpoint, to change the copy."""
    return Path(shutil.copytree(checkpoint, tmp_path / "copy"))


def edit_json(path: Path, changes: dict[str, Any]) -> None:
    """Replace some keys of a JSON object in a file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def refused(folder: Path, tmp_path: Path, message: str, **options: Any) -> str:
    """Check that a checkpoint is refused and that nothing is left; return the hint.

    Args:
        folder: the checkpoint.
        tmp_path: where to export it.
        message: a regular expression for the message.
        options: of `export_checkpoint`.
    """
    with pytest.raises(CheckpointError, match=message) as caught:
        export_checkpoint(
            str(folder), tmp_path / "out" / "artifact", **({"verify": False} | options)
        )
    assert not list((tmp_path / "out").glob("*")), "nothing is left, hidden files included"
    assert not list((tmp_path / "out").glob(".*"))
    return caught.value.hint or ""
