"""The programs that score, each called in the way that its users call it, or as fast as it can be.

Every one tokenises inside `score`, because every way to score has to.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoTokenizer

from harmless_export.tokenizer import load_tokenizer
from harmless_runtime.choices import Provider
from harmless_runtime.model.batches import pad, plan_batches, plan_limits
from harmless_runtime.model.engine import Engine
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
    """What all competitors share.

    Attributes:
        checkpoint: folder of the checkpoint.
        cache: folder of what competitors export.
        provider: where to run.
        max_length: most tokens of a row.
        many_rows: whether this project's engine runs as `harmless score` does, and not as the
            Python class does.
    """

    checkpoint: Path
    cache: Path
    provider: Provider
    max_length: int
    many_rows: bool = False


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


class CrossEncoderScorer:
    """A CrossEncoder of sentence-transformers, which sorts the rows by length itself.

    Its own default is 32 rows at a time. Its tokens are counted where it hands them to the model.
    """

    def __init__(self, encoder: Any, setting: Setting) -> None:
        self._encoder = encoder
        encoder.max_length = setting.max_length
        if encoder.tokenizer.pad_token_id is None:
            encoder.tokenizer.pad_token = encoder.tokenizer.eos_token
        encoder.model.config.pad_token_id = encoder.tokenizer.pad_token_id
        self._tokens = self._padded = 0
        self._forward = encoder.model.forward
        encoder.model.forward = self._counting_forward

    def _counting_forward(self, *args: Any, **inputs: Any) -> Any:
        mask = inputs["attention_mask"]
        self._tokens += int(mask.sum())
        self._padded += mask.numel()
        return self._forward(*args, **inputs)

    def score(self, pairs: Pairs) -> Scored:
        """Tokenise and score."""
        self._tokens = self._padded = 0
        scores = self._encoder.predict(
            list(pairs), activation_fn=torch.nn.Identity(), show_progress_bar=False
        )
        return Scored(np.asarray(scores, np.float32), self._tokens, self._padded)
