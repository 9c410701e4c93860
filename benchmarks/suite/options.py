"""The command-line options of the benchmarks, and the value that they are read into."""

import argparse
from dataclasses import dataclass, fields
from pathlib import Path
from typing import get_args

from harmless_runtime.choices import Precision, Provider
from suite.competitors import COMPETITORS, TRUTH
from suite.workload import SIZES

BENCHMARKS = Path(__file__).parents[1]


@dataclass(frozen=True)
class Options:
    """The options of one benchmark. Those that it does not have keep their defaults.

    Attributes:
        model: a checkpoint folder, or `random:` and a size.
        tokenizer: tokenizer folder of a random model; None for bytes.
        max_length: most tokens of a row.
        provider: where to run.
        label: names the machine in the result's file.
        results: folder of the result files.
        cache: folder of random checkpoints and exports.
        keep_artifacts: do not export again.
        rows: a file of rows, or `generated`.
        count: how many rows.
        join: make each row of so many.
        rounds: how often each competitor is run.
        only: the competitors to run, if not all.
        timeout: seconds for one run.
        precision: of the artifact, in a benchmark of one.
    """

    model: str
    tokenizer: str | None
    max_length: int
    provider: Provider
    label: str
    results: Path
    cache: Path
    keep_artifacts: bool
    rows: str | None = None
    count: int = 0
    join: int = 1
    rounds: int = 1
    only: list[str] | None = None
    timeout: float | None = None
    precision: Precision = "fp32"

    @property
    def competitors(self) -> list[str]:
        """The competitors to run, the truth first."""
        return [TRUTH, *(name for name in self.only or COMPETITORS if name != TRUTH)]


def read_options(args: argparse.Namespace) -> Options:
    """Return the options among the parsed arguments."""
    return Options(**{f.name: getattr(args, f.name) for f in fields(Options) if f.name in args})


def plain_parser(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser without options. The script's docstring is its help, as it is written."""
    return argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def parser_for(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options that every benchmark has."""
    parser = plain_parser(doc)
    parser.add_argument(
        "--model",
        default="random:gpt2",
        help=f"a folder, or random: and one of {', '.join(SIZES)}, with -outliers",
    )
    parser.add_argument("--tokenizer", help="tokenizer folder for a random model (else bytes)")
    parser.add_argument("--max-length", type=int, default=1024, help="tokens")
    parser.add_argument("--provider", choices=get_args(Provider), default="cpu")
    parser.add_argument("--label", default="cpu", help="names the machine in the result's file")
    parser.add_argument("--results", type=Path, default=BENCHMARKS / "results")
    parser.add_argument("--cache", type=Path, default=BENCHMARKS.parent / "build/benchmarks")
    parser.add_argument("--keep-artifacts", action="store_true", help="do not export again")
    return parser


def add_rows(parser: argparse.ArgumentParser) -> None:
    """Add the options of a benchmark that scores rows."""
    parser.add_argument("--rows", default="generated", help="a JSONL file, or `generated`")
    parser.add_argument("--count", type=int, default=64, help="how many rows")
    parser.add_argument("--join", type=int, default=1, help="make each row of so many")


def add_rounds(parser: argparse.ArgumentParser) -> None:
    """Add the option of a benchmark that repeats itself."""
    parser.add_argument("--rounds", type=int, default=2, help="how often each is run")


def add_competitors(parser: argparse.ArgumentParser) -> None:
    """Add the options of a benchmark that compares."""
    parser.add_argument("--only", nargs="+", choices=list(COMPETITORS), help="competitors to run")
    parser.add_argument("--timeout", type=float, default=1800, help="seconds for one run")


def add_precision(parser: argparse.ArgumentParser) -> None:
    """Add the option of a benchmark of one artifact."""
    parser.add_argument("--precision", default="fp32", choices=get_args(Precision))
