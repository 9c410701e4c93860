"""Keep the rows of a file whose responses score above a cut, and print what was dropped.

python docs/examples/filter_rows.py rows.jsonl kept.jsonl --above -1 --model demo
"""

import argparse
import json
from pathlib import Path

from harmless_runtime import Gpt2HarmlessScorer

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("rows", type=Path)
parser.add_argument("kept", type=Path)
parser.add_argument("--above", type=float, default=0.0)
parser.add_argument("--model", default="artifact")
args = parser.parse_args()

scorer = Gpt2HarmlessScorer({"model": args.model})
rows = [json.loads(line) for line in args.rows.read_text().splitlines()]
scores = scorer.score_batch(rows, on_error="nan")  # a row that cannot be scored gets NaN
with args.kept.open("w") as kept:
    for row, score in zip(rows, scores, strict=True):
        if score >= args.above:  # never true for NaN
            kept.write(json.dumps(row, ensure_ascii=False) + "\n")
        else:
            print(f"dropped {row.get('id')}: {score:.3f}")
