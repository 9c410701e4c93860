"""Tell the settings from the other arguments of a subcommand."""

from collections.abc import Mapping
from typing import Any

from harmless_runtime.errors import ConfigError

# The options that are settings, as the YAML file has them.
_SETTINGS = (
    "model", "max_length", "batch_size", "provider", "precision", "device", "gpu_memory", "compute",
    "streams", "columns", "format", "system", "as_is", "max_line_bytes", "check_files",
    "allow_pickle",
)  # fmt: skip


def settings_in(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings among a subcommand's arguments, as `load_config` takes them.

    Args:
        arguments: the values by name. A setting that the subcommand does not have may be missing.

    Raises:
        ConfigError: the columns are not a list of NAME=FIELD.
    """
    flags = {name: arguments[name] for name in _SETTINGS if name in arguments}
    for name in ("batch_size", "device"):
        text = flags[name]
        flags[name] = int(text) if isinstance(text, str) and text.isdecimal() else text
    if flags["device"] == "all":  # which is no number of a device
        flags["device"] = None
    if flags["columns"] is not None:
        flags["columns"] = _columns(flags["columns"])
    return flags


def _columns(text: str) -> dict[str, str]:
    """Turn the text of --columns into a mapping, as the YAML file has it."""
    pairs = [part.split("=", 1) for part in text.split(",")]
    if not all(len(pair) == 2 for pair in pairs):
        raise ConfigError(
            f"columns is {text!r}, and has to be like instruction=prompt,output=response"
        )
    names = [name.strip() for name, _ in pairs]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(
            f"columns names {twice} twice",
            "score each field in a run of its own, into its own file",
        )
    return dict(zip(names, (path.strip() for _, path in pairs), strict=True))
