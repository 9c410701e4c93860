"""Few rows are run in few shapes, by a session that stands in for one with CUDA graphs."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harmless_runtime import Gpt2HarmlessScorer, bundled
from harmless_runtime.config import make_config
from harmless_runtime.errors import SessionError
from harmless_runtime.model.artifact import open_artifact
from harmless_runtime.model.engine import Engine
from harmless_runtime.model.few_rows import MOST_TOKENS, GraphRunner
from harmless_runtime.model.load import build_engine
from harmless_runtime.model.runner import Runner
from harmless_runtime.model.session import Session
from harmless_runtime.model.target import Target
from runners import ChangedRunner, Ids, Rewards
from runs import cpu_engine

TEXTS = [("a", "b"), ("What is this?", "It is a test. " * 9), ("x", "word " * 90), ("y", "")]


class Graphs:
    """An engine whose few rows are run by a session of their own, and what that was given."""

    def __init__(self, engine: Engine, load: Runner | None = None) -> None:
        self.shapes: list[tuple[int, ...]] = []
        self.loads = 0
        self._artifact = engine.artifact
        runner = GraphRunner(
            lambda: self._load(load), engine.runner, engine.artifact, engine.tokenizer.max_length
        )
        self.engine = replace(engine, few_rows=runner)

    def _load(self, runner: Runner | None) -> Runner:
        self.loads += 1
        if runner is not None:
            return runner
        session = Session(self._artifact, Target("cpu"), 2 * MOST_TOKENS)
        return ChangedRunner(session, self._note)

    def _note(self, ids: Ids, rewards: Rewards) -> Rewards:
        self.shapes.append(ids.shape)
        return rewards


def test_few_rows_have_the_same_scores_in_few_shapes() -> None:
    engine = cpu_engine()
    graphs = Graphs(engine)
    for texts in ([TEXTS[0]], TEXTS, TEXTS[:3], [TEXTS[2]] * 5):
        rows = engine.tokenizer.encode(texts)
        np.testing.assert_allclose(graphs.engine.score(rows), engine.score(rows), atol=1e-5)
    assert graphs.loads == 1
    assert graphs.shapes
    for count, length in graphs.shapes:
        assert count in (1, 2, 4, 8)
        assert length in (128, 256, 512, 1024)
        assert count * length <= MOST_TOKENS


def test_every_size_of_few_rows_has_room() -> None:
    engine = cpu_engine()
    graphs = Graphs(engine)
    rng = np.random.default_rng(1)
    for _ in range(30):
        lengths = rng.integers(1, 1024 // rng.integers(1, 9), size=3)
        texts = [("a", "word " * int(n)) for n in lengths]
        graphs.engine.score(engine.tokenizer.encode(texts))
    assert max(rows * length for rows, length in graphs.shapes) <= MOST_TOKENS


@pytest.mark.parametrize("longest", [63, 64, 100, 128, 500, 1000])
def test_any_length_and_small_batches(longest: int, caplog: pytest.LogCaptureFixture) -> None:
    """Also without graphs: the batches have room in a session that is made for small ones."""
    artifact = open_artifact(bundled.MODEL)
    config = make_config({"batch_size": 1, "max_length": longest})
    engine = build_engine(artifact, Target("cpu"), config)
    engine = replace(engine, limits=replace(engine.limits, batch_tokens=longest))
    rows = engine.tokenizer.encode([("a", "word " * (9 * n)) for n in range(9)])
    expected = engine.score(rows)
    np.testing.assert_allclose(Graphs(engine).engine.score(rows), expected, atol=1e-5)
    assert not caplog.records
    broken = Graphs(engine, ChangedRunner(Session(artifact, Target("cpu"), 2048), fails))
    np.testing.assert_allclose(broken.engine.score(rows), expected, atol=1e-5)
    assert len(caplog.records) == 1


def test_sessions_that_share_a_thread_take_turns() -> None:
    artifact = open_artifact(bundled.MODEL)
    first = Session(artifact, Target("cpu"), 8192)
    second = Session(artifact, Target("cpu"), 1024, first)
    ids = np.ones((8, 1000), np.int64)
    runs = [session.submit(ids[:n]) for session, n in ((first, 8), (second, 1), (first, 8))]
    runs[1].result()
    assert runs[0].done(), "the second session waits for the first one's batch"
    assert np.isfinite(runs[2].result()).all()


def test_many_rows_and_files_do_not_use_it(tmp_path: Path) -> None:
    engine = cpu_engine()
    graphs = Graphs(engine)
    graphs.engine.score(engine.tokenizer.encode([("a", "word " * 300)] * 2 + [("b", "c " * 900)]))
    assert graphs.loads == 0
    scorer = Gpt2HarmlessScorer({"model": "demo", "provider": "cpu"})
    scorer._own_engine._engine = graphs.engine
    (tmp_path / "rows.jsonl").write_text('{"instruction": "a", "output": "b"}\n')
    scorer.evaluate(tmp_path / "rows.jsonl")
    scorer.evaluate_to_file(tmp_path / "rows.jsonl", tmp_path / "scores.jsonl")
    scorer.score_batch([{"instruction": "a", "output": "b"}] * 65)
    assert graphs.loads == 0
    scorer.score_item({"instruction": "a", "output": "b"})
    assert graphs.loads == 1


def fails(_ids: Ids, _rewards: Rewards) -> Rewards:
    raise SessionError("the capture failed")


def fails_for_two_rows(ids: Ids, rewards: Rewards) -> Rewards:
    return fails(ids, rewards) if len(ids) > 1 else rewards


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (fails, "the capture failed"),
        (fails_for_two_rows, "the capture failed"),
        (lambda _, rewards: rewards + 1, "a CUDA graph scores a row with"),
        (lambda _, rewards: rewards * np.nan, "a CUDA graph scores a row with nan"),
    ],
)
def test_what_fails_is_told_once_and_done_without(
    change: object, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine = cpu_engine()
    session = Session(engine.artifact, Target("cpu"), 2 * MOST_TOKENS)
    graphs = Graphs(engine, ChangedRunner(session, change))  # type: ignore[arg-type]
    rows = engine.tokenizer.encode(TEXTS[:1] * 2 + TEXTS[1:2])
    expected = engine.score(rows)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            np.testing.assert_allclose(graphs.engine.score(rows), expected, atol=1e-5)
    assert len(caplog.records) == 1
    assert message in caplog.text
