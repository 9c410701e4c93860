"""Run `harmless serve`."""

import ipaddress
import logging
import re
import socket
from codecs import BOM_UTF8
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from harmless_runtime.cli.console import say_always
from harmless_runtime.config import load_config
from harmless_runtime.errors import ConfigError, SessionError
from harmless_runtime.model.engine import Engine
from harmless_runtime.model.load import load_engine
from harmless_runtime.rows.shapes import Reading, check_columns, reading_of

if TYPE_CHECKING:
    from harmless_runtime.serve.answers import Limits
    from harmless_runtime.serve.app import Application

logger = logging.getLogger(__name__)

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
    max_hold: float
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

    config = load_config(arguments.config, arguments.flags)
    reading = reading_of(config)
    check_columns(reading)
    limits = Limits(
        arguments.wait_ms / 1000,
        arguments.max_waiting,
        arguments.max_rows,
        arguments.max_body,
        arguments.timeout,
        arguments.max_hold,
        _token(arguments.token_file),
    )
    with _listening(arguments.host, arguments.port) as place:
        if limits.token is None and not _is_loopback(place):
            logger.warning(
                "anyone who reaches %s can use this server, because it asks for no token: "
                "`token_file` names a file with one",
                place.getsockname()[0],
            )
        engine = load_engine(config)
        engine.artifact.check()
        answer_requests(console, engine, reading, limits, place)


def answer_requests(
    console: Console, engine: Engine, reading: Reading, limits: "Limits", place: socket.socket
) -> None:
    """Answer requests at a bound socket until a signal comes.

    Args:
        console: where is said that it listens, and how it ended.
        engine: what scores.
        reading: how rows are read.
        limits: what requests may ask for.
        place: the socket, which does not listen yet.

    Raises:
        SessionError: another server listens there.
    """
    from harmless_runtime.serve.app import Application
    from harmless_runtime.serve.server import serve_until_signal

    host, port = place.getsockname()[:2]
    app = Application(engine, reading, limits)
    try:  # another server may have come to the same port while the model was loaded
        place.listen()
    except OSError as error:
        raise _in_use(host, port, error) from error
    provider = engine.runner.target.name
    at = f"[{host}]" if ":" in host else host
    say_always(console, f"listening at http://{at}:{port} ({provider}, {engine.precision})")
    serve_until_signal(app, place, limits.seconds)
    say_always(console, _ending(app))


def _ending(app: "Application") -> str:
    if app.unanswered:
        return f"requests that were accepted, and have no answer: {app.unanswered:,}"
    ended = "every request that was accepted is answered"
    return f"{ended}, {app.cut_off:,} of them with 503, for want of time" if app.cut_off else ended


def _token(path: Path | None) -> str | None:
    """Return the token in a file.

    Raises:
        ConfigError: the file cannot be read, or does not hold a single one.
    """
    if path is None:
        return None
    try:
        text = path.read_bytes().removeprefix(BOM_UTF8).decode()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is no text in UTF-8") from None
    tokens = [line.strip() for line in text.splitlines() if line.strip()]
    if not tokens:
        raise ConfigError(f"{path} holds no token")
    if len(tokens) > 1:
        raise ConfigError(
            f"{path} has {len(tokens):,} lines, and a token is a single one",
            "write a file with the token alone",
        )
    if re.search(r"[\x00-\x1f\x7f]", tokens[0]):
        raise ConfigError(f"{path} has a control character, which no client can send in a header")
    return tokens[0]


def _is_loopback(place: socket.socket) -> bool:
    """Return whether only this machine reaches a bound socket."""
    address = ipaddress.ip_address(place.getsockname()[0].partition("%")[0])
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _listening(host: str, port: int) -> socket.socket:
    """Return a socket at an address, at which nobody is answered yet.

    Raises:
        ConfigError: the address is empty.
        SessionError: it is in use, or is none of this machine.
    """
    if not host.strip():
        raise ConfigError(
            "host is empty, and has to be an address to listen at",
            "127.0.0.1 is reached from this machine alone, and 0.0.0.0 from every network",
        )
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # asyncio sends answers without delay only if the protocol is named.
        place = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        place.bind((host, port))
    except (OSError, UnicodeError) as error:  # a name that cannot be one is no UTF-8 for Python
        raise _in_use(host, port, error) from error
    return place


def _in_use(host: str, port: int, error: Exception) -> SessionError:
    reason = getattr(error, "strerror", None) or error
    return SessionError(
        f"cannot listen at {host}:{port}: {reason}", "choose another `port` or `host`"
    )
