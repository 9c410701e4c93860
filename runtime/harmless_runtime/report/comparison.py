"""Make the page about two runs over the same rows."""

from html import escape

import numpy as np

from harmless_runtime.report import charts
from harmless_runtime.report.compare import Comparison, compare
from harmless_runtime.report.facts import different_settings, run_section
from harmless_runtime.report.page import (
    ROW_LIST,
    PageRows,
    brief,
    make_page,
    paragraph,
    section,
    table,
    tiles,
)
from harmless_runtime.report.scored_rows import ScoredRows

_POINTS = 1500


def make_comparison(first: ScoredRows, second: ScoredRows) -> bytes:
    """Return the page about two runs over the same rows.

    Raises:
        InputError: the runs have other rows, or cannot be read.
        OutputError: the scores are of other rows.
    """
    found = compare(first, second)
    page_rows = PageRows()
    moved = [
        page_rows.add(each.row, [f"{each.first:.4g} → {each.second:.4g}"]) for each in found.moved
    ]
    data = {
        "rows": page_rows.shown(),
        "views": [{"name": "moved most", "rows": moved}],
    }
    names = first.name, second.name
    sections = [
        f"<h1>{escape(brief(names[0]))} and {escape(brief(names[1]))}</h1>"
        + paragraph("Two scores of each row.", quiet=True)
        + different_settings(first.record, second.record),
        _agreement(found),
        _scatter_section(found, names),
        _sides_section(found),
        section("The rows that moved most", ROW_LIST),
        run_section(first),
        run_section(second),
    ]
    return make_page(" and ".join(names), sections, data)


def _agreement(found: Comparison) -> str:
    spread = float(found.first.std())
    differences = found.differences
    facts = {
        "rows with both scores": f"{len(found.first):,}",
        "Spearman correlation": _or_dash(found.spearman),
        "Pearson correlation": _or_dash(found.pearson),
        "mean difference": _in_sigma(float(differences.mean()), spread),
        "largest difference": _in_sigma(float(differences.max()), spread),
    }
    if found.only_one:
        facts["rows with one score"] = f"{found.only_one:,}"
    if found.other_texts:
        facts["rows with other texts"] = f"{found.other_texts:,}"
    if found.unknown_texts:
        facts["rows whose texts are not known"] = f"{found.unknown_texts:,}"
    told = f"σ is the standard deviation of the first scores, {spread:.4g}."
    alone = (
        "Rows belong together by their ids, and of some it is not known whether both runs had the "
        "same texts."
    )
    note = paragraph(alone) if found.unknown_texts else ""
    return tiles(facts) + note + paragraph(told, quiet=True)


def _or_dash(correlation: float) -> str:
    """Return a correlation, which is not defined where all scores are equal."""
    return "–" if np.isnan(correlation) else f"{correlation:.5f}"


def _in_sigma(difference: float, spread: float) -> str:
    return f"{difference / spread:.2g} σ" if spread else f"{difference:.2g}"


def _scatter_section(found: Comparison, names: tuple[str, str]) -> str:
    count = len(found.first)
    chosen = np.random.default_rng(0).permutation(count)[:_POINTS]
    drawn = charts.scatter(found.first[chosen], found.second[chosen], names)
    told = "Each point is a row"
    told += f", and these are {_POINTS:,} of them at random." if count > _POINTS else "."
    parts = f'<div class="square">{drawn}</div>', paragraph(told, quiet=True)
    return section("Score against score", *parts)


def _sides_section(found: Comparison) -> str:
    cells = [[f"{share:.0%}", f"{changed:.2%}"] for share, changed in found.changed_sides()]
    told = "If each run drops the rows with its lowest scores, so many rows are kept by only one."
    head = ["dropped", "rows that change side"]
    return section("At a cut", table(head, cells), paragraph(told, quiet=True))
