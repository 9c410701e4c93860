"""Compare an artifact's scores with PyTorch's, on texts that come with the package."""

import msgspec
import numpy as np
from numpy.typing import NDArray

from harmless_runtime import bundled
from harmless_runtime.model.artifact import Parity
from harmless_runtime.rows.prompt import question_and_answer

# The largest difference from PyTorch fp32 that passes, as a share of the scores' standard
# deviation. PyTorch's own bf16 differs by about half of the limit for bf16.
LIMITS = {"fp32": 1e-4, "fp16": 3e-2, "bf16": 0.2, "int8": 0.2}


def parity_pairs() -> list[tuple[str, str]]:
    """Return (Q, A) texts to compare scores on: the bundled rows, and longer ones made of them."""
    lines = bundled.ROWS.read_bytes().splitlines()
    rows = [msgspec.json.decode(line) for line in lines]
    pairs = [question_and_answer(r["instruction"], r.get("input", ""), r["output"]) for r in rows]
    # Texts of lengths between the bundled rows' and the longest, with Q or A as the longer part.
    for count in (3, 6, 9, 12):
        text = "\n\n".join(row["output"] for row in rows[:count])
        pairs.append((pairs[0][0], text))
        pairs.append(question_and_answer(text, "", rows[-1]["output"]))
    return pairs


def compare(
    runner: str, truth: NDArray[np.float32], scores: NDArray[np.float32], limit: float
) -> Parity:
    """Compare two score vectors, float32 [texts] each.

    Spearman's coefficient is Pearson's coefficient of the ranks. Ties are ranked in their order
    here, because float32 scores hardly ever tie.

    Args:
        runner: what ran the artifact, for the report.
        truth: PyTorch's scores in fp32.
        scores: the artifact's scores.
        limit: the largest relative difference that passes.
    """
    a, b = truth.astype(np.float64), scores.astype(np.float64)
    difference = np.abs(a - b)
    upper = np.triu_indices(len(a), 1)
    order_a, order_b = (np.sign(np.subtract.outer(v, v))[upper] for v in (a, b))
    ranks = [np.argsort(np.argsort(v, kind="stable"), kind="stable") for v in (a, b)]
    return Parity(
        runner=runner,
        texts=len(a),
        score_std=float(a.std()),
        max_abs=float(difference.max()),
        mean_abs=float(difference.mean()),
        relative=float(difference.max() / a.std()),
        limit=limit,
        pearson=float(np.corrcoef(a, b)[0, 1]),
        spearman=float(np.corrcoef(ranks[0], ranks[1])[0, 1]),
        reordered=int((order_a * order_b < 0).sum()),
        pairs=len(order_a),
    )
