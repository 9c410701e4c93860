"""Add nodes and initializers to a graph that is being built."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from onnx_ir.tape import Tape

from harmless_export.weights import Weights
from harmless_runtime.choices import Precision
from harmless_runtime.errors import CheckpointError

CONTRIB = "com.microsoft"

_DTYPES = {
    "fp32": (ir.DataType.FLOAT, torch.float32),
    "fp16": (ir.DataType.FLOAT16, torch.float16),
    "bf16": (ir.DataType.BFLOAT16, torch.bfloat16),
    "int8": (ir.DataType.FLOAT, torch.float32),  # of everything but the products' weights
}

EVERY_COLUMN = slice(None)
# Smaller tensors, the biases and norms, are read while the graph is built: a few MB in all.
LAZY_ELEMENTS = 2**16


class Nodes:
    """The nodes and initializers so far, with functions that add one more.

    Args:
        weights: the checkpoint's weights.
        precision: what weights are cast to.
        replaced: float32 tensors that take the place of the weights of the same names.
    """

    def __init__(
        self, weights: Weights, precision: Precision, replaced: Mapping[str, torch.Tensor]
    ) -> None:
        self.tape = Tape()
        self.weights = weights
        self.replaced = replaced
        self._dtypes = _DTYPES[precision]
        self.is_float32 = self._dtypes == _DTYPES["fp32"]

    def op(
        self,
        kind: str,
        inputs: Sequence[ir.Value],
        domain: str = "",
        **attributes: int | float | str,
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
        self, name: str, columns: slice = EVERY_COLUMN, *, float32: bool = False
    ) -> ir.Value:
        """Add a weight as an initializer. A large one is read and cast when the model is saved.

        Args:
            name: the weight's name in the checkpoint.
            columns: the columns to take.
            float32: cast it to float32, whatever the precision is.
        """
        shape = self.weights.shape(name)
        dtype, torch_dtype = _DTYPES["fp32"] if float32 else self._dtypes
        label = name if columns is EVERY_COLUMN else f"{name}.{columns.start}"
        width = len(range(*columns.indices(shape[-1])))

        def load() -> ir.TensorProtocol:
            tensor = self.replaced[name] if name in self.replaced else self.weights.read(name)
            tensor = tensor[..., columns].contiguous()
            return ir.Tensor(_cast(name, tensor, torch_dtype), dtype=dtype, name=label)

        if math.prod(shape) < LAZY_ELEMENTS:
            return self.tape.initializer(load(), name=label)
        lazy = ir.LazyTensor(load, dtype, ir.Shape([*shape[:-1], width]), name=label)
        return self.tape.initializer(lazy, name=label)


def _cast(name: str, tensor: torch.Tensor, dtype: torch.dtype) -> NDArray[Any]:
    """Round a float32 tensor to the nearest `dtype`, ties to even, as a NumPy array."""
    cast = tensor.to(dtype)
    if not torch.isfinite(cast).all():
        raise CheckpointError(
            f"{name} reaches {tensor.abs().max():.6g}, but the largest fp16 number is 65504",
            "export in bf16 or fp32",
        )
    if dtype is torch.bfloat16:
        # NumPy has no bfloat16, so the bits are handed over as integers.
        return cast.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return cast.numpy()
