"""Several batches at once: the same bits, and batches that nobody waits for."""

from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harmless_export import export_checkpoint
from harmless_runtime.choices import Precision
from harmless_runtime.config import make_config
from harmless_runtime.errors import OutOfMemoryError, SessionError
from harmless_runtime.model.artifact import Artifact, open_artifact
from harmless_runtime.model.batches import Limits
from harmless_runtime.model.cores import usable_cores
from harmless_runtime.model.load import build_engine, load_engine
from harmless_runtime.model.session import Session
from harmless_runtime.model.target import Target
from harmless_runtime.model.tokenizer import Encoded
from processes import Harmless
from runners import ChangedRunner, Ids, Rewards


@pytest.fixture(scope="module", params=["fp32", "int8"])
def exported(
    request: pytest.FixtureRequest, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Artifact:
    precision: Precision = request.param
    folder = tmp_path_factory.mktemp("streams") / precision
    return export_checkpoint(str(checkpoint), folder, precision=precision, verify=False)


def test_scores_are_the_same_bits_with_any_number_of_streams(exported: Artifact) -> None:
    rng = np.random.default_rng(5)
    rows = [
        Encoded(rng.integers(1, 600, n).astype(np.int32), False) for n in rng.integers(1, 300, 80)
    ]
    limits = Limits(512, 10**6)
    targets = [
        Target("cpu", threads=threads, streams=streams)
        for threads, streams in ((1, 1), (2, 1), (4, 1), (2, 2), (4, 2), (3, 3), (1, 5))
    ]
    scores = [build_engine(exported, target, limits=limits).score(rows) for target in targets]
    for target, other in zip(targets, scores, strict=True):
        assert other.tobytes() == scores[0].tobytes(), target


def test_batches_that_nobody_waits_for_are_ended(artifact: Artifact) -> None:
    session = Session(artifact, Target("cpu", streams=2), 2**18)
    few = np.full((2, 40), 7)
    expected = session.submit(few).result()
    futures = [session.submit(np.full((256, 1024), 7)) for _ in range(6)]
    for future in futures:
        session.cancel(future)
    for future in futures:
        with pytest.raises((CancelledError, SessionError)) as caught:
            future.result()
        assert caught.type is CancelledError or "terminate" in str(caught.value)
    assert (session.submit(few).result() == expected).all()


def test_an_error_ends_the_batches_that_wait(artifact: Artifact) -> None:
    engine = build_engine(artifact, Target("cpu", streams=2), limits=Limits(64, 10**6))
    cancelled: list[object] = []
    assert isinstance(engine.runner, Session)
    engine.runner.cancel = cancelled.append  # type: ignore[method-assign,assignment]
    rows = [Encoded(np.full(60, i, np.int32), False) for i in range(1, 9)]

    def fail(_batch: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.score(rows, fail)
    assert len(cancelled) == 3, "two batches for each stream, less the one that was taken"


def test_how_many_run_at_once() -> None:
    config = make_config({"model": "demo", "provider": "cpu"})
    assert load_engine(config).runner.target.streams == 1
    assert load_engine(config, for_many_rows=True).runner.target.streams == usable_cores()
    three = config.model_copy(update={"streams": 3})
    assert load_engine(three).runner.target.streams == 3
    assert load_engine(three, for_many_rows=True).runner.target.streams == 3


def test_the_command_writes_the_same_bytes_and_resumes(tmp_path: Path, harmless: Harmless) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        "".join(
            f'{{"id": {i}, "instruction": "Add {i}", "output": "{"word " * (i % 50)}"}}\n'
            for i in range(300)
        )
    )
    outputs = []
    for streams in (1, 2, 3):
        out = tmp_path / f"{streams}.jsonl"
        where = ["--model", "demo", "--streams", str(streams)]
        done = harmless("score", rows, "-o", out, *where)
        assert done.returncode == 0, done.stderr
        outputs.append(out.read_bytes())
    assert outputs[0] == outputs[1] == outputs[2]
    again = harmless("score", rows, "-o", out, "--model", "demo", "--streams", "1", "--resume")
    assert "already complete" in again.stderr


def test_limits_do_not_depend_on_streams() -> None:
    artifact = open_artifact(load_engine(make_config({"model": "demo"})).artifact.folder)
    one = build_engine(artifact, Target("cpu"))
    many = build_engine(artifact, replace(one.runner.target, streams=4))
    assert one.limits == many.limits
    assert one.fingerprint == many.fingerprint


def test_a_row_that_has_room_alone_is_run_alone(artifact: Artifact) -> None:
    engine = build_engine(artifact, Target("cpu", streams=2), limits=Limits(64, 10**6))
    assert isinstance(engine.runner, Session)
    rows = [Encoded(np.full(60 - i, 7, np.int32), False) for i in range(9)]
    expected = engine.score(rows)
    refused: list[int] = []

    def fail_once(ids: Ids, rewards: Rewards) -> Rewards:
        if ids.size not in refused:
            refused.append(ids.size)
            raise OutOfMemoryError("no room")
        return rewards

    cramped = replace(engine, runner=ChangedRunner(engine.runner, fail_once))
    assert cramped.score(rows).tolist() == expected.tolist()
    assert len(refused) == 9
