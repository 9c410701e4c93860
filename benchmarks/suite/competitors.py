"""The ways to score that are compared. Each takes (Q, A) pairs and gives scores.

Every competitor tokenises inside `score`, because every way to score has to. Each is built in a
process of its own (`isolation.py`), so that none shares threads or memory with another.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AttentionInterface, AutoTokenizer, GPT2ForSequenceClassification
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from harmless_export import export_checkpoint
from harmless_export.tokenizer import load_tokenizer
from harmless_runtime.choices import Precision, Provider
from harmless_runtime.config import make_config
from harmless_runtime.model.artifact import is_artifact, open_artifact
from harmless_runtime.model.batches import pad, plan_batches, plan_limits
from harmless_runtime.model.engine import Engine
from harmless_runtime.model.load import load_engine
from harmless_runtime.model.tokenizer import PairTokenizer

Pairs = Sequence[tuple[str, str]]
BATCH_SIZE = 8


@dataclass(frozen=True)
class Scored:
    """float32 [pairs] scores in the order given, and tokens without and with padding."""

    scores: NDArray[np.float32]
    tokens: int
    padded_tokens: int


class Competitor(Protocol):
    """Something that scores pairs."""

    def score(self, pairs: Pairs) -> Scored:
        """Tokenise and score."""
        ...


@dataclass(frozen=True)
class Setting:
    """What all competitors share: the checkpoint, the folder of exports, provider and length."""

    checkpoint: Path
    cache: Path
    provider: Provider
    max_length: int


class OriginalScorer:
    """A Hugging Face model in PyTorch or Optimum, called as the original scorer calls it.

    It takes 8 rows at a time in file order, and fetches a batch's scores before it makes the next.
    """

    def __init__(self, model: Any, setting: Setting) -> None:
        self._model = model
        self._tokenizer = AutoTokenizer.from_pretrained(setting.checkpoint)
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        model.config.pad_token_id = self._tokenizer.pad_token_id
        self._setting = setting

    @torch.inference_mode()
    def score(self, pairs: Pairs) -> Scored:
        """Tokenise and score."""
        scores = np.empty(len(pairs), np.float32)
        tokens = padded = 0
        for start in range(0, len(pairs), BATCH_SIZE):
            questions, answers = zip(*pairs[start : start + BATCH_SIZE], strict=True)
            batch = self._tokenizer(
                list(questions),
                list(answers),
                truncation=True,
                padding=True,
                max_length=self._setting.max_length,
                return_tensors="pt",
            )
            ids, mask = batch["input_ids"], batch["attention_mask"]
            device = self._model.device
            logits = self._model(input_ids=ids.to(device), attention_mask=mask.to(device)).logits
            scores[start : start + BATCH_SIZE] = logits[:, 0].float().cpu().numpy()
            tokens += int(mask.sum())
            padded += mask.numel()
        return Scored(scores, tokens, padded)


class PlannedScorer:
    """The same model, run as fast as it can be: with this project's tokens and batches.

    No batch waits for the scores of the one before. With causal attention and padding on the right,
    PyTorch needs no attention mask, and is faster without one. Optimum's graph needs a mask.
    """

    def __init__(self, model: Any, setting: Setting, *, mask: bool) -> None:
        self._model = model
        tokenizer = load_tokenizer(setting.checkpoint)
        with tempfile.NamedTemporaryFile(suffix=".json") as file:
            tokenizer.backend_tokenizer.save(file.name)
            self._tokenizer = PairTokenizer(Path(file.name), setting.max_length)
        self._pad = model.config.pad_token_id = tokenizer.pad_token_id
        self._limits = plan_limits(setting.provider, 1, BATCH_SIZE, setting.max_length)
        self._mask = mask

    @torch.inference_mode()
    def score(self, pairs: Pairs) -> Scored:
        """Tokenise and score."""
        rows = [row.ids for row in self._tokenizer.encode(pairs)]
        batches = plan_batches(list(map(len, rows)), self._limits)
        logits = []
        padded = 0
        for batch in batches:
            own = [rows[i] for i in batch.rows]
            inputs = {"input_ids": pad(own, self._pad)}
            padded += inputs["input_ids"].size
            if self._mask:
                inputs["attention_mask"] = pad([np.ones_like(ids) for ids in own], 0)
            tensors = {k: self._to_device(torch.from_numpy(v)) for k, v in inputs.items()}
            logits.append(self._model(**tensors).logits[:, 0].float())
        scores = np.empty(len(pairs), np.float32)
        scores[np.concatenate([batch.rows for batch in batches])] = torch.cat(logits).cpu().numpy()
        return Scored(scores, sum(map(len, rows)), padded)

    def _to_device(self, tensor: torch.Tensor) -> torch.Tensor:
        device = torch.device(self._model.device)
        if device.type == "cuda":
            # A copy from memory that is not pinned would wait for everything started before.
            return tensor.pin_memory().to(device, non_blocking=True)
        return tensor.to(device)


class HarmlessScorer:
    """This project's engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def score(self, pairs: Pairs) -> Scored:
        """Tokenise and score."""
        encoded = self._engine.tokenizer.encode(pairs)
        sizes: list[int] = []
        scores = self._engine.score(encoded, lambda batch: sizes.append(batch.tokens))
        return Scored(scores, sum(len(row.ids) for row in encoded), sum(sizes))


def _harmless(setting: Setting, precision: Precision) -> Competitor:
    config = {
        "model": str(harmless_artifact(setting, precision)),
        "provider": setting.provider,
        "max_length": setting.max_length,
    }
    return HarmlessScorer(load_engine(make_config(config)))


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


FP32, BF16 = torch.float32, torch.bfloat16

# All ways to score, by name. A precision in the name (fp16, bf16, int8) sets the parity limit;
# without one it is that of fp32. If a name begins with `harmless` or `optimum`, its export is made
# before anything is measured. The first is the truth that the others are compared with.
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
    "harmless-fp32": lambda s: _harmless(s, "fp32"),
    "harmless-fp16": lambda s: _harmless(s, "fp16"),
    "harmless-bf16": lambda s: _harmless(s, "bf16"),
    "harmless-int8": lambda s: _harmless(s, "int8"),
}
TRUTH = "pytorch-fp32-original"
