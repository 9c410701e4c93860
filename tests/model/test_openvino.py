"""OpenVINO: how it is chosen and refused, and its scores where its plug-in finds a processor."""

import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import onnxruntime as ort
import pytest

from harmless_export import export_checkpoint, verify_artifact
from harmless_runtime.choices import Compute
from harmless_runtime.config import make_config
from harmless_runtime.errors import ConfigError, SessionError
from harmless_runtime.model import load, openvino, providers
from harmless_runtime.model.artifact import Artifact, open_artifact
from harmless_runtime.model.load import build_engine, load_engine
from harmless_runtime.model.processor import Processor, this_processor
from harmless_runtime.model.providers import choose_provider, target_on
from harmless_runtime.model.target import Target
from harmless_runtime.model.tokenizer import Encoded
from processes import Harmless

WITH_AMX = Processor("Xeon", ("AVX512_BF16", "AMX_INT8", "AMX_BF16"))
WITHOUT_AMX = Processor("Core", ("AVX2",))


@pytest.fixture
def works() -> None:
    """Skip a test if the plug-in finds no processor here."""
    try:
        openvino.find_device()
    except SessionError as error:
        pytest.skip(str(error))


def fake_device(capabilities: str) -> Any:
    return SimpleNamespace(
        ep_name=openvino.NAME,
        device=SimpleNamespace(type=ort.OrtHardwareDeviceType.CPU),
        ep_metadata={"OPTIMIZATION_CAPABILITIES": capabilities},
    )


def test_without_the_plug_in_the_error_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(openvino, "is_installed", lambda: False)
    monkeypatch.setattr(openvino, "this_processor", lambda: WITH_AMX)
    with pytest.raises(
        SessionError, match=r"plug-in is not installed\nhint: pip install '\.\[open"
    ):
        choose_provider("openvino", "fp32")


def test_nobody_is_told_to_install_what_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "is_installed", lambda: False)
    other = Processor("EPYC", ("AVX2",), "AuthenticAMD")
    monkeypatch.setattr(openvino, "this_processor", lambda: other)
    with pytest.raises(SessionError, match="runs on processors of Intel, and this is EPYC\n"):
        choose_provider("openvino", "fp32")


def test_a_processor_that_is_not_listed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "is_installed", lambda: True)
    monkeypatch.setattr(openvino, "_register", lambda: None)
    gpu = fake_device("FP32")
    gpu.device.type = ort.OrtHardwareDeviceType.GPU
    monkeypatch.setattr(ort, "get_ep_devices", lambda: [gpu])
    monkeypatch.setattr(openvino, "this_processor", lambda: WITHOUT_AMX)
    with pytest.raises(SessionError, match="runs on processors of Intel, and this is Core\n"):
        choose_provider("openvino", "fp32")


def test_a_plug_in_that_does_not_fit_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("the API version\n26 is not supported")

    monkeypatch.setattr(openvino, "is_installed", lambda: True)
    monkeypatch.setattr(openvino, "_register", fail)
    with pytest.raises(SessionError, match="cannot be loaded: the API version 26 is not supported"):
        choose_provider("openvino", "fp32")


@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8"])
def test_other_precisions_are_refused(precision: Any) -> None:
    with pytest.raises(SessionError, match=f"in fp32, and this one is in {precision}\n"):
        choose_provider("openvino", precision)


def test_what_is_computed_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "find_device", lambda: fake_device("BF16 FP32"))
    monkeypatch.setattr(openvino, "this_processor", lambda: WITH_AMX)
    assert [openvino.choose_compute(c) for c in ("auto", "fp32", "bf16")] == [
        "bf16", "fp32", "bf16",
    ]  # fmt: skip
    monkeypatch.setattr(openvino, "this_processor", lambda: WITHOUT_AMX)
    assert openvino.choose_compute("auto") == "fp32"
    monkeypatch.setattr(openvino, "find_device", lambda: fake_device("FP32 INT8"))
    with pytest.raises(SessionError, match="Core has no instructions for bf16"):
        openvino.choose_compute("bf16")


def test_only_openvino_has_a_choice() -> None:
    for provider in ("cpu", "cuda"):
        with pytest.raises(ConfigError, match="compute is bf16, but only OpenVINO"):
            target_on(provider, make_config({"compute": "bf16"}))


def test_a_graph_of_an_earlier_release_is_refused(artifact: Artifact) -> None:
    old = replace(artifact, manifest=msgspec.structs.replace(artifact.manifest, opset=18))
    with pytest.raises(
        SessionError, match=r"earlier release.*OpenVINO does not know\nhint: export"
    ):
        openvino.add_openvino(ort.SessionOptions(), old, Target("openvino"))


@pytest.mark.parametrize("installed", [True, False])
def test_a_processor_with_amx_gets_advice(
    installed: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(providers, "has_driver", lambda: False)
    monkeypatch.setattr(openvino, "is_installed", lambda: installed)
    for processor in (WITHOUT_AMX, WITH_AMX):
        for module in (load, providers):
            monkeypatch.setattr(module, "this_processor", lambda p=processor: p)
        caplog.clear()
        assert load_engine(make_config({"model": "demo"})).runner.target.provider == "cpu"
        assert f"running on {processor}: no NVIDIA GPU" in caplog.text
        assert ("`provider` openvino uses it" in caplog.text) == processor.has_amx
        assert ("pip install '.[openvino]'" in caplog.text) == (processor.has_amx and not installed)
    caplog.clear()
    load_engine(make_config({"model": "demo", "provider": "cpu"}))
    assert not caplog.text, "who names a provider gets no advice"


def test_the_processor_is_the_one_that_linux_names() -> None:
    lines = Path("/proc/cpuinfo").read_text()
    processor = this_processor()
    assert processor.name in lines
    assert all(name.lower() in lines for name in processor.sets)
    assert processor.sets, "an x86 processor of the last ten years has AVX2"


def natively() -> list[Compute]:
    device = openvino.find_device()
    native = "BF16" in device.ep_metadata["OPTIMIZATION_CAPABILITIES"].split()
    return ["fp32", "bf16"] if native else ["fp32"]


def random_rows(count: int) -> list[Encoded]:
    rng = np.random.default_rng(7)
    return [
        Encoded(rng.integers(1, 600, n).astype(np.int32), False)
        for n in rng.integers(1, 200, count)
    ]


@pytest.mark.usefixtures("works")
def test_scores_are_those_of_the_cpu_provider(artifact: Artifact) -> None:
    rows = random_rows(40)
    truth = build_engine(artifact, Target("cpu")).score(rows)
    for compute in natively():
        engine = build_engine(artifact, Target("openvino", compute=compute, streams=2))
        scores = engine.score(rows)
        allowed = (1e-4 if compute == "fp32" else 0.2) * truth.std()
        assert np.abs(scores - truth).max() < allowed, compute
        is_rounded = np.abs(scores - truth).max() > 1e-4 * truth.std()
        assert is_rounded == (compute == "bf16")
        assert engine.score(rows).tobytes() == scores.tobytes()
        alone = np.concatenate([engine.score([row]) for row in rows])
        # Padding changes the order of sums, and with it the last bits.
        assert np.abs(alone - scores).max() < allowed / 2
        assert engine.precision == compute
        assert engine.fingerprint["provider"] == f"openvino, {compute}"


@pytest.mark.usefixtures("works")
def test_the_parity_of_each_way_to_compute_is_kept(
    checkpoint: Path, tmp_path: Path, harmless: Harmless
) -> None:
    folder = tmp_path / "artifact"
    exported = export_checkpoint(str(checkpoint), folder)
    auto = openvino.choose_compute("auto")
    runners = [report.runner for report in exported.manifest.parity]
    assert runners[-1] == f"harmless (openvino, {auto})"
    for compute in natively():
        verify_artifact(folder, provider="openvino", compute=compute)
    reports = {report.runner: report for report in open_artifact(folder).manifest.parity}
    assert set(runners) <= set(reports)
    for compute in natively():
        report = reports[f"harmless (openvino, {compute})"]
        assert report.limit == (1e-4 if compute == "fp32" else 0.2)
        assert 0 < report.relative <= report.limit
    assert open_artifact(folder).manifest.reference == exported.manifest.reference

    rows, out = tmp_path / "rows.jsonl", tmp_path / "scores.jsonl"
    rows.write_text('{"id": 1, "instruction": "Hi", "output": "Hello"}\n' * 3)
    done = harmless("score", rows, "-o", out, "--model", folder, "--provider", "openvino")
    assert done.returncode == 0, done.stderr
    assert f"running in {auto} through OpenVINO on {this_processor()}" in done.stderr
    assert f"openvino, {auto}" in done.stderr
    assert "it is not known" not in done.stderr
    unmeasured = msgspec.structs.replace(exported.manifest, parity=exported.manifest.parity[:1])
    (folder / "scorer.json").write_bytes(msgspec.json.encode(unmeasured))
    done = harmless(
        "score", rows, "-o", out, "--model", folder, "--provider", "openvino", "--overwrite"
    )
    assert f"run harmless verify {folder} --provider openvino" in done.stderr.replace("\n", " ")


FORK = """
import os, sys
from harmless_runtime import Gpt2HarmlessScorer
from harmless_runtime.errors import SessionError
scorer = Gpt2HarmlessScorer({"model": sys.argv[1], "provider": "openvino"})
for uses in (False, True):
    child = os.fork()
    if not child:
        if uses:
            try:
                scorer.score_item({"instruction": "a", "output": "b"})
            except SessionError:
                sys.exit(7)
        sys.exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
"""


@pytest.mark.usefixtures("works")
def test_a_forked_child_ends(artifact: Artifact) -> None:
    command = [sys.executable, "-c", FORK, str(artifact.folder)]
    subprocess.run(command, check=True, timeout=120, capture_output=True)


@pytest.mark.usefixtures("works")
def test_threads_load_it_at_once() -> None:
    program = """
from concurrent.futures import ThreadPoolExecutor
from harmless_runtime.model.openvino import find_device
list(ThreadPoolExecutor(8).map(lambda _: find_device(), range(8)))
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
