"""A configuration and its weights to an ONNX graph, built node by node from fused operators.

Stock exports of GPT2ForSequenceClassification leave the attention unfused, and ONNX Runtime's
optimizer does not find it again. Built from the state dict, a layer is eight nodes: three products
for Q, K and V, MultiHeadAttention, and two residual blocks that end in SkipLayerNormalization.

The graph takes `input_ids` [batch_size, sequence_length] int64, padded on the right, and returns
`logits` [batch_size, 1] float32. It needs no attention mask: under causal attention a pad position
never reaches an earlier one, and the score is read at the last position that is not padding.
"""

import math
from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from onnx_ir.tape import Tape

from harmless_export.checkpoint import Gpt2Config, Weights
from harmless_runtime.artifact import Precision
from harmless_runtime.errors import CheckpointError

OPSET = 18
IR_VERSION = 9  # the one that came with opset 18
CONTRIB = "com.microsoft"

_DTYPES = {
    "fp32": (ir.DataType.FLOAT, torch.float32),
    "fp16": (ir.DataType.FLOAT16, torch.float16),
    "bf16": (ir.DataType.BFLOAT16, torch.bfloat16),
}

EVERY_COLUMN = slice(None)
# Smaller tensors are read while the graph is built: biases and norms, a few MB in all.
LAZY_ELEMENTS = 2**16


def build_model(
    config: Gpt2Config, weights: Weights, precision: Precision, pad_token_id: int
) -> ir.Model:
    """Build the graph; large weights are read and cast one by one, while the model is saved.

    Weights and activations are in `precision`. The final LayerNorm and the score head, which see
    one row a text, are in float32 in every precision.

    Raises:
        CheckpointError: a weight is missing or of another shape, or is too large for float16.
    """
    return _Builder(config, weights, precision).build(pad_token_id)


class _Builder:
    def __init__(self, config: Gpt2Config, weights: Weights, precision: Precision) -> None:
        self.config = config
        self.weights = weights
        self.dtype, self.torch_dtype = _DTYPES[precision]
        self.tape = Tape()

    def build(self, pad_token_id: int) -> ir.Model:
        config, width = self.config, self.config.n_embd
        ids = ir.Value(
            name="input_ids",
            type=ir.TensorType(ir.DataType.INT64),
            shape=ir.Shape(["batch_size", "sequence_length"]),
        )
        length = self.op("Shape", [ids], start=1, end=2)
        last = self.last_token(ids, length, pad_token_id)

        words = self.weight("transformer.wte.weight", (config.vocab_size, width))
        positions = self.weight("transformer.wpe.weight", (config.n_positions, width))
        residual = self.op("Add", [self.op("Gather", [words, ids]), self.prefix(positions, length)])
        x = self.op(
            "LayerNormalization",
            [residual, *self.norm("transformer.h.0.ln_1")],
            epsilon=config.layer_norm_epsilon,
        )
        for layer in range(config.n_layer):
            name = f"transformer.h.{layer}"
            is_last = layer == config.n_layer - 1
            x = self.attention(x, f"{name}.attn")
            if is_last:
                # Nothing after this mixes positions, and only the last token's row is scored.
                x = self.op("GatherElements", [x, last], axis=1)
                residual = self.op("GatherElements", [residual, last], axis=1)
            x = self.op("MatMul", [x, self.weight(f"{name}.attn.c_proj.weight", (width, width))])
            x, residual = self.add_and_norm(
                x, residual, self.weight(f"{name}.attn.c_proj.bias", (width,)), f"{name}.ln_2"
            )
            x = self.feed_forward(x, f"{name}.mlp")
            bias = self.weight(f"{name}.mlp.c_proj.bias", (width,), float32=is_last)
            if is_last:
                x, residual = (self.op("Cast", [t], to=ir.DataType.FLOAT) for t in (x, residual))
                x, _ = self.add_and_norm(x, residual, bias, "transformer.ln_f", float32=True)
            else:
                x, residual = self.add_and_norm(
                    x, residual, bias, f"transformer.h.{layer + 1}.ln_1"
                )
        row = self.op("Squeeze", [x, self.constant([1])])  # [batch_size, n_embd]
        head = self.weight("score.weight", (1, width), float32=True)
        logits = self.op("Gemm", [row, head], transB=1)
        logits.name = "logits"
        logits.type = ir.TensorType(ir.DataType.FLOAT)
        logits.shape = ir.Shape(["batch_size", 1])
        graph = ir.Graph(
            [ids],
            [logits],
            nodes=self.tape.nodes,
            initializers=self.tape.initializers,
            opset_imports={"": OPSET, CONTRIB: 1},
            name="gpt2_reward_model",
        )
        return ir.Model(graph, ir_version=IR_VERSION, producer_name="harmless-scorer")

    def last_token(self, ids: ir.Value, length: ir.Value, pad_token_id: int) -> ir.Value:
        """Index [batch_size, 1, n_embd] of the last position whose id is not the pad id.

        GPT2ForSequenceClassification's own rule: the largest of position × (id is not pad), so 0
        where every id is. The index has the width of a row because GatherElements wants it so;
        GatherND would do with less, but its CUDA kernel copies to the host.
        """
        positions = self.prefix(self.constant(np.arange(self.config.n_positions)), length)
        is_token = self.op("Not", [self.op("Equal", [ids, self.constant(pad_token_id)])])
        candidates = self.op(
            "Mul", [self.op("Cast", [is_token], to=ir.DataType.INT64), positions]
        )  # [batch_size, sequence_length]
        last = self.op("ReduceMax", [candidates, self.constant([1])], keepdims=1)
        column = self.op("Unsqueeze", [last, self.constant([2])])
        return self.op("Add", [column, self.constant(np.zeros(self.config.n_embd, np.int64))])

    def attention(self, x: ir.Value, name: str) -> ir.Value:
        width, heads = self.config.n_embd, self.config.n_head
        qkv = []
        for i in range(3):
            columns = slice(i * width, (i + 1) * width)
            fused = self.weight(f"{name}.c_attn.weight", (width, 3 * width), columns)
            qkv.append(self.op("MatMul", [x, fused]))
        bias = self.weight(f"{name}.c_attn.bias", (3 * width,))
        return self.op(
            "MultiHeadAttention",
            [*qkv, bias],
            domain=CONTRIB,
            num_heads=heads,
            unidirectional=1,
        )

    def feed_forward(self, x: ir.Value, name: str) -> ir.Value:
        """Both products of the MLP; the second one's bias is left to `add_and_norm`."""
        width, inner = self.config.n_embd, self.config.n_inner
        x = self.op("MatMul", [x, self.weight(f"{name}.c_fc.weight", (width, inner))])
        # FastGelu is the tanh form that GPT-2 calls gelu_new; BiasGelu would be the erf form.
        x = self.op("FastGelu", [x, self.weight(f"{name}.c_fc.bias", (inner,))], domain=CONTRIB)
        return self.op("MatMul", [x, self.weight(f"{name}.c_proj.weight", (inner, width))])

    def add_and_norm(
        self, x: ir.Value, residual: ir.Value, bias: ir.Value, norm: str, float32: bool = False
    ) -> tuple[ir.Value, ir.Value]:
        """Return (LayerNorm(s), s) with s = x + bias + residual."""
        normed, _, _, total = self.tape.op_multi_out(
            "SkipLayerNormalization",
            [x, residual, *self.norm(norm, float32), bias],
            {"epsilon": self.config.layer_norm_epsilon},
            num_outputs=4,
            domain=CONTRIB,
        )
        return normed, total

    def norm(self, name: str, float32: bool = False) -> list[ir.Value]:
        shape = (self.config.n_embd,)
        return [
            self.weight(f"{name}.{part}", shape, float32=float32) for part in ("weight", "bias")
        ]

    def prefix(self, table: ir.Value, length: ir.Value) -> ir.Value:
        """The first `length` rows of a table."""
        return self.op("Slice", [table, self.constant([0]), length])

    def op(
        self, kind: str, inputs: Sequence[ir.Value], domain: str = "", **attributes: int | float
    ) -> ir.Value:
        return self.tape.op(kind, inputs, attributes, domain=domain)

    def constant(self, values: int | list[int] | NDArray[np.int64]) -> ir.Value:
        name = f"constant_{len(self.tape.initializers)}"
        return self.tape.initializer(ir.tensor(np.asarray(values, np.int64), name=name))

    def weight(
        self,
        name: str,
        shape: tuple[int, ...],
        columns: slice = EVERY_COLUMN,
        float32: bool = False,
    ) -> ir.Value:
        """An initializer that, if large, reads and casts its tensor when the model is saved."""
        dtype, torch_dtype = _DTYPES["fp32"] if float32 else (self.dtype, self.torch_dtype)
        label = name if columns is EVERY_COLUMN else f"{name}.{columns.start}"
        width = len(range(*columns.indices(shape[-1])))

        def load() -> ir.TensorProtocol:
            tensor = self.weights.read(name)[..., columns].contiguous()
            return ir.Tensor(_cast(name, tensor, torch_dtype), dtype=dtype, name=label)

        self.weights.check(name, shape)
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
