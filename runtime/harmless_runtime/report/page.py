"""Put a page together: one file that loads nothing, and that no text of a row can change.

Everything that comes from rows is in the page as JSON, from which the script makes texts, or is
escaped. The content security policy allows this one script, by its hash, and no requests.
"""

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

import msgspec

from harmless_runtime import __version__
from harmless_runtime.report.charts import Chart
from harmless_runtime.report.gather import CHARACTERS
from harmless_runtime.report.row import ScoredRow, shortened

# Most bytes of the rows in a page, and the lengths of an answer that are tried until they fit.
_TEXT_BYTES = 600_000
_CHARACTERS = (CHARACTERS, 1000, 700, 500, 350, 250, 150, 75)
_NAME_CHARACTERS = 48
_ID_CHARACTERS = 120
# Most characters of a fact, such as a name, which may have been edited.
_FACT_CHARACTERS = 300
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_SURROGATE = re.compile("[\ud800-\udfff]")


class PageRows:
    """The rows of a page, each of which is in it once."""

    def __init__(self) -> None:
        self._rows: list[tuple[ScoredRow, Sequence[str]]] = []
        self._places: dict[tuple[str, int, str], int] = {}

    def add(self, row: ScoredRow, scores: Sequence[str] = ()) -> int:
        """Add a row that has a score, and return its place.

        Args:
            row: the row.
            scores: what is shown as its scores, if not its score alone.
        """
        place = self._places.setdefault((row.source, row.number, row.id), len(self._rows))
        if place == len(self._rows):
            self._rows.append((row, scores or [f"{row.score:.4g}"]))
        return place

    def add_all(self, rows: Iterable[ScoredRow]) -> list[int]:
        """Add rows, and return their places."""
        return [self.add(row) for row in rows]

    def score(self, place: int) -> float:
        """Return the score of the row at a place."""
        return self._rows[place][0].score or 0.0

    def shown(self) -> list[dict[str, Any]]:
        """Return all rows for the script, with texts as long as there is room for."""
        rows: list[dict[str, Any]] = []
        for characters in _CHARACTERS:
            rows = [_shown(shortened(row, characters), scores) for row, scores in self._rows]
            text = msgspec.json.encode(rows)
            # `make_page` writes each < with six characters.
            if len(text) + 5 * text.count(b"<") <= _TEXT_BYTES:
                break
        return rows


def _shown(row: ScoredRow, scores: Sequence[str]) -> dict[str, Any]:
    before, after = row.left_out
    question, answer = visible(row.question).strip("\n"), visible(row.answer)
    return {
        "score": row.score,
        "scores": scores,
        "id": brief(row.id, _ID_CHARACTERS),
        "where": f"{_end(visible(row.source))}, line {row.number}" if row.source else "",
        "question": f"({before:,} more characters) …{question}" if before else question,
        "answer": f"{answer}… ({after:,} more characters)" if after else answer,
    }


def visible(text: str) -> str:
    """Return a text whose control characters are pictures, and whose surrogates are replaced."""
    text = _SURROGATE.sub("\ufffd", text.replace("\r\n", "\n"))
    return _CONTROL.sub(lambda m: chr(0x2400 + ord(m[0])) if ord(m[0]) < 32 else "\ufffd", text)


def brief(text: str, characters: int = _FACT_CHARACTERS) -> str:
    """Return a text as `visible` does, without its middle if it is long."""
    text = visible(text)
    if len(text) <= characters:
        return text
    return f"{text[: characters * 2 // 3]}…{text[1 - characters // 3 :]}"


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
        title=escape(brief(title)),
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
    return f"<section><h2>{escape(brief(title))}</h2>{''.join(parts)}</section>"


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
            f"<{kind}{' class=n' if i else ''}>{escape(brief(value))}</{kind}>"
            for i, value in enumerate(values)
        )

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    head_row = f"<tr>{cells('th', head)}</tr>"
    return f"<div class=scroll><table><thead>{head_row}</thead><tbody>{body}</tbody></table></div>"


def definitions(facts: Mapping[str, str]) -> str:
    """Return a list of facts by their names."""
    made = (f"<dt>{escape(brief(k))}</dt><dd>{escape(brief(v))}</dd>" for k, v in facts.items())
    return f"<dl>{''.join(made)}</dl>"


ROW_LIST = (
    '<div class=views id=views><input type=search id=search placeholder="search these rows" '
    'aria-label="search these rows"><span id=found class=quiet role=status></span></div>'
    "<div id=list></div>"
)
