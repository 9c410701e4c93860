"""What cannot be a Ray, or cannot be divided, is told at once."""

import socket
from pathlib import Path

import pytest
from shards import CONFIG, run_over, write_shards

from harmless_runtime.cluster.connection import Resources, connect
from harmless_runtime.cluster.driver import score_on_ray
from harmless_runtime.errors import ConfigError, OutputError, SessionError
from processes import Harmless


def test_an_address_where_nothing_answers() -> None:
    pytest.importorskip("ray")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]  # nobody listens there
        with pytest.raises(SessionError, match=f"no Ray answers at 127.0.0.1:{port}"):
            connect(f"127.0.0.1:{port}")
    for address in ("127.0.0.1:99999", "127.0.0.1", "nowhere"):
        with pytest.raises(ConfigError, match=f"{address} is not the address of a Ray"):
            connect(address)
    with pytest.raises(ConfigError, match="a client of Ray is not one of its machines"):
        connect("ray://127.0.0.1:10001")


def test_auto_finds_a_ray_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    with pytest.raises(SessionError, match=r"no Ray answers at 127\.0\.0\.1:9"):
        connect("auto")


def test_options_that_contradict_each_other(tmp_path: Path, harmless: Harmless) -> None:
    (source,) = write_shards(tmp_path, 1, 5)
    command = ("score", source, "-o", tmp_path / "o.jsonl", "--model", "demo")
    for options, code, message in (
        (("--device", "first"), 2, "'first' is neither a number nor the word all"),
        (("--device", "all", "--provider", "cpu"), 2, "device is all, which means GPUs"),
        (("--device", "all", "--engine", "local"), 2, "are for Ray"),
        (("--workers", "2", "--engine", "local"), 2, "are for Ray"),
    ):
        done = harmless(*command, *options)
        assert done.returncode == code, done.stderr
        assert message in " ".join(done.stderr.split())


def test_what_cannot_be_divided(tmp_path: Path) -> None:
    (source,) = write_shards(tmp_path, 1, 5)
    with pytest.raises(ConfigError, match="strict stops at the first row"):
        score_on_ray(run_over([source], tmp_path / "o", strict=True), CONFIG, Resources())
    (tmp_path / "o.pieces").mkdir()
    moved = source.rename(tmp_path / "o.pieces/rows.jsonl")
    with pytest.raises(OutputError, match="for its pieces"):
        score_on_ray(run_over([moved], tmp_path / "o"), CONFIG, Resources())
