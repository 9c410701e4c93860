"""The engine: order restored, rows alike computed once, and what becomes of a batch that fails."""

import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from harmless_runtime.config import make_config
from harmless_runtime.errors import ConfigError, SessionError
from harmless_runtime.model.artifact import Artifact
from harmless_runtime.model.batches import Limits
from harmless_runtime.model.engine import Batch, Engine, build_engine, load_engine
from harmless_runtime.model.session import Session, _cuda_options
from harmless_runtime.model.tokenizer import Encoded, PairTokenizer

# What onnxruntime's arena, its limit, and CUDA say when memory runs out.
OUT_OF_MEMORY = [
    "Failed to allocate memory for requested buffer of size 939524096",
    "Available memory of 0 is smaller than requested bytes of 5120",
    "CUDA failure 2: out of memory ; GPU=0",
    "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED",
]


def make_engine(artifact: Artifact, limits: Limits) -> Engine:
    tokenizer = PairTokenizer(artifact.tokenizer, 1024)
    return Engine(artifact, tokenizer, Session(artifact, "cpu", 0, 4096), limits)


def random_rows(count: int, longest: int = 90) -> list[Encoded]:
    rng = np.random.default_rng(2)
    return [
        Encoded(rng.integers(1, 600, n).astype(np.int32), False)
        for n in rng.integers(1, longest, count)
    ]


def one_by_one(engine: Engine, rows: list[Encoded]) -> list[np.float32]:
    alone = [engine.session.submit(row.ids[None].astype(np.int64)) for row in rows]
    return [rewards.result()[0] for rewards in alone]


@pytest.mark.parametrize("multiple", [1, 8])
def test_order_is_restored(artifact: Artifact, multiple: int) -> None:
    engine = make_engine(artifact, Limits(256, 10**6, length_multiple=multiple, max_length=1024))
    rows = random_rows(40)
    done: list[Batch] = []
    scores = engine.score(rows, done.append)
    np.testing.assert_allclose(scores, one_by_one(engine, rows), atol=2e-4)
    assert sorted(i for batch in done for i in batch.rows) == list(range(40))
    real = sum(batch.tokens - batch.padding for batch in done)
    assert real == sum(len(row.ids) for row in rows)
    assert len(engine.score([])) == 0


def test_duplicates_are_computed_once(artifact: Artifact) -> None:
    engine = load_engine(make_config({"model": str(artifact.folder), "provider": "cpu"}))
    rows = [Encoded(np.array(ids, np.int32), False) for ids in ([5, 6], [7], [5, 6], [7], [5, 6])]
    batches: list[Batch] = []
    scores = engine.score(rows, batches.append)
    assert len(batches) == 1
    assert (sorted(batches[0].rows), batches[0].tokens, batches[0].padding) == (
        [0, 1, 2, 3, 4],
        4,
        1,
    )
    alone = [engine.score([row])[0] for row in rows]
    np.testing.assert_allclose(scores, alone, atol=2e-4)
    assert scores[0] == scores[2] == scores[4] != scores[1]


class Cramped:
    """An onnxruntime session that fails on batches of more than so many tokens."""

    def __init__(self, session: Any, most: int, error: str) -> None:
        self._session, self._most, self._error = session, most, error

    def run_with_iobinding(self, binding: Any, options: Any) -> None:
        if int(np.prod(binding.shape)) > self._most:
            raise RuntimeError(self._error)
        self._session.run_with_iobinding(binding.binding, options)


class Watched:
    """An I/O binding that knows the shape of its input."""

    def __init__(self, binding: Any) -> None:
        self.binding = binding
        self.shape: list[int] = []

    def bind_input(self, name: str, *rest: Any) -> None:
        self.shape = rest[3]
        self.binding.bind_input(name, *rest)

    def bind_output(self, *arguments: Any) -> None:
        self.binding.bind_output(*arguments)


def cramp(engine: Engine, most: int, error: str = OUT_OF_MEMORY[0]) -> None:
    session: Any = engine.session
    session._session = Cramped(session._session, most, error)
    session._binding = Watched(session._binding)


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_a_batch_without_room_is_halved_until_it_fits(
    artifact: Artifact, error: str, caplog: pytest.LogCaptureFixture
) -> None:
    rows = random_rows(300)
    free = make_engine(artifact, Limits(4096, 10**6))
    expected = one_by_one(free, rows)
    engine = make_engine(artifact, free.limits)
    cramp(engine, 700, error)
    done: list[Batch] = []
    scores = engine.score(rows, done.append)
    np.testing.assert_allclose(scores, expected, atol=2e-4)
    assert sorted(i for batch in done for i in batch.rows) == list(range(300))
    assert max(batch.tokens for batch in done) <= 700
    assert "out of memory with a batch of" in caplog.text
    # It learns: only the batches that were under way when memory ran out fail.
    assert len(caplog.records) <= 6
    caplog.clear()
    assert engine.score(rows).tolist() == scores.tolist()
    assert not caplog.records


def test_a_row_without_room_is_an_error_that_says_so(artifact: Artifact) -> None:
    engine = make_engine(artifact, Limits(4096, 10**6))
    cramp(engine, 50)
    with pytest.raises(SessionError, match=r"no room for a single row of \d+ tokens: use another"):
        engine.score(random_rows(20))


def test_another_failure_is_not_taken_for_a_lack_of_memory(artifact: Artifact) -> None:
    engine = make_engine(artifact, Limits(4096, 10**6))
    cramp(engine, 700, "CUDA failure 700: an illegal memory access was encountered")
    with pytest.raises(SessionError, match=r"onnxruntime failed on .*illegal memory access"):
        engine.score(random_rows(300))


def test_onnxruntime_says_what_is_expected_of_it_when_memory_ends(artifact: Artifact) -> None:
    program = f"""
import pathlib, resource, numpy as np
from harmless_runtime.model.artifact import open_artifact
from harmless_runtime.errors import OutOfMemoryError
from harmless_runtime.model.session import Session

session = Session(open_artifact(pathlib.Path({str(artifact.folder)!r})), "cpu", 0, 2**17)
few = np.full((2, 512), 7)
expected = session.submit(few).result()
used = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
limits = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (used + 2**26, limits[1]))
try:
    session.submit(np.full((256, 512), 7)).result()
except OutOfMemoryError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_AS, limits)
assert session.capacity == 2**16, session.capacity
assert (session.submit(few).result() == expected).all()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "onnxruntime failed on (256, 512)" in done.stdout


def test_rows_that_overflow_are_scored_in_fp32(
    artifact: Artifact, caplog: pytest.LogCaptureFixture
) -> None:
    rows = random_rows(30)
    fp32 = build_engine(artifact, "cpu")
    expected = fp32.score(rows)
    loads: list[int] = []

    def load() -> Engine:
        loads.append(1)
        return fp32

    broken = build_engine(artifact, "cpu")
    run = broken.session._run

    def overflow(ids: NDArray[np.int64]) -> NDArray[np.float32]:
        rewards = run(ids)
        rewards[ids.max(1) > 590] = np.nan
        return rewards

    broken.session._run = overflow  # type: ignore[method-assign]
    affected = sum(row.ids.max() > 590 for row in rows)
    assert 0 < affected < 30
    assert np.isnan(broken.score(rows)).sum() == affected
    assert not caplog.text
    np.testing.assert_allclose(replace(broken, wider=load).score(rows), expected, atol=2e-4)
    assert loads == [1]
    assert f"{affected} rows have no finite score in fp32" in caplog.text


def test_limits_of_memory(artifact: Artifact) -> None:
    with pytest.raises(ConfigError, match=r"the weights of .* alone take 0.00 GB"):
        _cuda_options(artifact, 0, 1e-6)
    options = _cuda_options(artifact, 1, 1.5)
    assert options["use_tf32"] == "0", "fp32 is held to PyTorch's"
    assert options["gpu_mem_limit"] == "1500000000", "the arena counts the weights as well"
    assert options["device_id"] == "1"
