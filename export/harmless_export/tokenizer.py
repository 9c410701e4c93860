"""Load a checkpoint's tokenizer, and refuse one that the runtime would not reproduce exactly."""

import logging
from collections.abc import Iterable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from harmless_export.checkpoint import Gpt2Config, read_json
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
        if _is_of_transformers_5(folder) and int(version("transformers").split(".")[0]) < 5:
            raise CheckpointError(
                f"{folder} has a tokenizer that transformers 5 has saved, which transformers "
                f"{version('transformers')} cannot read: {reason}",
                "pip install '.[cpu,export-core]' 'transformers>=5' in the project's folder, in an "
                "environment without optimum, which does not take it",
            ) from error
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


def _is_of_transformers_5(folder: Path) -> bool:
    """Return whether the settings of a tokenizer have a list where earlier releases had a mapping.

    Raises:
        CheckpointError: they cannot be read.
    """
    path = folder / "tokenizer_config.json"
    return path.exists() and isinstance(read_json(path).get("extra_special_tokens"), list)


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


def check_saved(checkpoint: Path, tokenizer: Any, saved: Path, texts: Iterable[str]) -> None:
    """Compare the ids of the checkpoint's tokenizer file, of AutoTokenizer, and of what is saved.

    transformers 5 builds the tokenizer of a GPT-2 checkpoint anew from its vocabulary and merges,
    without the normalizer that `tokenizer.json` may have.

    Args:
        checkpoint: the folder of the checkpoint.
        tokenizer: what AutoTokenizer made of it.
        saved: the folder with the tokenizer's files for the artifact.
        texts: what to tokenise, besides texts that show parts of a tokenizer.

    Raises:
        CheckpointError: the ids of a text differ.
    """
    files = {"the artifact's tokenizer.json": saved / "tokenizer.json"}
    if (checkpoint / "tokenizer.json").exists():
        files = {"the checkpoint's own tokenizer.json": checkpoint / "tokenizer.json", **files}
    added = tokenizer.get_added_vocab()
    probes = [*_PROBES, *(f"a{space}{token}{space}b" for token in added for space in ("", " "))]
    all_texts = [*probes, *texts]
    by_transformers = [tokenizer(text)["input_ids"] for text in all_texts]
    for name, path in files.items():
        read = Tokenizer.from_file(str(path))
        read.no_truncation()
        read.no_padding()
        for text, ids in zip(all_texts, by_transformers, strict=True):
            if (others := read.encode(text).ids) != ids:
                raise CheckpointError(
                    f"{checkpoint}: AutoTokenizer of transformers {version('transformers')} gives "
                    f"other ids than {name}: {text[:40]!r} has {ids[:8]} by AutoTokenizer and "
                    f"{others[:8]} by the file",
                    _HOW_TO_AGREE,
                )


# Texts that show a normalizer, a prefix space, spaces that are stripped, and groups of digits.
_PROBES = (
    "e\u0301 \ufb01 \uff21 \u00c5\u00c9", "word", " word", "  x", "Two  spaces, a\ttab, CRLF\r\n",
    "end ", "UPPER Lower 1234567", "don't \u201cquote\u201d",
)  # fmt: skip
_HOW_TO_AGREE = (
    "export with the release of transformers that the checkpoint was made with (releases before 5 "
    "keep all of tokenizer.json: pip install 'transformers<5'), or make the tokenizer's files agree"
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
