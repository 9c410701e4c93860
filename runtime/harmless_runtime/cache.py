"""Say where files are kept that can be made again: exports, and outputs on their way elsewhere."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return `~/.cache/harmless-scorer`, or the folder of this name in `XDG_CACHE_HOME`."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "harmless-scorer"
