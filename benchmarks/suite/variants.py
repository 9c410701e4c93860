"""The engine with one thing different: other operators, limits, kernels, or no I/O binding."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import onnx_ir as ir

from harmless_export import graph
from harmless_export.graph import GraphBuilder
from harmless_export.nodes import CONTRIB, Nodes
from harmless_runtime.choices import Provider
from harmless_runtime.config import make_config
from harmless_runtime.model.artifact import Artifact, open_artifact
from harmless_runtime.model.batches import plan_limits
from harmless_runtime.model.engine import Engine
from harmless_runtime.model.load import build_engine
from harmless_runtime.model.session import cuda_options, load_model
from harmless_runtime.model.target import Target
from suite.one_thread import Ids, Logits, OneThreadRunner

AS_IT_IS = "as it is"

Patch = tuple[object, str, Any]


def packed_attention(builder: GraphBuilder, x: ir.Value, name: str) -> ir.Value:
    """The contrib operator Attention, which multiplies by the weights of Q, K and V itself."""
    weight = builder.nodes.weight(f"{name}.c_attn.weight")
    bias = builder.nodes.weight(f"{name}.c_attn.bias")
    attended: ir.Value = builder.nodes.op(
        "Attention",
        [x, weight, bias],
        domain=CONTRIB,
        num_heads=builder.config.n_head,
        unidirectional=1,
    )
    return attended


def multi_head_attention(builder: GraphBuilder, x: ir.Value, name: str) -> ir.Value:
    """The contrib operator MultiHeadAttention, on three products."""
    parts = builder.product(x, f"{name}.c_attn", parts=3)
    bias = builder.nodes.weight(f"{name}.c_attn.bias")
    attended: ir.Value = builder.nodes.op(
        "MultiHeadAttention",
        [*parts, bias],
        domain=CONTRIB,
        num_heads=builder.config.n_head,
        unidirectional=1,
    )
    return attended


def standard_attention(builder: GraphBuilder, x: ir.Value, name: str) -> ir.Value:
    """ONNX's own operator Attention, of opset 23, which takes no bias."""
    width, heads = builder.config.n_embd, builder.config.n_head
    parts = []
    for i, part in enumerate(builder.product(x, f"{name}.c_attn", parts=3)):
        bias = builder.nodes.weight(f"{name}.c_attn.bias", slice(i * width, (i + 1) * width))
        parts.append(builder.nodes.op("Add", [part, bias]))
    attended: ir.Value = builder.nodes.op(
        "Attention", parts, is_causal=1, q_num_heads=heads, kv_num_heads=heads
    )
    return attended


def query_bias_alone(builder: GraphBuilder, x: ir.Value, name: str) -> ir.Value:
    """No bias in the attention, so that no kernel has to add it to all three inputs.

    The bias of the keys adds the same to every score of a row, which softmax cancels. The bias of
    the values passes through the following product, and is added to the bias there.
    """
    width, nodes = builder.config.n_embd, builder.nodes
    query, keys, values = builder.product(x, f"{name}.c_attn", parts=3)
    bias = nodes.weight(f"{name}.c_attn.bias", slice(0, width))
    read = nodes.weights.read
    moved = read(f"{name}.c_attn.bias")[2 * width :] @ read(f"{name}.c_proj.weight")
    folded = {f"{name}.c_proj.bias": read(f"{name}.c_proj.bias") + moved}
    nodes.replaced = {**nodes.replaced, **folded}
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
    """Run the whole last layer for every position, and gather the last token's row after it."""
    if kind == "GatherElements":
        nodes.last = inputs[1]  # type: ignore[attr-defined]
        return inputs[0]
    if kind == "Squeeze":
        row = _op(nodes, "GatherElements", [inputs[0], nodes.last], axis=1)  # type: ignore[attr-defined]
        return _op(nodes, kind, [row, inputs[1]])
    return _op(nodes, kind, inputs, domain, **attributes)


def plain_runner(artifact: Artifact, target: Target, capacity: int) -> OneThreadRunner:
    """Return a runner without I/O binding: onnxruntime copies the arrays."""
    options = cuda_options(artifact, target) if target.provider == "cuda" else {}
    session = load_model(artifact, target, options)

    def run(ids: Ids) -> Logits:
        logits: Logits = session.run(["logits"], {"input_ids": ids})[0]
        return logits[:, 0]

    return OneThreadRunner(run, target, capacity, options.get("sdpa_kernel", ""))


_ATTENTION = (GraphBuilder, "attention")

# What is replaced while a graph is exported, by the graph's name.
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
    """One thing that is different.

    Attributes:
        graph: the name of a graph in `GRAPHS`.
        target: fields of `Target`.
        limits: fields of `Limits`.
        config: settings.
        io_binding: whether the session uses I/O binding.
    """

    graph: str = ""
    target: dict[str, Any] = field(default_factory=dict)
    limits: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    io_binding: bool = True


def variants(provider: Provider) -> dict[str, Variant]:
    """Return every variant by name. The first is the engine as it is."""
    named = {AS_IT_IS: Variant()} | {name: Variant(name) for name in GRAPHS if name}
    named["no I/O binding"] = Variant(io_binding=False)
    for tokens in (0, 64, 1024, 4096):
        named[f"a batch costs {tokens:,} tokens"] = Variant(limits={"batch_cost": tokens})
    if provider == "cpu":
        return named | {"2,048 tokens a batch": Variant(limits={"batch_tokens": 2048})}
    for rows in (4, 16, 32, 64, 128):
        named[f"batch_size {rows}"] = Variant(config={"batch_size": rows})
    for tokens in (1024, 4096):
        graphs = {"graph_tokens": tokens}
        named[f"CUDA graphs to {tokens:,} tokens"] = Variant(target=graphs)
    # With 0, onnxruntime chooses the kernels, and takes cuDNN from compute capability 9.0 on. cuDNN
    # builds a plan for every shape, so fewer shapes may pay.
    cudnn = {"sdpa_kernels": "0"}
    named["cuDNN's attention"] = Variant(target=cudnn)
    named["cuDNN's attention, lengths in 64s"] = Variant(
        target=cudnn, limits={"length_multiple": 64}
    )
    return named


def load_variant(variant: Variant, folder: Path, provider: Provider, max_length: int) -> Engine:
    """Load the engine of a variant, from the artifact of its graph."""
    config = make_config({"max_length": max_length} | variant.config)
    artifact = open_artifact(folder)
    target = Target(provider, **variant.target)
    parameters = artifact.manifest.parameters
    assert config.batch_size != "auto"
    limits = plan_limits(provider, parameters, config.batch_size, max_length)
    limits = replace(limits, **variant.limits)
    engine = build_engine(artifact, target, config, limits)
    if variant.io_binding:
        return engine
    return replace(engine, runner=plain_runner(artifact, target, engine.runner.capacity))


@contextmanager
def patched(patches: Sequence[Patch]) -> Iterator[None]:
    """Replace several attributes while the block runs."""
    with ExitStack() as stack:
        for target, attribute, value in patches:
            stack.enter_context(patch.object(target, attribute, value))
        yield
