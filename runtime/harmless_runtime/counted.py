"""Log how far a long loop is, so that nobody takes it for a hang."""

import logging
import time
from collections.abc import Collection, Iterator
from typing import TypeVar

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Seconds until the first line, and between two lines.
_FIRST, _LATER = 1.0, 10.0


def counted(items: Collection[T], what: str) -> Iterator[T]:
    """Yield items, and log how many of them were taken, if all of them take longer than a second.

    Args:
        items: what is looped over.
        what: is done with them, for example "outputs are written".
    """
    due = time.monotonic() + _FIRST
    for number, item in enumerate(items):
        if time.monotonic() >= due:
            logger.info("%s of %s %s", f"{number:,}", f"{len(items):,}", what)
            due = time.monotonic() + _LATER
        yield item
