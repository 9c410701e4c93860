"""Build the ONNX graph of a checkpoint, node by node, from fused operators.

Stock exports of GPT2ForSequenceClassification leave the attention unfused, and ONNX Runtime's
optimizer does not find it again. Built from the state dict, a layer is the attention, which in
float16 and bfloat16 is a single operator, and two residual blocks that end in a LayerNorm.

The graph takes `input_ids` [batch_size, sequence_length] int64, padded on the right, and returns
`logits` [batch_size, 1] float32. It needs no attention mask: under causal attention a pad position
never reaches an earlier one, and the score is read at the last position that is not padding.
"""

import numpy as np
import onnx_ir as ir

from harmless_export.checkpoint import Gpt2Config, Weights
from harmless_export.int8 import int8_product
from harmless_export.nodes import CONTRIB, Nodes
from harmless_export.quantize import NOT_QUANTIZED, Quantized
from harmless_runtime.config import Precision

OPSET = 18
IR_VERSION = 9  # every onnxruntime from 1.16 on reads it


def build_model(
    config: Gpt2Config,
    weights: Weights,
    precision: Precision,
    pad_token_id: int,
    quantized: Quantized = NOT_QUANTIZED,
) -> ir.Model:
    """Build the graph; large weights are read and cast one by one, while the model is saved.

    Weights and activations are in `precision`. The final LayerNorm and the score head, which see
    one row a text, are in float32 in every precision. With `int8`, the weights in `quantized` are
    multiplied as integers, and all else is in float32.

    Raises:
        CheckpointError: a weight is missing or of another shape, or is too large for float16.
    """
    return _Builder(config, weights, precision, quantized).build(pad_token_id)


class _Builder:
    def __init__(
        self, config: Gpt2Config, weights: Weights, precision: Precision, quantized: Quantized
    ) -> None:
        self.config = config
        self.nodes = Nodes(weights, precision, quantized.replaced)
        self.int8 = quantized.products

    def build(self, pad_token_id: int) -> ir.Model:
        config, width = self.config, self.config.n_embd
        ids = ir.Value(
            name="input_ids",
            type=ir.TensorType(ir.DataType.INT64),
            shape=ir.Shape(["batch_size", "sequence_length"]),
        )
        length = self.nodes.op("Shape", [ids], start=1, end=2)
        last = self.last_token(ids, length, pad_token_id)

        words = self.nodes.weight("transformer.wte.weight", (config.vocab_size, width))
        positions = self.nodes.weight("transformer.wpe.weight", (config.n_positions, width))
        residual = self.nodes.op(
            "Add", [self.nodes.op("Gather", [words, ids]), self.prefix(positions, length)]
        )
        x = self.nodes.op(
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
                x = self.nodes.op("GatherElements", [x, last], axis=1)
                residual = self.nodes.op("GatherElements", [residual, last], axis=1)
            (x,) = self.product(x, f"{name}.attn.c_proj", (width, width))
            x, residual = self.add_and_norm(
                x, residual, self.nodes.weight(f"{name}.attn.c_proj.bias", (width,)), f"{name}.ln_2"
            )
            x = self.feed_forward(x, f"{name}.mlp")
            bias = self.nodes.weight(f"{name}.mlp.c_proj.bias", (width,), float32=is_last)
            if is_last:
                x, residual = (
                    self.nodes.op("Cast", [t], to=ir.DataType.FLOAT) for t in (x, residual)
                )
                x, _ = self.add_and_norm(x, residual, bias, "transformer.ln_f", float32=True)
            else:
                x, residual = self.add_and_norm(
                    x, residual, bias, f"transformer.h.{layer + 1}.ln_1"
                )
        row = self.nodes.op("Squeeze", [x, self.nodes.constant([1])])  # [batch_size, n_embd]
        head = self.nodes.weight("score.weight", (1, width), float32=True)
        logits = self.nodes.op("Gemm", [row, head], transB=1)
        logits.name = "logits"
        logits.type = ir.TensorType(ir.DataType.FLOAT)
        logits.shape = ir.Shape(["batch_size", 1])
        graph = ir.Graph(
            [ids],
            [logits],
            nodes=self.nodes.tape.nodes,
            initializers=self.nodes.tape.initializers,
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
        positions = self.prefix(self.nodes.constant(np.arange(self.config.n_positions)), length)
        is_token = self.nodes.op(
            "Not", [self.nodes.op("Equal", [ids, self.nodes.constant(pad_token_id)])]
        )
        candidates = self.nodes.op(
            "Mul", [self.nodes.op("Cast", [is_token], to=ir.DataType.INT64), positions]
        )  # [batch_size, sequence_length]
        last = self.nodes.op("ReduceMax", [candidates, self.nodes.constant([1])], keepdims=1)
        column = self.nodes.op("Unsqueeze", [last, self.nodes.constant([2])])
        return self.nodes.op(
            "Add", [column, self.nodes.constant(np.zeros(self.config.n_embd, np.int64))]
        )

    def attention(self, x: ir.Value, name: str) -> ir.Value:
        """Causal attention, up to its output projection: [batch_size, sequence_length, n_embd].

        In float16 and bfloat16 it is one operator with one product for Q, K and V. On CUDA that
        takes 9 kernels a layer where MultiHeadAttention takes 13, and runs FlashAttention in both
        types from compute capability 8.0 on. In float32 it is MultiHeadAttention, which both
        providers run well, and which takes Q, K and V from int8 products too.
        """
        width, heads = self.config.n_embd, self.config.n_head
        bias = self.nodes.weight(f"{name}.c_attn.bias", (3 * width,))
        if self.nodes.is_float32:
            operator = "MultiHeadAttention"
            inputs = self.product(x, f"{name}.c_attn", (width, 3 * width), parts=3)
        else:
            operator = "Attention"
            inputs = [x, self.nodes.weight(f"{name}.c_attn.weight", (width, 3 * width))]
        return self.nodes.op(
            operator, [*inputs, bias], domain=CONTRIB, num_heads=heads, unidirectional=1
        )

    def feed_forward(self, x: ir.Value, name: str) -> ir.Value:
        """Both products of the MLP; the second one's bias is left to `add_and_norm`."""
        width, inner = self.config.n_embd, self.config.n_inner
        (x,) = self.product(x, f"{name}.c_fc", (width, inner))
        # FastGelu is the tanh form that GPT-2 calls gelu_new; BiasGelu would be the erf form.
        x = self.nodes.op(
            "FastGelu", [x, self.nodes.weight(f"{name}.c_fc.bias", (inner,))], domain=CONTRIB
        )
        (x,) = self.product(x, f"{name}.c_proj", (inner, width))
        return x

    def product(
        self, x: ir.Value, name: str, shape: tuple[int, int], parts: int = 1
    ) -> list[ir.Value]:
        """Multiply x by a weight, and return the columns of the result in equal parts."""
        name = f"{name}.weight"
        if name in self.int8:
            return int8_product(self.nodes, x, self.int8[name], name, parts)
        width = shape[1] // parts
        return [
            self.nodes.op(
                "MatMul", [x, self.nodes.weight(name, shape, slice(i * width, (i + 1) * width))]
            )
            for i in range(parts)
        ]

    def add_and_norm(
        self, x: ir.Value, residual: ir.Value, bias: ir.Value, norm: str, float32: bool = False
    ) -> tuple[ir.Value, ir.Value]:
        """Return (LayerNorm(s), s) with s = x + bias + residual.

        CUDA has one kernel for it. In float32, which is mostly for CPUs, it is three operators,
        because those are vectorised there and SkipLayerNormalization is not.
        """
        scale_and_shift = self.norm(norm, float32)
        epsilon = self.config.layer_norm_epsilon
        if float32 or self.nodes.is_float32:
            total = self.nodes.op("Add", [self.nodes.op("Add", [x, bias]), residual])
            normed = self.nodes.op("LayerNormalization", [total, *scale_and_shift], epsilon=epsilon)
            return normed, total
        normed, _, _, total = self.nodes.tape.op_multi_out(
            "SkipLayerNormalization",
            [x, residual, *scale_and_shift, bias],
            {"epsilon": epsilon},
            num_outputs=4,
            domain=CONTRIB,
        )
        return normed, total

    def norm(self, name: str, float32: bool = False) -> list[ir.Value]:
        shape = (self.config.n_embd,)
        return [
            self.nodes.weight(f"{name}.{part}", shape, float32=float32)
            for part in ("weight", "bias")
        ]

    def prefix(self, table: ir.Value, length: ir.Value) -> ir.Value:
        """The first `length` rows of a table."""
        return self.nodes.op("Slice", [table, self.nodes.constant([0]), length])
