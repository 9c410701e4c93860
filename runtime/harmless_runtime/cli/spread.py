"""Show how scores are spread: a small histogram and quantiles for the terminal."""

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from harmless_runtime.cli.console import say

# Fewer scores are seen at a glance without a histogram.
_FEW = 20
_BARS = 8
_WIDTH = 40
_QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_EIGHTHS = " ▏▎▍▌▋▊▉"


def show_spread(console: Console, scores: NDArray[np.float32], *, is_part: bool = False) -> bool:
    """Print a histogram and quantiles, or nothing if there are few scores.

    Args:
        console: where to print.
        scores: float32 [rows].
        is_part: whether they are only those of the rows since the run was resumed.

    Returns:
        Whether it was printed.
    """
    if len(scores) < _FEW:
        return False
    values = scores.astype(np.float64)
    low, high = np.quantile(values, [0.005, 0.995]).tolist()
    if low < high:
        counts, edges = np.histogram(np.clip(values, low, high), _BARS, (low, high))
        labels = [f"{edge:.3g}" for edge in edges.tolist()]
        wide = max(map(len, labels))
        for i, count in enumerate(counts.tolist()):
            bar = _bar(count / counts.max() * _WIDTH)
            share = count / len(values)
            span = f"{labels[i]:>{wide}} to {labels[i + 1]:>{wide}}"
            say(console, f"  {span}  {bar:<{_WIDTH}} {share:5.1%}".rstrip())
    found = np.quantile(values, _QUANTILES).tolist()
    told = " · ".join(f"{q:.0%} {value:.3g}" for q, value in zip(_QUANTILES, found, strict=True))
    say(console, f"  quantiles: {told}")
    if is_part:
        say(console, "  these are the rows since the run was resumed, and not all of them")
    return True


def _bar(eighths: float) -> str:
    """Return a bar of so many characters, the last one in eighths."""
    whole, part = divmod(round(eighths * 8), 8)
    return "█" * whole + (_EIGHTHS[part] if part else "")
