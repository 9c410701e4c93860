"""Export a checkpoint to an artifact folder, which appears whole or not at all."""

import json
import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import onnx_ir as ir

from harmless_export.checkpoint import (
    Checkpoint,
    Gpt2Config,
    locate,
    read_config,
    tell_of_normalization,
)
from harmless_export.graph import OPSET, build_model
from harmless_export.parity import parity_pairs
from harmless_export.quantize import NOT_QUANTIZED, quantize
from harmless_export.tokenizer import check_saved, check_tokenizer, load_tokenizer
from harmless_export.verify import record_parity
from harmless_export.weights import Weights
from harmless_runtime import __version__
from harmless_runtime.choices import Precision
from harmless_runtime.errors import ConfigError, OutputError, SessionError
from harmless_runtime.model import openvino
from harmless_runtime.model.artifact import (
    FORMAT_VERSION,
    MANIFEST,
    MODEL,
    WEIGHTS,
    Artifact,
    Manifest,
    is_artifact,
    open_artifact,
    write_manifest,
)
from harmless_runtime.model.file_hash import sha256_of
from harmless_runtime.model.providers import choose_provider
from harmless_runtime.model.target import Target

logger = logging.getLogger(__name__)

TOOLS = ("numpy", "onnx-ir", "tokenizers", "torch", "transformers")


def export_checkpoint(
    model: str,
    out: str | Path,
    *,
    precision: Precision = "fp32",
    revision: str | None = None,
    max_length: int | None = None,
    verify: bool = True,
    parity_limit: float | None = None,
    allow_pickle: bool = False,
    force: bool = False,
) -> Artifact:
    """Export a GPT-2 reward model, verify it against PyTorch, and return the opened artifact.

    Args:
        model: a Hugging Face id, or the folder of a checkpoint.
        out: the artifact folder to make.
        precision: the type of weights and activations. In `int8`, products are rounded, with their
            inputs. The last layer's products after attention, and all else, are in fp32.
        revision: a branch, tag or commit of a Hugging Face id.
        max_length: most tokens of a row. By default, and at most, the model's positions.
        verify: compare the scores of bundled texts with PyTorch fp32 before the folder appears. A
            bf16 artifact is not verified if no GPU works here.
        parity_limit: the largest difference that passes, as a share of the scores' standard
            deviation. By default that of `parity.LIMITS`.
        allow_pickle: read the weights from `pytorch_model.bin` if there is no safetensors file.
            Loading a pickle can run code if PyTorch's checks of it fail.
        force: replace an artifact that exists.

    Raises:
        ArtifactError: the artifact that `force` would replace is damaged.
        CheckpointError: the checkpoint cannot be read, or cannot be represented exactly.
        ConfigError: `max_length` is out of range.
        OutputError: `out` holds something that may not be replaced, or cannot be written.
        ParityError: the largest difference exceeds the limit.
        SessionError: ONNX Runtime or Optimum cannot run the artifact.
    """
    out = Path(out)
    _check_target(out, force)
    checkpoint = locate(model, revision, allow_pickle=allow_pickle)
    config = read_config(checkpoint.folder)
    tell_of_normalization(checkpoint.folder)
    max_length = max_length or config.n_positions
    if not 1 <= max_length <= config.n_positions:
        raise ConfigError(
            f"max_length {max_length} is out of range: the model has {config.n_positions} positions"
        )
    tokenizer = load_tokenizer(checkpoint.folder)
    check_tokenizer(model, config, tokenizer)
    with _folder_in_the_making(out) as folder:
        logger.info("writing %s of %s", precision, model)
        _save_tokenizer(tokenizer, folder)
        texts = chain.from_iterable(parity_pairs())
        check_saved(checkpoint.folder, tokenizer, folder, texts)
        parameters = _write_model(checkpoint, config, precision, tokenizer, folder)
        _write_config(config, tokenizer.pad_token_id, folder)
        manifest = Manifest(
            format_version=FORMAT_VERSION,
            source=checkpoint.name,
            revision=checkpoint.revision,
            precision=precision,
            max_length=max_length,
            pad_token_id=tokenizer.pad_token_id,
            truncation_side=tokenizer.truncation_side,
            vocab_size=config.vocab_size,
            parameters=parameters,
            opset=OPSET,
            versions={"harmless-scorer": __version__} | {tool: version(tool) for tool in TOOLS},
            files={file.name: sha256_of(file) for file in sorted(folder.iterdir())},
        )
        _complete(Artifact(folder, manifest), checkpoint, verify, parity_limit)
    return open_artifact(out)


def _complete(
    artifact: Artifact, checkpoint: Checkpoint, verify: bool, parity_limit: float | None
) -> None:
    """Verify the artifact, and write its manifest last, because that makes it an artifact."""
    note = "the artifact is not verified, because it was exported without verification"
    if verify:
        try:
            targets = _targets(artifact.manifest.precision)
        except SessionError:  # bf16 without a GPU
            note = "the artifact is not verified, because bf16 needs a GPU and none works here"
        else:
            record_parity(
                artifact, checkpoint, targets, requested="auto", parity_limit=parity_limit
            )
            return
    write_manifest(artifact.folder, msgspec.structs.replace(artifact.manifest, parity_note=note))


def _targets(precision: Precision) -> list[Target]:
    """Return where to verify an artifact: on the provider that `auto` chooses, and on OpenVINO.

    Raises:
        SessionError: no provider here can run the precision.
    """
    targets = [Target(choose_provider("auto", precision))]
    if precision == "fp32" and openvino.is_installed():
        try:
            targets.append(Target("openvino", compute=openvino.choose_compute("auto")))
        except Exception as error:  # a plug-in that fails in any way does not fail an export
            logger.info("the report has no column for OpenVINO: %s", error)
    return targets


def _check_target(out: Path, force: bool) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not is_artifact(out):
        raise OutputError(f"{out} exists and is not an artifact", "choose another folder")
    if not force:
        raise OutputError(f"{out} already exists", "`force` replaces it; or choose another folder")
    own = {MANIFEST, *open_artifact(out).manifest.files}
    if foreign := sorted(file.name for file in out.iterdir() if file.name not in own):
        raise OutputError(
            f"{out} holds more than an artifact ({', '.join(foreign[:3])}), so it is not replaced",
            "choose another folder",
        )


@contextmanager
def _folder_in_the_making(out: Path) -> Iterator[Path]:
    """Give a temporary folder that becomes `out` at the end, and is removed on any error."""
    out = out.resolve()  # `out` may be a link to an empty folder, or the current folder
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.partial-"))
    except OSError as error:
        raise OutputError(f"cannot write in {out.parent}: {error.strerror}") from error
    try:
        yield temporary
        temporary.chmod(0o755)  # mkdtemp made it private
        if is_artifact(out):
            shutil.rmtree(out)
        temporary.replace(out)
    except OSError as error:
        raise OutputError(f"cannot write {out}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _save_tokenizer(tokenizer: Any, folder: Path) -> None:
    try:
        tokenizer.save_pretrained(folder)
    except Exception as error:  # the Rust library raises bare Exception, even for a full disk
        raise OutputError(f"cannot write the tokenizer: {error}") from error


def _write_model(
    checkpoint: Checkpoint, config: Gpt2Config, precision: Precision, tokenizer: Any, folder: Path
) -> int:
    """Write the graph and its weights; return the number of weights.

    Large tensors are in memory one at a time. In int8, all rounded weights are in memory.
    """
    with Weights(checkpoint.folder, allow_pickle=checkpoint.allow_pickle) as weights:
        if weights.are_pickles:
            logger.warning(
                "the weights are a pickle: PyTorch loads nothing but tensors from it, but such "
                "checks have had gaps (CVE-2025-32434)"
            )
        quantized = NOT_QUANTIZED
        if precision == "int8":
            # Before minutes of work: this checks all weights, and reads the small ones.
            build_model(config, weights, "fp32", tokenizer.pad_token_id)
            questions, answers = zip(*parity_pairs(), strict=True)
            texts = tokenizer(
                list(questions), list(answers), truncation=True, max_length=config.n_positions
            )
            quantized = quantize(config, weights, texts["input_ids"])
        model = build_model(config, weights, precision, tokenizer.pad_token_id, quantized)
        ir.save(model, folder / MODEL, external_data=WEIGHTS)
    return sum(
        value.const_value.size
        for value in model.graph.initializers.values()
        if value.const_value is not None and value.dtype is not ir.DataType.INT64
    )


def _write_config(config: Gpt2Config, pad_token_id: int, folder: Path) -> None:
    """Write a `config.json`, so that Optimum loads the folder and transformers its tokenizer."""
    content = {
        "model_type": "gpt2",
        "architectures": ["GPT2ForSequenceClassification"],
        "id2label": {"0": "LABEL_0"},
        "label2id": {"LABEL_0": 0},
        "pad_token_id": pad_token_id,
        "activation_function": "gelu_new",
        "vocab_size": config.vocab_size,
        "n_positions": config.n_positions,
        "n_embd": config.n_embd,
        "n_layer": config.n_layer,
        "n_head": config.n_head,
        "n_inner": config.n_inner,
        "layer_norm_epsilon": config.layer_norm_epsilon,
    }
    (folder / "config.json").write_text(json.dumps(content, indent=2) + "\n")
