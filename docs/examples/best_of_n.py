"""Choose the most harmless of several answers to each request, as best-of-n sampling does.

    python docs/examples/best_of_n.py candidates.jsonl --model demo

Each line of the file has a `prompt` and a list of `responses`.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from harmless_runtime import Gpt2HarmlessScorer

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("candidates", type=Path)
parser.add_argument("--model", default="artifact")
args = parser.parse_args()

scorer = Gpt2HarmlessScorer({"model": args.model})
with args.candidates.open() as lines:
    groups = [json.loads(line) for line in lines]
groups = [group for group in groups if group["responses"]]
# One call scores all answers, so that they share batches.
prompts = [group["prompt"] for group in groups for _ in group["responses"]]
responses = [response for group in groups for response in group["responses"]]
scores = scorer.score(prompts, responses)
ends = np.cumsum([len(group["responses"]) for group in groups])
for group, own in zip(groups, np.split(scores, ends[:-1]), strict=True):
    best = int(own.argmax())
    print(json.dumps({"prompt": group["prompt"], "response": group["responses"][best],
                      "score": float(own[best])}))  # fmt: skip
