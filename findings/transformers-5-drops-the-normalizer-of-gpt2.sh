#!/usr/bin/env bash
# transformers 5.24.0: AutoTokenizer builds the tokenizer of a GPT-2 checkpoint anew from vocabulary
# and merges, and drops the normalizer that its tokenizer.json has.
#
# Expected: the ids of tokenizer.json, as 4.57.6 gives them, or a warning.
# Seen: a text in capitals has other ids than the file says, and save_pretrained writes a
# tokenizer.json without the normalizer.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat > make.py <<'PYTHON'
import json

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

letters = sorted(pre_tokenizers.ByteLevel.alphabet())
vocabulary = {letter: number for number, letter in enumerate([*letters, "<|endoftext|>"])}
tokenizer = Tokenizer(models.BPE(vocabulary, []))
tokenizer.normalizer = normalizers.Lowercase()
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
tokenizer.save("checkpoint/tokenizer.json")
with open("checkpoint/tokenizer_config.json", "w") as file:
    json.dump({"tokenizer_class": "GPT2Tokenizer", "eos_token": "<|endoftext|>"}, file)
with open("checkpoint/config.json", "w") as file:
    json.dump({"model_type": "gpt2"}, file)
PYTHON
cat > look.py <<'PYTHON'
import sys

import transformers
from tokenizers import Tokenizer
from transformers import AutoTokenizer

by_file = Tokenizer.from_file("checkpoint/tokenizer.json").encode("EGG").ids
by_auto = AutoTokenizer.from_pretrained("checkpoint")("EGG")["input_ids"]
print(f"transformers {transformers.__version__}: file {by_file}, AutoTokenizer {by_auto}")
assert (by_file == by_auto) == (sys.argv[1] == "same")
PYTHON
mkdir checkpoint
while read -r version expected; do
    python3 -m venv "venv-$version"
    "venv-$version/bin/pip" install --quiet "transformers==$version"
    [ -e checkpoint/tokenizer.json ] || "venv-$version/bin/python" make.py
    HF_HUB_OFFLINE=1 "venv-$version/bin/python" look.py "$expected" 2>/dev/null
done <<'END'
4.57.6 same
5.24.0 other
END
