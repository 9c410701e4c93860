"""Turn texts into the token ids that the checkpoint's own Hugging Face tokenizer gives."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from harmless_runtime.choices import TruncationSide
from harmless_runtime.errors import ArtifactError, ConfigError


@dataclass(frozen=True, slots=True)
class Encoded:
    """The token ids of one pair, int32 [tokens], and whether some were cut off."""

    ids: NDArray[np.int32]
    truncated: bool


class PairTokenizer:
    """Encodes (Q, A) pairs as `tokenizer(Q, A, truncation=True, max_length=max_length)` does.

    Q and A are tokenised separately, and joined with nothing between them. A pair that is too long
    loses tokens of its longer part ("longest_first"), from the end or from the start. This calls
    the Rust library that is inside Hugging Face's fast tokenizers, with the same settings.

    Args:
        path: a `tokenizer.json`.
        max_length: most tokens of a pair.
        truncation_side: where a part that is too long loses tokens.

    Raises:
        ArtifactError: the file is not a tokenizer.
        ConfigError: `max_length` leaves no room for text.
    """

    def __init__(
        self, path: Path, max_length: int, truncation_side: TruncationSide = "right"
    ) -> None:
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise ArtifactError(f"{path} is not a tokenizer: {error}") from error
        if max_length <= (special := self._tokenizer.num_special_tokens_to_add(True)):
            raise ConfigError(
                f"max_length {max_length} leaves no room for text, because this tokenizer adds "
                f"{special} special tokens to a row",
                "raise `max_length`",
            )
        self.max_length = max_length
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(
            max_length, strategy="longest_first", direction=truncation_side
        )

    def encode(self, pairs: Sequence[tuple[str, str]]) -> list[Encoded]:
        """Encode pairs on all cores. No row is padded, and none is longer than `max_length`."""
        encodings = self._tokenizer.encode_batch_fast(list(pairs))
        return [
            Encoded(np.array(encoding.ids, dtype=np.int32), self._is_truncated(encoding, pair))
            for encoding, pair in zip(encodings, pairs, strict=True)
        ]

    def _is_truncated(self, encoding: Encoding, pair: tuple[str, str]) -> bool:
        if encoding.overflowing or len(encoding) < self.max_length:
            return bool(encoding.overflowing)
        # tokenizers 0.23 reports no overflow if one part of the pair is empty.
        return len(self._untruncated.encode(*pair)) > self.max_length

    @cached_property
    def _untruncated(self) -> Tokenizer:
        """A copy without truncation: the original may be in use by another thread."""
        tokenizer = Tokenizer.from_str(self._tokenizer.to_str())
        tokenizer.no_truncation()
        return tokenizer
