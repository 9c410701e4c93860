"""Load a checkpoint's tokenizer, and refuse one that the runtime would not reproduce exactly."""

import logging
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harmless_export.checkpoint import Gpt2Config
from harmless_runtime.errors import CheckpointError

logger = logging.getLogger(__name__)


def load_tokenizer(folder: Path) -> Any:
    """Load the checkpoint's fast tokenizer, with the padding that the reward model expects.

    Padding is on the right. If the tokenizer has no pad token, the EOS token pads.

    Returns:
        A `transformers.PreTrainedTokenizerFast` whose `pad_token_id` is not None.

    Raises:
        CheckpointError: there is no tokenizer, it has no fast version, or loading it is unsafe.
    """
    refuse_kernels()
    from transformers import AutoTokenizer

    if not any((folder / name).exists() for name in ("tokenizer.json", "vocab.json")):
        raise CheckpointError(
            f"{folder} has no tokenizer: neither tokenizer.json nor vocab.json and merges.txt"
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, use_fast=True, trust_remote_code=False)
    except Exception as error:  # transformers raises OSError, ValueError, TypeError and more
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"{folder} has no usable tokenizer: {reason}") from error
    if not tokenizer.is_fast:
        raise CheckpointError(f"{folder} has only a slow tokenizer", "save its fast version there")
    if tokenizer.split_special_tokens:
        raise CheckpointError(
            f"{folder}: the tokenizer has split_special_tokens, which tokenizer.json cannot hold"
        )
    if not tokenizer("\n\nHuman:")["input_ids"]:
        raise CheckpointError(f"{folder}: the tokenizer gives no tokens for an English text")
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token is None:
            raise CheckpointError(f"{folder}: the tokenizer has neither a pad nor an EOS token")
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    if "token_type_ids" in tokenizer.model_input_names:
        # GPT-2's own tokenizer class gives none. The generic class does, and the model would embed
        # them.
        logger.warning("leaving out the token_type_ids that the tokenizer of %s gives", folder)
        tokenizer.model_input_names = ["input_ids", "attention_mask"]
    return tokenizer


def check_tokenizer(model: str, config: Gpt2Config, tokenizer: Any) -> None:
    """Refuse a tokenizer whose ids the model has no embeddings for.

    If its pad token is not the one of `config.json`, the tokenizer's pads, as in the scorer that
    this one replaces.

    Raises:
        CheckpointError: an id is too high.
    """
    pad = config.pad_token_id
    if pad is not None and type(pad) is not int:
        logger.warning(
            "config.json's pad_token_id is %r, which is no number of a token: the tokenizer's is "
            "taken, which is %d",
            pad,
            tokenizer.pad_token_id,
        )
    elif pad not in (None, tokenizer.pad_token_id):
        logger.warning(
            "config.json's pad_token_id is %d, but the tokenizer pads with %d, which is taken",
            pad,
            tokenizer.pad_token_id,
        )
    highest = max(tokenizer.get_vocab().values())
    if highest >= config.vocab_size:
        raise CheckpointError(
            f"{model}: the tokenizer's ids reach {highest}, but the model has embeddings for "
            f"{config.vocab_size}",
            "the embeddings were not resized when tokens were added: resize them",
        )


def refuse_kernels() -> None:
    """Refuse to load anything if a `config.json` could run code (CVE-2026-4372).

    Raises:
        CheckpointError: transformers is older than 5.3, and the package `kernels` is installed.
    """
    major, minor = (int(part) for part in version("transformers").split(".")[:2])
    if (major, minor) < (5, 3) and find_spec("kernels") is not None:
        raise CheckpointError(
            f"transformers {major}.{minor} with the package kernels lets a checkpoint run code "
            "(CVE-2026-4372)",
            "pip uninstall kernels",
        )
