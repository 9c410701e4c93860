"""The engine with one thing different: other operators, shapes, budgets, kernels, bindings."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import onnx_ir as ir

from harmless_export import graph
from harmless_export.nodes import CONTRIB, Nodes
from harmless_runtime.model import batches as batching
from harmless_runtime.model import session

AS_IT_IS = "as it is"

Patch = tuple[object, str, Any]


def packed_attention(builder: Any, x: ir.Value, name: str) -> ir.Value:
    """The contrib operator Attention, which multiplies by the weights of Q, K and V itself."""
    width = builder.config.n_embd
    weight = builder.nodes.weight(f"{name}.c_attn.weight", (width, 3 * width))
    bias = builder.nodes.weight(f"{name}.c_attn.bias", (3 * width,))
    attended: ir.Value = builder.nodes.op(
        "Attention",
        [x, weight, bias],
        domain=CONTRIB,
        num_heads=builder.config.n_head,
        unidirectional=1,
    )
    return attended


def multi_head_attention(builder: Any, x: ir.Value, name: str) -> ir.Value:
    """The contrib operator MultiHeadAttention, on three products."""
    width = builder.config.n_embd
    parts = builder.product(x, f"{name}.c_attn", (width, 3 * width), parts=3)
    bias = builder.nodes.weight(f"{name}.c_attn.bias", (3 * width,))
    attended: ir.Value = builder.nodes.op(
        "MultiHeadAttention",
        [*parts, bias],
        domain=CONTRIB,
        num_heads=builder.config.n_head,
        unidirectional=1,
    )
    return attended


def standard_attention(builder: Any, x: ir.Value, name: str) -> ir.Value:
    """ONNX's own operator Attention, of opset 23, which takes no bias."""
    width, heads = builder.config.n_embd, builder.config.n_head
    parts = []
    for i, part in enumerate(builder.product(x, f"{name}.c_attn", (width, 3 * width), parts=3)):
        columns = slice(i * width, (i + 1) * width)
        bias = builder.nodes.weight(f"{name}.c_attn.bias", (3 * width,), columns)
        parts.append(builder.nodes.op("Add", [part, bias]))
    attended: ir.Value = builder.nodes.op(
        "Attention", parts, is_causal=1, q_num_heads=heads, kv_num_heads=heads
    )
    return attended


def query_bias_alone(builder: Any, x: ir.Value, name: str) -> ir.Value:
    """No bias in the attention, so that no kernel has to add it to all three of its inputs.

    That of the keys adds the same to every score of a row, which softmax takes off again; that of
    the values goes through the weights behind it, into the bias there.
    """
    width, nodes = builder.config.n_embd, builder.nodes
    query, keys, values = builder.product(x, f"{name}.c_attn", (width, 3 * width), parts=3)
    bias = nodes.weight(f"{name}.c_attn.bias", (3 * width,), slice(0, width))
    read = nodes._weights.read
    moved = read(f"{name}.c_attn.bias")[2 * width :] @ read(f"{name}.c_proj.weight")
    folded = {f"{name}.c_proj.bias": read(f"{name}.c_proj.bias") + moved}
    nodes._replaced = {**nodes._replaced, **folded}
    attended: ir.Value = nodes.op(
        "MultiHeadAttention",
        [nodes.op("Add", [query, bias]), keys, values],
        domain=CONTRIB,
        num_heads=builder.config.n_head,
        unidirectional=1,
    )
    return attended


_op = Nodes.op


def gather_last(
    nodes: Nodes, kind: str, inputs: Sequence[ir.Value], domain: str = "", **attributes: Any
) -> ir.Value:
    """Let every position through the whole last layer, and gather the last token's row after it."""
    if kind == "GatherElements":
        nodes.last = inputs[1]  # type: ignore[attr-defined]
        return inputs[0]
    if kind == "Squeeze":
        row = _op(nodes, "GatherElements", [inputs[0], nodes.last], axis=1)  # type: ignore[attr-defined]
        return _op(nodes, kind, [row, inputs[1]])
    return _op(nodes, kind, inputs, domain, **attributes)


def without_binding(own: session.Session, ids: Any) -> Any:
    """Run as onnxruntime's plain interface does, with arrays that it copies."""
    start = time.perf_counter()
    (logits,) = own._session.run(["logits"], {"input_ids": ids})
    own.times.add(ids.shape, time.perf_counter() - start)
    return logits[:, 0]


_ATTENTION = (graph._Builder, "attention")

# What is patched while a graph is exported, by the graph's name.
GRAPHS: dict[str, Sequence[Patch]] = {
    "": [],
    "contrib Attention": [(*_ATTENTION, packed_attention)],
    "MultiHeadAttention": [(*_ATTENTION, multi_head_attention)],
    "ONNX Attention": [
        (*_ATTENTION, standard_attention),
        (graph, "OPSET", 23),
        (graph, "IR_VERSION", 11),
    ],
    "bias of the query alone": [(*_ATTENTION, query_bias_alone)],
    "all of the last layer": [(Nodes, "op", gather_last)],
}


@dataclass(frozen=True)
class Variant:
    """A graph of `GRAPHS`; what is patched while it runs; the configuration."""

    graph: str = ""
    run: Sequence[Patch] = ()
    config: dict[str, Any] = field(default_factory=dict)


def variants(provider: str) -> dict[str, Variant]:
    """Every variant by name, the engine as it is first."""
    named = {AS_IT_IS: Variant()} | {name: Variant(name) for name in GRAPHS if name}
    named["no I/O binding"] = Variant(run=[(session.Session, "_run", without_binding)])
    for tokens in (0, 64, 1024, 4096):
        cost = {provider: tokens}
        named[f"a batch costs {tokens:,} tokens"] = Variant(run=[(batching, "_BATCH_COST", cost)])
    if provider == "cpu":
        budget = (batching, "_CPU_BATCH_TOKENS", 2048)
        return named | {"2,048 tokens a batch": Variant(run=[budget])}
    for rows in (4, 16, 32, 64, 128):
        named[f"batch_size {rows}"] = Variant(config={"batch_size": rows})
    for tokens in (1024, 4096):
        graphs = (session, "_GRAPH_TOKENS", tokens)
        named[f"CUDA graphs to {tokens:,} tokens"] = Variant(run=[graphs])
    # With 0, onnxruntime chooses the kernels itself, which from compute capability 9.0 on is cuDNN.
    # It builds a plan for every shape, so that fewer of them may pay.
    cudnn = (session, "_SDPA_KERNELS", "0")
    named["cuDNN's attention"] = Variant(run=[cudnn])
    coarse = (batching, "_LENGTH_MULTIPLE", {provider: 64})
    named["cuDNN's attention, lengths in 64s"] = Variant(run=[cudnn, coarse])
    return named


@contextmanager
def patched(patches: Sequence[Patch]) -> Iterator[None]:
    """Patch several attributes for a while."""
    with ExitStack() as stack:
        for target, attribute, value in patches:
            stack.enter_context(patch.object(target, attribute, value))
        yield
