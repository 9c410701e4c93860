#!/usr/bin/env bash
# tokenizers 0.22.2: a pair that is truncated gets an encoding of every rest of one text with every
# rest of the other, whether or not anybody asks for what was cut off.
#
# Expected: two texts of 200 tokens, truncated to 4, leave about 200 pieces that were cut off.
# Seen: 9,999 encodings in `overflowing`. Twice the length of both texts makes four times as many,
# so that memory grows with the product of the two lengths.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tokenizers==0.22.2
"$folder/venv/bin/python" - <<'PYTHON'
from tokenizers import Tokenizer, models, pre_tokenizers

tokenizer = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer.enable_truncation(4, strategy="longest_first")
for length, expected in ((20, 99), (200, 9_999), (400, 39_999)):
    (pair,) = tokenizer.encode_batch_fast([("a " * length, "a " * length)])
    print(f"2 x {length} tokens: {len(pair.ids)} kept, {len(pair.overflowing):,} overflowing")
    assert (len(pair.ids), len(pair.overflowing)) == (4, expected)
PYTHON
