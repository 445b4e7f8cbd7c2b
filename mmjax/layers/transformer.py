"""One residual block and one stack, for every transformer in the library.

A block is a sequence of sublayers ('self', 'cross', 'mlp'), each wrapped in the same residual rule:

    pre    x + gate * f(norm(x))         GPT-2, CLIP, Llama, DiT, Flamingo
    post   norm(x + gate * f(x))         BERT
    swin   x + gate * norm(f(x))         Chameleon 34B, Swin v2

The gate is 1, tanh of a learned zero (Flamingo, section 3.1.2), a learned layer scale (CaiT), or predicted
from a condition together with the norm's scale and shift (adaLN-Zero, DiT section 3.2). Zero gates make the
block the identity at initialisation.

Axes: B batch, T queries, S keys, D width, C width of the condition, N/K key-value heads and their dimension.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name

from mmjax.errors import UserError
from mmjax.layers.attention import Attention, KeysValues
from mmjax.layers.fused_attention import BACKENDS
from mmjax.layers.masks import SelfMask
from mmjax.layers.normalization import normalization
from mmjax.layers.partitioning import constrain, dense, named, scaled_fan_in
from mmjax.layers.rotary import RopeScaling, Rotation, rotation_at

ACTIVATIONS = {
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "gelu_tanh": functools.partial(jax.nn.gelu, approximate=True),
    "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),  # OpenAI's CLIP
    "relu": jax.nn.relu,
    "relu_squared": lambda x: jnp.square(jax.nn.relu(x)),  # Flamingo
    "silu": jax.nn.silu,
}

# What the backward pass finds in memory besides the input of each block. In widths per token, attention read
# by a kernel: full 0, attention 4, dots 9, dots_attention 10; offload keeps the inputs on the host as well.
# Without a kernel it is computed again together with its weights, and keeping it would save nothing.
_policies = jax.checkpoint_policies
_READS = ("queries_keys_values", "attention")
REMAT_POLICIES = {
    "full": None,
    "attention": _policies.save_only_these_names(*_READS),
    "dots": _policies.dots_with_no_batch_dims_saveable,  # products with weights
    "dots_attention": _policies.save_from_both_policies(
        _policies.dots_with_no_batch_dims_saveable, _policies.save_only_these_names("attention")
    ),
    "offload": _policies.save_and_offload_only_these_names(
        names_which_can_be_saved=[],
        names_which_can_be_offloaded=["block", *_READS],
        offload_src="device",
        offload_dst="pinned_host",
    ),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """A stack of equal blocks.

    Attributes:
      head_dim: defaults to width / heads.
      kv_heads: grouped key-value heads; defaults to `heads`.
      mlp_width: defaults to 4 * width.
      gated_mlp: multiply the activated half by a linear half (SwiGLU, GEGLU).
      order: 'pre', 'post' or 'swin'.
      gate: None, 'tanh' (a scalar per sublayer) or 'tanh_vector' (one per channel).
      gate_initial: the gates start at tanh of it; 0 makes a fresh block the identity.
      qk_norm: None or the kind of a norm of queries and keys; each head has its own statistics, or all share
        one where `qk_norm_joint`.
      rope_base: rotary positions in self-attention (Llama), stretched as `rope_scaling` says; None for none.
      alibi: biases of self-attention that grow with the distance (MPT); the kernels do not know them.
      layer_scale: initial value of a learned per-channel scale; None for none.
      conditioned: adaLN-Zero from a condition vector; the norms then have no parameters of their own.
      context_norm: normalise the context of cross-attention with a norm of its own.
      context_with_queries: cross-attention reads the context followed by the queries themselves (the
        Perceiver resampler of Flamingo).
      attention: 'xla', 'splash' or 'short' (TPU), 'cudnn' (GPU), or None for the platform's own choice by
        length, mask and type (`mmjax.layers.fused_attention`).
      remat: what the backward pass recomputes: None for nothing, or a name of `REMAT_POLICIES`.
      unroll: blocks per loop iteration; the parameters are stacked all the same.
    """

    depth: int
    width: int
    heads: int
    head_dim: int | None = None
    kv_heads: int | None = None
    mlp_width: int | None = None
    sublayers: tuple[str, ...] = ("self", "mlp")
    norm: str = "layer"
    epsilon: float = 1e-5
    order: str = "pre"
    activation: str = "gelu_tanh"
    gated_mlp: bool = False
    attention_bias: bool = True
    mlp_bias: bool = True
    qk_norm: str | None = None
    qk_norm_joint: bool = False
    rope_base: float | None = None
    rope_scaling: RopeScaling | None = None
    alibi: bool = False
    gate: str | None = None
    gate_initial: float = 0.0
    layer_scale: float | None = None
    conditioned: bool = False
    context_norm: bool = False
    context_with_queries: bool = False
    attention: str | None = None
    remat: str | None = None
    unroll: int = 1
    dtype: str = "float32"

    def __post_init__(self):
        if self.attention not in (None, *BACKENDS):
            raise UserError(
                f"unknown attention {self.attention!r}: set it to None or one of {', '.join(BACKENDS)}"
            )
        if self.alibi and self.attention not in (None, "xla"):
            raise UserError(
                f"attention = {self.attention!r} knows no alibi: set attention to 'xla', or alibi to False"
            )


class Memory(NamedTuple):
    """What a block remembers between calls of a decoder; arrays of a stack carry a leading layer axis.

    What a call returns is new: the keys and values of its own tokens, and those of the context once it has
    projected it. `remember` puts them into what was there.
    """

    self_attention: KeysValues | None = None
    cross_attention: KeysValues | None = None


class Inputs(NamedTuple):
    """What every block of a stack reads besides its own input.

    mask bool[B, T, S] or a `SelfMask`; positions int[B, T]; context float[B, S', D'];
    context_mask bool[B, T, S']; condition float[B, C] or float[B, T, C]. With a cache, write_at int[] is the
    slot of the first token and key_positions int[B, S] are the positions of all slots. The rotation follows
    from the positions, see `rotating`.
    """

    mask: jax.Array | SelfMask | None = None
    positions: jax.Array | None = None
    context: jax.Array | None = None
    context_mask: jax.Array | None = None
    condition: jax.Array | None = None
    write_at: jax.Array | None = None
    key_positions: jax.Array | None = None
    rotation: Rotation | None = None

    def rotating(self, config: TransformerConfig) -> "Inputs":
        """With the rotation of the positions where the config has rotary ones: known once for all blocks."""
        if config.rope_base is None or self.positions is None or self.rotation is not None:
            return self
        head_dim = config.head_dim or config.width // config.heads
        rotation = rotation_at(self.positions, head_dim, config.rope_base, config.rope_scaling)
        return self._replace(rotation=rotation)


class MLP(nn.Module):
    """Two linear maps around an activation, optionally gated. float[B, T, D] -> float[B, T, D]."""

    width: int
    hidden: int
    activation: str = "gelu_tanh"
    gated: bool = False
    bias: bool = True
    output_scale: float = 1.0
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        expand = functools.partial(dense, self.hidden, ("embed", "mlp"), bias=self.bias, dtype=self.dtype)
        hidden = ACTIVATIONS[self.activation](expand(name="gate" if self.gated else "up")(x))
        if self.gated:
            hidden = hidden * expand(name="up")(x)
        hidden = constrain(hidden, "batch", "sequence", "mlp")
        init = scaled_fan_in(self.output_scale)
        down = dense(self.width, ("mlp", "embed"), bias=self.bias, init=init, dtype=self.dtype, name="down")
        return constrain(down(hidden), "batch", "sequence", "embed")


class Block(nn.Module):
    """One residual block; see the module's docstring."""

    config: TransformerConfig

    @nn.compact
    def __call__(
        self, x: jax.Array, memory: Memory | None, inputs: Inputs
    ) -> tuple[jax.Array, Memory | None]:
        """x: float[B, T, D] -> float[B, T, D], and what is new in the memory, None unless one was given."""
        c, x = self.config, checkpoint_name(x, "block")
        inputs = inputs.rotating(c)
        modulation = self._modulation(inputs.condition)
        remembered = {}
        for index, kind in enumerate(c.sublayers):
            norm = self._norm(f"{kind}_norm")
            y = norm(x) if c.order == "pre" else x
            if c.conditioned:
                shift, scale, _ = modulation[index]
                y = y * (1 + scale) + shift
            if kind == "mlp":
                y = self._mlp()(y)
            else:
                y, remembered[f"{kind}_attention"] = self._attention(kind, y, memory, inputs)
            if c.order == "swin":
                y = norm(y)
            gate = modulation[index][2] if c.conditioned else self._gate(kind)
            x = x + (y if gate is None else gate.astype(y.dtype) * y)
            if c.order == "post":
                x = norm(x)
        return x, None if memory is None else Memory(**remembered)

    @property
    def _output_scale(self) -> float:
        # Keeps the variance of the residual stream independent of depth (GPT-2, CLIP).
        return (len(self.config.sublayers) * self.config.depth) ** -0.5

    def _norm(self, name: str) -> nn.Module:
        c = self.config
        return normalization(c.norm, epsilon=c.epsilon, affine=not c.conditioned, dtype=c.dtype, name=name)

    def _mlp(self) -> nn.Module:
        c = self.config
        return MLP(
            width=c.width,
            hidden=c.mlp_width or 4 * c.width,
            activation=c.activation,
            gated=c.gated_mlp,
            bias=c.mlp_bias,
            output_scale=self._output_scale,
            dtype=c.dtype,
            name="mlp",
        )

    def _attention(self, kind: str, y: jax.Array, memory: Memory | None, inputs: Inputs):
        c = self.config
        attention = Attention(
            features=c.width,
            heads=c.heads,
            head_dim=c.head_dim or c.width // c.heads,
            kv_heads=c.kv_heads,
            bias=c.attention_bias,
            qk_norm=c.qk_norm,
            qk_norm_joint=c.qk_norm_joint,
            epsilon=c.epsilon,
            alibi=c.alibi and kind == "self",
            output_scale=self._output_scale,
            backend=c.attention,
            dtype=c.dtype,
            name=f"{kind}_attention",
        )
        if kind == "self":
            cache = memory.self_attention if memory else None
            return attention(
                y,
                mask=inputs.mask,
                rotation=inputs.rotation,
                positions=inputs.positions,
                key_positions=inputs.key_positions,
                cache=cache,
                write_at=inputs.write_at,
            )
        if memory and memory.cross_attention is not None:  # projected once, at prefill
            return attention(y, memory.cross_attention, mask=inputs.context_mask)[0], None
        context = inputs.context
        if c.context_norm:
            context = self._norm("context_norm")(context)
        if c.context_with_queries:
            context = jnp.concatenate([context, y], axis=1)
        return attention(y, context, mask=inputs.context_mask)

    def _gate(self, kind: str) -> jax.Array | None:
        c = self.config
        if c.gate is not None:
            shape = (c.width,) if c.gate == "tanh_vector" else ()
            init = named(nn.initializers.constant(c.gate_initial), *(("embed",) if shape else ()))
            return jnp.tanh(self.param(f"{kind}_gate", init, shape))
        if c.layer_scale is not None:
            init = named(nn.initializers.constant(c.layer_scale), "embed")
            return self.param(f"{kind}_scale", init, (c.width,))
        return None

    def _modulation(self, condition: jax.Array | None) -> list[tuple[jax.Array, ...]] | None:
        """(shift, scale, gate) of each sublayer, float[B, 1 or T, D] each, all zero at initialisation."""
        c = self.config
        if not c.conditioned:
            return None
        layout = (len(c.sublayers), 3, c.width)
        axes = ("embed", None, None, "modulation")
        project = dense(layout, axes, init=nn.initializers.zeros, dtype=c.dtype, name="modulation")
        vectors = project(jax.nn.silu(condition))
        if condition.ndim == 2:  # one condition for all tokens
            vectors = vectors[:, None]
        return [tuple(vectors[..., i, j, :] for j in range(3)) for i in range(len(c.sublayers))]


class Stack(nn.Module):
    """`depth` blocks in one `scan`: compiled once, parameters stacked on a leading 'layers' axis."""

    config: TransformerConfig

    @nn.compact
    def __call__(
        self, x: jax.Array, inputs: Inputs, memory: Memory | None = None
    ) -> tuple[jax.Array, Memory | None]:
        """x: float[B, T, D]; memory: arrays with a leading layer axis -> x, and what is new in memory."""
        c = self.config
        # Only behind a loop does XLA know that all of a memory has been read when what is new is written into
        # it; otherwise it copies the memory.
        unroll = c.unroll if memory is None else 1
        layers = scan_layers(Block, c.depth, remat=c.remat, unroll=unroll)
        return layers(c, name="layers")(x, memory, inputs.rotating(c))


def scan_layers(module: Any, length: int, *, remat: str | None = None, unroll: int = 1) -> Any:
    """`module` repeated `length` times as one scanned, optionally rematerialised layer.

    The module is called as `module(x, memory, inputs) -> (x, memory)`: `x` is carried, `memory` has a leading
    layer axis, `inputs` is the same for all layers.
    """
    if remat is not None:
        # Inside a scan common subexpressions cannot be merged, so the barrier against it would only cost.
        module = nn.remat(module, policy=REMAT_POLICIES[remat], prevent_cse=False)
    return nn.scan(
        module,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        in_axes=(0, nn.broadcast),
        out_axes=0,
        length=length,
        unroll=min(unroll, length),
        metadata_params={nn.PARTITION_NAME: "layers"},
    )


def empty_cache(config: TransformerConfig, batch: int, capacity: int) -> KeysValues:
    """Zeroed self-attention cache of a stack: float[layers, B, N, capacity, K]."""
    heads = config.kv_heads or config.heads
    head_dim = config.head_dim or config.width // config.heads
    zeros = jnp.zeros((config.depth, batch, heads, capacity, head_dim), config.dtype)
    zeros = constrain(zeros, "layers", "batch", "kv_heads", None, None)
    return KeysValues(zeros, zeros)


def remember(memory: Any, new: Any, write_at: jax.Array) -> Any:
    """The memory of any number of stacks with what is new in it, its tokens written from slot `write_at` on.

    memory, new: the same tree of `Memory`.
    """

    def write(old: Memory, new: Memory) -> Memory:
        def slots(old, new):
            return jax.lax.dynamic_update_slice_in_dim(old, new.astype(old.dtype), write_at, axis=-2)

        return Memory(
            self_attention=old.self_attention and jax.tree.map(slots, old.self_attention, new.self_attention),
            cross_attention=old.cross_attention or new.cross_attention,
        )

    return jax.tree.map(write, memory, new, is_leaf=lambda node: isinstance(node, Memory))
