"""Draw the charts of a report as SVG, with Vega-Lite through vl-convert."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any
from unicodedata import east_asian_width

import numpy as np
from numpy.typing import NDArray

from harmless_runtime.errors import ConfigError
from harmless_runtime.report.cuts import Cuts
from harmless_runtime.report.gather import Gathered
from harmless_runtime.report.groups import Group

# Colours that are replaced in the SVG by variables of the page, which differ in light and dark.
_COLOURS = {
    "#a1b2c1": "var(--ink)", "#a1b2c2": "var(--faint)", "#a1b2c3": "var(--accent)",
    "#a1b2c4": "var(--second)",
}  # fmt: skip
_INK, _FAINT, _ACCENT, _SECOND = _COLOURS
# The widths of the two variants of a chart: for a desktop and for a phone.
_WIDE, _NARROW = 660, 270
_SQUARE = 270
_LENGTH_CELLS, _SCORE_CELLS = 36, 24
_CONFIG = {
    "background": "transparent",
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": _INK, "titleColor": _INK, "tickColor": _FAINT, "domainColor": _FAINT,
        "gridColor": _FAINT, "gridOpacity": 0.5, "labelFontSize": 12, "titleFontSize": 12,
        "titleFontWeight": "normal",
    },
}  # fmt: skip


@dataclass(frozen=True)
class Chart:
    """A chart as two SVG texts, of which the page shows the one that fits its width."""

    wide: str
    narrow: str


def need_vl_convert() -> None:
    """Raise ConfigError if the package that draws the charts is missing."""
    if find_spec("vl_convert") is None:
        raise ConfigError(
            "a report needs the package vl-convert-python, which draws its charts",
            "pip install '.[report]' in the project's folder",
        )


def histogram(cuts: Cuts) -> Chart:
    """Draw the bars of a histogram, one path each, in their order."""
    values = [{"from": start, "to": end, "rows": rows} for start, end, rows in cuts.bars]
    return _chart(
        {
            "height": 200,
            "data": {"values": values},
            "mark": {"type": "bar", "color": _ACCENT, "binSpacing": 0.5},
            "encoding": {
                "x": {
                    "field": "from",
                    "type": "quantitative",
                    "bin": {"binned": True},
                    "title": "score",
                    "scale": {"domain": [values[0]["from"], values[-1]["to"]], "nice": False},
                    "axis": {"grid": False, "tickCount": 8},
                },
                "x2": {"field": "to"},
                "y": {
                    "field": "rows",
                    "type": "quantitative",
                    "title": "rows",
                    "axis": {"format": "~s", "tickCount": 4, "domain": False},
                },
            },
        }
    )


def by_length(gathered: Gathered, cuts: Cuts) -> Chart:
    """Draw how many rows have which length and which score, as a grid."""
    longest = max(float(np.quantile(gathered.lengths, 0.995)), 1.0)
    low, high = cuts.bars[0][0], cuts.bars[-1][1]
    counts, lengths, scores = np.histogram2d(
        np.clip(gathered.lengths, 0, longest),
        np.clip(gathered.scores, low, high),
        bins=(_LENGTH_CELLS, _SCORE_CELLS),
        range=((0, longest), (low, high)),
    )
    values = [
        {
            "x": round(lengths[i], 1),
            "x2": round(lengths[i + 1], 1),
            "y": float(f"{scores[j]:.4g}"),
            "y2": float(f"{scores[j + 1]:.4g}"),
            "rows": int(counts[i, j]),
        }
        for i, j in np.argwhere(counts).tolist()
    ]
    unit = "tokens" if gathered.in_tokens else "characters"
    return _chart(
        {
            "height": 220,
            "data": {"values": values},
            "mark": {"type": "rect", "color": _ACCENT},
            "encoding": {
                "x": {
                    "field": "x",
                    "type": "quantitative",
                    "title": f"length in {unit}",
                    "scale": {"domain": [0, longest], "nice": False},
                    "axis": {"grid": False, "format": "~s", "tickCount": 6},
                },
                "x2": {"field": "x2"},
                "y": {
                    "field": "y",
                    "type": "quantitative",
                    "title": "score",
                    "scale": {"domain": [low, high], "nice": False},
                    "axis": {"grid": False, "tickCount": 5},
                },
                "y2": {"field": "y2"},
                "opacity": {
                    "field": "rows",
                    "type": "quantitative",
                    "scale": {"type": "sqrt", "range": [0.12, 1]},
                    "legend": None,
                },
            },
        }
    )


def by_group(groups: Sequence[Group]) -> Chart:
    """Draw the quantiles of each group: 5 to 95 %, 25 to 75 %, and the median."""
    values = [
        {
            "name": _plain(group.name, 18),
            "order": i,
            **dict(zip(("q5", "q25", "q50", "q75", "q95"), group.quantiles, strict=True)),
        }
        for i, group in enumerate(groups)
    ]
    y = {
        "field": "order",
        "type": "ordinal",
        "title": None,
        # Names may be equal after they were cut, so that their place is what counts.
        "axis": {
            "labelExpr": f"{[value['name'] for value in values]}[datum.value]",
            "labelLimit": 0,  # Vega would cut between the halves of a surrogate pair
            "domain": False,
            "ticks": False,
        },
    }

    def bar(start: str, end: str, width: int, colour: str) -> dict[str, Any]:
        x = {
            "field": start,
            "type": "quantitative",
            "title": "score",
            "scale": {"zero": False},
            "axis": {"tickCount": 5},
        }
        return {
            "mark": {"type": "rule", "strokeWidth": width, "color": colour},
            "encoding": {"x": x, "x2": {"field": end}},
        }

    median = {
        "mark": {"type": "tick", "thickness": 2, "size": 14, "color": _INK},
        "encoding": {"x": {"field": "q50", "type": "quantitative"}},
    }
    return _chart(
        {
            "height": {"step": 24},
            "data": {"values": values},
            "encoding": {"y": y},
            "layer": [bar("q5", "q95", 2, _FAINT), bar("q25", "q75", 8, _ACCENT), median],
        }
    )


def scatter(first: NDArray[np.float64], second: NDArray[np.float64], names: Sequence[str]) -> str:
    """Draw the two scores of some rows against each other, as one square SVG text.

    Args:
        first: float64 [rows], the scores on the x axis.
        second: float64 [rows], those on the y axis.
        names: what the axes are called.
    """
    low = float(min(first.min(), second.min()))
    high = float(max(first.max(), second.max()))
    scale = {"domain": [low, high], "nice": True, "zero": False}
    axes = {
        axis: {"field": axis, "type": "quantitative", "title": _plain(name, 40), "scale": scale}
        for axis, name in zip(("x", "y"), names, strict=True)
    }
    points = [
        {"x": float(f"{x:.5g}"), "y": float(f"{y:.5g}")}
        for x, y in zip(first.tolist(), second.tolist(), strict=True)
    ]
    corners = [{"x": low, "y": low}, {"x": high, "y": high}]
    return _svg(
        {
            "width": _SQUARE,
            "height": _SQUARE,
            "encoding": axes,
            "layer": [
                {"data": {"values": corners}, "mark": {"type": "line", "color": _SECOND}},
                {
                    "data": {"values": points},
                    "mark": {"type": "circle", "size": 10, "opacity": 0.4, "color": _ACCENT},
                },
            ],
        }
    )


def _plain(name: str, longest: int) -> str:
    """Return a name without control characters, and without its beginning if it is wide."""
    printable = "".join(c if c.isprintable() else "·" for c in name)
    widths = [2 if east_asian_width(c) in "FW" or c > "\uffff" else 1 for c in printable]
    if sum(widths) <= longest:
        return printable
    ends = np.cumsum(widths[::-1])
    kept = int(np.searchsorted(ends, longest - 1, side="right"))
    return f"…{printable[len(printable) - kept :]}"


def _chart(spec: dict[str, Any]) -> Chart:
    return Chart(_svg({"width": _WIDE, **spec}), _svg({"width": _NARROW, **spec}))


def _svg(spec: dict[str, Any]) -> str:
    import vl_convert

    svg: str = vl_convert.vegalite_to_svg({"config": _CONFIG, **spec}, vl_version="5.21")
    for colour, variable in _COLOURS.items():
        svg = svg.replace(f'"{colour}"', f'"{variable}"')
    # These attributes stand at every path, and are three quarters of the text.
    return re.sub(r' (aria-label|aria-roledescription|role)="[^"]*"', "", svg)
