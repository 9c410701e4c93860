"""The ways to score that are compared, by name. Each takes (Q, A) pairs and gives scores.

Each is built in a process of its own (`isolation.py`), so that none shares threads or memory with
another.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AttentionInterface, GPT2ForSequenceClassification
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from harmless_export import export_checkpoint
from harmless_runtime.choices import Compute, Precision
from harmless_runtime.config import make_config
from harmless_runtime.model.artifact import is_artifact, open_artifact
from harmless_runtime.model.load import load_engine
from suite.scorers import (
    Competitor,
    CrossEncoderScorer,
    HarmlessScorer,
    OriginalScorer,
    PlannedScorer,
    Setting,
)


def _harmless(setting: Setting, precision: Precision, compute: Compute | None = None) -> Competitor:
    config = {
        "model": str(harmless_artifact(setting, precision)),
        "provider": setting.provider,
        "max_length": setting.max_length,
    }
    if compute is not None:
        config |= {"provider": "openvino", "compute": compute}
    return HarmlessScorer(load_engine(make_config(config), for_many_rows=setting.many_rows))


def harmless_artifact(setting: Setting, precision: Precision) -> Path:
    """Export the checkpoint into the cache, if that was not done before; return its folder."""
    folder = setting.cache / f"{setting.checkpoint.name}-harmless-{precision}"
    if is_artifact(folder):
        return open_artifact(folder).folder
    return export_checkpoint(
        str(setting.checkpoint), folder, precision=precision, verify=False
    ).folder


def _pytorch(
    setting: Setting, dtype: torch.dtype, planned: bool, compiled: bool = False
) -> Competitor:
    model = GPT2ForSequenceClassification.from_pretrained(setting.checkpoint, dtype=dtype).eval()
    if setting.provider == "cuda":
        model = model.cuda()
    if not planned:
        return OriginalScorer(model, setting)
    # The original keeps keys and values that nobody uses.
    model.config.use_cache = False
    # Transformers makes no mask for an attention implementation that it does not know. It then
    # looks at the ids to warn that a mask is missing, and every batch would wait for that.
    AttentionInterface.register("causal", sdpa_attention_forward)
    model.set_attn_implementation("causal")
    model.transformer.warn_if_padding_and_no_attention_mask = lambda *_: None
    if compiled:
        model.forward = torch.compile(model.forward, dynamic=True)
    return PlannedScorer(model, setting, mask=False)


def _optimum(setting: Setting, planned: bool, io_binding: bool) -> Competitor:
    from optimum.onnxruntime import ORTModelForSequenceClassification

    folder = setting.cache / f"{setting.checkpoint.name}-optimum"
    provider = "CUDAExecutionProvider" if setting.provider == "cuda" else "CPUExecutionProvider"
    if not (folder / "model.onnx").exists():
        exported = ORTModelForSequenceClassification.from_pretrained(
            setting.checkpoint, export=True, provider=provider
        )
        exported.save_pretrained(folder)
    model = ORTModelForSequenceClassification.from_pretrained(
        folder, provider=provider, use_io_binding=io_binding
    )
    return PlannedScorer(model, setting, mask=True) if planned else OriginalScorer(model, setting)


def _optimum_intel(setting: Setting, settings: Mapping[str, str]) -> Competitor:
    """Return optimum-intel's OVModelForSequenceClassification, which runs OpenVINO itself."""
    from optimum.intel import OVModelForSequenceClassification

    folder = setting.cache / f"{setting.checkpoint.name}-optimum-intel"
    if not (folder / "openvino_model.xml").exists():
        exported = OVModelForSequenceClassification.from_pretrained(
            setting.checkpoint, export=True, compile=False, load_in_8bit=False
        )
        exported.save_pretrained(folder)
    model = OVModelForSequenceClassification.from_pretrained(folder, ov_config=settings)
    return PlannedScorer(model, setting, mask=True)


def _cross_encoder(setting: Setting, backend: str, **model: Any) -> Competitor:
    """Return sentence-transformers' CrossEncoder."""
    from sentence_transformers import CrossEncoder

    device = "cuda" if setting.provider == "cuda" else "cpu"
    if backend == "onnx":
        cuda = setting.provider == "cuda"
        model["provider"] = "CUDAExecutionProvider" if cuda else "CPUExecutionProvider"
    folder = setting.checkpoint
    if backend != "torch":
        folder = setting.cache / f"{setting.checkpoint.name}-crossencoder-{backend}"
        if not folder.exists():
            exported = CrossEncoder(str(setting.checkpoint), backend=backend, device=device)
            exported.save_pretrained(str(folder))
    encoder = CrossEncoder(str(folder), backend=backend, device=device, model_kwargs=model)
    return CrossEncoderScorer(encoder, setting)


FP32, BF16 = torch.float32, torch.bfloat16
# OpenVINO's own settings. Without them it takes bf16 where it is fast.
OV_FP32, OV_BF16 = {"INFERENCE_PRECISION_HINT": "f32"}, {"INFERENCE_PRECISION_HINT": "bf16"}
EXPORTED = ("harmless", "optimum", "crossencoder")

# All ways to score, by name. A precision in the name (fp16, bf16, int8) sets the parity limit;
# without one it is that of fp32. If a name begins with one of `EXPORTED`, its export is made before
# anything is measured. The first is the truth that the others are compared with.
COMPETITORS: dict[str, Callable[[Setting], Competitor]] = {
    "pytorch-fp32-original": lambda s: _pytorch(s, FP32, planned=False),
    "pytorch-bf16-original": lambda s: _pytorch(s, BF16, planned=False),
    "pytorch-fp32": lambda s: _pytorch(s, FP32, planned=True),
    "pytorch-bf16": lambda s: _pytorch(s, BF16, planned=True),
    "compile-fp32": lambda s: _pytorch(s, FP32, planned=True, compiled=True),
    "compile-bf16": lambda s: _pytorch(s, BF16, planned=True, compiled=True),
    "optimum-original": lambda s: _optimum(s, planned=False, io_binding=False),
    "optimum": lambda s: _optimum(s, planned=True, io_binding=False),
    "optimum-iobinding": lambda s: _optimum(s, planned=True, io_binding=True),
    "optimum-intel-fp32": lambda s: _optimum_intel(s, OV_FP32),
    "optimum-intel-bf16": lambda s: _optimum_intel(s, OV_BF16),
    "crossencoder": lambda s: _cross_encoder(s, "torch"),
    "crossencoder-bf16": lambda s: _cross_encoder(s, "torch", dtype=BF16),
    "crossencoder-onnx": lambda s: _cross_encoder(s, "onnx"),
    "crossencoder-openvino-fp32": lambda s: _cross_encoder(s, "openvino", ov_config=OV_FP32),
    "crossencoder-openvino-bf16": lambda s: _cross_encoder(s, "openvino", ov_config=OV_BF16),
    "harmless-fp32": lambda s: _harmless(s, "fp32"),
    "harmless-fp16": lambda s: _harmless(s, "fp16"),
    "harmless-bf16": lambda s: _harmless(s, "bf16"),
    "harmless-int8": lambda s: _harmless(s, "int8"),
    "harmless-openvino-fp32": lambda s: _harmless(s, "fp32", "fp32"),
    "harmless-openvino-bf16": lambda s: _harmless(s, "fp32", "bf16"),
}
TRUTH = "pytorch-fp32-original"
