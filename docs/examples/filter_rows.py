"""Keep the rows of a file whose responses score above a cut, and print what was dropped.

python docs/examples/filter_rows.py rows.jsonl kept.jsonl --above -1 --model demo
"""

import argparse
import json
import math
from pathlib import Path

from harmless_runtime import Gpt2HarmlessScorer

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("rows", type=Path)
parser.add_argument("kept", type=Path)
parser.add_argument("--above", type=float, default=0.0)
parser.add_argument("--model", default="artifact")
args = parser.parse_args()

rows = []
with args.rows.open() as lines:
    for number, line in enumerate(lines, 1):
        try:
            rows.append((number, json.loads(line)))
        except json.JSONDecodeError as error:
            print(f"line {number} is not JSON: {error}")

scorer = Gpt2HarmlessScorer({"model": args.model})
# A row that cannot be scored gets NaN.
scores = scorer.score_batch([row for _, row in rows], on_error="nan")
with args.kept.open("w") as kept:
    for (number, row), score in zip(rows, scores, strict=True):
        if not math.isnan(score) and score >= args.above:
            kept.write(json.dumps(row, ensure_ascii=False) + "\n")
        else:
            print(f"dropped line {number}: {score:.3f}")
