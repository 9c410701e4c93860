"""Tell the facts of a run: what its record says, and its rejects."""

import shlex
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from harmless_runtime import bundled
from harmless_runtime.report.page import definitions, paragraph, section, table
from harmless_runtime.report.scored_rows import ScoredRows
from harmless_runtime.rows.output_lines import common_reasons
from harmless_runtime.rows.sources import valid_text
from harmless_runtime.scores.record import RunRecord

_REASONS = 8
_INPUTS = 5


def run_section(rows: ScoredRows) -> str:
    """Return the section about the run."""
    record = rows.record
    if record is None:
        return section("The run", paragraph(f"There is no record of the run beside {rows.name}."))
    return section("The run", definitions(_facts(record)), _parity(record))


def _facts(record: RunRecord) -> dict[str, str]:
    about, print_ = record.about, record.fingerprint
    names = [facts.name for facts in record.inputs]
    more = len(names) - _INPUTS
    facts = {
        "model": model_of(record),
        "revision": _text(about, "revision"),
        "artifact": _text(about, "artifact"),
        "its SHA-256": _text(print_, "the artifact's SHA-256"),
        "computed by": ", ".join(
            text for name in ("provider", "precision") if (text := _text(print_, name))
        ),
        "longest row": f"{_text(print_, 'max_length')} tokens",
        "inputs": ", ".join(names[:_INPUTS]) + (f" and {more} more" if more > 0 else ""),
        "finished": record.finished,
        "speed": _speed(record),
        "versions": ", ".join(
            f"{name} {version}" for name, version in _mapping(about, "versions").items()
        ),
    }
    return {name: text for name, text in facts.items() if text}


def _speed(record: RunRecord) -> str:
    """Return the pace of the run, if one process did all of it."""
    seconds = record.about.get("seconds")
    if not isinstance(seconds, int | float) or seconds <= 0 or record.about.get("resumed_rows"):
        return ""
    rows, tokens = record.counts.get("rows", 0), record.counts.get("tokens", 0)
    return (
        f"{rows / seconds:,.1f} rows/s, {tokens / seconds:,.0f} tokens/s, {seconds:,.1f} s in all"
    )


def _parity(record: RunRecord) -> str:
    """Return a table of how far the artifact's scores are from PyTorch's."""
    reports = record.about.get("parity")
    if not isinstance(reports, list) or not reports:
        return ""
    rows = [
        [
            str(report.get("runner", "")),
            f"{report.get('relative', float('nan')):.2g} σ",
            f"{report.get('limit', float('nan')):g} σ",
            f"{report.get('spearman', float('nan')):.5f}",
        ]
        for report in reports
        if isinstance(report, dict)
    ]
    told = paragraph(
        "How far the artifact's scores are from PyTorch's in fp32, on bundled texts. σ is the "
        "standard deviation of the scores.",
        quiet=True,
    )
    return told + table(["", "largest difference", "allowed", "Spearman"], rows)


def rejects_section(rows: ScoredRows, without_score: int, truncated: int) -> str:
    """Return the section about rows that have no score or lost tokens, or nothing."""
    counts = rows.record.counts if rows.record else {}
    rejected = counts.get("rejected", without_score)
    truncated = counts.get("truncated", truncated)
    parts = []
    if truncated:
        parts.append(paragraph(f"{truncated:,} rows were truncated to the longest length."))
    if rejected:
        parts.append(paragraph(f"{rejected:,} rows have no score."))
        if rows.rejects.is_file():
            with rows.rejects.open("rb") as lines:
                reasons = common_reasons(lines, _REASONS)
            shown = [[reason, f"{count:,}"] for reason, count in reasons]
            parts.append(table(["reason", "rows"], shown))
            parts.append(paragraph(f"They are in {rows.rejects}.", quiet=True))
    return section("Rows that were not scored as they are", *parts) if parts else ""


def select_command(rows: ScoredRows) -> str:
    """Return the beginning of the command that keeps the rows above a cut."""
    names = ["ROWS"]
    if rows.inputs is not None:
        names = [source.where for source in rows.inputs.sources]
    elif rows.record is not None:
        names = [facts.name for facts in rows.record.inputs]
    kind = next((s for s in (".csv", ".tsv", ".parquet") if names[0].endswith(s)), ".jsonl")
    if rows.run is None:
        column = shlex.quote(rows.column)
        name = shlex.quote(rows.name)
        return f"harmless select {name} --score-column {column} -o kept{kind} --above"
    inputs = " ".join(map(shlex.quote, names[:_INPUTS])) + (" …" if len(names) > _INPUTS else "")
    return f"harmless select {inputs} --scores {shlex.quote(rows.name)} -o kept{kind} --above"


def model_of(record: RunRecord | None) -> str:
    """Return the checkpoint of a run, or what the bundled model is."""
    if record is None:
        return ""
    if _text(record.about, "artifact") == valid_text(str(bundled.MODEL.absolute())):
        return "the bundled demo model, which is far too small to judge safety"
    return _text(record.about, "checkpoint")


def different_settings(first: RunRecord | None, second: RunRecord | None) -> str:
    """Return what differs in the settings of two runs, as a list, or nothing."""
    if first is None or second is None:
        return ""
    then, now = first.fingerprint, second.fingerprint
    about_inputs = ("the input", "the size of ", "the version of ")
    names = [
        name
        for name in then
        if name in now and then[name] != now[name] and not name.startswith(about_inputs)
    ]
    return definitions({name: f"{_short(then[name])} → {_short(now[name])}" for name in names})


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 24 else f"{text[:12]}…"


def when(record: RunRecord | None) -> str:
    """Return the day on which a run ended, or nothing."""
    if record is None:
        return ""
    try:
        return f"{datetime.fromisoformat(record.finished):%d %B %Y}"
    except ValueError:
        return ""


def _text(facts: Mapping[str, Any], name: str) -> str:
    value = facts.get(name)
    return "" if value is None else str(value)


def _mapping(facts: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = facts.get(name)
    return value if isinstance(value, dict) else {}
