"""Turn texts into the token ids that the checkpoint's own Hugging Face tokenizer gives."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from harmless_runtime.choices import TruncationSide
from harmless_runtime.errors import ArtifactError, ConfigError, InputError
from harmless_runtime.model.text_parts import TextParts

# Most UTF-8 bytes of a part of a text. For each, the tokenizer needs up to 120 bytes of memory
# (tokenizers 0.22, a million spaces with GPT-2's vocabulary).
_PART_BYTES = 2**19
# Why a pair has no tokens.
UNBROKEN = (
    "a text has more than half a mebibyte in a row that cannot be tokenised piece by piece, such "
    "as one long word, or nothing but spaces"
)
# Most characters of the texts that are tokenised at once, if there is more than one pair. For each
# character of English, the tokenizer needs about 60 bytes of memory.
_BATCH_CHARACTERS = 2**18
# The usual length of a part, in characters: so many for each token that a pair may have (English
# has about 4.5), and so many at least.
_PART_CHARACTERS = 8
_LEAST_PART = 2**12


@dataclass(frozen=True, slots=True)
class Encoded:
    """The token ids of one pair, int32 [tokens], and whether some were cut off."""

    ids: NDArray[np.int32]
    truncated: bool


class PairTokenizer:
    """Encodes (Q, A) pairs as `tokenizer(Q, A, truncation=True, max_length=max_length)` does.

    Q and A are tokenised separately, and joined with nothing between them. A pair that is too long
    loses tokens of its longer side ("longest_first"), from the end or from the start. This calls
    the Rust library that is inside Hugging Face's fast tokenizers. It never asks the library to
    truncate: the library then pairs each rest of Q with each rest of A, in memory that grows with
    the product of their lengths. The library gets no more of a text than the tokens need that are
    kept.

    Args:
        path: a `tokenizer.json`.
        max_length: most tokens of a pair.
        truncation_side: where a side that is too long loses tokens.

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
        special: int = self._tokenizer.num_special_tokens_to_add(True)
        if max_length <= special:
            raise ConfigError(
                f"max_length {max_length} leaves no room for text, because this tokenizer adds "
                f"{special} special tokens to a row",
                "raise `max_length`",
            )
        self.max_length = max_length
        self._room = max_length - special
        self._keeps_end = truncation_side == "left"
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        length = min(max(_LEAST_PART, _PART_CHARACTERS * max_length), _PART_BYTES // 4)
        self._parts = TextParts(self._tokenizer, length, from_end=self._keeps_end)

    def encode(self, pairs: Sequence[tuple[str, str]]) -> list[Encoded]:
        """Encode pairs on all cores. No row is padded, and none is longer than `max_length`.

        Raises:
            InputError: the tokenizer would need too much memory for a pair, as `UNBROKEN` says.
        """
        encoded = [row for row in self.encode_each(pairs) if row is not None]
        if len(encoded) < len(pairs):
            raise InputError(UNBROKEN)
        return encoded

    def encode_each(self, pairs: Sequence[tuple[str, str]]) -> list[Encoded | None]:
        """Encode pairs as `encode`, but return None for each that it raises an error for."""
        encoded: list[Encoded | None] = []
        batch: list[_Begun] = []
        characters = 0
        for pair in pairs:
            first, sides = pair, None
            size = len(pair[0]) + len(pair[1])
            if size > self._parts.length:
                sides = _Side(self._parts.of(pair[0])), _Side(self._parts.of(pair[1]))
                first = sides[0].take(), sides[1].take()
                size = len(first[0]) + len(first[1])
            if batch and characters + size > _BATCH_CHARACTERS:
                encoded += self._encoded(batch)
                batch, characters = [], 0
            batch.append((first, sides))
            characters += size
        return encoded + self._encoded(batch)

    def _encoded(self, batch: list["_Begun"]) -> list[Encoded | None]:
        """Encode pairs, whose first parts the tokenizer gets at once."""
        fits = [sides is None or all(map(_is_bounded, first)) for first, sides in batch]
        bounded = [first for (first, _), is_bounded in zip(batch, fits, strict=True) if is_bounded]
        encodings = iter(self._tokenizer.encode_batch_fast(bounded))
        return [
            self._completed(next(encodings), sides) if is_bounded else None
            for (_, sides), is_bounded in zip(batch, fits, strict=True)
        ]

    def _completed(self, begun: Encoding, sides: tuple["_Side", "_Side"] | None) -> Encoded | None:
        """Return the tokens of a pair, of which the first parts are encoded."""
        ids = begun.ids
        is_all = sides is None or (sides[0].is_whole and sides[1].is_whole)
        if is_all and len(ids) <= self.max_length:
            return Encoded(np.array(ids, dtype=np.int32), truncated=False)
        question, answer = sides or (_Side(iter(())), _Side(iter(())))
        sequence = begun.sequence_ids  # None for a special token
        for number, side in enumerate((question, answer)):
            side.add([i for i, s in zip(ids, sequence, strict=True) if s == number], self._room)
            while side.count < self._room and not side.is_whole:
                if not self._read_on(side):
                    return None
        if self._is_longer_side_needed(question, answer) and not self._compare(question, answer):
            return None
        kept = dict(enumerate(self._kept(question, answer)))
        result: list[int] = []
        for token, number in zip(ids, sequence, strict=True):
            if number is None:
                result.append(token)
            else:
                result += kept.pop(number, [])
        is_read = question.is_whole and answer.is_whole
        is_truncated = not is_read or question.count + answer.count > self._room
        return Encoded(np.array(result, dtype=np.int32), is_truncated)

    def _read_on(self, side: "_Side") -> bool:
        """Encode the next part of a text. Return False if that would need too much memory."""
        part = side.take()
        if not _is_bounded(part):
            return False
        side.add(self._tokenizer.encode(part, add_special_tokens=False).ids, self._room)
        return True

    def _kept(self, question: "_Side", answer: "_Side") -> tuple[list[int], list[int]]:
        """Return the tokens that stay of both sides, by the library's rule of "longest_first".

        If one side needs at most half of the room, it stays whole, and the other gets the rest.
        Otherwise each gets half, and the longer one the odd token: the answer if they are equal.
        """
        shorter = min(question.count, answer.count, self._room // 2)
        counts = shorter, self._room - shorter
        if question.count > answer.count:
            counts = counts[::-1]
        return self._cut(question, counts[0]), self._cut(answer, counts[1])

    def _cut(self, side: "_Side", count: int) -> list[int]:
        if self._keeps_end:
            ids = list(chain.from_iterable(reversed(side.ids)))
            return ids[max(0, len(ids) - count) :]
        return list(islice(chain.from_iterable(side.ids), count))

    def _is_longer_side_needed(self, question: "_Side", answer: "_Side") -> bool:
        both = min(question.count, answer.count)
        return self._room % 2 == 1 and both > self._room // 2

    def _compare(self, question: "_Side", answer: "_Side") -> bool:
        """Read both sides on until it is known which is longer. Return False as `_read_on`."""
        while not (
            (question.is_whole and answer.count >= question.count)
            or (answer.is_whole and question.count > answer.count)
        ):
            left = [side for side in (question, answer) if not side.is_whole]
            if not self._read_on(min(left, key=lambda side: side.count)):
                return False
        return True


class _Side:
    """A text that is encoded part by part, as far as it is needed.

    Attributes:
        part: the next part, or None if all were taken.
        count: number of tokens of the parts so far.
        ids: those of each part, up to the first one after which they are enough.
    """

    __slots__ = ("_rest", "count", "ids", "part")

    def __init__(self, parts: Iterator[str]) -> None:
        self._rest = parts
        self.part = next(parts, None)
        self.count = 0
        self.ids: list[list[int]] = []

    @property
    def is_whole(self) -> bool:
        """Whether all parts were taken."""
        return self.part is None

    def take(self) -> str:
        """Return the next part. There has to be one."""
        part = self.part
        assert part is not None
        self.part = next(self._rest, None)
        return part

    def add(self, ids: list[int], room: int) -> None:
        """Add the tokens of the part that was taken. At most `room` tokens of a text are needed."""
        if self.count < room:
            self.ids.append(ids)
        self.count += len(ids)


# The first parts of a pair, and the texts that they are of, if these may have more parts.
_Begun = tuple[tuple[str, str], tuple[_Side, _Side] | None]


def _is_bounded(part: str) -> bool:
    return 4 * len(part) <= _PART_BYTES or len(part.encode()) <= _PART_BYTES
