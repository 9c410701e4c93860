"""Tell the settings from the other arguments of a subcommand."""

from collections.abc import Mapping
from typing import Any

from harmless_runtime.errors import ConfigError

# The options that are settings, as the YAML file has them.
_SETTINGS = (
    "model", "max_length", "batch_size", "provider", "precision", "device", "gpu_memory", "compute",
    "streams", "columns", "roles", "format", "system", "as_is", "max_line_bytes", "check_files",
    "allow_pickle",
)  # fmt: skip

# Those that are mappings, and what one looks like.
_MAPPINGS = {"columns": "instruction=prompt,output=response", "roles": "alice=user,bob=assistant"}


def settings_in(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings among a subcommand's arguments, as `load_config` takes them.

    Args:
        arguments: the values by name. A setting that the subcommand does not have may be missing.

    Raises:
        ConfigError: the columns are not a list of NAME=FIELD, or the roles one of NAME=ROLE.
    """
    flags = {name: arguments[name] for name in _SETTINGS if name in arguments}
    for name in ("batch_size", "device"):
        text = flags[name]
        flags[name] = int(text) if isinstance(text, str) and text.isdecimal() else text
    if flags["device"] == "all":  # which is no number of a device
        flags["device"] = None
    for name, such in _MAPPINGS.items():
        if flags[name] is not None:
            flags[name] = _mapping(name, flags[name], such)
    return flags


def _mapping(setting: str, text: str, such: str) -> dict[str, str]:
    """Turn the text of an option such as --columns into a mapping, as the YAML file has it."""
    pairs = [part.split("=", 1) for part in text.split(",")]
    if not all(len(pair) == 2 for pair in pairs):
        raise ConfigError(f"{setting} is {text!r}, and has to be like {such}")
    names = [name.strip() for name, _ in pairs]
    if twice := next((name for name in names if names.count(name) > 1), None):
        hint = "score each field in a run of its own, into its own file"
        raise ConfigError(f"{setting} names {twice} twice", hint if setting == "columns" else None)
    return dict(zip(names, (value.strip() for _, value in pairs), strict=True))
