"""Try random rows, configurations, artifacts and states. Each has to be accepted or refused.

    python tests/reliability/fuzz.py --examples 2000

The tests run the same checks on a few examples each.
"""

import argparse
import atexit
import copy
import json
import re
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import results
from harmless_runtime import bundled
from harmless_runtime.config import load_config
from harmless_runtime.errors import ConfigError, HarmlessError, InputError, OutputError
from harmless_runtime.model.artifact import MANIFEST, open_artifact
from harmless_runtime.model.engine import Engine
from harmless_runtime.model.file_hash import sha256_of
from harmless_runtime.model.load import build_engine
from harmless_runtime.model.target import Target
from harmless_runtime.output.paths import OutputPaths
from harmless_runtime.pipeline import score_files
from harmless_runtime.rows.shapes import Reading
from reading import read_outputs
from runs import cpu_engine, make_run

LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
VALUES = st.recursive(
    LEAVES, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=9), v, max_size=3)
)
NAMES = st.sampled_from(["id", "instruction", "input", "output", "x"])
# Of up to 40,000 characters, so that several are long in a row.
LONG = st.builds(
    lambda text, times: text * times, st.text(min_size=1, max_size=10), st.integers(0, 4000)
)
ROWS = (
    st.dictionaries(NAMES, st.text(max_size=60), max_size=5)
    | st.dictionaries(NAMES, VALUES)
    | st.fixed_dictionaries({"instruction": LONG, "output": LONG})
)
LINES = (
    ROWS.map(lambda v: json.dumps(v, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    | ROWS.map(lambda v: json.dumps(v).encode())
    | st.binary(max_size=60)
).map(lambda line: line.replace(b"\n", b" "))

outcomes: Counter[str] = Counter()  # how often each occurred


@cache
def demo() -> Engine:
    """The bundled model with windows of a few rows."""
    return cpu_engine(window_rows=7)


# The first bytes of compressed files, zip archives, UTF-16, tables, and a JSON array. An input that
# begins with them, but is none, is refused as a whole.
_PACKED = rb"\x1f\x8b|\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18|BZh|\xfd7zXZ|PK"
NOT_LINES = re.compile(_PACKED + rb"|\xff\xfe|\xfe\xff|PAR1|ARROW1|\[|\xff{4}")
# An explicit format: any line may be wrong, the first ones too.
READING = Reading("alpaca", line_bytes=60_000)


def is_blank(line: bytes, first: bool) -> bool:
    """Return whether a line is JSON white space. The first may begin with a byte order mark."""
    return not (line.removeprefix(b"\xef\xbb\xbf") if first else line).strip(b" \t\r\n")


@given(st.lists(LINES, max_size=30))
def check_rows(lines: list[bytes]) -> None:
    """Check that every line that is not blank has one line of result, with its number."""
    lines = [*lines, b'{"instruction": null, "output": null}']  # so that a row has the fields
    with tempfile.TemporaryDirectory() as folder:
        rows, out = Path(folder, "rows"), Path(folder, "out")
        rows.write_bytes(b"\n".join(lines))
        try:
            summary = score_files(make_run(rows, out, READING), demo())
        except InputError:
            start = rows.read_bytes().removeprefix(b"\xef\xbb\xbf").lstrip()
            assert NOT_LINES.match(start)
            return
        rejects = read_outputs(out)[1].splitlines()
        scores = [json.loads(line) for line in out.read_bytes().split(b"\n")[:-1]]
        expected = [n for n, line in enumerate(lines, 1) if not is_blank(line, n == 1)]
        rejected = [json.loads(reject)["line"] for reject in rejects]
        assert len(scores) + len(rejected) == len(expected)
        assert rejected == sorted(set(rejected) & set(expected))
        assert (summary.tally.rows, summary.tally.rejected) == (len(scores), len(rejected))
    outcomes["rows scored"] += len(scores)
    outcomes["rows rejected"] += len(rejected)


KEYS = ["name", "model", "batch_size", "max_length", "provider", "precision", "device", "scorers"]
CONFIGS = (
    st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=9), VALUES, max_size=4).map(
        lambda v: json.dumps(v).encode()
    )
    | st.text(st.characters(codec="utf-8"), max_size=80).map(str.encode)
    | st.binary(max_size=60)
)


@given(CONFIGS)
def check_config(content: bytes) -> None:
    """Check that a configuration is accepted, or refused with a sentence."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "c.yaml")
        path.write_bytes(content)
        try:
            load_config(path, {})
        except ConfigError as error:
            outcomes["configurations refused"] += 1
            assert 0 < len(str(error)) < 5000  # noqa: PT017
        else:
            outcomes["configurations accepted"] += 1


def mutate(value: Any, data: st.DataObject) -> Any:
    """Change, remove or repeat one value somewhere inside."""
    value = copy.deepcopy(value)
    inner = value
    while isinstance(inner, dict | list) and inner:
        keys = sorted(inner) if isinstance(inner, dict) else list(range(len(inner)))
        key: Any = data.draw(st.sampled_from(keys))
        if not isinstance(inner[key], dict | list) or data.draw(st.booleans()):
            match data.draw(st.sampled_from(["change", "remove", "again"])):
                case "change":
                    inner[key] = data.draw(VALUES)
                case "remove":
                    del inner[key]
                case "again" if isinstance(inner, list):
                    inner.append(inner[key])
            break
        inner = inner[key]
    return value


@given(st.data())
def check_artifact(data: st.DataObject) -> None:
    """Check that an artifact with a changed manifest or tokenizer is loaded or refused.

    The hash in the manifest is made to agree.
    """
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent, "artifact")
        shutil.copytree(bundled.MODEL, folder)
        manifest = json.loads((folder / MANIFEST).read_bytes())
        name = data.draw(st.sampled_from([MANIFEST, "tokenizer.json"]))
        if name == MANIFEST:
            manifest = mutate(manifest, data)
        else:
            content = mutate(json.loads((folder / name).read_bytes()), data)
            (folder / name).write_text(json.dumps(content))
            manifest["files"][name] = sha256_of(folder / name)
        (folder / MANIFEST).write_text(json.dumps(manifest))
        try:
            engine = build_engine(open_artifact(folder), Target("cpu"))
            engine.score(engine.tokenizer.encode([("a question", "an answer")]))
        except HarmlessError:
            outcomes["artifacts refused"] += 1
        else:
            outcomes["artifacts loaded"] += 1


@cache
def interrupted() -> tuple[Path, dict[str, bytes], bytes]:
    """Return rows, the files that an interrupted run of them left, and the complete scores."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    source, out, whole = (folder / name for name in ("rows", "out", "whole"))
    source.write_bytes(b'{"instruction": "a", "output": "b"}\n' * 50)

    class Stop(Exception):  # noqa: N818
        pass

    def stop(tally: Any) -> None:
        if tally.rows > 20:
            raise Stop

    score_files(make_run(source, whole), demo())
    with suppress(Stop):
        score_files(make_run(source, out), demo(), stop)
    left = {path.name: path.read_bytes() for path in folder.glob("out*")}
    return source, left, whole.read_bytes()


@given(st.data())
def check_state(data: st.DataObject) -> None:
    """Check that a changed state is refused, or resumed to the right scores."""
    source, left, whole = interrupted()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out")
        for name, content in left.items():
            Path(folder, name).write_bytes(content)
        before = OutputPaths(out).state
        state = json.loads(before.read_bytes())
        if data.draw(st.integers(0, 9)):
            before.write_text(json.dumps(mutate(state, data)))
        try:
            score_files(make_run(source, out, existing="resume"), demo())
        except OutputError:
            outcomes["states refused"] += 1
        else:
            outcomes["states resumed"] += 1
            assert out.read_bytes() == whole


CHECKS: dict[str, Callable[[], None]] = {
    "rows": check_rows,
    "config": check_config,
    "artifact": check_artifact,
    "state": check_state,
}


def run(name: str, examples: int) -> None:
    """Run one check on so many examples."""
    quiet = list(HealthCheck)
    settings(max_examples=examples, deadline=None, database=None, suppress_health_check=quiet)(
        CHECKS[name]
    )()


def main() -> None:
    """Run every check, print, and write `docs/results/fuzz.json`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--examples", type=int, default=2_000, help="of each kind")
    args = parser.parse_args()
    begin = time.monotonic()
    for name in CHECKS:
        run(name, args.examples)
        print(name, dict(outcomes), flush=True)
    results.write("fuzz", {
        "examples_of_each_kind": args.examples,
        "outcomes": dict(outcomes),
        "failures": 0,
        "seconds": round(time.monotonic() - begin),
    })  # fmt: skip


if __name__ == "__main__":
    main()
