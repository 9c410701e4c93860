"""Tell the settings from the other arguments of a subcommand."""

from collections.abc import Mapping
from typing import Any

# The options that are settings, as the YAML file has them.
_SETTINGS = (
    "model", "max_length", "batch_size", "provider", "precision", "device", "gpu_memory", "compute",
    "streams", "columns", "format", "system", "max_line_bytes", "check_files", "allow_pickle",
)  # fmt: skip


def settings_in(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings among a subcommand's arguments, as `load_config` takes them.

    Args:
        arguments: the values by name. A setting that the subcommand does not have may be missing.
    """
    flags = {name: arguments[name] for name in _SETTINGS if name in arguments}
    for name in ("batch_size", "device"):
        text = flags[name]
        flags[name] = int(text) if isinstance(text, str) and text.isdecimal() else text
    if flags["device"] == "all":  # which is no number of a device
        flags["device"] = None
    return flags
