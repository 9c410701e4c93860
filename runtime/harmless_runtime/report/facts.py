"""Tell the facts of a run: what its record says, and its rejects."""

import os
import shlex
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from harmless_runtime import bundled
from harmless_runtime.report.page import definitions, paragraph, section, table
from harmless_runtime.report.scored_rows import ScoredRows
from harmless_runtime.rows.output_lines import common_reasons
from harmless_runtime.rows.sources import valid_text
from harmless_runtime.scores.record import RunRecord

_REASONS = 8
_INPUTS = 5
_RUNNERS = 10


def run_section(rows: ScoredRows) -> str:
    """Return the section about the run."""
    record = rows.record
    if record is None:
        told = f"There is no record of the run beside {rows.name}, or the file was changed since."
        return section("The run", paragraph(told))
    return section("The run", definitions(_facts(record)), _parity(record))


def _facts(record: RunRecord) -> dict[str, str]:
    about, print_ = record.about, record.fingerprint
    versions = _mapping(about, "versions")
    names = [facts.name for facts in record.inputs]
    more = len(names) - _INPUTS
    facts = {
        "model": model_of(record),
        "scorer": _text(about, "scorer"),
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
        "versions": ", ".join(f"{name} {_text(versions, name)}" for name in versions),
    }
    return {name: text for name, text in facts.items() if text}


def _speed(record: RunRecord) -> str:
    """Return the pace of the run, if one process did all of it."""
    try:
        seconds = msgspec.convert(record.about.get("seconds"), float)
    except (msgspec.ValidationError, OverflowError):
        return ""
    if not seconds > 0 or record.about.get("resumed_rows"):
        return ""
    rows, tokens = record.counts.get("rows", 0), record.counts.get("tokens", 0)
    return (
        f"{rows / seconds:,.1f} rows/s, {tokens / seconds:,.0f} tokens/s, {seconds:,.1f} s in all"
    )


class _Parity(msgspec.Struct):
    runner: str
    relative: float
    limit: float
    spearman: float


def _parity(record: RunRecord) -> str:
    """Return a table of how far the artifact's scores are from PyTorch's."""
    try:
        reports = msgspec.convert(record.about.get("parity") or [], list[_Parity])
    except (msgspec.ValidationError, OverflowError):
        return ""
    if not reports:
        return ""
    rows = [
        [each.runner, f"{each.relative:.2g} σ", f"{each.limit:g} σ", f"{each.spearman:.5f}"]
        for each in reports[:_RUNNERS]
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
            parts.append(_reasons(rows.rejects))
    return section("Rows that were not scored as they are", *parts) if parts else ""


def _reasons(rejects: Path) -> str:
    try:
        with rejects.open("rb") as lines:
            reasons = common_reasons(lines, _REASONS)
    except msgspec.DecodeError:
        return paragraph(f"{rejects} should tell why, and is not a file of rejects.", quiet=True)
    shown = [[reason, f"{count:,}"] for reason, count in reasons]
    told = paragraph(f"They are in {rejects}.", quiet=True)
    return table(["reason", "rows"], shown) + told


def select_command(rows: ScoredRows) -> tuple[str, str]:
    """Return the beginning of the command that keeps the rows above a cut, and a note on it."""
    if rows.run is None:
        column, name = _quoted(rows.column), _quoted(rows.name)
        kept = f"kept{_form_of(rows.name)}"
        return f"harmless select {name} --score-column {column} -o {kept} --above", ""
    sources = rows.inputs.sources if rows.inputs else ()
    names, note = " ".join(_quoted(source.where) for source in sources), ""
    if not 0 < len(sources) <= _INPUTS:
        names, note = "ROWS", "ROWS stands for the inputs of the run, in their order."
    known = [source.name for source in sources]
    if rows.record is not None:
        known += [facts.name for facts in rows.record.inputs]
    kept = f"kept{_form_of(known[0]) if known else '.jsonl'}"
    scores = _quoted(rows.name)
    return f"harmless select {names} --scores {scores} -o {kept} --above", note


def _quoted(name: str) -> str:
    """Return a name as it is typed in a shell. bash and zsh know `$'\\xff'`."""
    if name.isprintable():
        return shlex.quote(name)
    escaped = (
        chr(b) if 32 <= b < 127 and b not in b"\\'" else f"\\x{b:02x}" for b in os.fsencode(name)
    )
    return f"$'{''.join(escaped)}'"


def _form_of(name: str) -> str:
    """Return the ending that a file of the same form has."""
    return next((end for end in (".csv", ".tsv", ".parquet") if name.endswith(end)), ".jsonl")


def model_of(record: RunRecord | None) -> str:
    """Return the checkpoint of a run, or what the bundled model is."""
    if record is None:
        return ""
    if _text(record.about, "artifact") == valid_text(str(bundled.MODEL.absolute())):
        return "the bundled demo model, which is far too small to judge safety"
    return _text(record.about, "checkpoint")


def higher(record: RunRecord | None) -> str:
    """Return what a higher score means."""
    is_helpful = record is not None and record.about.get("scorer") == "Gpt2HelpfulScorer"
    return f"Higher is more {'helpful' if is_helpful else 'harmless'}"


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
    text = _text({"": value}, "")
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
    try:
        return "" if value is None else str(value)
    except ValueError:  # an integer of thousands of digits
        return ""


def _mapping(facts: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = facts.get(name)
    return value if isinstance(value, dict) else {}
