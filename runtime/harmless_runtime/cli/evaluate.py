"""Run `harmless eval`."""

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table

from harmless_runtime.choices import Program
from harmless_runtime.cli.console import say, say_always
from harmless_runtime.cli.display import ScoringProgress, show_reasons
from harmless_runtime.cli.extras import need_export_extra
from harmless_runtime.cli.failures import EXIT_REJECTS
from harmless_runtime.cli.resuming import resumable
from harmless_runtime.config import ScorerConfig, load_config
from harmless_runtime.errors import ConfigError
from harmless_runtime.evaluation import Comparison, Evaluation, compare_with, evaluate_pairs
from harmless_runtime.model.artifact import Artifact
from harmless_runtime.model.load import load_engine
from harmless_runtime.output.checks import check_output, goes_on
from harmless_runtime.rows.inputs import open_inputs
from harmless_runtime.rows.shapes import reading_of
from harmless_runtime.run import Run, existing_mode, output_named
from harmless_runtime.scores.preferences import Accuracy, Group, by_length, by_margin
from harmless_runtime.scores.targets import is_plain

# Fewer pairs are not divided into groups.
_FEW = 20


@dataclass(frozen=True)
class Arguments:
    """What the command line says. `flags` are the settings that win over the file `config`."""

    inputs: list[str]
    out: str | None
    config: Path | None
    flags: dict[str, Any]
    overwrite: bool
    resume: bool
    as_json: bool
    against: Program | None
    checkpoint: str | None


def run(console: Console, arguments: Arguments) -> None:
    """Score the pairs, and print how often the chosen text scores higher.

    Raises:
        typer.Exit: some pairs were not scored.
    """
    if arguments.against is not None:
        need_export_extra(f"harmless eval --against {arguments.against}")
    elif arguments.checkpoint is not None:
        raise ConfigError("checkpoint names what PyTorch scores with", "add `against` pytorch")
    config = load_config(arguments.config, arguments.flags)
    with _asked(arguments, config) as asked:
        check_output(asked)
        asked.inputs.shape(refuse=not goes_on(asked))
        _check_read_twice(arguments, asked)
        engine = load_engine(config, for_many_rows=True)
        folder = None
        if arguments.against is not None:
            folder = _checkpoint(arguments, config, engine.artifact)
        kept = resumable(console, asked) if arguments.out else nullcontext()
        with kept, ScoringProgress(console, asked.inputs.sources) as progress:
            evaluation = evaluate_pairs(asked, engine, progress.update)
        if folder is not None:
            longest = engine.tokenizer.max_length
            del engine  # so that only one model is in memory at a time
            compared = _against_pytorch(console, config, asked, evaluation, folder, longest)
            evaluation = replace(evaluation, against=compared)
    if evaluation.summary.is_old:
        say(console, f"already complete: these are the figures of {evaluation.summary.output}")
    if arguments.as_json:
        sys.stdout.write(json.dumps(evaluation.as_object(), indent=2) + "\n")
    else:
        show_evaluation(Console(), evaluation)
    if evaluation.not_scored:
        where = f", see {evaluation.summary.rejects}" if arguments.out else ""
        say_always(console, f"pairs that could not be scored: {evaluation.not_scored:,}{where}")
        show_reasons(console, evaluation.summary, "texts:")
        raise typer.Exit(EXIT_REJECTS)


@contextmanager
def _asked(arguments: Arguments, config: ScorerConfig) -> Iterator[Run]:
    """Turn the command line into a run, whose output is kept only if it has a name.

    Raises:
        ConfigError: options contradict each other.
        InputError: an input cannot be read.
    """
    existing = existing_mode(overwrite=arguments.overwrite, resume=arguments.resume)
    inputs = open_inputs(arguments.inputs, replace(reading_of(config), pairs=True))
    if arguments.out is None:
        if existing != "refuse":
            raise ConfigError(f"there is no output to {existing}", "`out` names a file of scores")
        with tempfile.TemporaryDirectory() as folder:
            yield Run(inputs, Path(folder, "scores.jsonl"), details=True)
        return
    named = output_named(arguments.out)
    asked = Run(inputs, named.output, existing, named.is_folder, named.url, details=True)
    if named.url is not None or not is_plain(asked):
        raise ConfigError(
            f"the scores of pairs are kept in a local file of JSON lines, and not in {asked.name}",
            "name a file that ends in .jsonl",
        )
    yield asked


def _check_read_twice(arguments: Arguments, asked: Run) -> None:
    """Raise ConfigError if pairs are to be compared, and cannot be read again for that."""
    once = [s.name for s in asked.inputs.sources if not s.can_be_opened_again]
    if arguments.against is not None and once:
        raise ConfigError(
            f"the pairs are read twice if they are compared, and {once[0]} can be read only once",
            "write the pairs to a file, and name that",
        )


def _checkpoint(arguments: Arguments, config: ScorerConfig, artifact: Artifact) -> Path:
    """Return the folder of the artifact's checkpoint, before any pair is scored.

    Raises:
        CheckpointError: it is not found.
    """
    from harmless_export.checkpoint import checkpoint_of

    found = checkpoint_of(artifact, arguments.checkpoint, allow_pickle=config.allow_pickle)
    return found.folder


def _against_pytorch(
    console: Console,
    config: ScorerConfig,
    asked: Run,
    evaluation: Evaluation,
    checkpoint: Path,
    longest: int,
) -> Comparison:
    """Score the same pairs with PyTorch.

    Raises:
        CheckpointError: the checkpoint cannot be loaded.
    """
    from harmless_export.reference import pytorch_scores

    total = 2 * len(evaluation.scores.chosen)
    say(console, f"scoring {total:,} texts with PyTorch in fp32, one by one")
    columns = ("PyTorch", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=total)
        return compare_with(
            evaluation,
            asked,
            "PyTorch fp32",
            lambda pairs: pytorch_scores(
                checkpoint,
                pairs,
                longest,
                allow_pickle=config.allow_pickle,
                on_text=lambda: bar.advance(task),
            ),
        )


def show_evaluation(out: Console, evaluation: Evaluation) -> None:
    """Print how a model did, as sentences and tables."""
    total = evaluation.accuracy
    if not total.pairs:
        out.print("no pair could be scored")
        return
    out.print(
        f"the chosen text scores higher in {_percent(total.accuracy)} of {total.pairs:,} pairs "
        f"(95 % interval {_percent(total.low)} to {_percent(total.high)}); "
        f"{total.ties:,} ties count half; mean margin {total.mean_margin:.4g}",
        highlight=False,
        soft_wrap=True,
    )
    other = evaluation.against
    if other is not None:
        out.print(
            f"{other.name}: {_percent(other.accuracy.accuracy)}; {other.turned:,} pairs turn; a "
            f"score differs by {other.largest:.3g} at most",
            highlight=False,
            soft_wrap=True,
        )
    if total.pairs < _FEW:
        return
    out.print(_table("by how far the two scores are apart", by_margin(evaluation.scores)))
    out.print(_table("by the lengths of the two texts in tokens", by_length(evaluation.scores)))


def _table(title: str, groups: list[Group]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for name in ("pairs", "accuracy", "95 % interval", "mean margin"):
        table.add_column(name, justify="right")
    for group in groups:
        table.add_row(group.name, *_cells(group.accuracy))
    return table


def _cells(accuracy: Accuracy) -> list[str]:
    return [
        f"{accuracy.pairs:,}",
        _percent(accuracy.accuracy),
        f"{_percent(accuracy.low)} to {_percent(accuracy.high)}",
        f"{accuracy.mean_margin:.3g}",
    ]


def _percent(share: float) -> str:
    return f"{share:.1%}"
