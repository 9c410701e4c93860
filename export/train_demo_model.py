"""hh-rlhf pairs to the demo's tiny reward model: tokenizer, language modelling, pairwise loss.

    python export/train_demo_model.py hh_harmless_base_test.jsonl.gz build/demo-checkpoint

The model shows the mechanics of scoring in a few megabytes. It is far too small to judge safety.
"""

import argparse
import gzip
import hashlib
import json
import math
import platform
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    GPT2TokenizerFast,
)
from transformers.utils import logging as transformers_logging

EOS = "<|endoftext|>"
ASSISTANT = "\n\nAssistant:"
Ids = list[int]


@dataclass(frozen=True)
class Recipe:
    """Hyperparameters; `batch_tokens` bounds rows times longest length, padding included;
    `lm_length` is where texts are cut for language modelling."""

    seed: int = 0
    held_out_pairs: int = 400
    vocab_size: int = 4096
    n_embd: int = 96
    n_layer: int = 5
    n_head: int = 3
    lm_epochs: int = 5
    lm_length: int = 384
    lm_rate: float = 3e-3
    reward_epochs: int = 2
    reward_rate: float = 4e-4
    weight_decay: float = 0.05
    dropout: float = 0.1
    batch_tokens: int = 4096


def split_text(text: str) -> tuple[str, str]:
    """Return (Q, A): all up to the last turn's `Assistant:`, and the answer."""
    question, _, answer = text.rpartition(ASSISTANT)
    return question + ASSISTANT, answer


def read_pairs(path: Path) -> list[tuple[str, str]]:
    """Return (chosen, rejected) texts."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [(row["chosen"], row["rejected"]) for row in rows]


def hold_out(
    pairs: list[tuple[str, str]], count: int, seed: int
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Split into (training, held out); no first human turn occurs on both sides."""
    by_opening: dict[str, list[tuple[str, str]]] = {}
    for pair in pairs:
        by_opening.setdefault(pair[0].split(ASSISTANT)[0], []).append(pair)
    openings = sorted(by_opening)
    random.Random(seed).shuffle(openings)
    held: list[tuple[str, str]] = []
    training: list[tuple[str, str]] = []
    for opening in openings:
        (held if len(held) < count else training).extend(by_opening[opening])
    return training, held


def train_tokenizer(texts: list[str], vocab_size: int) -> GPT2TokenizerFast:
    """Train a byte-level BPE of GPT-2's kind."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return GPT2TokenizerFast(
        tokenizer_object=tokenizer, bos_token=EOS, eos_token=EOS, unk_token=EOS
    )


def batches(lengths: list[int], budget: int, seed: int) -> list[list[int]]:
    """Indices grouped by similar length within a token budget, the groups in random order."""
    generator = random.Random(seed)
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], generator.random()))
    groups: list[list[int]] = [[]]
    for i in order:
        if groups[-1] and (len(groups[-1]) + 1) * lengths[i] > budget:
            groups.append([])
        groups[-1].append(i)
    generator.shuffle(groups)
    return groups


def pad(rows: list[Ids], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and mask, int64 [rows, longest], padded on the right."""
    length = max(map(len, rows))
    ids = torch.tensor([row + [pad_id] * (length - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows])
    return ids, mask


def schedule(optimizer: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LambdaLR:
    """Linear warm-up over a twentieth of the steps, then a cosine to zero."""
    warm = max(1, steps // 20)

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def optimise(
    model: torch.nn.Module,
    plan: list[list[list[int]]],
    rate: float,
    weight_decay: float,
    loss_of: Callable[[list[int]], tuple[torch.Tensor, int]],
) -> Iterator[float]:
    """Train on groups of indices, epoch by epoch, and yield each epoch's mean loss.

    `loss_of` returns a group's mean loss and what it weighs in the epoch's mean.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=weight_decay)
    scheduler = schedule(optimizer, sum(map(len, plan)))
    model.train()
    for groups in plan:
        total, weights = 0.0, 0
        for group in groups:
            loss, weight = loss_of(group)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            total += loss.item() * weight
            weights += weight
        yield total / weights


def train_language_model(
    model: GPT2LMHeadModel, rows: list[Ids], recipe: Recipe
) -> Iterator[float]:
    """Yield the mean loss, in nats a token, of each epoch."""

    def loss_of(group: list[int]) -> tuple[torch.Tensor, int]:
        ids, mask = pad([rows[i] for i in group], 0)
        labels = ids.masked_fill(mask == 0, -100)
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        return loss, int(mask.sum())

    lengths = [len(row) for row in rows]
    seeds = range(recipe.seed, recipe.seed + recipe.lm_epochs)
    plan = [batches(lengths, recipe.batch_tokens, seed) for seed in seeds]
    return optimise(model, plan, recipe.lm_rate, recipe.weight_decay, loss_of)


def train_reward(
    model: GPT2ForSequenceClassification, pairs: list[tuple[Ids, Ids]], recipe: Recipe
) -> Iterator[float]:
    """Yield the mean of -log sigmoid(chosen - rejected) of each epoch."""

    def loss_of(group: list[int]) -> tuple[torch.Tensor, int]:
        rows = [pairs[i][0] for i in group] + [pairs[i][1] for i in group]
        ids, mask = pad(rows, 0)
        chosen, rejected = model(input_ids=ids, attention_mask=mask).logits[:, 0].chunk(2)
        return -torch.nn.functional.logsigmoid(chosen - rejected).mean(), len(group)

    lengths = [2 * max(map(len, pair)) for pair in pairs]
    seeds = range(recipe.seed + 100, recipe.seed + 100 + recipe.reward_epochs)
    plan = [batches(lengths, recipe.batch_tokens, seed) for seed in seeds]
    return optimise(model, plan, recipe.reward_rate, recipe.weight_decay, loss_of)


@torch.inference_mode()
def accuracy(model: GPT2ForSequenceClassification, pairs: list[tuple[Ids, Ids]]) -> float:
    """The share of pairs whose chosen text has the higher reward."""
    model.eval()
    right = 0
    for chosen, rejected in pairs:
        ids, mask = pad([chosen, rejected], 0)
        rewards = model(input_ids=ids, attention_mask=mask).logits[:, 0]
        right += int(rewards[0] > rewards[1])
    return right / len(pairs)


CARD = """# Demo reward model

A GPT-2 with {n_layer} layers of width {n_embd} and a vocabulary of {vocab_size}: {parameters:,}
parameters. It shows how `harmless` works without a download. **It is not fit to judge safety**:
on {held_out} held-out pairs it prefers the harmless answer {held_out_accuracy:.1%} of the time
(95 % interval ±{interval:.1%}; guessing gives 50 %, choosing the longer text
{longer_accuracy:.1%}). The model that `harmless` is made for,
Ray2333/gpt2-large-harmless-reward_model, states 73.7 % in its card.

- Data: the `harmless-base` test split of Anthropic's hh-rlhf (MIT licence, © 2022 Anthropic),
  {training} pairs for training, {held_out} held out, with no opening in common.
- Recipe: a byte-level BPE, {lm_epochs} epochs of language modelling, then {reward_epochs} of the
  pairwise loss -log σ(chosen − rejected). All figures are in `training.json`, written by the run.
- Made by `export/train_demo_model.py`, then `harmless export`.
"""


def main() -> None:
    """Train, evaluate once on the held-out pairs, and write the checkpoint with its card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pairs", type=Path, help="JSONL, gzipped, with chosen and rejected")
    parser.add_argument("out", type=Path, help="the checkpoint folder to write")
    parser.add_argument("--validate", action="store_true", help="score a cut of the training side")
    defaults = asdict(Recipe())
    for key, value in defaults.items():
        parser.add_argument(f"--{key.replace('_', '-')}", type=type(value), default=value)
    args = vars(parser.parse_args())
    recipe = Recipe(**{key: args[key] for key in defaults})
    start = time.perf_counter()
    random.seed(recipe.seed)
    torch.manual_seed(recipe.seed)

    training, held = hold_out(read_pairs(args["pairs"]), recipe.held_out_pairs, recipe.seed)
    if args["validate"]:  # recipes are compared without a look at the held-out pairs
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
    figures: dict[str, Any] = {"lm_loss": [], "reward_loss": []}
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
        "versions": {name: version(name) for name in ("torch", "transformers", "tokenizers")}
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
