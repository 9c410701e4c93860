"""int8 artifacts: products that overflow on no processor, and scores near PyTorch's in fp32."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from test_parity import random_rows, torch_scores

from checkpoints import make_model, make_tokenizer, save_checkpoint
from harmless_export import export_checkpoint
from harmless_export.parity import LIMITS
from harmless_export.quantize import round_weight
from harmless_export.reference import pytorch_scores
from harmless_runtime import Gpt2HarmlessScorer
from harmless_runtime.errors import ParityError
from harmless_runtime.model.artifact import Artifact, open_artifact
from harmless_runtime.model.batches import pad
from harmless_runtime.model.session import Session
from harmless_runtime.model.target import Target
from harmless_runtime.rows.prompt import question_and_answer
from processes import Harmless

OUTLIERS = {"plain": 0.0, "outlier channels": 3000.0}


def make_artifact(tmp_path: Path, **model: Any) -> Artifact:
    folder = save_checkpoint(tmp_path / "checkpoint", make_model(**model))
    return export_checkpoint(str(folder), tmp_path / "artifact", precision="int8", verify=False)


def integer_product(left: Any, right: Any) -> Any:
    """Multiply (uint8 [m, k] - 128) by int8 [k, n] with the operator of the graph."""
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.UINT8), shape=ir.Shape(left.shape))
    y = ir.Value(name="y", type=ir.TensorType(ir.DataType.FLOAT))
    constants = [right, np.ones(1, np.float32), np.ones(1, np.float32), np.full(1, 128, np.uint8)]
    inputs = [
        ir.Value(name=f"c{i}", const_value=ir.tensor(values, name=f"c{i}"))
        for i, values in enumerate(constants)
    ]
    node = ir.Node("com.microsoft", "MatMulIntegerToFloat", [x, *inputs], outputs=[y])
    graph = ir.Graph(
        [x],
        [y],
        nodes=[node],
        initializers=inputs,
        opset_imports={"": 18, "com.microsoft": 1},
        name="g",
    )
    model = ir.to_proto(ir.Model(graph, ir_version=9)).SerializeToString()
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": left})[0]


@pytest.mark.parametrize("rows", [1, 2, 7, 64, 255])
@pytest.mark.parametrize("kind", ["normal", "one size", "one large", "zero"])
def test_integer_products_are_exact(rows: int, kind: str) -> None:
    rng = np.random.default_rng(rows)
    weight = rng.standard_normal((rows, 40)).astype(np.float32)
    if kind == "one size":
        weight = np.sign(weight)
    elif kind == "one large":
        weight[rows // 2] = 1e4
    elif kind == "zero":
        weight[:] = 0
    int8 = round_weight(torch.from_numpy(weight))
    # The largest activations would overflow 16 bits.
    activations = rng.choice([0, 128, 255], (33, rows)).astype(np.uint8)
    activations[0] = 255
    exact = (activations.astype(np.int64) - 128) @ int8.values.astype(np.int64)
    np.testing.assert_array_equal(integer_product(activations, int8.values), exact)
    # A single row is multiplied by another kernel.
    np.testing.assert_array_equal(integer_product(activations[:1], int8.values), exact[:1])
    # With VNNI nothing overflows, so the condition for other processors is checked as well.
    sizes = np.abs(int8.values.astype(int))
    assert max((sizes[::2][: rows // 2] + sizes[1::2]).max(initial=0), sizes.max()) <= 128
    assert np.all(np.abs(weight - int8.values * int8.step) <= 0.5001 * int8.step)


@pytest.mark.parametrize("outliers", OUTLIERS.values(), ids=OUTLIERS.keys())
@pytest.mark.parametrize(
    "config",
    [{}, {"n_embd": 60, "n_head": 4, "n_inner": 101}, {"n_layer": 1}],
    ids=["default", "odd width", "one layer"],
)
def test_int8_stays_within_its_limit(
    outliers: float, config: dict[str, Any], tmp_path: Path
) -> None:
    artifact = make_artifact(tmp_path, outliers=outliers, **config)
    tokenizer = make_tokenizer()
    # Not the bundled rows, because the export took its means over them.
    source = Path(__file__).with_name("test_parity.py").read_text()
    rows = [tokenizer(source[i : i + 60 + i % 400])["input_ids"] for i in range(0, 4000, 97)]
    ids = pad([np.array(row, np.int32) for row in rows], 0)
    truth = torch_scores(make_model(outliers=outliers, **config), ids)
    scores = Session(artifact, Target("cpu"), ids.size).submit(ids).result()
    relative = np.abs(scores - truth).max() / truth.std()
    assert LIMITS["fp32"] < relative < LIMITS["int8"], "int8 rounds, and by less than its limit"
    assert np.corrcoef(scores, truth)[0, 1] > 0.995


def test_a_score_does_not_depend_on_the_batch(tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path)
    rows = random_rows(np.random.default_rng(3), [1, 9, 40, 41, 200, 17])
    session = Session(artifact, Target("cpu"), 4096)
    together = session.submit(pad(rows, 0)).result()
    alone = np.concatenate([session.submit(pad([row], 0)).result() for row in rows])
    np.testing.assert_allclose(together, alone, atol=1e-3 * alone.std())


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_row_whose_score_is_not_a_number_is_rejected(precision: Any, tmp_path: Path) -> None:
    model, tokenizer = make_model(), make_tokenizer()
    weights = dict(model.named_parameters())
    with torch.no_grad():
        # One head's product of query and key overflows for the token "@", and no other head's.
        weights["transformer.wte.weight"][tokenizer("@")["input_ids"], 7] = 1e4
        weights["transformer.h.1.attn.c_attn.weight"][7, [20, 84]] = 5e18
    folder = save_checkpoint(tmp_path / "checkpoint", model, tokenizer)
    export_checkpoint(str(folder), tmp_path / "a", precision=precision, verify=False)
    answers = ["Hello", "It is @ home, and no more of it.", "and then @", "The weather is fine."]
    truth = pytorch_scores(folder, [question_and_answer("Hi", "", a) for a in answers], 1024)
    assert np.isnan(truth).tolist() == [False, True, True, False]
    scorer = Gpt2HarmlessScorer({"model": str(tmp_path / "a"), "provider": "cpu"})
    rewards = scorer.score(["Hi"] * 4, answers, on_error="nan")
    np.testing.assert_array_equal(np.isnan(rewards), np.isnan(truth))


def test_export_and_score_in_int8(checkpoint: Path, tmp_path: Path, harmless: Harmless) -> None:
    done = harmless("export", checkpoint, "-o", tmp_path / "a", "--precision", "int8")
    assert done.returncode == 0, done.stderr
    manifest = open_artifact(tmp_path / "a").manifest
    assert {report.runner for report in manifest.parity} == {"harmless (cpu)", "optimum (cpu)"}
    assert all(1e-3 < report.relative < report.limit for report in manifest.parity)
    (tmp_path / "rows.jsonl").write_text('{"instruction": "Hi", "output": "Hello"}\n')
    scored = harmless(
        "score", tmp_path / "rows.jsonl", "-o", tmp_path / "s", "--model", tmp_path / "a"
    )
    assert scored.returncode == 0, scored.stderr
    assert "cpu, int8" in scored.stderr


def test_a_model_that_loses_too_much_in_int8_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ParityError, match="loses too much in int8"):
        export_checkpoint(str(checkpoint), tmp_path / "a", precision="int8", parity_limit=1e-4)
