"""Run `harmless select`."""

import math
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from harmless_runtime.cache import cache_folder
from harmless_runtime.cli.console import say
from harmless_runtime.errors import ConfigError, InputError, OutputError
from harmless_runtime.object_store import object_size, put_object
from harmless_runtime.output.checks import check_name
from harmless_runtime.rows.expand import find_sources
from harmless_runtime.rows.remote import is_remote, place_of
from harmless_runtime.rows.sources import STDIN
from harmless_runtime.run import output_named
from harmless_runtime.scores.cut import Wanted, parse_amount
from harmless_runtime.scores.select import Selected, Selection, select_rows


@dataclass(frozen=True)
class Arguments:
    """What the command line says."""

    rows: list[str]
    out: str
    scores: str | None
    score_column: str | None
    above: float | None
    below: float | None
    top: str | None
    bottom: str | None
    overwrite: bool


def run(console: Console, arguments: Arguments) -> None:
    """Keep the rows that are wanted, and say how many there were and where the cut was.

    Raises:
        OutputError: the output is a folder, or exists.
    """
    if arguments.out == STDIN:
        raise OutputError("the output cannot be standard output", "name a file")
    if arguments.scores is not None and is_remote(arguments.scores):
        raise InputError(f"{arguments.scores} is not on this machine", "copy the scores to a file")
    named = output_named(arguments.out)
    if named.is_folder:
        raise OutputError(f"{arguments.out} is a folder", "name a file")
    check_name(named.output, is_folder=False)
    selection = Selection(
        tuple(arguments.rows),
        named.output,
        _wanted(arguments),
        None if arguments.scores is None else Path(arguments.scores),
        arguments.score_column,
        arguments.overwrite,
    )
    if named.url is None:
        selected = select_rows(selection)
    else:
        selected = _select_into_store(selection, named.url)
    show(console, selected, arguments.out)


def _select_into_store(selection: Selection, url: str) -> Selected:
    """Make the output on this machine, and put it into the store.

    Raises:
        OutputError: the object exists, and may not be replaced.
    """
    if not selection.overwrite and object_size(url) is not None:
        raise OutputError(f"{url} already exists", "`overwrite` replaces it; or choose another one")
    sources = find_sources(selection.rows, with_outputs=selection.scores is None)
    if any(s.kind == "remote" and place_of(s.where) == place_of(url) for s in sources):
        raise OutputError(f"{url} is an input", "choose another output")
    cache_folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_folder()) as folder:
        output = Path(folder) / selection.output.name
        selected = select_rows(replace(selection, output=output))
        put_object(output, url)
    return selected


def _wanted(given: Arguments) -> Wanted:
    """Turn the options that say which rows to keep into one value.

    Raises:
        ConfigError: none is given, or some that contradict each other.
    """
    in_range = given.above is not None or given.below is not None
    if sum([in_range, given.top is not None, given.bottom is not None]) != 1:
        raise ConfigError(
            "say which rows to keep: either a number or share of them, or a range of scores",
            "`top` 90% or `bottom` 20; or `above` 0.5, `below` 2, or both of these",
        )
    if any(limit is not None and math.isnan(limit) for limit in (given.above, given.below)):
        raise ConfigError("nan is no score, so that no row is above or below it", "give a number")
    if given.top is not None:
        return Wanted(None, None, "top", *parse_amount(given.top))
    if given.bottom is not None:
        return Wanted(None, None, "bottom", *parse_amount(given.bottom))
    return Wanted(given.above, given.below)


def show(console: Console, selected: Selected, output: str) -> None:
    """Print what was kept."""
    where = []
    if selected.lowest is not None:
        where.append(f"scores from {selected.lowest:.6g} to {selected.highest:.6g}")
    elif selected.span is not None:
        where.append(f"all scores are from {selected.span[0]:.6g} to {selected.span[1]:.6g}")
    without = selected.rows - selected.scored
    if without:
        where.append(f"{without:,} rows have no score")
    facts = ", ".join([f"kept {selected.kept:,} of {selected.rows:,} rows in {output}", *where])
    say(console, facts)
