"""One training step: batch in, new state and metrics out.

With terms `(weight_i, sum_i, count_i)` a global batch has the loss `sum_i weight_i * sum_i / count_i`, where
sums and counts run over the whole batch. Gradient accumulation must not divide per microbatch (a microbatch
with few targets would count as much as a full one), so the counts of the whole batch come first and every
microbatch contributes the gradient of `sum_i weight_i * sum_i(microbatch) / count_i(batch)`. A loss that
compares rows with each other is no such sum: see `_contrastive_gradients`.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mmjax.systems.system import ContrastiveSystem, System
from mmjax.training import optimizers
from mmjax.training.state import TrainState

Metrics = Mapping[str, jax.Array]  # scalars


def make_step(
    system: System,
    optimizer: optax.GradientTransformation,
    treatments: Mapping[optimizers.Path, Any],
    *,
    schedule: optax.Schedule,
    accumulate: int = 1,
    ema: float = 0.0,
) -> Callable[[TrainState, Mapping[str, jax.Array]], tuple[TrainState, Metrics]]:
    """The function to jit, with its first argument donated.

    Metrics: `loss`, `gradient_norm` (before the clip), `learning_rate`, the mean of each term under its name,
    and the system's outputs (averaged over microbatches) under theirs, `tracked` excepted.
    """
    gradients = make_gradients(system, accumulate=accumulate)

    def step(state: TrainState, batch: Mapping[str, jax.Array]) -> tuple[TrainState, Metrics]:
        trainable, frozen = optimizers.split(state.params, treatments)
        gradient, metrics = gradients(trainable, frozen, batch, jax.random.fold_in(state.key, state.step))
        gradient = optimizers.select_rows(gradient, None, treatments)
        norm = optax.tree.norm(gradient)
        healthy = state.healthy & jnp.isfinite(metrics["loss"]) & jnp.isfinite(norm)

        updates, optimizer_state = optimizer.update(gradient, state.optimizer_state, trainable)
        # Locked rows are put back after everything that moves parameters: decay needs no gradient.
        moved = optimizers.select_rows(optax.apply_updates(trainable, updates), trainable, treatments)
        moved, _ = optimizers.split(system.after_update(optimizers.merge(moved, frozen)), treatments)
        average = None if state.ema is None else update_ema(state.ema, moved, ema, state.step)

        def unless_unhealthy(new: Any, old: Any) -> Any:
            return jax.tree.map(lambda n, o: jnp.where(healthy, n, o), new, old)

        frozen = optimizers.track(frozen, metrics.pop("tracked", {}), treatments, where=healthy)
        metrics |= {"gradient_norm": norm, "learning_rate": schedule(state.step)}
        state = TrainState(
            step=unless_unhealthy(state.step + 1, state.step),
            params=optimizers.merge(unless_unhealthy(moved, trainable), frozen),
            optimizer_state=unless_unhealthy(optimizer_state, state.optimizer_state),
            ema=unless_unhealthy(average, state.ema),
            key=state.key,
            healthy=healthy,
        )
        return state, metrics

    return step


def update_ema(average: Any, params: Any, decay: float, step: jax.Array) -> Any:
    """`average + (params - average) * (1 - d)`, d = min(decay, (1 + step) / (10 + step)).

    The rising d keeps the initial parameters out of the average of a short run. Written as a difference, the
    average of what does not move (a locked row) stays the same to the bit.
    """
    decay = jnp.minimum(decay, (1 + step) / (10 + step))
    return jax.tree.map(lambda a, p: a + (p - a) * (1 - decay), average, params)


def make_gradients(system: System, *, accumulate: int = 1) -> Callable[..., tuple[Any, dict[str, jax.Array]]]:
    """(trainable, frozen, batch, key) -> (gradient with respect to `trainable`, metrics)."""

    def share(trainable: Any, frozen: Any, batch: Any, key: jax.Array, counts: Any) -> tuple[jax.Array, Any]:
        """A microbatch's share of the loss, given the counts of the whole batch (None: this is all of it)."""
        terms, outputs = _single(*system.loss(optimizers.merge(trainable, frozen), batch, key))
        loss, metrics = _weighted(terms, counts)
        return loss, {**metrics, **jax.tree.map(lambda x: x / accumulate, outputs)}

    def counted(trainable: Any, frozen: Any, batch: Any, key: jax.Array) -> dict[str, jax.Array]:
        return _counts(_single(*system.loss(optimizers.merge(trainable, frozen), batch, key))[0])

    def gradients(
        trainable: Any, frozen: Any, batch: Any, key: jax.Array
    ) -> tuple[Any, dict[str, jax.Array]]:
        gradient = jax.grad(share, has_aux=True)
        if accumulate == 1:
            return gradient(trainable, frozen, batch, jax.random.fold_in(key, 0), None)
        parts, keys = microbatches(batch, accumulate), _keys(key, accumulate)
        # Counts depend on the batch alone, so the compiler drops everything else of this first pass.
        counts = _sum_over(lambda part, key: counted(trainable, frozen, part, key), parts, keys)
        return _sum_over(lambda part, key: gradient(trainable, frozen, part, key, counts), parts, keys)

    if accumulate > 1 and isinstance(system, ContrastiveSystem):
        return functools.partial(_contrastive_gradients, system, accumulate)
    return gradients


def _contrastive_gradients(
    system: ContrastiveSystem, accumulate: int, trainable: Any, frozen: Any, batch: Any, key: jax.Array
) -> tuple[Any, dict[str, jax.Array]]:
    """The gradient of the whole batch's loss, whose rows are compared with those of every microbatch.

    All rows are embedded first, keeping nothing; the loss then says how each embedding should move, and every
    microbatch is embedded again to carry that on to the parameters (GradCache, Gao et al. 2021, section 3).
    """
    parts, keys = microbatches(batch, accumulate), _keys(key, accumulate)

    def embed(trainable: Any, part: Any, key: jax.Array) -> tuple[Any, Any]:
        return system.embed(optimizers.merge(trainable, frozen), part, key)

    def contrast(trainable: Any, features: Any) -> tuple[jax.Array, Any]:
        terms, outputs = _single(*system.contrast(optimizers.merge(trainable, frozen), features))
        loss, metrics = _weighted(terms)
        return loss, {**metrics, **outputs}

    def carried_on(part: Any, key: jax.Array) -> tuple[Any, Any]:
        rows, asked = part
        _, pull_back, shown = jax.vjp(lambda trainable: embed(trainable, rows, key), trainable, has_aux=True)
        return pull_back(asked)[0], jax.tree.map(lambda x: x / accumulate, shown)

    features = jax.lax.map(lambda part: embed(trainable, *part)[0], (parts, keys))
    features = jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(-1, *x.shape[2:]), features)
    (direct, asked), metrics = jax.grad(contrast, argnums=(0, 1), has_aux=True)(trainable, features)
    through, shown = _sum_over(carried_on, (parts, microbatches(asked, accumulate)), keys)
    return jax.tree.map(jnp.add, direct, through), {**metrics, **shown}


def _single(terms: Any, outputs: Any) -> tuple[Any, Any]:
    """In single precision."""
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), (dict(terms), dict(outputs)))


def _weighted(terms: Any, counts: Any = None) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The loss of terms, and the mean of each; `counts` replace theirs."""
    counts = _counts(terms) if counts is None else counts
    means = {name: total / jnp.maximum(counts[name], 1) for name, (_, total, _) in terms.items()}
    loss = sum(weight * means[name] for name, (weight, _, _) in terms.items())
    return loss, {"loss": loss, **means}


def _counts(terms: Any) -> dict[str, jax.Array]:
    return {name: jax.lax.stop_gradient(count) for name, (_, _, count) in terms.items()}


def _keys(key: jax.Array, accumulate: int) -> jax.Array:
    return jax.vmap(lambda m: jax.random.fold_in(key, m))(jnp.arange(accumulate))


def microbatches(batch: Any, accumulate: int) -> Any:
    """[B, ...] -> [accumulate, B / accumulate, ...]; microbatch m holds rows m, m + accumulate, ...

    Neighbouring rows live on one device, so contiguous microbatches would leave most devices without rows.
    """
    return jax.tree.map(
        lambda x: x.reshape(x.shape[0] // accumulate, accumulate, *x.shape[1:]).swapaxes(0, 1), batch
    )


def _sum_over(function: Callable[[Any, jax.Array], Any], parts: Any, keys: jax.Array) -> Any:
    """The sum of `function(part, key)`, one part at a time, so that one part's activations are live."""
    shapes = jax.eval_shape(function, jax.tree.map(lambda x: x[0], parts), keys[0])
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    def body(total: Any, part: tuple[Any, jax.Array]) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, function(*part)), None

    return jax.lax.scan(body, zeros, (parts, keys))[0]
