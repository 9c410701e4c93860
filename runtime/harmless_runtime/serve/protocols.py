"""Read the bodies of requests, and write their answers, in the forms that clients know."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import msgspec

from harmless_runtime.rows.items import Items
from harmless_runtime.rows.records import Pair, Reject
from harmless_runtime.rows.shapes import Reading
from harmless_runtime.serve.queries import QueryParser

Parsed = list[Pair | Reject]


class BadBodyError(ValueError):
    """A body is no request. The message is the reason."""


@dataclass(frozen=True)
class Asked:
    """What a request asks for.

    Attributes:
        rows: what is made of each row, in order.
        answer: makes the answer of the rewards, and of the number of tokens. A reward is None for a
            row that could not be scored, if the request allows that.
        may_lack: whether a row without a reward is no reason to refuse the request.
    """

    rows: Parsed
    answer: Callable[[list[float | None], int], Any]
    may_lack: bool = False


class _Remote(msgspec.Struct):
    """A request of OpenRLHF's remote reward model."""

    query: list[str] | str
    prompts: list[str] | str = []


class _Classify(msgspec.Struct):
    """A request to vLLM's `/classify`, as verl sends it. The model is named in the answer."""

    input: list[str] | str
    model: str = ""


def read_rows(body: bytes, reading: Reading) -> Asked:
    """Read the body of `/score`.

    It is a row, a list of rows, or a mapping with `rows` and perhaps `on_error`, which is "raise"
    or "null". The rows have any shape that `harmless score` knows.

    Raises:
        BadBodyError: it is no such body.
        HarmlessError: as `Items`.
    """
    value = _decode(body, Any)
    may_lack = False
    if isinstance(value, dict) and isinstance(value.get("rows"), list):
        if value.get("on_error", "raise") not in ("raise", "null"):
            raise BadBodyError('on_error has to be "raise" or "null"')
        value, may_lack = value["rows"], value.get("on_error") == "null"
    rows = [value] if isinstance(value, dict) else value
    if not isinstance(rows, list):
        raise BadBodyError('the body has to be a row, a list of rows, or {"rows": [...]}')
    items = Items(rows, reading)
    return Asked(list(items.pairs()), lambda rewards, _: {"scores": rewards}, may_lack)


def read_remote(body: bytes, parse: QueryParser) -> Asked:
    """Read the body of OpenRLHF's `/get_reward`.

    Raises:
        BadBodyError: it is no such body.
    """
    request = _decode(body, _Remote)
    rows = parse(_listed(request.query), _listed(request.prompts))

    def answer(rewards: list[float | None], _: int) -> Any:
        return {"rewards": rewards, "scores": rewards, "extra_logs": {}}

    return Asked(rows, answer)


def read_classify(body: bytes, parse: QueryParser) -> Asked:
    """Read the body of vLLM's `/classify`, whose answer has the reward in place of probabilities.

    Raises:
        BadBodyError: it is no such body.
    """
    request = _decode(body, _Classify)

    def answer(rewards: list[float | None], tokens: int) -> Any:
        return {
            "id": f"classify-{uuid4().hex}",
            "object": "list",
            "created": int(time.time()),
            "model": request.model,
            "data": [
                {"index": index, "label": None, "probs": [reward], "num_classes": 1}
                for index, reward in enumerate(rewards)
            ],
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0},
        }

    return Asked(parse(_listed(request.input), []), answer)


def _listed(texts: list[str] | str) -> Sequence[str]:
    return [texts] if isinstance(texts, str) else texts


def _decode(body: bytes, kind: Any) -> Any:
    try:
        body.decode()
        return msgspec.json.decode(body, type=kind)
    except UnicodeDecodeError as error:
        raise BadBodyError(f"invalid UTF-8 at byte {error.start}") from None
    except RecursionError:
        raise BadBodyError("the JSON is nested too deeply") from None
    except msgspec.ValidationError as error:
        raise BadBodyError(str(error)) from None
    except msgspec.DecodeError as error:
        raise BadBodyError(f"not valid JSON: {error}") from None
