"""Build the ONNX graph of a checkpoint, node by node, from fused operators.

Stock exports of GPT2ForSequenceClassification leave the attention unfused, and ONNX Runtime's
optimizer does not fuse it again. Here a layer is built from the weights: attention, a residual sum
with a LayerNorm, the MLP, and another residual sum with a LayerNorm. In float16 and bfloat16 the
attention is a single operator.

The graph takes `input_ids` [batch_size, sequence_length] int64, padded on the right, and returns
`logits` [batch_size, 1] float32. It needs no attention mask: under causal attention a pad position
never reaches an earlier one, and the score is read at the last position that is not padding.
"""

import numpy as np
import onnx_ir as ir

from harmless_export.checkpoint import Gpt2Config
from harmless_export.int8 import int8_product
from harmless_export.nodes import CONTRIB, Nodes
from harmless_export.quantize import NOT_QUANTIZED, Quantized
from harmless_export.weights import Weights, check_weights
from harmless_runtime.choices import Precision

OPSET = 20  # the first that has Gelu
IR_VERSION = 9  # the one that came with opset 20


def build_model(
    config: Gpt2Config,
    weights: Weights,
    precision: Precision,
    pad_token_id: int,
    quantized: Quantized = NOT_QUANTIZED,
) -> ir.Model:
    """Build the graph. Large weights are read and cast one by one while the model is saved.

    Args:
        config: the model's sizes.
        weights: the checkpoint's weights.
        precision: of weights and activations. The final LayerNorm and the score head, which see one
            row a text, are in float32 in every precision.
        pad_token_id: the id that pads texts.
        quantized: the weights that are multiplied as integers, if the precision is int8. All else
            is in float32 then.

    Raises:
        CheckpointError: a weight is missing or has another shape. A weight that is not finite, or
            too large for float16, raises it here if it is small, and otherwise during the save.
    """
    check_weights(config, weights)
    nodes = Nodes(weights, precision, quantized.replaced)
    return GraphBuilder(config, nodes, quantized).build(pad_token_id)


class GraphBuilder:
    """Adds the parts of the model to a graph, from the token ids to the logits."""

    def __init__(self, config: Gpt2Config, nodes: Nodes, quantized: Quantized) -> None:
        self.config = config
        self.nodes = nodes
        self.int8_weights = quantized.products

    def build(self, pad_token_id: int) -> ir.Model:
        """Add all parts, and return the model."""
        ids = ir.Value(
            name="input_ids",
            type=ir.TensorType(ir.DataType.INT64),
            shape=ir.Shape(["batch_size", "sequence_length"]),
        )
        length = self.nodes.op("Shape", [ids], start=1, end=2)
        last = self.last_token(ids, length, pad_token_id)
        x, residual = self.embed(ids, length)
        for layer in range(self.config.n_layer):
            x, residual = self.layer(layer, x, residual, last)
        logits = self.head(x)
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
        """Compute the position of each text's last token: int64 [batch_size, 1, n_embd].

        This is GPT2ForSequenceClassification's own rule: the largest of position × (id is not pad),
        which is 0 if every id is the pad id. The position is repeated over the width of a row,
        because GatherElements needs it so. GatherND would not, but its CUDA kernel copies to the
        host.
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

    def embed(self, ids: ir.Value, length: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Return (LayerNorm(s), s) with s as the sum of word and position embeddings."""
        words = self.nodes.weight("transformer.wte.weight")
        positions = self.nodes.weight("transformer.wpe.weight")
        residual = self.nodes.op(
            "Add", [self.nodes.op("Gather", [words, ids]), self.prefix(positions, length)]
        )
        x = self.nodes.op(
            "LayerNormalization",
            [residual, *self.norm("transformer.h.0.ln_1")],
            epsilon=self.config.layer_norm_epsilon,
        )
        return x, residual

    def layer(
        self, layer: int, x: ir.Value, residual: ir.Value, last: ir.Value
    ) -> tuple[ir.Value, ir.Value]:
        """Return (LayerNorm(s), s) with s as the residual stream after a layer.

        The LayerNorm is the next layer's first one. After the last layer it is the final one, in
        float32, and both results have one row for each text.
        """
        name = f"transformer.h.{layer}"
        is_last = layer == self.config.n_layer - 1
        x = self.attention(x, f"{name}.attn")
        if is_last:
            # Nothing after this mixes positions, and only the last token's row is scored.
            x = self.nodes.op("GatherElements", [x, last], axis=1)
            residual = self.nodes.op("GatherElements", [residual, last], axis=1)
        (x,) = self.product(x, f"{name}.attn.c_proj")
        bias = self.nodes.weight(f"{name}.attn.c_proj.bias")
        x, residual = self.add_and_norm(x, residual, bias, f"{name}.ln_2")
        x = self.feed_forward(x, f"{name}.mlp")
        bias = self.nodes.weight(f"{name}.mlp.c_proj.bias", float32=is_last)
        if not is_last:
            return self.add_and_norm(x, residual, bias, f"transformer.h.{layer + 1}.ln_1")
        x, residual = (self.nodes.op("Cast", [t], to=ir.DataType.FLOAT) for t in (x, residual))
        return self.add_and_norm(x, residual, bias, "transformer.ln_f", float32=True)

    def head(self, x: ir.Value) -> ir.Value:
        """Return the logits, float32 [batch_size, 1], of x [batch_size, 1, n_embd]."""
        row = self.nodes.op("Squeeze", [x, self.nodes.constant([1])])  # [batch_size, n_embd]
        weight = self.nodes.weight("score.weight", float32=True)
        logits = self.nodes.op("Gemm", [row, weight], transB=1)
        logits.name = "logits"
        logits.type = ir.TensorType(ir.DataType.FLOAT)
        logits.shape = ir.Shape(["batch_size", 1])
        return logits

    def attention(self, x: ir.Value, name: str) -> ir.Value:
        """Compute causal attention up to its output projection: [batch_size, length, n_embd].

        In float16 and bfloat16, the operator Attention computes the product for Q, K and V too. On
        CUDA, Attention takes 9 kernels a layer, and MultiHeadAttention takes 13. Attention runs
        FlashAttention in both types from compute capability 8.0 on. In float32 the operator is
        MultiHeadAttention. Both providers run it well, and it takes Q, K and V from int8 products.
        """
        bias = self.nodes.weight(f"{name}.c_attn.bias")
        if self.nodes.is_float32:
            operator = "MultiHeadAttention"
            inputs = self.product(x, f"{name}.c_attn", parts=3)
        else:
            operator = "Attention"
            inputs = [x, self.nodes.weight(f"{name}.c_attn.weight")]
        return self.nodes.op(
            operator,
            [*inputs, bias],
            domain=CONTRIB,
            num_heads=self.config.n_head,
            unidirectional=1,
        )

    def feed_forward(self, x: ir.Value, name: str) -> ir.Value:
        """Compute both products of the MLP. The second one's bias is left to `add_and_norm`."""
        (x,) = self.product(x, f"{name}.c_fc")
        x = self.gelu(x, self.nodes.weight(f"{name}.c_fc.bias"))
        (x,) = self.product(x, f"{name}.c_proj")
        return x

    def gelu(self, x: ir.Value, bias: ir.Value) -> ir.Value:
        """Compute the tanh form of GELU, which GPT-2 calls gelu_new, of x + bias.

        CUDA has one kernel for both steps: FastGelu. In float32, which is mostly for CPUs, ONNX's
        own operators are used, because other execution providers know no FastGelu.
        """
        if self.nodes.is_float32:
            total = self.nodes.op("Add", [x, bias])
            return self.nodes.op("Gelu", [total], approximate="tanh")
        return self.nodes.op("FastGelu", [x, bias], domain=CONTRIB)

    def product(self, x: ir.Value, name: str, parts: int = 1) -> list[ir.Value]:
        """Multiply x by a weight [k, n], and return the columns of the result in equal parts."""
        name = f"{name}.weight"
        if name in self.int8_weights:
            return int8_product(self.nodes, x, self.int8_weights[name], name, parts)
        width = self.nodes.weights.shape(name)[1] // parts
        columns = [slice(i * width, (i + 1) * width) for i in range(parts)]
        return [self.nodes.op("MatMul", [x, self.nodes.weight(name, own)]) for own in columns]

    def add_and_norm(
        self, x: ir.Value, residual: ir.Value, bias: ir.Value, norm: str, float32: bool = False
    ) -> tuple[ir.Value, ir.Value]:
        """Return (LayerNorm(s), s) with s = x + bias + residual.

        CUDA has one kernel for both steps: SkipLayerNormalization. In float32, which is mostly for
        CPUs, three operators are used. CPUs run these vectorised, but not SkipLayerNormalization.
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
        """Return the scale and the shift of a LayerNorm."""
        return [self.nodes.weight(f"{name}.{part}", float32=float32) for part in ("weight", "bias")]

    def prefix(self, table: ir.Value, length: ir.Value) -> ir.Value:
        """Return the first `length` rows of a table."""
        return self.nodes.op("Slice", [table, self.nodes.constant([0]), length])
