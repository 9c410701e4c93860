"""Name the extra that is missing for a subcommand, and how to install it."""

from importlib.util import find_spec

from harmless_runtime.errors import ConfigError

_EXPORT = ("torch", "transformers", "onnx_ir", "safetensors")


def need_export_extra(command: str) -> None:
    """Raise ConfigError if packages are missing that exporting and verifying need."""
    missing = [name for name in _EXPORT if not find_spec(name)]
    if missing:
        raise ConfigError(
            f"{command} needs packages that are missing: {', '.join(missing)}",
            "pip install '.[export]' in the project's folder",
        )
