"""Define what requests may ask for, and how they are refused."""

import hmac
from dataclasses import dataclass

import msgspec
from starlette.requests import Request
from starlette.responses import Response


@dataclass(frozen=True)
class Limits:
    """What requests may ask for.

    Attributes:
        wait_seconds: how long a request waits for others if the device is idle.
        most_waiting: most rows that wait. Further requests are held, or answered with 429.
        most_rows: most rows of a request.
        most_bytes: most bytes of a body.
        seconds: how long a request may take, and its body before that. The time for which it is
            held does not count.
        hold_seconds: how long requests of trainers are held if there is no room for their rows.
        token: what clients have to send as a bearer token, if it is not None.
    """

    wait_seconds: float = 0.005
    most_waiting: int = 16_384
    most_rows: int = 1024
    most_bytes: int = 8 * 2**20
    seconds: float = 60.0
    hold_seconds: float = 110.0
    token: str | None = None


class RefusedError(Exception):
    """A request is answered with an error.

    Attributes:
        status: the status code.
        reason: what is wrong, in a sentence.
        headers: further headers.
    """

    def __init__(self, status: int, reason: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status, self.reason, self.headers = status, reason, headers or {}


def json_answer(status: int, value: object, headers: dict[str, str] | None = None) -> Response:
    """Return an answer whose body is a value as JSON."""
    return Response(msgspec.json.encode(value), status, headers, "application/json")


def check_token(request: Request, token: str | None) -> None:
    """Raise RefusedError if a request lacks the token. How long that takes tells nothing of it."""
    if token is None:
        return
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    # Starlette decodes headers so.
    is_right = hmac.compare_digest(given.strip().encode("latin-1"), token.encode())
    if scheme.lower() != "bearer" or not is_right:
        raise RefusedError(
            401, "the bearer token is missing or wrong", {"WWW-Authenticate": "Bearer"}
        )
