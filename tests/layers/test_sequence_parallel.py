"""A sequence split over devices, and a batch and heads besides: the loss and gradients of one device."""

import os
import subprocess
import sys

PROGRAM = """
import dataclasses, sys
import chex, jax, jax.numpy as jnp, numpy as np
from flax import linen as nn
from mmjax.language.decoder import DecoderConfig
from mmjax.layers.transformer import TransformerConfig
from mmjax.systems.language_model import LanguageModel

BATCH, LENGTH = 2, 256
transformer = TransformerConfig(depth=1, width=16, heads=2, mlp_width=24, rope_base=1e4, remat="attention")
system = LanguageModel(
    decoder=DecoderConfig(vocabulary_size=32, context_length=LENGTH, transformer=transformer), loss_chunk=64
)
random = np.random.default_rng(0)
tokens = random.integers(0, 32, (BATCH, LENGTH))
segment = np.repeat([[1, 2, 0], [1, 1, 2]], [100, 100, 56], axis=1)
starts = np.ones((BATCH, LENGTH), int)
starts[:, 120:140] = 0
batch = dict(tokens=tokens, targets=np.where(segment > 0, np.roll(tokens, -1, 1), -1), segment=segment)
batch |= dict(block_start=starts, positions=np.tile(np.arange(LENGTH), (BATCH, 1)))
params = nn.meta.unbox(jax.jit(system.init)(jax.random.key(0)))

biased = dataclasses.replace(transformer, rope_base=None, alibi=True, qk_norm="layer", qk_norm_joint=True)

def with_layers(transformer):
    return dataclasses.replace(system, decoder=dataclasses.replace(system.decoder, transformer=transformer))

def gradients(system):
    def mean(params):
        _, total, count = system.loss(params, batch, None)[0]["next_token"]
        return total / count
    return jax.jit(jax.value_and_grad(mean))

expected = gradients(system)(params)
biased_params = nn.meta.unbox(jax.jit(with_layers(biased).init)(jax.random.key(0)))
expected_biased = gradients(with_layers(biased))(biased_params)
axes = dict(data=2, tensor=2, sequence=2)
mesh = jax.make_mesh(tuple(axes.values()), tuple(axes), axis_types=(jax.sharding.AxisType.Auto,) * 3)
rules = [("batch", "data"), ("sequence", "sequence"), ("heads", "tensor"), ("kv_heads", "tensor")]
rules += [(name, None) for name in ("embed", "mlp", "vocab", "head_dim", "layers")]
with jax.set_mesh(mesh), nn.logical_axis_rules(rules):
    for attention in ("xla", "splash", "short"):
        split = gradients(with_layers(dataclasses.replace(transformer, attention=attention)))
        chex.assert_trees_all_close(split(params), expected, rtol=1e-4, atol=1e-5)
    split = gradients(with_layers(biased))(biased_params)
    chex.assert_trees_all_close(split, expected_biased, rtol=1e-4, atol=1e-5)
    text = gradients(system).lower(params).compile().as_text()
assert "[1,256,256]" not in text and "f32[1,1,128,256]" in text  # logits: half the queries, all keys
print("equal")
"""


def test_a_split_sequence_gives_the_same_loss_and_gradients():
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
    }
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "equal"
