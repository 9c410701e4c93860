"""Teach the tiny model what a linear model knows: scores of many more texts than there are pairs.

The teacher is logistic regression on the n-grams of characters in the last answers. On a thousand
pairs it judges unseen pairs better than a small GPT-2 that learns from the pairs alone, and it can
score any text, so the GPT-2 learns from answers, from parts of them, and from earlier turns.
"""

import random
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import GPT2ForSequenceClassification, GPT2TokenizerFast

from demo_training import ASSISTANT, Ids, Recipe, batches, optimise, pad, split_text

Pairs = Sequence[tuple[str, str]]
Teacher = Callable[[list[str]], NDArray[np.float64]]
# A question, an answer, and the fold whose teacher has not seen their pair.
Example = tuple[str, str, int]
_HUMAN = "\n\nHuman:"
# Answers with more words also give a part of them.
_FEW_WORDS, _LEAST_PART = 12, 6


def train_teacher(pairs: Pairs) -> Teacher:
    """Fit the linear model to pairs; return what scores answers."""
    from scipy.sparse import vstack
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    vectorizer = TfidfVectorizer(
        analyzer="char_wb", ngram_range=(2, 5), min_df=3, sublinear_tf=True
    )
    features = vectorizer.fit_transform([split_text(text)[1] for pair in pairs for text in pair])
    margins = features[::2] - features[1::2]
    labels = np.repeat([1, 0], margins.shape[0])
    model = LogisticRegression(C=0.3, fit_intercept=False, max_iter=300, solver="liblinear")
    weights = model.fit(vstack([margins, -margins]), labels).coef_[0]
    return lambda answers: np.asarray(vectorizer.transform(answers) @ weights)


def folds_of(pairs: Pairs, count: int, seed: int) -> list[int]:
    """Return the fold of each pair. Pairs with the same opening are in one fold."""
    openings = sorted({pair[0].split(ASSISTANT)[0] for pair in pairs})
    random.Random(seed).shuffle(openings)
    fold = {opening: i % count for i, opening in enumerate(openings)}
    return [fold[pair[0].split(ASSISTANT)[0]] for pair in pairs]


def examples_of(pairs: Pairs, folds: Sequence[int]) -> list[Example]:
    """Return every answer in the dialogues, with what comes before it."""
    found: dict[tuple[str, str], int] = {}
    for pair, fold in zip(pairs, folds, strict=True):
        for text in pair:
            question = ""
            for turn in text.split(_HUMAN)[1:]:
                asked, _, answer = turn.partition(ASSISTANT)
                question += _HUMAN + asked + ASSISTANT
                if answer:
                    found[question, answer] = fold
                    question += answer
    return [(question, answer, fold) for (question, answer), fold in found.items()]


def varied(examples: Sequence[Example], rng: random.Random) -> list[Example]:
    """Return examples, half of them with their last request alone, and parts of longer answers."""
    made = []
    for question, answer, fold in examples:
        asked = question
        if rng.random() < 0.5:
            asked = _HUMAN + question.rpartition(_HUMAN)[2]
        made.append((asked, answer, fold))
        words = answer.split(" ")
        if len(words) > _FEW_WORDS:
            start = rng.randrange(len(words) - _LEAST_PART)
            end = rng.randrange(start + _LEAST_PART, len(words) + 1)
            made.append((asked, " ".join(["", *words[max(1, start) : end]]), fold))
    return made


def distil(
    model: GPT2ForSequenceClassification,
    tokenizer: GPT2TokenizerFast,
    pairs: Pairs,
    recipe: Recipe,
) -> Iterator[float]:
    """Train the model to give the teachers' scores; yield the mean squared error of each epoch.

    The score of a text comes from a teacher that was fitted without the text's pair. Scores are
    standardised.
    """
    folds = folds_of(pairs, recipe.folds, recipe.seed)
    examples = examples_of(pairs, folds)
    others = [
        [pair for pair, own in zip(pairs, folds, strict=True) if own != fold]
        for fold in range(recipe.folds)
    ]
    teachers = [train_teacher(own) for own in others]
    rng = random.Random(recipe.seed)
    ids: list[Ids] = []
    scores: list[float] = []
    plan = []
    for epoch in range(recipe.distil_epochs):
        made = varied(examples, rng)
        targets = np.zeros(len(made))
        for fold, teacher in enumerate(teachers):
            places = [i for i, example in enumerate(made) if example[2] == fold]
            targets[places] = teacher([made[i][1] for i in places])
        encoded = [tokenizer(q, a)["input_ids"][-recipe.lm_length :] for q, a, _ in made]
        first = len(ids)
        groups = batches(list(map(len, encoded)), recipe.batch_tokens, recipe.seed + 200 + epoch)
        plan.append([[first + i for i in group] for group in groups])
        ids += encoded
        scores += targets.tolist()
    wanted = torch.tensor(scores, dtype=torch.float32)
    wanted = (wanted - wanted.mean()) / wanted.std()

    def loss_of(group: list[int]) -> tuple[torch.Tensor, int]:
        inputs, mask = pad([ids[i] for i in group], 0)
        given = model(input_ids=inputs, attention_mask=mask).logits[:, 0]
        return ((given - wanted[group]) ** 2).mean(), len(group)

    return optimise(model, plan, recipe.distil_rate, recipe.weight_decay, loss_of)
