"""Find the inputs of a finished run again, by its record."""

import logging
from pathlib import Path

from harmless_runtime.errors import InputError
from harmless_runtime.rows.sources import Source, find_source
from harmless_runtime.scores.record import InputFacts, RunRecord

logger = logging.getLogger(__name__)


def inputs_of(record: RunRecord | None, folder: Path) -> tuple[Source, ...] | None:
    """Return the inputs that a record names, or None if they are gone or have changed."""
    if record is None:
        return None
    sources = []
    for facts in record.inputs:
        source = _find(facts, folder)
        if source is None:
            is_local = facts.changed is not None
            why = "is not where it was, or has changed" if is_local else "is not a local file"
            logger.warning(
                "no texts are shown, because %s %s (`rows` names the inputs)", facts.name, why
            )
            return None
        sources.append(source)
    return tuple(sources)


def _find(facts: InputFacts, folder: Path) -> Source | None:
    """Find a local input by its name, as seen from here or from the folder of the scores."""
    if facts.changed is None:
        return None
    for name in (facts.name, str(folder / facts.name)):
        try:
            source = find_source(name)
        except InputError:
            continue
        if source.kind == "file" and (source.size, source.changed) == (facts.size, facts.changed):
            return source
    return None
