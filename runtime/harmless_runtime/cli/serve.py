"""Run `harmless serve`."""

import socket
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console

from harmless_runtime.cli.console import say_always
from harmless_runtime.config import load_config
from harmless_runtime.errors import ConfigError, SessionError
from harmless_runtime.model.load import load_engine
from harmless_runtime.rows.shapes import reading_of

_NEEDED = ("starlette", "uvicorn", "prometheus_client")


@dataclass(frozen=True)
class Arguments:
    """What the command line says. `flags` are the settings that win over the file `config`."""

    host: str
    port: int
    wait_ms: float
    max_waiting: int
    max_rows: int
    max_body: int
    timeout: float
    token_file: Path | None
    config: Path | None
    flags: dict[str, Any]


def run(console: Console, arguments: Arguments) -> None:
    """Load the model, and answer requests until a signal comes.

    Raises:
        ConfigError: packages are missing, or a setting is wrong.
        SessionError: the address cannot be listened at; or as `load_engine`.
    """
    missing = [name for name in _NEEDED if not find_spec(name)]
    if missing:
        raise ConfigError(
            f"a server needs packages that are missing: {', '.join(missing)}",
            "pip install '.[serve]' in the project's folder",
        )
    from harmless_runtime.serve.answers import Limits
    from harmless_runtime.serve.app import make_app
    from harmless_runtime.serve.server import serve_until_signal

    config = load_config(arguments.config, arguments.flags)
    limits = Limits(
        arguments.wait_ms / 1000,
        arguments.max_waiting,
        arguments.max_rows,
        arguments.max_body,
        arguments.timeout,
        _token(arguments.token_file),
    )
    place = _listening(arguments.host, arguments.port)
    with place:
        engine = load_engine(config)
        engine.artifact.check()
        app = make_app(engine, reading_of(config), limits)
        try:  # another server may have come to the same port while the model was loaded
            place.listen()
        except OSError as error:
            raise _in_use(arguments.host, arguments.port, error) from error
        host, port = place.getsockname()[:2]
        provider = engine.runner.target.name
        at = f"[{host}]" if ":" in host else host
        say_always(console, f"listening at http://{at}:{port} ({provider}, {engine.precision})")
        serve_until_signal(app, place, limits.seconds)
    say_always(console, "every request that was accepted is answered")


def _token(path: Path | None) -> str | None:
    """Return the token in a file.

    Raises:
        ConfigError: the file cannot be read, or holds none.
    """
    if path is None:
        return None
    try:
        token = path.read_text().strip()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is no text in UTF-8") from None
    if not token:
        raise ConfigError(f"{path} holds no token")
    return token


def _listening(host: str, port: int) -> socket.socket:
    """Return a socket at an address, at which nobody is answered yet.

    Raises:
        SessionError: the address is in use, or is none of this machine.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # asyncio sends answers without delay only if the protocol is named.
        place = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        place.bind((host, port))
    except OSError as error:
        raise _in_use(host, port, error) from error
    return place


def _in_use(host: str, port: int, error: OSError) -> SessionError:
    return SessionError(
        f"cannot listen at {host}:{port}: {error.strerror}", "choose another `port` or `host`"
    )
