"""A system small enough to train in a test: a two-layer classifier of random vectors with uneven counts."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from mmjax.systems.system import FREEZE, TRAIN, Rows, System


class Network(nn.Module):
    classes: int
    width: int

    @nn.compact
    def __call__(self, tokens, x):
        def named(init, *axes):
            return nn.with_logical_partitioning(init, axes)

        normal = nn.initializers.normal(0.3)
        table = self.param("embedding", named(normal, "vocab", "embed"), (self.classes, self.width))
        frozen = self.param("frozen", named(normal, None, "embed"), (self.width, self.width))
        h = x @ frozen + table[tokens]
        kernel = {
            "bias_init": named(nn.initializers.zeros, "mlp"),
            "kernel_init": named(normal, "embed", "mlp"),
        }
        h = nn.tanh(nn.Dense(self.width * 2, **kernel, name="up")(h))
        scale = self.param("scale", named(nn.initializers.ones), ())
        return scale * nn.Dense(
            self.classes,
            kernel_init=named(normal, "mlp", None),
            bias_init=named(nn.initializers.zeros, None),
            name="head",
        )(h)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Toy(System):
    classes: int = 8
    width: int = 16
    noise: float = 0.0
    explode_at: float = 1e9  # a batch whose first entry exceeds this has an infinite loss

    @property
    def module(self):
        return Network(self.classes, self.width)

    def init(self, key):
        return self.module.init(key, jnp.zeros(1, jnp.int32), jnp.zeros((1, self.width)))["params"]

    def loss(self, params, batch, key):
        x = batch["x"] + self.noise * jax.random.normal(key, batch["x"].shape)
        logits = self.module.apply({"params": params}, batch["tokens"], x)
        valid = batch["targets"] >= 0
        losses = -jnp.take_along_axis(jax.nn.log_softmax(logits), batch["targets"][:, None], axis=1)[:, 0]
        total = jnp.sum(jnp.where(valid, losses, 0)) / jnp.where(batch["x"][0, 0] > self.explode_at, 0.0, 1.0)
        terms = {
            "classes": (1.0, total, valid.sum()),
            "size": (0.01, jnp.sum(jnp.square(logits)), jnp.float32(len(logits))),
        }
        return terms, {"share": valid.mean()}

    def treatments(self):
        return (("frozen", FREEZE), ("embedding", Rows(start=2, stop=5)), (".*", TRAIN))

    def after_update(self, params):
        return {**params, "scale": jnp.clip(params["scale"], 0.9, 1.1)}


def batch(step, *, rows=16, classes=8, width=16, seed=0):
    """The global batch of a step: float32 x, int32 tokens, int32 targets, most of the first ones missing."""
    rng = np.random.default_rng((seed, step))
    targets = rng.integers(0, classes, rows).astype(np.int32)
    targets[: rows // 2][rng.random(rows // 2) < 0.7] = -1
    return {
        "x": rng.normal(size=(rows, width)).astype(np.float32),
        "tokens": rng.integers(0, classes, rows).astype(np.int32),
        "targets": targets,
    }


def batches(first):
    """Endless batches from a step on."""
    while True:
        yield batch(first)
        first += 1
