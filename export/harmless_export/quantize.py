"""Round the weights of the products to int8, layer after layer, on real text.

A product x @ W becomes (x + shift) as uint8, with one scale for each token, times W as int8, with
one scale for each column. `shift` subtracts the channels' means. GPT-2 models have a few channels
with far larger values than all others, but those hardly vary from token to token, so little is left
of them. `shift` is folded into the preceding bias, which costs nothing. Only after GELU does it
stay an Add of its own.

The product's own bias then corrects the average error of the rounded weights, so that errors do not
add up over the layers (bias correction, as in Nagel et al., 2019, arXiv:1906.04721).
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from harmless_export.checkpoint import Gpt2Config
from harmless_export.weights import Weights

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Int8Weight:
    """A weight [k, n], approximated by `values`, int8 [k, n], times `step`, float32 [n].

    If `shift`, float32 [k], is not None, it has to be added to the input of the product.
    """

    values: NDArray[np.int8]
    step: NDArray[np.float32]
    shift: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Quantized:
    """The rounded weights by name, and the float32 tensors that change because of the rounding."""

    products: Mapping[str, Int8Weight]
    replaced: Mapping[str, torch.Tensor]


NOT_QUANTIZED = Quantized({}, {})


def round_weight(weight: torch.Tensor) -> Int8Weight:
    """Round a float32 weight [k, n] so that no processor overflows when it multiplies.

    x86 without VNNI multiplies uint8 by int8, adds the products of rows 2i and 2i + 1 in 16 bits,
    and saturates (the instruction is vpmaddubsw). 255 × 128 still fits. So the absolute values of
    such a pair may add up to 128: each column is scaled so that its largest pair adds up to 127,
    and rounding adds at most 1.
    """
    sums = weight.abs()
    if len(weight) % 2:
        sums = functional.pad(sums, (0, 0, 0, 1))
    step = (sums[::2] + sums[1::2]).amax(0).clamp(min=1e-30) / 127
    return Int8Weight((weight / step).round().to(torch.int8).numpy(), step.numpy())


@torch.inference_mode()
def quantize(config: Gpt2Config, weights: Weights, texts: Sequence[Sequence[int]]) -> Quantized:
    """Round the weights of all products, except those of the last layer that see one token a text.

    The texts go through the float32 model and the rounded model side by side. Only one layer's
    weights are in memory at a time.

    Args:
        config: the model's sizes.
        weights: the checkpoint's weights.
        texts: token ids over which the means are taken, each 1 to `n_positions` long.
    """
    read, eps = weights.read, config.layer_norm_epsilon
    lengths = [len(ids) for ids in texts]
    words, positions = read("transformer.wte.weight"), read("transformer.wpe.weight")
    embedded = torch.cat([words[list(ids)] + positions[: len(ids)] for ids in texts])
    del words
    # [2, tokens, channels]: the float32 model's hidden state, and the rounded model's.
    hidden = torch.stack([embedded, embedded])
    products: dict[str, Int8Weight] = {}
    replaced: dict[str, torch.Tensor] = {}

    def product(x: torch.Tensor, shift: torch.Tensor, name: str) -> torch.Tensor:
        weight, bias = read(f"{name}.weight"), read(f"{name}.bias")
        products[f"{name}.weight"] = int8 = round_weight(weight)
        rounded = torch.from_numpy(int8.values * int8.step)
        exact, shifted = x[0], x[1] + shift
        corrected = bias + exact.mean(0) @ weight - shifted.mean(0) @ rounded
        replaced[f"{name}.bias"] = corrected
        return torch.stack([exact @ weight + bias, shifted @ rounded + corrected])

    def norm(x: torch.Tensor, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Normalise. Fold the shift that centres the result into the norm's bias."""
        scale, bias = read(f"{name}.weight"), read(f"{name}.bias")
        x = functional.layer_norm(x, scale.shape, scale, bias, eps)
        shift = -x[1].mean(0)
        replaced[f"{name}.bias"] = bias + shift
        return x, shift

    for layer in range(config.n_layer):
        logger.info("rounding layer %d of %d to int8", layer + 1, config.n_layer)
        name = f"transformer.h.{layer}"
        qkv = product(*norm(hidden, f"{name}.ln_1"), f"{name}.attn.c_attn")
        if layer == config.n_layer - 1:
            break
        x = _attention(qkv, config.n_head, lengths)
        shift = -x[1].mean(0)
        # Attention averages values, so a shift of all values is a shift of the result.
        replaced[f"{name}.attn.c_attn.bias"][-len(shift) :] += shift
        hidden = hidden + product(x, shift, f"{name}.attn.c_proj")
        x = product(*norm(hidden, f"{name}.ln_2"), f"{name}.mlp.c_fc")
        x = functional.gelu(x, approximate="tanh")
        shift, mlp = -x[1].mean(0), f"{name}.mlp.c_proj"
        hidden = hidden + product(x, shift, mlp)
        products[f"{mlp}.weight"] = replace(products[f"{mlp}.weight"], shift=shift.numpy())
    return Quantized(products, replaced)


def _attention(qkv: torch.Tensor, heads: int, lengths: Sequence[int]) -> torch.Tensor:
    """Compute causal attention in each text: [2, tokens, 3 × width] to [2, tokens, width]."""
    out = []
    for text in torch.split(qkv, list(lengths), dim=1):
        q, k, v = text.view(2, text.shape[1], 3, heads, -1).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        out.append(attended.transpose(1, 2).flatten(2))
    return torch.cat(out, dim=1)
