"""Cut a long text into parts whose tokens, one part after the other, are the tokens of the text."""

import json
import re
from collections.abc import Iterator

from tokenizers import Tokenizer

# GPT-2 divides a text by a regular expression before it looks for tokens
# (https://github.com/openai/gpt-2/blob/master/src/encoder.py): into words, numbers and other signs,
# each with one space before it, and into white space. Where a match ends, the rest of the text is
# divided as if nothing stood before it. A match surely ends between these two characters: one that
# is not white space, and white space; a letter of ASCII and another visible character of ASCII that
# is not a letter; the same with digits; a character of Chinese, Japanese or Korean, and a mark
# of punctuation or a digit.
_END_OF_MATCH = re.compile(
    r"(?<=[^\s\u180e])(?=[ \t\n\r])"
    r"|(?<=[A-Za-z])(?=[!-@\[-`{-~])"
    r"|(?<=[0-9])(?=[!-/:-~])"
    r"|(?<=[\u3041-\u3096\u30a1-\u30fa\u3400-\u4db5\u4e00-\u9fa5\uac00-\ud7a3])(?=[!-/:-@、。，！？])"
)


class TextParts:
    """Cuts texts for one tokenizer.

    A tokenizer that does not divide texts as GPT-2's does gets each text in one part.

    Args:
        tokenizer: the tokenizer.
        length: characters of a part, up to the next place where the text can be cut.
        from_end: whether the last part comes first.
    """

    def __init__(self, tokenizer: Tokenizer, length: int, *, from_end: bool) -> None:
        self.length = length
        self._from_end = from_end
        settings = json.loads(tokenizer.to_str())
        added = settings["added_tokens"]
        self._added = [token["content"] for token in added]
        split = settings["pre_tokenizer"] or {}
        self._is_known = (
            settings["normalizer"] is None
            and settings["model"]["type"] == "BPE"
            and (split.get("type"), split.get("use_regex")) == ("ByteLevel", True)
            and not split["add_prefix_space"]
            and not any(
                token[key] for token in added for key in ("lstrip", "rstrip", "single_word")
            )
        )

    def of(self, text: str) -> Iterator[str]:
        """Yield the parts of a text. There is at least one, which may be empty."""
        if len(text) <= self.length or not self._is_known:
            yield text
        elif self._from_end:
            yield from self._backwards(text)
        else:
            begin = 0
            while begin < len(text):
                end = self._next_cut(text, begin + self.length)
                yield text[begin:end]
                begin = end

    def _backwards(self, text: str) -> Iterator[str]:
        end = len(text)
        while end:
            length = self.length
            while (begin := self._next_cut(text[:end], end - length)) == end:
                length *= 2
            yield text[begin:end]
            end = begin

    def _next_cut(self, text: str, place: int) -> int:
        """Return the first place from another one on where a text can be cut."""
        if place <= 0:
            return 0
        for match in _END_OF_MATCH.finditer(text, place):
            cut = match.start()
            if not any(_holds(text, cut, token) for token in self._added):
                return cut
        return len(text)


def _holds(text: str, cut: int, token: str) -> bool:
    """Return whether a token stands across a cut."""
    before = max(0, cut - len(token) + 1)
    return token in text[before : cut + len(token) - 1]
