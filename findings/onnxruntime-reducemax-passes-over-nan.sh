#!/usr/bin/env bash
# onnxruntime 1.32.0, CPU: ReduceMax over a row gives NaN only if the NaN is the row's first element.
#
# Expected: NaN wherever it stands, as the operators Max and ReduceSum, numpy.max and torch.max give.
# Seen: the largest of the other elements. A scale that is computed so, as for dynamic quantisation,
# is a plausible number, and the NaN is gone after it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [None, None]) for n in "xy")
axes = numpy_helper.from_array(np.array([1], np.int64), "axes")


def run(kind: str, rows: np.ndarray) -> list[float]:
    node = helper.make_node(kind, ["x", "axes"], ["y"], keepdims=1)
    graph = helper.make_graph([node], "g", [x], [y], [axes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": rows})[0].ravel().tolist()


rows = np.tile(np.arange(1, 9, dtype=np.float32), (2, 1))
rows[0, 0] = rows[1, 5] = np.nan
for kind in ("ReduceMax", "ReduceSum"):
    print(f"{kind} of a row with NaN first, and of one with NaN within: {run(kind, rows)}")
assert np.isnan(rows.max(axis=1)).all()
assert np.isnan(run("ReduceSum", rows)).all()
first, within = run("ReduceMax", rows)
assert np.isnan(first)
assert within == 8
PYTHON
