"""Score texts with the checkpoint in PyTorch, and with an artifact in Optimum."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from harmless_export.checkpoint import read_config
from harmless_export.tokenizer import load_tokenizer, refuse_kernels
from harmless_export.weights import Weights, weight_shapes
from harmless_runtime.choices import Provider
from harmless_runtime.errors import CheckpointError, HarmlessError, SessionError, one_line
from harmless_runtime.model.artifact import Artifact

_OPTIMUM_BATCH = 4

Pairs = Sequence[tuple[str, str]]


def pytorch_scores(
    folder: Path,
    pairs: Pairs,
    max_length: int,
    *,
    allow_pickle: bool = False,
    on_text: Callable[[], None] = lambda: None,
) -> NDArray[np.float32]:
    """Score pairs one by one with the checkpoint itself, GPT2ForSequenceClassification in fp32.

    Args:
        folder: the checkpoint.
        pairs: the (Q, A) texts.
        max_length: most tokens of a pair.
        allow_pickle: read the weights from a pickle if there is no safetensors file.
        on_text: called after each text.

    Returns:
        float32 [len(pairs)].

    Raises:
        CheckpointError: transformers does not load the checkpoint.
    """
    refuse_kernels()
    read_config(folder)
    tokenizer = load_tokenizer(folder)
    with _quiet_transformers(), torch.inference_mode():
        model = _loaded(folder, tokenizer.pad_token_id, allow_pickle)
        scores = []
        for pair in pairs:
            inputs = _encode(tokenizer, [pair], max_length)
            # With `torchscript` in config.json, it would return a tuple.
            scores.append(model(**inputs, return_dict=True).logits[0, 0].item())
            on_text()
    return np.array(scores, np.float32)


def _loaded(folder: Path, pad_token_id: int, allow_pickle: bool) -> Any:
    """Load the checkpoint, and raise CheckpointError for all that transformers raises."""
    try:
        return _pytorch_model(folder, pad_token_id, allow_pickle)
    except (HarmlessError, MemoryError):
        raise
    except Exception as error:  # OSError, KeyError, AttributeError and more
        raise CheckpointError(
            f"transformers cannot load {folder}: {one_line(error) or type(error).__name__}",
            "mend or leave out what it complains of, in config.json or in the weights",
        ) from error


def _pytorch_model(folder: Path, pad_token_id: int, allow_pickle: bool) -> Any:
    """Load the checkpoint in fp32 with transformers."""
    from transformers import GPT2Config, GPT2ForSequenceClassification

    config = GPT2Config.from_pretrained(folder)
    config.num_labels = 1
    config.return_dict = True
    config.pad_token_id = pad_token_id
    with Weights(folder, allow_pickle=allow_pickle) as weights:
        if not weights.has_full_names:
            # transformers refuses the names without prefix of old checkpoints.
            model = GPT2ForSequenceClassification(config)
            names = weight_shapes(read_config(folder))
            model.load_state_dict({name: weights.read(name) for name in names})
            return model.eval()
    # It looks for the files in the order of `find_weights`, which has refused pickles by now.
    return GPT2ForSequenceClassification.from_pretrained(
        folder, config=config, dtype=torch.float32
    ).eval()


def optimum_obstacle(provider: Provider) -> str | None:
    """Return why Optimum cannot score here, or None if it can."""
    try:
        found = find_spec("optimum.onnxruntime") is not None
    except ModuleNotFoundError:  # not even the package optimum itself is there
        found = False
    if not found:
        return "Optimum is not installed"
    if provider == "cuda" and not torch.cuda.is_available():
        return "Optimum needs a PyTorch with CUDA, and this PyTorch has none"
    return None


def optimum_scores(
    artifact: Artifact, pairs: Pairs, provider: Provider, device: int
) -> NDArray[np.float32]:
    """Score pairs with Optimum's ORTModelForSequenceClassification on the artifact folder.

    Returns:
        float32 [len(pairs)].

    Raises:
        SessionError: Optimum cannot load or run the folder.
    """
    try:
        from optimum.onnxruntime import ORTModelForSequenceClassification
        from transformers import AutoTokenizer

        with _quiet_transformers():
            model = ORTModelForSequenceClassification.from_pretrained(
                artifact.folder,
                provider="CUDAExecutionProvider" if provider == "cuda" else "CPUExecutionProvider",
                provider_options={"device_id": device} if provider == "cuda" else None,
            )
            tokenizer = AutoTokenizer.from_pretrained(artifact.folder)
            logits = [
                model(
                    **_encode(
                        tokenizer,
                        pairs[start : start + _OPTIMUM_BATCH],
                        artifact.manifest.max_length,
                    ).to(model.device)
                ).logits
                for start in range(0, len(pairs), _OPTIMUM_BATCH)
            ]
    except Exception as error:  # Optimum raises many types
        raise SessionError(f"Optimum cannot score with {artifact.folder}: {error}") from error
    scores: NDArray[np.float32] = torch.cat(logits)[:, 0].float().cpu().numpy()
    return scores


def _encode(tokenizer: Any, pairs: Pairs, max_length: int) -> Any:
    questions, answers = zip(*pairs, strict=True)
    return tokenizer(
        list(questions),
        list(answers),
        truncation=True,
        padding=True,
        max_length=max_length,
        return_tensors="pt",
    )


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Let transformers print errors only, and no progress bars."""
    from transformers.utils import logging as transformers_logging

    level = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()
