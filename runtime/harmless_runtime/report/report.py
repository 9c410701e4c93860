"""Make the page about one run."""

from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from harmless_runtime.errors import InputError
from harmless_runtime.report import charts
from harmless_runtime.report.cuts import QUANTILES, Cuts, find_cuts
from harmless_runtime.report.facts import (
    higher,
    model_of,
    rejects_section,
    run_section,
    select_command,
    when,
)
from harmless_runtime.report.gather import Gathered, gather
from harmless_runtime.report.groups import groups_of
from harmless_runtime.report.page import (
    ROW_LIST,
    PageRows,
    brief,
    chart,
    make_page,
    paragraph,
    section,
    table,
    tiles,
    visible,
)
from harmless_runtime.report.row import ScoredRow
from harmless_runtime.report.scored_rows import ScoredRows

# Rows that stand for all cuts, and rows that are listed as drawn at random.
_NEAR_CUTS = 240
_LISTED = 100


def make_report(rows: ScoredRows) -> bytes:
    """Return the page about one run.

    Raises:
        InputError: no row has a score, or the rows cannot be read.
        OutputError: the scores are of other rows.
    """
    gathered = gather(rows)
    if not len(gathered.scores):
        raise InputError(f"{rows.name} has no scores")
    if gathered.groups == [None]:
        raise InputError(f"no row of {rows.name} has the field {rows.by}", "`by` names another one")
    cuts = find_cuts(gathered.scores)
    page_rows = PageRows()
    lowest, highest = page_rows.add_all(gathered.lowest), page_rows.add_all(gathered.highest)
    near = page_rows.add_all(_spread(gathered.drawn, _NEAR_CUTS))
    listed = page_rows.add_all(_spread_by_place(gathered.drawn, _LISTED))
    views = {"lowest": lowest, "highest": highest, "random": listed}
    by_score = sorted({*lowest, *highest, *near, *listed}, key=page_rows.score)
    data = {
        "rows": page_rows.shown(),
        "views": [{"name": name, "rows": own} for name, own in views.items() if own],
        "sorted": by_score,
        "cuts": {
            "first": cuts.first,
            "step": cuts.step,
            "digits": cuts.digits,
            "kept": cuts.kept.tolist(),
            "total": cuts.total,
            "barCuts": (len(cuts.kept) - 1) // len(cuts.bars),
        },
    }
    sections = [
        _head(rows, gathered),
        _cut_section(rows, gathered, cuts, len(by_score)),
        _quantile_section(gathered.scores),
        _length_section(gathered, cuts),
        _group_section(rows, gathered),
        rejects_section(rows, gathered.without_score, gathered.truncated),
        _list_section(rows),
        run_section(rows),
    ]
    return make_page(rows.name, [part for part in sections if part], data)


def _spread(drawn: Sequence[ScoredRow], count: int) -> list[ScoredRow]:
    """Return so many rows at equal distances in the order of the scores."""
    if len(drawn) <= count:
        return list(drawn)
    places = np.linspace(0, len(drawn) - 1, count).round().astype(int).tolist()
    return [drawn[place] for place in places]


def _spread_by_place(drawn: Sequence[ScoredRow], count: int) -> list[ScoredRow]:
    """Return so many rows at random, in the order of the input."""
    places = np.random.default_rng(0).permutation(len(drawn))[:count].tolist()
    return sorted((drawn[place] for place in places), key=lambda row: (row.source, row.number))


def _head(rows: ScoredRows, gathered: Gathered) -> str:
    low, middle, high = np.quantile(gathered.scores, [0.05, 0.5, 0.95]).tolist()
    facts = {
        "rows with a score": f"{len(gathered.scores):,}",
        "median": f"{middle:.3g}",
        "mean": f"{gathered.scores.mean():.3g}",
        "5 % to 95 %": f"{low:.3g} to {high:.3g}",
    }
    if gathered.without_score:
        facts["rows without"] = f"{gathered.without_score:,}"
    about = [part for part in (model_of(rows.record), when(rows.record)) if part]
    title = f"<h1>Scores of {escape(brief(rows.name))}</h1>"
    more = " · ".join([higher(rows.record), *about])
    return title + paragraph(more, quiet=True) + tiles(facts)


def _cut_section(rows: ScoredRows, gathered: Gathered, cuts: Cuts, shown: int) -> str:
    shares = "".join(
        f"<button data-share={share}>drop {share:.0%}</button>" for share in (0.05, 0.1, 0.25, 0.5)
    )
    controls = (
        f"<div class=slider><input type=range id=cut min=0 max={len(cuts.kept) - 1} value=0 "
        'aria-label="the lowest score that is kept"><input type=number id=value '
        f'step={cuts.step:g} aria-label="the lowest score that is kept"></div>'
        f"<div class=shares>{shares}</div><p><b id=kept role=status></b></p>"
    )
    command, note = select_command(rows)
    shown_command = (
        f"<code class=command>{escape(visible(command))} <span class=above></span></code>"
        + (paragraph(note, quiet=True) if note else "")
    )
    near = ""
    if gathered.drawn and any(row.answer for row in gathered.drawn):
        near = (
            "<h2>The rows nearest to the cut</h2>"
            + paragraph(f"of {shown:,} rows that the page holds", quiet=True)
            + "<div id=near-above></div><p class=at>cut at <span class=above></span>: what is "
            "above is kept, what is below is dropped</p><div id=near-below></div>"
        )
    drawn = f"<div id=histogram>{chart(charts.histogram(cuts))}</div>"
    return section("Where to cut", drawn, controls, shown_command, near)


def _quantile_section(scores: NDArray[np.float64]) -> str:
    found = np.quantile(scores, QUANTILES).tolist()
    cells = [["score", *(f"{value:.4g}" for value in found)]]
    return section("Quantiles", table(["", *(f"{share:.0%}" for share in QUANTILES)], cells))


def _length_section(gathered: Gathered, cuts: Cuts) -> str:
    if not len(gathered.lengths):
        return ""
    unit = "tokens" if gathered.in_tokens else "characters"
    told = "The darker, the more rows."
    if gathered.lengths.std() and gathered.scores.std():
        correlation = np.corrcoef(gathered.lengths, gathered.scores)[0, 1]
        told += f" The correlation of score and length in {unit} is {correlation:.2f}."
    drawn = chart(charts.by_length(gathered, cuts))
    return section("Score and length", drawn, paragraph(told, quiet=True))


def _group_section(rows: ScoredRows, gathered: Gathered) -> str:
    if len(gathered.groups) < 2:
        return ""
    groups = groups_of(gathered)
    told = "5 to 95 % of the rows (line), 25 to 75 % (bar), and the median."
    if gathered.has_more_groups:
        told += (
            f" There are more than {len(gathered.groups) - 1:,} groups; these are the largest of "
            "those that come first."
        )
    elif len(groups) < len(gathered.groups):
        told += f" The {len(groups)} largest of {len(gathered.groups):,} groups."
    told += " The group with the highest median comes first."
    cells = [
        [group.name, f"{group.rows:,}", *(f"{value:.3g}" for value in group.quantiles)]
        for group in groups
    ]
    head = ["", "rows", "5%", "25%", "50%", "75%", "95%"]
    drawn = chart(charts.by_group(groups))
    title = f"By {rows.by}" if rows.by else "By input"
    return section(title, drawn, paragraph(told, quiet=True), table(head, cells))


def _list_section(rows: ScoredRows) -> str:
    if rows.inputs is None:
        told = "The rows are not known, so that only their ids are shown. --rows names them."
    else:
        told = (
            "The rows with the lowest and the highest scores, and rows drawn at random. Long texts "
            "are cut."
        )
    return section("Rows", paragraph(told, quiet=True), ROW_LIST)
