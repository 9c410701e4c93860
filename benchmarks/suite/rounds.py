"""Run competitors in rounds, and compare their scores with the truth."""

import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

import msgspec
import numpy as np

from harmless_export.parity import LIMITS, compare
from suite.competitors import COMPETITORS, EXPORTED, TRUTH
from suite.isolation import Outcome, in_a_process
from suite.options import Options
from suite.scorers import Setting
from suite.workload import checkpoint


class WithScores(Protocol):
    """A measurement that has the scores of all rows."""

    @property
    def scores(self) -> list[float]:
        """The scores, in the order of the rows."""
        ...


T = TypeVar("T", bound=WithScores)
Figures = TypeVar("Figures")


def set_up(options: Options, names: Iterable[str]) -> Setting:
    """Make the checkpoint, and the competitors' artifacts, outside of every measurement."""
    options.cache.mkdir(parents=True, exist_ok=True)
    folder = checkpoint(options.model, options.tokenizer, options.cache)
    setting = Setting(folder, options.cache, options.provider, options.max_length)
    if not options.keep_artifacts:
        for stale in options.cache.glob(f"{folder.name}-harmless-*"):
            shutil.rmtree(stale)  # the exporter may have changed since
    for name in names:
        # Those that export do so now, so that neither its time nor its memory is counted.
        if name.startswith(EXPORTED):
            in_a_process(build, name, setting)
    return setting


def build(name: str, setting: Setting) -> None:
    """Make a competitor, and with it the export that it keeps."""
    COMPETITORS[name](setting)


def in_rounds(
    options: Options,
    function: Callable[..., T],
    *arguments: object,
    tell: Callable[[T], object],
    each_round: Callable[[], None] = lambda: None,
) -> dict[str, list[Outcome[T]]]:
    """Call `function(name, *arguments)` for every competitor, a process each, round after round.

    Rounds interleave the competitors, so that a drift of the machine's speed affects all of them. A
    competitor that fails is not run again. If the truth fails, the benchmark ends.

    Args:
        options: which competitors, how many rounds, and the time limit.
        function: what to measure.
        arguments: what it gets besides the name.
        tell: what to print of a run.
        each_round: called before every round.

    Returns:
        The runs of each competitor.
    """
    runs: dict[str, list[Outcome[T]]] = {name: [] for name in options.competitors}
    for number in range(1, options.rounds + 1):
        each_round()
        for name, own in runs.items():
            if first_failure(own):
                continue
            run = in_a_process(function, name, *arguments, timeout=options.timeout)
            if name == TRUTH:
                need(run, name)
            own.append(run)
            print(f"round {number}: {name} {run.why or tell(run.figures)}", flush=True)
    return runs


def first_failure(runs: Sequence[Outcome[Figures]]) -> Outcome[Figures] | None:
    """Return the first run that failed, if there is one."""
    return next((run for run in runs if run.why), None)


def need(run: Outcome[Figures], what: str) -> Figures:
    """Return the figures of a run. End the benchmark if it failed."""
    if run.why:
        raise SystemExit(f"{what}: {run.why}")
    return run.figures


def precision_of(name: str) -> str:
    """Return the precision in a competitor's name."""
    return next((p for p in ("bf16", "fp16", "int8") if p in name), "fp32")


def parity_of(name: str, truth: list[float], runs: Sequence[Outcome[T]]) -> dict[str, Any]:
    """Compare the scores of every run with PyTorch's in fp32; return the worst comparison."""
    limit = LIMITS[precision_of(name)]
    reference = np.array(truth, np.float32)
    parities = [
        compare(name, reference, np.array(run.figures.scores, np.float32), limit) for run in runs
    ]
    # A difference that is not a number is the worst.
    parity = max(parities, key=lambda p: (p.relative != p.relative, p.relative))
    return {
        "parity": msgspec.structs.asdict(parity),
        "right": parity.relative <= parity.limit,
    }


def report_wrong(results: list[dict[str, Any]]) -> int:
    """Name the competitors with wrong scores on stderr; return the exit code."""
    wrong = [r["name"] for r in results if not r.get("right", True)]
    if wrong:
        print(f"wrong scores: {', '.join(wrong)}", file=sys.stderr)
    return bool(wrong)
