"""Train the demo's tiny reward model on hh-rlhf pairs.

    python export/train_demo_model.py hh_harmless_base_test.jsonl.gz build/demo-checkpoint

The model shows how scoring works in a few megabytes. It is far too small to judge safety.
"""

import argparse
import hashlib
import json
import math
import platform
import random
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import GPT2Config, GPT2ForSequenceClassification, GPT2LMHeadModel
from transformers.utils import logging as transformers_logging

from demo_distillation import distil
from demo_training import (
    Ids,
    Recipe,
    accuracy,
    hold_out,
    read_pairs,
    split_text,
    train_language_model,
    train_reward,
    train_tokenizer,
)

PACKAGES = ("torch", "transformers", "tokenizers", "scikit-learn")
CARD = """# Demo reward model

A GPT-2 with {n_layer} layers of width {n_embd} and a vocabulary of {vocab_size}: {parameters:,}
parameters. It shows how `harmless` works without a download. **It is not fit to judge safety**:
on {held_out} held-out pairs it prefers the harmless answer {held_out_accuracy:.1%} of the time
(95 % interval ±{interval:.1%}; guessing gives 50 %, choosing the longer text
{longer_accuracy:.1%}). The model that `harmless` is made for,
Ray2333/gpt2-large-harmless-reward_model, states 73.7 % in its card.

- Data: the `harmless-base` test split of Anthropic's hh-rlhf (MIT licence, © 2022 Anthropic),
  {training} pairs for training, {held_out} held out, with no opening in common.
- Recipe: a byte-level BPE, {lm_epochs} epochs of language modelling, {distil_epochs} of the scores
  that a linear model on character n-grams gives to the answers and to parts of them (each text's
  from one that was fitted without its pair), then {reward_epochs} of the pairwise loss
  -log σ(chosen − rejected). All figures are in `training.json`, written by the run.
- Made by `export/train_demo_model.py`, then `harmless export`.
"""


def main() -> None:
    """Train, evaluate once on the held-out pairs, and write the checkpoint with its card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pairs", type=Path, help="JSONL, gzipped, with chosen and rejected")
    parser.add_argument("out", type=Path, help="the checkpoint folder to write")
    parser.add_argument(
        "--validate",
        action="store_true",
        help="evaluate on a part of the training pairs, and leave the held-out pairs unseen",
    )
    defaults = asdict(Recipe())
    for key, value in defaults.items():
        parser.add_argument(f"--{key.replace('_', '-')}", type=type(value), default=value)
    args = vars(parser.parse_args())
    recipe = Recipe(**{key: args[key] for key in defaults})
    start = time.perf_counter()
    random.seed(recipe.seed)
    torch.manual_seed(recipe.seed)

    training, held = hold_out(read_pairs(args["pairs"]), recipe.held_out_pairs, recipe.seed)
    if args["validate"]:  # so that recipes are compared without a look at the held-out pairs
        training, held = hold_out(training, recipe.held_out_pairs, recipe.seed + 1)
    texts = [text for pair in training for text in pair]
    tokenizer = train_tokenizer(texts, recipe.vocab_size)

    def encode(text: str) -> Ids:
        ids: Ids = tokenizer(*split_text(text), truncation=True, max_length=1024)["input_ids"]
        return ids

    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=1024,
        n_embd=recipe.n_embd,
        n_layer=recipe.n_layer,
        n_head=recipe.n_head,
        num_labels=1,
        pad_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        resid_pdrop=recipe.dropout,
        embd_pdrop=recipe.dropout,
        attn_pdrop=0.0,  # with dropout, attention on a CPU is several times slower
    )
    figures: dict[str, Any] = {"lm_loss": [], "distil_loss": [], "reward_loss": []}
    transformers_logging.set_verbosity_error()
    language_model = GPT2LMHeadModel(config)
    rows = sorted({tuple(encode(text)) for text in texts})
    for loss in train_language_model(
        language_model, [list(row[: recipe.lm_length]) for row in rows], recipe
    ):
        figures["lm_loss"].append(round(loss, 4))
        print(f"language modelling: {loss:.4f} ({time.perf_counter() - start:.0f} s)", flush=True)
    model = GPT2ForSequenceClassification(config)
    model.transformer = language_model.transformer
    for loss in distil(model, tokenizer, training, recipe):
        figures["distil_loss"].append(round(loss, 4))
        print(f"distillation: {loss:.4f} ({time.perf_counter() - start:.0f} s)", flush=True)
    encoded = [(encode(chosen), encode(rejected)) for chosen, rejected in training]
    encoded_held = [(encode(chosen), encode(rejected)) for chosen, rejected in held]
    for loss in train_reward(model, encoded, recipe):
        figures["reward_loss"].append(round(loss, 4))
        print(f"pairwise: {loss:.4f} ({time.perf_counter() - start:.0f} s)", flush=True)

    share = accuracy(model, encoded_held)
    figures |= {
        "training": len(training),
        "held_out": len(held),
        "training_accuracy": accuracy(model, encoded[: len(held)]),
        "held_out_accuracy": share,
        "interval": 1.96 * math.sqrt(share * (1 - share) / len(held)),
        "longer_accuracy": sum(len(c) > len(r) for c, r in encoded_held) / len(held),
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds": round(time.perf_counter() - start),
        "data_sha256": hashlib.sha256(args["pairs"].read_bytes()).hexdigest(),
        "versions": {name: version(name) for name in PACKAGES}
        | {"python": platform.python_version()},
    }
    print(json.dumps(figures, indent=2))
    args["out"].mkdir(parents=True, exist_ok=True)
    model.save_pretrained(args["out"])
    tokenizer.save_pretrained(args["out"])
    report = json.dumps({"recipe": asdict(recipe), "figures": figures}, indent=2)
    (args["out"] / "training.json").write_text(report + "\n")
    (args["out"] / "README.md").write_text(CARD.format(**asdict(recipe), **figures) + "\n")


if __name__ == "__main__":
    main()
