"""The ways to score that are compared: each takes (Q, A) pairs and gives scores.

Every competitor tokenises inside `score`, since all of them have to. Each is built in a process
of its own (`isolation.py`), so none shares threads or memory with another.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoTokenizer, GPT2ForSequenceClassification

from harmless_export import export_checkpoint
from harmless_runtime.artifact import Precision, is_artifact, open_artifact
from harmless_runtime.batching import plan_batches, plan_limits
from harmless_runtime.config import make_config
from harmless_runtime.engine import load_engine

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
    """What is the same for all: the checkpoint, where exports go, the provider, the length."""

    checkpoint: Path
    cache: Path
    provider: str
    max_length: int


class TransformersScorer:
    """A Hugging Face model called as `model(input_ids, attention_mask)`, in PyTorch or Optimum.

    With `planned` it gets this project's batches; without, 8 rows at a time in file order, as the
    original scorer does it.
    """

    def __init__(self, model: Any, setting: Setting, planned: bool) -> None:
        self._model = model
        self._tokenizer = AutoTokenizer.from_pretrained(setting.checkpoint)
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        model.config.pad_token_id = self._tokenizer.pad_token_id
        self._setting = setting
        self._planned = planned

    def _batches(self, pairs: Pairs) -> Iterator[tuple[Sequence[int], Any]]:
        options = {"truncation": True, "max_length": self._setting.max_length}
        if not self._planned:
            for start in range(0, len(pairs), BATCH_SIZE):
                rows = range(start, min(start + BATCH_SIZE, len(pairs)))
                questions, answers = zip(*(pairs[i] for i in rows), strict=True)
                yield (
                    rows,
                    self._tokenizer(
                        list(questions), list(answers), padding=True, return_tensors="pt", **options
                    ),
                )
            return
        questions, answers = zip(*pairs, strict=True)
        ids = self._tokenizer(list(questions), list(answers), **options)["input_ids"]
        limits = plan_limits(self._setting.provider, 1, BATCH_SIZE, self._setting.max_length)
        for planned in plan_batches([len(row) for row in ids], limits):
            yield (
                planned.rows.tolist(),
                self._tokenizer.pad(
                    {"input_ids": [ids[i] for i in planned.rows]}, return_tensors="pt"
                ),
            )

    @torch.inference_mode()
    def score(self, pairs: Pairs) -> Scored:
        """Tokenise and score."""
        scores = np.empty(len(pairs), np.float32)
        tokens = padded = 0
        device = self._model.device
        for rows, batch in self._batches(pairs):
            mask = batch["attention_mask"]
            logits = self._model(
                input_ids=batch["input_ids"].to(device), attention_mask=mask.to(device)
            ).logits
            scores[list(rows)] = logits[:, 0].float().cpu().numpy()
            tokens += int(mask.sum())
            padded += mask.numel()
        return Scored(scores, tokens, padded)


class HarmlessScorer:
    """This project's engine."""

    def __init__(self, setting: Setting, precision: Precision) -> None:
        folder = harmless_artifact(setting, precision)
        config = {"model": str(folder), "provider": setting.provider}
        self._engine = load_engine(make_config(config | {"max_length": setting.max_length}))

    def score(self, pairs: Pairs) -> Scored:
        """Tokenise and score."""
        encoded = self._engine.tokenizer.encode(pairs)
        sizes: list[int] = []
        scores = self._engine.score(encoded, lambda batch: sizes.append(batch.tokens))
        return Scored(scores, sum(len(row.ids) for row in encoded), sum(sizes))


def harmless_artifact(setting: Setting, precision: Precision) -> Path:
    """Export the checkpoint into the cache once."""
    folder = setting.cache / f"{setting.checkpoint.name}-harmless-{precision}"
    if is_artifact(folder):
        return open_artifact(folder).folder
    return export_checkpoint(
        str(setting.checkpoint), folder, precision=precision, verify=False
    ).folder


def _pytorch(setting: Setting, dtype: torch.dtype, planned: bool, compiled: bool = False) -> Any:
    model = GPT2ForSequenceClassification.from_pretrained(setting.checkpoint, dtype=dtype).eval()
    # The original collects keys and values that nobody asks for.
    model.config.use_cache = not planned
    if setting.provider == "cuda":
        model = model.cuda()
    if compiled:
        model.forward = torch.compile(model.forward, dynamic=True)
    return TransformersScorer(model, setting, planned)


def _optimum(setting: Setting, planned: bool, io_binding: bool) -> TransformersScorer:
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
    return TransformersScorer(model, setting, planned)


FP32, BF16 = torch.float32, torch.bfloat16

# The first is the truth that the others are compared with.
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
    "harmless-fp32": lambda s: HarmlessScorer(s, "fp32"),
    "harmless-fp16": lambda s: HarmlessScorer(s, "fp16"),
    "harmless-bf16": lambda s: HarmlessScorer(s, "bf16"),
    "harmless-int8": lambda s: HarmlessScorer(s, "int8"),
}
TRUTH = "pytorch-fp32-original"
