"""Weights to int8, and biases that make up for the rounding, layer after layer on real text.

A product x @ W becomes (x + shift) as uint8, one scale a token, times W as int8, one scale a
column. `shift` takes the channels' means off, which leaves little of the channels that GPT-2 models
have far out from all others, because they hardly vary from token to token. But for GELU's output it
is folded into the bias that precedes the product, and costs nothing. The product's own bias then
takes up what the rounding of the weights changes on average, so that errors do not add up over the
layers (bias correction, as in Nagel et al., 2019, arXiv:1906.04721).
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from harmless_export.checkpoint import Gpt2Config, Weights

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Int8Weight:
    """A weight [k, n] as `values`, int8 [k, n], times `step`, float32 [n].

    `shift`, float32 [k], has to be added to what is multiplied by it, where it is not None.
    """

    values: NDArray[np.int8]
    step: NDArray[np.float32]
    shift: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Quantized:
    """The rounded weights by name, and the checkpoint's float32 tensors that change with them."""

    products: Mapping[str, Int8Weight]
    replaced: Mapping[str, torch.Tensor]


NOT_QUANTIZED = Quantized({}, {})


def round_weight(weight: torch.Tensor) -> Int8Weight:
    """Round a float32 weight [k, n] so that every processor multiplies it without overflow.

    Without VNNI, x86 adds the products of rows 2i and 2i + 1 with uint8 in 16 bits, and saturates
    (the instruction is vpmaddubsw). 255 × 128 still fits, so the two values of a pair are kept to
    128 in sum: rounding adds at most 1 to the 127 that the largest pair of a column is scaled to.
    """
    sums = weight.abs()
    if len(weight) % 2:
        sums = functional.pad(sums, (0, 0, 0, 1))
    step = (sums[::2] + sums[1::2]).amax(0).clamp(min=1e-30) / 127
    return Int8Weight((weight / step).round().to(torch.int8).numpy(), step.numpy())


@torch.inference_mode()
def quantize(config: Gpt2Config, weights: Weights, texts: Sequence[Sequence[int]]) -> Quantized:
    """Round the products of every layer; of the last one, the first, which alone sees all tokens.

    The texts go through the float32 model and the rounded one side by side, one layer's weights in
    memory at a time.

    Args:
        config: the model's sizes.
        weights: the checkpoint's.
        texts: token ids to take the means over, each 1 to `n_positions` long.
    """
    read, eps = weights.read, config.layer_norm_epsilon
    lengths = [len(ids) for ids in texts]
    words, positions = read("transformer.wte.weight"), read("transformer.wpe.weight")
    embedded = torch.cat([words[list(ids)] + positions[: len(ids)] for ids in texts])
    del words
    # [2, tokens, channels]: what the float32 model holds, and what the rounded one holds.
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
        """Normalise, and put what centres the result into the norm's bias."""
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
        # Attention averages values, so what is added to each of them is added to the result.
        replaced[f"{name}.attn.c_attn.bias"][-len(shift) :] += shift
        hidden = hidden + product(x, shift, f"{name}.attn.c_proj")
        x = product(*norm(hidden, f"{name}.ln_2"), f"{name}.mlp.c_fc")
        x = functional.gelu(x, approximate="tanh")
        shift, mlp = -x[1].mean(0), f"{name}.mlp.c_proj"
        hidden = hidden + product(x, shift, mlp)
        products[f"{mlp}.weight"] = replace(products[f"{mlp}.weight"], shift=shift.numpy())
    return Quantized(products, replaced)


def _attention(qkv: torch.Tensor, heads: int, lengths: Sequence[int]) -> torch.Tensor:
    """Causal attention in each text: [2, tokens, 3 × width] to [2, tokens, width]."""
    out = []
    for text in torch.split(qkv, list(lengths), dim=1):
        q, k, v = text.view(2, text.shape[1], 3, heads, -1).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        out.append(attended.transpose(1, 2).flatten(2))
    return torch.cat(out, dim=1)
