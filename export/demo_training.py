"""Train a tiny reward model on pairs of texts: the steps that `train_demo_model.py` puts together.

A tokenizer is trained, then a language model, then the reward model: first on the scores of a
teacher (`demo_distillation.py`), and then on the pairs, with the pairwise loss.
"""

import gzip
import json
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import GPT2ForSequenceClassification, GPT2LMHeadModel, GPT2TokenizerFast

EOS = "<|endoftext|>"
ASSISTANT = "\n\nAssistant:"
Ids = list[int]


@dataclass(frozen=True)
class Recipe:
    """The hyperparameters.

    `batch_tokens` is the most tokens of a batch, padding included. `lm_length` is the number of
    tokens to which texts are cut for language modelling. There are as many teachers as `folds`.
    """

    seed: int = 0
    held_out_pairs: int = 400
    vocab_size: int = 4096
    n_embd: int = 96
    n_layer: int = 5
    n_head: int = 3
    lm_epochs: int = 5
    lm_length: int = 384
    lm_rate: float = 3e-3
    folds: int = 4
    distil_epochs: int = 5
    distil_rate: float = 1e-3
    reward_epochs: int = 2
    reward_rate: float = 2e-4
    weight_decay: float = 0.05
    dropout: float = 0.1
    batch_tokens: int = 4096


def split_text(text: str) -> tuple[str, str]:
    """Return (Q, A): everything up to the last `Assistant:`, and the last answer."""
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
    """Split into (training, held out), so that no first human turn occurs on both sides."""
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
    """Train a byte-level BPE tokenizer, as GPT-2 has one."""
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
    """Group indices of similar length within a token budget; return the groups in random order."""
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
    """Warm up linearly over a twentieth of the steps, then follow a cosine to zero."""
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
    """Train epoch by epoch, and yield each epoch's mean loss.

    Args:
        model: what to train.
        plan: for each epoch, its groups of indices.
        rate: the highest learning rate.
        weight_decay: of AdamW.
        loss_of: returns a group's mean loss, and its weight in the epoch's mean.
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
    """Train, and yield the mean loss of each epoch in nats per token."""

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
    """Train, and yield the mean of -log sigmoid(chosen - rejected) of each epoch."""

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
    """Return the share of pairs whose chosen text has the higher reward."""
    model.eval()
    right = 0
    for chosen, rejected in pairs:
        ids, mask = pad([chosen, rejected], 0)
        rewards = model(input_ids=ids, attention_mask=mask).logits[:, 0]
        right += int(rewards[0] > rewards[1])
    return right / len(pairs)
