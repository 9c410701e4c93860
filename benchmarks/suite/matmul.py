"""Time plain matrix products at a model's shapes, as an upper limit for every competitor."""

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import torch
from onnx_ir.tape import Tape

# Rows of the left operand, in tokens: enough that more of them are no faster.
TOKENS = {"cpu": 2048, "cuda": 16384}
REPEATS = 5


def measure_peaks(checkpoint: Path, provider: str) -> dict[str, Any]:
    """Time one layer's products in PyTorch and, on a CPU, in ONNX Runtime.

    Returns:
        `fp32_flops`, `bf16_flops`, on a GPU `fp16_flops`, on a CPU `int8_flops`: multiplications
        and additions per second over the four products of a layer, in the faster of the two
        libraries.
    """
    config = json.loads((checkpoint / "config.json").read_text())
    width = config["n_embd"]
    inner = config["n_inner"] or 4 * width
    tokens = TOKENS[provider]
    shapes = [(width, 3 * width), (width, width), (width, inner), (inner, width)]
    operations = sum(2 * tokens * k * n for k, n in shapes)
    peaks = {}
    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16}
    if provider == "cuda":
        dtypes["fp16"] = torch.float16  # on a CPU, fp16 weights are multiplied in fp32
    for name, dtype in dtypes.items():
        seconds = sum(_torch_seconds(tokens, k, n, dtype, provider) for k, n in shapes)
        peaks[f"torch_{name}"] = operations / seconds
    if provider == "cpu":
        seconds = sum(_ort_seconds(tokens, k, n, "fp32") for k, n in shapes)
        peaks["onnxruntime_fp32"] = operations / seconds
        seconds = sum(_ort_seconds(tokens, k, n, "int8") for k, n in shapes)
        peaks["onnxruntime_int8"] = operations / seconds
    best = {
        f"{name}_flops": max(value for key, value in peaks.items() if key.endswith(name))
        for name in ("fp32", "fp16", "bf16", "int8")
        if any(key.endswith(name) for key in peaks)
    }
    return {key: round(value / 1e9) * 1e9 for key, value in (peaks | best).items()}


def _seconds(call: Callable[[], object]) -> float:
    """Return the median time of a call after a first one, or the first one's if it is very slow."""
    times: list[float] = []
    for _ in range(1 + REPEATS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
        # A product without a kernel of its own, such as bf16 on a CPU without AVX-512.
        if times[0] > 2:
            return times[0]
    return statistics.median(times[1:])


def _torch_seconds(tokens: int, k: int, n: int, dtype: torch.dtype, provider: str) -> float:
    device = "cuda" if provider == "cuda" else "cpu"
    left = torch.randn(tokens, k).to(device, dtype)
    right = torch.randn(k, n).to(device, dtype)
    out = torch.empty(tokens, n, device=device, dtype=dtype)

    def call() -> None:
        torch.mm(left, right, out=out)
        if provider == "cuda":
            torch.cuda.synchronize()

    with torch.inference_mode():
        return _seconds(call)


def _ort_seconds(tokens: int, k: int, n: int, precision: str) -> float:
    generator = np.random.default_rng(0)
    weight: np.ndarray[Any, Any]
    left: np.ndarray[Any, Any]
    if precision == "int8":
        weight = generator.integers(-127, 128, (k, n), dtype=np.int8)
        left = generator.integers(0, 256, (tokens, k), dtype=np.uint8)
    else:
        weight = generator.standard_normal((k, n), dtype=np.float32)
        left = generator.standard_normal((tokens, k), dtype=np.float32)
    session = ort.InferenceSession(_product(weight, left.dtype), providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    binding.bind_cpu_input("x", left)
    binding.bind_output("y")
    return _seconds(lambda: session.run_with_iobinding(binding))


def _product(weight: np.ndarray[Any, Any], left: np.dtype[Any]) -> bytes:
    """Return a serialised model of one MatMul, or of one MatMulIntegerToFloat for integers."""
    x = ir.Value(
        name="x",
        type=ir.TensorType(ir.DataType.from_numpy(left)),
        shape=ir.Shape(["m", weight.shape[0]]),
    )
    tape = Tape()
    w = tape.initializer(ir.tensor(weight, name="w"))
    if weight.dtype == np.int8:
        # MatMulInteger itself is far slower.
        scales = [np.ones(1, np.float32), np.ones(weight.shape[1], np.float32)]
        inputs = [tape.initializer(ir.tensor(s, name=f"scale_{i}")) for i, s in enumerate(scales)]
        y = tape.op("MatMulIntegerToFloat", [x, w, *inputs], domain="com.microsoft")
    else:
        y = tape.op("MatMul", [x, w])
    y.name, y.shape = "y", ir.Shape(["m", weight.shape[1]])
    y.type = ir.TensorType(ir.DataType.FLOAT)
    graph = ir.Graph(
        [x],
        [y],
        nodes=tape.nodes,
        initializers=tape.initializers,
        opset_imports={"": 18, "com.microsoft": 1},
        name="g",
    )
    model: bytes = ir.to_proto(ir.Model(graph, ir_version=10)).SerializeToString()
    return model
