"""AdamW, Adafactor or Muon with schedules, and what each treatment (train, freeze, rows) means for them."""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict
from optax import contrib

from mmjax.errors import UserError
from mmjax.systems.system import Freeze, Rows, Track, Treatment

Tree = Mapping[str, Any]  # a nested dict whose leaves belong to parameters
Path = tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW (Loshchilov & Hutter 2019), Adafactor (Shazeer & Stern 2018), or Muon (Jordan et al. 2024) for
    the matrices and AdamW for the rest, after a clip of the global gradient norm.

    Attributes:
      method: `adamw`, `adafactor` or `muon`. Adafactor keeps the second moment of a matrix as one number per
        row and column and clips every update to a root mean square of 1; momentum and learning rate stay
        Adam's (the variant of Zhai et al. 2022, section 3.2). Muon orthogonalises the update of every matrix
        of a linear layer, heads and stacked layers each by themselves, and gives it the root mean square of
        an Adam update, so learning rate and decay mean the same for both (Liu et al. 2025).
      learning_rate: peak value.
      schedule: what follows the linear warmup: `cosine` to `end_scale * learning_rate` at the last step,
        `constant`, or `rsqrt` (learning_rate * sqrt(warmup / step)).
      warmup: steps of linear growth from 0.
      weight_decay: decoupled; multiplied by the learning rate.
      decay: pattern (`re.fullmatch` on 'a/b/c') of what decays, among arrays of two or more dimensions. By
        default the matrices of linear layers and convolutions, which Linen names `kernel`: a bias of a
        scanned stack has two dimensions as well, so dimensions alone cannot tell a matrix.
      clip_norm: largest global gradient norm; 0 for no limit.
      momentum_dtype: of the stored first moment; `bfloat16` halves it. The second moment stays float32:
        with b2 near 1 its updates would round to nothing.
    """

    method: Literal["adamw", "adafactor", "muon"] = "adamw"
    learning_rate: float = 1e-3
    schedule: Literal["cosine", "constant", "rsqrt"] = "cosine"
    warmup: int = 100
    end_scale: float = 0.0
    b1: float = 0.9
    b2: float = 0.98
    epsilon: float = 1e-8
    weight_decay: float = 0.1
    decay: str = "(.*/)?kernel"
    clip_norm: float = 1.0
    momentum_dtype: Literal["float32", "bfloat16"] = "float32"

    def make_schedule(self, steps: int) -> optax.Schedule:
        """step -> learning rate, for a run of `steps` steps."""
        # Step 0 already moves: a first step with rate 0 would only spend a batch.
        warmup = min(self.warmup, max(steps - 1, 0))
        after = SCHEDULES[self.schedule](self, max(steps - warmup, 1))

        def schedule(step: jax.Array) -> jax.Array:
            rising = self.learning_rate * (step + 1) / (warmup + 1)
            return jnp.where(step < warmup, rising, after(step - warmup))

        return schedule


def _cosine(config: OptimizerConfig, steps: int) -> optax.Schedule:
    return optax.cosine_decay_schedule(config.learning_rate, steps, config.end_scale)


def _constant(config: OptimizerConfig, steps: int) -> optax.Schedule:
    del steps
    return optax.constant_schedule(config.learning_rate)


def _rsqrt(config: OptimizerConfig, steps: int) -> optax.Schedule:
    del steps
    start = max(config.warmup, 1)
    return lambda step: config.learning_rate * jnp.sqrt(start / (start + jnp.maximum(step, 0)))


SCHEDULES: Mapping[str, Callable[[OptimizerConfig, int], optax.Schedule]] = {
    "cosine": _cosine,
    "constant": _constant,
    "rsqrt": _rsqrt,
}


def treat(rules: Sequence[tuple[str, Treatment]], params: Tree) -> dict[Path, Treatment]:
    """The treatment of every parameter path; the first pattern that fully matches 'a/b/c' wins.

    Raises:
      UserError: a parameter matches no pattern, or a pattern decides nothing (a misspelt path would otherwise
        train what should be frozen), or rows to train lie outside the array.
    """
    result, used = {}, set()
    for path, leaf in flatten_dict(nn.meta.unbox(params)).items():
        name = "/".join(path)
        for pattern, treatment in rules:
            if re.fullmatch(pattern, name):
                result[path] = treatment
                used.add(pattern)
                break
        else:
            raise UserError(f"parameter {name} matches none of the system's treatments; add a pattern for it")
        rows = result[path]
        if isinstance(rows, Rows) and not 0 <= rows.start < rows.stop <= leaf.shape[0]:
            raise UserError(
                f"{name} has {leaf.shape[0]} rows, so [{rows.start}, {rows.stop}) cannot be trained"
            )
    for pattern, _ in rules:
        if pattern not in used and pattern != ".*":
            raise UserError(f"the treatment pattern {pattern!r} decides no parameter; correct or remove it")
    return result


def trained(treatment: Treatment, shape: tuple[int, ...]) -> int:
    """How many numbers of a parameter of this shape a treatment trains."""
    if isinstance(treatment, Rows):
        shape = (treatment.stop - treatment.start, *shape[1:])
    return 0 if isinstance(treatment, Freeze) else math.prod(shape)


def split(params: Tree, treatments: Mapping[Path, Treatment]) -> tuple[Tree, Tree]:
    """(trainable, frozen): two nested dicts that hold each parameter once."""
    flat = flatten_dict(params)
    trainable = {path: leaf for path, leaf in flat.items() if not isinstance(treatments[path], Freeze)}
    frozen = {path: leaf for path, leaf in flat.items() if path not in trainable}
    return unflatten_dict(trainable), unflatten_dict(frozen)


def merge(*parts: Tree) -> Tree:
    """The union of nested dicts; later ones win."""
    return unflatten_dict({path: leaf for part in parts for path, leaf in flatten_dict(part).items()})


def row_mask(treatment: Treatment, leaf: jax.Array) -> jax.Array | None:
    """bool[N, 1, ...]: True on the rows that train; None where all do."""
    if not isinstance(treatment, Rows):
        return None
    rows = jnp.arange(leaf.shape[0])
    mask = (rows >= treatment.start) & (rows < treatment.stop)
    return mask.reshape((-1,) + (1,) * (leaf.ndim - 1))


def select_rows(new: Tree, old: Tree | None, treatments: Mapping[Path, Treatment]) -> Tree:
    """`new` on the rows that train, `old` (zeros when None) on the locked ones."""
    flat_new, flat_old = flatten_dict(new), flatten_dict(old) if old is not None else {}

    def choose(path: Path, leaf: jax.Array) -> jax.Array:
        mask = row_mask(treatments[path], leaf)
        return leaf if mask is None else jnp.where(mask, leaf, flat_old.get(path, 0))

    return unflatten_dict({path: choose(path, leaf) for path, leaf in flat_new.items()})


def track(frozen: Tree, shown: Tree, treatments: Mapping[Path, Treatment], *, where: jax.Array) -> Tree:
    """The `Track`ed parameters moved towards what a batch has shown, if `where`; all else stays as it is."""
    flat = flatten_dict(frozen)
    for path, value in flatten_dict(shown).items():
        if not isinstance(treatments[path], Track):  # a system may freeze what another tracks
            continue
        moved = flat[path] + (value - flat[path]) * (1 - treatments[path].momentum)
        flat[path] = jnp.where(where, moved, flat[path])
    return unflatten_dict(flat)


def logical_axes(boxed: Tree) -> dict[Path, tuple[str | None, ...]]:
    """The logical axis names of every parameter, from the boxes that `System.init` puts them in."""
    return {path: tuple(spec or ()) for path, spec in flatten_dict(nn.get_partition_spec(boxed)).items()}


def _muon(
    config: OptimizerConfig, axes: Mapping[Path, tuple[str | None, ...]]
) -> optax.GradientTransformation:
    """Muon on kernels of two axes (inputs, outputs) besides those that number layers and heads; else Adam.

    Its state is {"matrices": ..., "rest": ...}, each of its own parameters.
    """
    matrices = {}
    for path, names in axes.items():
        two = [i for i, name in enumerate(names) if name not in ("layers", "heads", "kv_heads")]
        if path[-1] == "kernel" and len(two) == 2:
            matrices[path] = contrib.MuonDimensionNumbers(*two)

    def dimensions(tree: Tree) -> Tree:
        return unflatten_dict({path: matrices[path] for path in flatten_dict(tree)})

    def like_adam(updates: Tree) -> Tree:
        def scale(update: jax.Array, of: contrib.MuonDimensionNumbers) -> jax.Array:
            return update * 0.2 * max(update.shape[of.reduction_axis], update.shape[of.output_axis]) ** 0.5

        return jax.tree.map(scale, updates, dimensions(updates))

    muon = contrib.scale_by_muon(weight_dimension_numbers=dimensions, mu_dtype=config.momentum_dtype)
    parts = {"matrices": muon, "rest": _adam(config, axes)}

    def divide(tree: Tree) -> dict[str, Tree]:
        flat = flatten_dict(tree)
        inside = {path: leaf for path, leaf in flat.items() if path in matrices}
        rest = {path: leaf for path, leaf in flat.items() if path not in matrices}
        return {"matrices": unflatten_dict(inside), "rest": unflatten_dict(rest)}

    def init(params: Tree) -> dict[str, Any]:
        return {name: parts[name].init(tree) for name, tree in divide(params).items()}

    def update(updates: Tree, state: dict[str, Any], params: Tree | None = None):
        del params
        done = {name: parts[name].update(tree, state[name]) for name, tree in divide(updates).items()}
        (matrix_updates, _), (rest, _) = done["matrices"], done["rest"]
        return merge(like_adam(matrix_updates), rest), {name: new for name, (_, new) in done.items()}

    return optax.GradientTransformation(init, update)


def _adam(
    config: OptimizerConfig, axes: Mapping[Path, tuple[str | None, ...]]
) -> optax.GradientTransformation:
    del axes
    return optax.scale_by_adam(b1=config.b1, b2=config.b2, eps=config.epsilon, mu_dtype=config.momentum_dtype)


def _adafactor(
    config: OptimizerConfig, axes: Mapping[Path, tuple[str | None, ...]]
) -> optax.GradientTransformation:
    del axes
    return optax.chain(
        optax.scale_by_factored_rms(),
        optax.clip_by_block_rms(1.0),
        optax.ema(config.b1, debias=False, accumulator_dtype=config.momentum_dtype),
    )


METHODS = {"adamw": _adam, "adafactor": _adafactor, "muon": _muon}


def make_optimizer(
    config: OptimizerConfig,
    *,
    steps: int,
    treatments: Mapping[Path, Treatment],
    axes: Mapping[Path, tuple[str | None, ...]],
) -> optax.GradientTransformation:
    """The optimizer of the trainable parameters (`split`); frozen ones never reach it.

    Per-treatment learning rates scale the whole update, weight decay included. axes: see `logical_axes`.
    """

    def decays(tree: Tree) -> Tree:
        flat = flatten_dict(tree)
        return unflatten_dict(
            {
                path: leaf.ndim >= 2 and bool(re.fullmatch(config.decay, "/".join(path)))
                for path, leaf in flat.items()
            }
        )

    def scale(updates: Tree) -> Tree:
        flat = flatten_dict(updates)
        return unflatten_dict({path: leaf * treatments[path].learning_rate for path, leaf in flat.items()})

    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity(),
        METHODS[config.method](config, axes),
        optax.add_decayed_weights(config.weight_decay, mask=decays),
        optax.stateless(lambda updates, params: scale(updates)),
        optax.scale_by_learning_rate(config.make_schedule(steps)),
    )
