"""Put a page together: one file that loads nothing, and that no text of a row can change.

Everything that comes from rows is in the page as JSON, from which the script makes texts, or is
escaped. The content security policy allows this one script, by its hash, and no requests.
"""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

import msgspec

from harmless_runtime import __version__
from harmless_runtime.report.charts import Chart
from harmless_runtime.report.scored_rows import ScoredRow

# Most bytes of the rows' texts in a page.
_TEXT_BYTES = 600_000
_NAME_CHARACTERS = 48
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_SURROGATE = re.compile("[\ud800-\udfff]")


class PageRows:
    """The rows of a page, each of which is in it once, as far as there is room."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self._bytes = 0
        self._places: dict[tuple[str, int, str], int | None] = {}

    def add(self, row: ScoredRow, scores: Sequence[str] | None = None) -> int | None:
        """Add a row, and return its place, or None if there is no room for it.

        Args:
            row: the row.
            scores: what is shown as its scores, if not its score alone.
        """
        key = (row.source, row.number, row.id)
        if key not in self._places:
            shown = {
                "score": row.score,
                "scores": scores or [f"{row.score:.4g}"],
                "id": visible(row.id)[:200],
                "where": f"{_end(visible(row.source))}, line {row.number}" if row.source else "",
                "question": visible(row.question).strip("\n"),
                "answer": visible(row.answer),
            }
            size = len(msgspec.json.encode(shown))
            has_room = self._bytes + size <= _TEXT_BYTES
            self._places[key] = len(self.rows) if has_room else None
            if has_room:
                self._bytes += size
                self.rows.append(shown)
        return self._places[key]

    def add_all(self, rows: Sequence[ScoredRow]) -> list[int]:
        """Add rows, and return the places of those for which there is room."""
        places = (self.add(row) for row in rows)
        return [place for place in places if place is not None]


def visible(text: str) -> str:
    """Return a text whose control characters are pictures, and whose surrogates are replaced."""
    text = _SURROGATE.sub("\ufffd", text.replace("\r\n", "\n"))
    return _CONTROL.sub(lambda m: chr(0x2400 + ord(m[0])) if ord(m[0]) < 32 else "\ufffd", text)


def _end(name: str) -> str:
    """Return a long name without its beginning."""
    return name if len(name) <= _NAME_CHARACTERS else f"…{name[1 - _NAME_CHARACTERS :]}"


def make_page(title: str, sections: Sequence[str], data: Mapping[str, Any]) -> bytes:
    """Return the page.

    Args:
        title: of the page.
        sections: HTML.
        data: what the script needs.
    """
    script = _asset("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # `</script>` would end the data, and `<!--` would change how they are read.
    text = msgspec.json.encode(data).decode().replace("<", "\\u003c")
    page = Template(_asset("page.html")).substitute(
        title=escape(visible(title)),
        css=_asset("page.css"),
        body="\n".join(sections),
        version=__version__,
        data=text,
        script=script,
        script_hash=f"sha256-{digest}",
    )
    return page.encode()


def _asset(name: str) -> str:
    return (files("harmless_runtime.report") / name).read_text("utf-8")


def section(title: str, *parts: str) -> str:
    """Return a section with a heading."""
    return f"<section><h2>{escape(title)}</h2>{''.join(parts)}</section>"


def paragraph(text: str, *, quiet: bool = False) -> str:
    """Return a paragraph of text."""
    return f"<p{' class=quiet' if quiet else ''}>{escape(visible(text))}</p>"


def chart(drawn: Chart) -> str:
    """Return both variants of a chart."""
    return f'<div class="wide">{drawn.wide}</div><div class="narrow">{drawn.narrow}</div>'


def tiles(facts: Mapping[str, str]) -> str:
    """Return large figures with what they are."""
    made = (f"<div class=tile><b>{escape(v)}</b><span>{escape(k)}</span></div>"
            for k, v in facts.items())  # fmt: skip
    return f"<div class=tiles>{''.join(made)}</div>"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table. The first column has texts, and the others have numbers."""

    def cells(kind: str, values: Sequence[str]) -> str:
        return "".join(
            f"<{kind}{' class=n' if i else ''}>{escape(visible(value))}</{kind}>"
            for i, value in enumerate(values)
        )

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    head_row = f"<tr>{cells('th', head)}</tr>"
    return f"<div class=scroll><table><thead>{head_row}</thead><tbody>{body}</tbody></table></div>"


def definitions(facts: Mapping[str, str]) -> str:
    """Return a list of facts by their names."""
    made = (f"<dt>{escape(k)}</dt><dd>{escape(visible(v))}</dd>" for k, v in facts.items())
    return f"<dl>{''.join(made)}</dl>"


ROW_LIST = (
    '<div class=views id=views><input type=search id=search placeholder="search these rows" '
    'aria-label="search these rows"><span id=found class=quiet role=status></span></div>'
    "<div id=list></div>"
)
