"""The exported graph, compared with GPT2ForSequenceClassification in PyTorch fp32."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from transformers import GPT2ForSequenceClassification

from checkpoints import OPTIMUM, make_model, make_tokenizer, save_checkpoint
from harmless_export import export_checkpoint, verify, verify_artifact
from harmless_export.parity import LIMITS
from harmless_export.reference import optimum_obstacle
from harmless_runtime.errors import SessionError
from harmless_runtime.model.artifact import Artifact
from harmless_runtime.model.batches import pad
from harmless_runtime.model.engine import Engine
from harmless_runtime.model.load import build_engine
from harmless_runtime.model.session import Session
from harmless_runtime.model.target import Target

CONFIGS: dict[str, dict[str, Any]] = {
    "default": {},
    "one layer": {"n_layer": 1},
    "one head": {"n_head": 1, "n_layer": 2},
    "head size 64": {"n_embd": 128, "n_head": 2},
    "odd width": {"n_embd": 60, "n_head": 3, "n_inner": 100},
    "few positions": {"n_positions": 96},
    "wide epsilon": {"layer_norm_epsilon": 1e-2},
}


def torch_scores(model: GPT2ForSequenceClassification, ids: NDArray[Any]) -> NDArray[np.float32]:
    model.config.pad_token_id = 0
    with torch.inference_mode():
        scores: NDArray[np.float32] = model(torch.tensor(ids)).logits[:, 0].numpy()
    return scores


def export(tmp_path: Path, model: GPT2ForSequenceClassification, **options: Any) -> Artifact:
    folder = save_checkpoint(tmp_path / "checkpoint", model)
    return export_checkpoint(str(folder), tmp_path / "artifact", verify=False, **options)


def random_rows(rng: np.random.Generator, lengths: list[int]) -> list[NDArray[np.int32]]:
    """Return rows of ids without the pad id, 0."""
    return [rng.integers(1, 600, length).astype(np.int32) for length in lengths]


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_fp32_equals_pytorch(config: dict[str, Any], tmp_path: Path) -> None:
    model = make_model(**config)
    session = Session(export(tmp_path, model), Target("cpu"), 4096)
    rng = np.random.default_rng(0)
    longest = config.get("n_positions", 1024)
    for lengths in ([1], [2, 1], [7, 3, 5], [longest], [longest // 2, 1, longest // 3]):
        ids = pad(random_rows(rng, lengths), 0)
        truth = torch_scores(model, ids)
        np.testing.assert_allclose(session.submit(ids).result(), truth, atol=2e-4, rtol=1e-5)


@pytest.mark.parametrize("length", [1, 2, 3, 31, 32, 33, 64, 127, 255, 512, 1023, 1024])
def test_every_length(length: int, artifact: Artifact) -> None:
    rng = np.random.default_rng(length)
    ids = pad(random_rows(rng, [length]), 0)
    session = Session(artifact, Target("cpu"), 1024)
    np.testing.assert_allclose(
        session.submit(ids).result(), torch_scores(make_model(), ids), atol=2e-4, rtol=1e-5
    )


def test_pad_ids_inside_and_at_the_end_of_a_text(artifact: Artifact) -> None:
    # A text that ends with a literal <|endoftext|> is scored at the token before it.
    ids = np.array([[5, 0, 9, 0, 0], [0, 0, 0, 0, 0], [0, 7, 0, 0, 0], [1, 2, 3, 4, 5]])
    session = Session(artifact, Target("cpu"), 64)
    truth = torch_scores(make_model(), ids)
    np.testing.assert_allclose(session.submit(ids).result(), truth, atol=2e-4, rtol=1e-5)


def test_batch_and_padding_do_not_change_a_score(artifact: Artifact) -> None:
    rng = np.random.default_rng(3)
    rows = random_rows(rng, [1, 9, 40, 41, 200, 17])
    session = Session(artifact, Target("cpu"), 4096)
    together = session.submit(pad(rows, 0)).result()
    alone = np.concatenate([session.submit(pad([row], 0)).result() for row in rows])
    wider = session.submit(np.pad(pad(rows, 0), ((0, 0), (0, 100)))).result()
    np.testing.assert_allclose(together, alone, atol=2e-4)
    np.testing.assert_allclose(wider, alone, atol=2e-4)


@pytest.mark.parametrize("outliers", [0.0, 3000.0], ids=["plain", "outlier channels"])
def test_fp16_stays_within_its_limit(outliers: float, tmp_path: Path) -> None:
    model = make_model(outliers=outliers)
    session = Session(export(tmp_path, model, precision="fp16"), Target("cpu"), 8192)
    rng = np.random.default_rng(5)
    ids = pad(random_rows(rng, [1, 3, 20, 60, 61, 100, 150, 200]), 0)
    truth = torch_scores(make_model(outliers=outliers), ids)
    scores = session.submit(ids).result()
    relative = np.abs(scores - truth).max() / truth.std()
    assert 1e-5 < relative < LIMITS["fp16"], "fp16 rounds, and by less than its limit"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_stored_in_half_precision(dtype: torch.dtype, tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path / "checkpoint", make_model(), dtype=dtype)
    artifact = export_checkpoint(str(folder), tmp_path / "artifact", verify=False)
    model = GPT2ForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    ids = pad(random_rows(np.random.default_rng(1), [50, 10]), 0)
    scores = Session(artifact, Target("cpu"), 4096).submit(ids).result()
    np.testing.assert_allclose(scores, torch_scores(model, ids), atol=2e-4, rtol=1e-5)


def test_sharded_weights(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path / "checkpoint", make_model(), max_shard_size="200KB")
    assert (folder / "model.safetensors.index.json").exists()
    artifact = export_checkpoint(str(folder), tmp_path / "artifact", verify=False)
    ids = pad(random_rows(np.random.default_rng(1), [50, 10]), 0)
    scores = Session(artifact, Target("cpu"), 4096).submit(ids).result()
    np.testing.assert_allclose(scores, torch_scores(make_model(), ids), atol=2e-4, rtol=1e-5)


def test_verification_reports_and_optimum_agrees(checkpoint: Path, tmp_path: Path) -> None:
    artifact = export_checkpoint(str(checkpoint), tmp_path / "artifact")
    runners = {report.runner: report for report in artifact.manifest.parity}
    assert set(runners) == {"harmless (cpu)", *OPTIMUM}
    for report in runners.values():
        assert report.texts >= 32
        assert 0 < report.max_abs < 1e-3
        assert report.relative <= 1e-4
        assert report.score_std > 0.1
        assert report.pearson > 0.999999


def test_a_gpu_that_cannot_run_an_artifact_leaves_it_to_the_cpu(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = export_checkpoint(str(checkpoint), tmp_path / "artifact", verify=False)
    monkeypatch.setattr(verify, "choose_provider", lambda *_: "cuda")

    def build(artifact: Artifact, target: Target) -> Engine:
        if target.provider == "cuda":
            raise SessionError("CUDA device 0 cannot run it")
        return build_engine(artifact, target)

    monkeypatch.setattr(verify, "build_engine", build)
    verified = verify_artifact(artifact, checkpoint=str(checkpoint), provider="auto")
    runners = [report.runner for report in verified.manifest.parity]
    assert runners == ["harmless (cpu)", *OPTIMUM]
    with pytest.raises(SessionError, match="cannot run it"):
        verify_artifact(artifact, checkpoint=str(checkpoint), provider="cuda")


@pytest.mark.skipif(not OPTIMUM, reason="Optimum is not installed")
def test_optimum_is_left_out_if_pytorch_has_no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert optimum_obstacle("cpu") is None
    assert (
        optimum_obstacle("cuda") == "Optimum needs a PyTorch with CUDA, and this PyTorch has none"
    )
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert optimum_obstacle("cuda") is None


@pytest.mark.parametrize(
    ("precision", "operator", "products"),
    [("fp32", "MultiHeadAttention", 6), ("fp16", "Attention", 3), ("bf16", "Attention", 3)],
)
def test_the_operators_of_a_layer(
    precision: Any, operator: str, products: int, tmp_path: Path
) -> None:
    artifact = export(tmp_path, make_model(), precision=precision)
    nodes = onnx.load(artifact.model, load_external_data=False).graph.node
    kinds = [node.op_type for node in nodes]
    assert [kind for kind in kinds if "Attention" in kind] == 3 * [operator]
    assert kinds.count("MatMul") == 3 * products, "Attention multiplies by Q, K and V itself"


def test_generic_tokenizer_class_gives_no_token_types(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    folder = save_checkpoint(tmp_path / "checkpoint", make_model(), tokenizer)
    artifact = export_checkpoint(str(folder), tmp_path / "artifact")
    assert all(report.relative <= 1e-4 for report in artifact.manifest.parity)


def test_without_optimum(
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setitem(sys.modules, "optimum", None)
    monkeypatch.delitem(sys.modules, "optimum.onnxruntime", raising=False)
    artifact = export_checkpoint(str(checkpoint), tmp_path / "artifact")
    assert [report.runner for report in artifact.manifest.parity] == ["harmless (cpu)"]
    assert "no column for Optimum, because Optimum is not installed" in caplog.text
