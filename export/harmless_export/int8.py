"""Add the nodes of a product with an int8 weight.

The rows are quantised to uint8, multiplied as integers, and converted back to float32. Every row,
which is a token, gets its own scale at run time. So the large values of one token do not take
precision from another, and no score depends on the rest of the batch.
"""

import numpy as np
import onnx_ir as ir

from harmless_export.nodes import CONTRIB, Nodes
from harmless_export.quantize import Int8Weight


def int8_product(
    nodes: Nodes, x: ir.Value, weight: Int8Weight, name: str, parts: int
) -> list[ir.Value]:
    """Multiply x [batch_size, sequence_length, k] by a weight [k, n].

    Returns:
        The columns of the product in equal parts: `parts` times
        [batch_size, sequence_length, n / parts].
    """
    k, n = weight.values.shape
    rows = nodes.op("Reshape", [x, nodes.constant([-1, k])])
    if weight.shift is not None:
        rows = nodes.op("Add", [rows, nodes.tensor(weight.shift)])
    largest = nodes.op("ReduceMax", [nodes.op("Abs", [rows]), nodes.constant([1])])
    scale = nodes.op("Mul", [largest, nodes.tensor(np.array([1 / 127], np.float32))])  # [tokens, 1]
    # ReduceMax passes over a NaN, which would be rounded to a number. A sum and Max keep it.
    total = nodes.op("ReduceSum", [rows, nodes.constant([1])])
    nan = nodes.op("Mul", [total, nodes.tensor(np.array([0], np.float32))])  # or else 0
    # A row of zeros would have the scale 0.
    scale = nodes.op("Max", [scale, nan, nodes.tensor(np.array([1e-30], np.float32))])
    scales = nodes.op("Reshape", [scale, nodes.constant([-1])])
    zero = nodes.tensor(np.array([128], np.uint8))
    zeros = nodes.op("Expand", [zero, nodes.op("Shape", [scales])])
    values = nodes.op("QuantizeLinear", [rows, scales, zeros], axis=0)

    shape = nodes.op("Concat", [nodes.op("Shape", [x], end=2), nodes.constant([-1])], axis=0)
    products = []
    for i in range(parts):
        columns = slice(i * n // parts, (i + 1) * n // parts)
        label = f"{name}.{columns.start}"
        product = nodes.op(
            "MatMulIntegerToFloat",
            [
                values,
                nodes.tensor(np.ascontiguousarray(weight.values[:, columns]), label),
                nodes.tensor(np.array([1], np.float32)),
                nodes.tensor(weight.step[columns], f"{label}.step"),
                zero,
            ],
            domain=CONTRIB,
        )
        product = nodes.op("Mul", [product, scale])
        products.append(nodes.op("Reshape", [product, shape]))
    return products
