"""Read the bodies of requests, and write their answers, in the forms that clients know."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import msgspec

from harmless_runtime.rows.first_rows import FIRST_ROWS, fields_in
from harmless_runtime.rows.parsing import RowParser, not_json
from harmless_runtime.rows.records import Line, Pair, Reject
from harmless_runtime.rows.shapes import Reading, shape_in_memory
from harmless_runtime.serve.bodies import BadBodyError, Watch, envelope_of, rows_of
from harmless_runtime.serve.queries import QueryParser

# A reward as JSON, or None for a row without one, if the request allows that.
Reward = msgspec.Raw | None


@dataclass(frozen=True)
class Asked:
    """What a request asks for.

    Attributes:
        count: number of rows.
        rows: what is made of each row, in order, when it is taken.
        answer: makes the answer of the rewards, and of the number of tokens.
        may_lack: whether a row without a reward is no reason to refuse the request.
    """

    count: int
    rows: Iterator[Pair | Reject]
    answer: Callable[[list[Reward], int], Any]
    may_lack: bool = False


class _Remote(msgspec.Struct):
    """A request of OpenRLHF's remote reward model."""

    query: list[str] | str
    prompts: list[str] | str = []


class _Classify(msgspec.Struct):
    """A request to vLLM's `/classify`, as verl sends it. The model is named in the answer."""

    input: list[str] | str
    model: str = ""


def read_rows(body: bytes, reading: Reading, watch: Watch, most: int) -> Asked:
    """Read the body of `/score`.

    It is a row, a list of rows, or a mapping with `rows`, perhaps with `on_error`, which is "raise"
    or "null", and with nothing else. The rows have any shape that `harmless score` knows, and are
    parsed as it parses them: only the one that is wrong is rejected.

    Args:
        body: the body.
        reading: how rows are read.
        watch: called now and then; it raises an error if the request is given up.
        most: how many rows are taken; `count` is larger if there are more.

    Raises:
        BadBodyError: it is no such body.
        ConfigError: as `RowParser`.
    """
    may_lack = False
    raws: Sequence[msgspec.Raw | bytes] = [body]
    if body[:1] == b"[":
        raws = rows_of(body, watch, most)
    elif envelope := envelope_of(body, watch):
        rows, on_error = envelope.get("rows", b""), envelope.get("on_error", b'"raise"')
        if rows[:1] != b"[":
            raise BadBodyError('rows has to be a list of rows: {"rows": [...]}')
        if on_error not in (b'"raise"', b'"null"'):
            raise BadBodyError('on_error has to be "raise" or "null"')
        raws, may_lack = rows_of(rows, watch, most), on_error == b'"null"'
    shape = shape_in_memory([fields_in(bytes(raw)) for raw in raws[:FIRST_ROWS]], reading)
    parse = RowParser(shape, reading)

    def parsed() -> Iterator[Pair | Reject]:
        for number, raw in enumerate(map(bytes, raws)):
            if len(raw) > reading.line_bytes:
                reason = f"the row has {len(raw):,} bytes, more than max_line_bytes allows"
                yield Reject("", number, reason, b"")
            else:
                yield parse(Line("row", number, raw))

    return Asked(len(raws), parsed(), lambda rewards, _: {"scores": rewards}, may_lack)


def read_remote(body: bytes, parse: QueryParser) -> Asked:
    """Read the body of OpenRLHF's `/get_reward`.

    Raises:
        BadBodyError: it is no such body.
    """
    request = _decode(body, _Remote)
    queries, prompts = _listed(request.query), _listed(request.prompts)
    if len(prompts) > len(queries):
        queried = "1 query" if len(queries) == 1 else f"{len(queries):,} queries"
        raise BadBodyError(f"there are {queried}, and {len(prompts):,} prompts")

    def answer(rewards: list[Reward], _: int) -> Any:
        return {"rewards": rewards, "scores": rewards, "extra_logs": {}}

    return Asked(len(queries), parse(queries, prompts), answer)


def read_classify(body: bytes, parse: QueryParser) -> Asked:
    """Read the body of vLLM's `/classify`, whose answer has the reward in place of probabilities.

    Raises:
        BadBodyError: it is no such body.
    """
    request = _decode(body, _Classify)
    texts = _listed(request.input)

    def answer(rewards: list[Reward], tokens: int) -> Any:
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

    return Asked(len(texts), parse(texts, []), answer)


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
        raise BadBodyError(not_json(error, body)) from None
