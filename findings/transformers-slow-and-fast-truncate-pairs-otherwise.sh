#!/usr/bin/env bash
# transformers 4.57.6: of two equally long texts, "longest_first" (what truncation=True means) leaves
# other tokens with GPT-2's slow tokenizer than with its fast one.
#
# Expected: both classes give the same ids, as they do without truncation.
# Seen: for an odd max_length, the slow tokenizer leaves one more token of the first text, and the
# fast one leaves one more of the second.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet transformers==4.57.6
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - "$folder" <<'PYTHON' 2>/dev/null
import json
import sys
from pathlib import Path

from transformers import GPT2Tokenizer, GPT2TokenizerFast

vocabulary, merges = Path(sys.argv[1], "vocab.json"), Path(sys.argv[1], "merges.txt")
vocabulary.write_text(json.dumps({"a": 0, "b": 1, "<|endoftext|>": 2}))
merges.write_text("#version: 0.2\n")
slow = GPT2Tokenizer(str(vocabulary), str(merges))
fast = GPT2TokenizerFast(str(vocabulary), str(merges))
texts = "a" * 10, "b" * 10
assert slow(*texts)["input_ids"] == fast(*texts)["input_ids"]
ids = {}
for name, tokenizer in (("slow", slow), ("fast", fast)):
    ids[name] = tokenizer(*texts, truncation=True, max_length=5)["input_ids"]
    print(f"{name}: {ids[name]} (0 is of the first text, 1 of the second)")
assert ids == {"slow": [0, 0, 0, 1, 1], "fast": [0, 0, 1, 1, 1]}
PYTHON
