"""Nodes and initializers of a graph under construction."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from onnx_ir.tape import Tape

from harmless_export.checkpoint import Weights
from harmless_runtime.config import Precision
from harmless_runtime.errors import CheckpointError

CONTRIB = "com.microsoft"

_DTYPES = {
    "fp32": (ir.DataType.FLOAT, torch.float32),
    "fp16": (ir.DataType.FLOAT16, torch.float16),
    "bf16": (ir.DataType.BFLOAT16, torch.bfloat16),
    "int8": (ir.DataType.FLOAT, torch.float32),  # all but the products' weights
}

EVERY_COLUMN = slice(None)
# Smaller tensors are read while the graph is built: biases and norms, a few MB in all.
LAZY_ELEMENTS = 2**16


class Nodes:
    """The nodes so far, and the means to add one more.

    Weights are the checkpoint's, or those of the same name in `replaced`, cast to `precision`.
    """

    def __init__(
        self, weights: Weights, precision: Precision, replaced: Mapping[str, torch.Tensor]
    ) -> None:
        self.tape = Tape()
        self._weights = weights
        self._replaced = replaced
        self._dtypes = _DTYPES[precision]
        self.is_float32 = self._dtypes == _DTYPES["fp32"]

    def op(
        self, kind: str, inputs: Sequence[ir.Value], domain: str = "", **attributes: int | float
    ) -> ir.Value:
        """Add a node with one output."""
        return self.tape.op(kind, inputs, attributes, domain=domain)

    def constant(self, values: int | list[int] | NDArray[np.int64]) -> ir.Value:
        """Add an int64 initializer of any shape."""
        return self.tensor(np.asarray(values, np.int64))

    def tensor(self, values: NDArray[Any], name: str = "") -> ir.Value:
        """Add an initializer of any dtype and shape."""
        name = name or f"constant_{len(self.tape.initializers)}"
        return self.tape.initializer(ir.tensor(values, name=name))

    def weight(
        self,
        name: str,
        shape: tuple[int, ...],
        columns: slice = EVERY_COLUMN,
        float32: bool = False,
    ) -> ir.Value:
        """An initializer that, if large, reads and casts its tensor when the model is saved."""
        dtype, torch_dtype = _DTYPES["fp32"] if float32 else self._dtypes
        label = name if columns is EVERY_COLUMN else f"{name}.{columns.start}"
        width = len(range(*columns.indices(shape[-1])))

        def load() -> ir.TensorProtocol:
            tensor = self._replaced[name] if name in self._replaced else self._weights.read(name)
            tensor = tensor[..., columns].contiguous()
            return ir.Tensor(_cast(name, tensor, torch_dtype), dtype=dtype, name=label)

        self._weights.check(name, shape)
        if math.prod(shape) < LAZY_ELEMENTS:
            return self.tape.initializer(load(), name=label)
        lazy = ir.LazyTensor(load, dtype, ir.Shape([*shape[:-1], width]), name=label)
        return self.tape.initializer(lazy, name=label)


def _cast(name: str, tensor: torch.Tensor, dtype: torch.dtype) -> NDArray[Any]:
    """Round a float32 tensor to nearest-even in `dtype`, as a NumPy array."""
    cast = tensor.to(dtype)
    if not torch.isfinite(cast).all():
        raise CheckpointError(
            f"{name} reaches {tensor.abs().max():.6g}, and fp16 ends at 65504: "
            "export with --precision bf16 or fp32"
        )
    if dtype is torch.bfloat16:
        # NumPy has no bfloat16 of its own: hand the bits over.
        return cast.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return cast.numpy()
