"""Runs a PyTorch module with perturbed weights and records what it computed."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch
from torch import nn

from tools.golden.recording import Recording

Tensors = dict[str, torch.Tensor]


def record(
    module: nn.Module,
    inputs: Mapping[str, np.ndarray],
    run: Callable[[Callable, Tensors], Tensors],
    *,
    seed: int,
    sizes: Mapping,
    drop: tuple[str, ...] = (),
    tie: Callable[[Tensors], Tensors] = lambda weights: weights,
) -> Recording:
    """Evaluates `module` once, forward and backward, in float32.

    Noise is added to every parameter, so that gates, norms and heads that start at zero or one take part, and
    to the running moments of batch norms, which count as weights without a gradient.

    Args:
      inputs: NumPy arrays; the floating-point ones are differentiated.
      run: given `forward` (the module with the perturbed weights) and the inputs, returns named outputs.
      drop: prefixes of parameters that the run does not use.
      tie: derives the module's parameters from the recorded ones, where the recorded model has fewer.
    """
    noise = np.random.default_rng((seed, 1))
    weights = {}
    for name, value in module.eval().named_parameters():
        if not name.startswith(drop or ("\0",)):
            scale = 0.3 if value.ndim < 2 or value.numel() == value.shape[-1] else 0.1
            change = torch.from_numpy(noise.standard_normal(tuple(value.shape), np.float32))
            weights[name] = (value.detach().float() + scale * change).requires_grad_()
    for name, value in module.named_buffers():
        change = torch.from_numpy(noise.standard_normal(tuple(value.shape), np.float32))
        if name.endswith("running_mean"):
            weights[name] = value + 0.3 * change
        elif name.endswith("running_var"):
            weights[name] = value * torch.exp(0.3 * change)
    tensors = {name: torch.from_numpy(np.array(value)) for name, value in inputs.items()}
    differentiable = {name: t.requires_grad_() for name, t in tensors.items() if t.is_floating_point()}

    def forward(*args, **kwargs):
        return torch.func.functional_call(module, tie(weights), args, kwargs)

    outputs = run(forward, tensors)
    random = np.random.default_rng((seed, 2))
    cotangents = {
        name: torch.from_numpy(np.asarray(random.standard_normal(tuple(y.shape)), np.float32))
        for name, y in outputs.items()
    }
    objective = (
        outputs["loss"] if "loss" in outputs else sum((cotangents[k] * outputs[k]).sum() for k in outputs)
    )
    leaves = {**{name: w for name, w in weights.items() if w.requires_grad}, **differentiable}
    gradients = dict(zip(leaves, torch.autograd.grad(objective, list(leaves.values())), strict=True))
    return Recording(
        sizes=sizes,
        weights=_numpy(weights),
        inputs=_numpy(tensors),
        outputs=_numpy(outputs),
        cotangents=_numpy(cotangents),
        weight_gradients=_numpy(
            {name: gradients.get(name, torch.zeros_like(weights[name])) for name in weights}
        ),
        input_gradients=_numpy({name: gradients[name] for name in differentiable}),
    )


def arrays(seed: int) -> Callable[..., np.ndarray]:
    """Normal float32 inputs, the same for the same seed: `normal = arrays(0); normal(2, 5, 32)`.

    Their standard deviation is 0.1: with small inputs a wrong epsilon in a norm shows.
    """
    random = np.random.default_rng((seed, 0))
    return lambda *shape: np.float32(0.1) * random.standard_normal(shape, np.float32)


def integers(seed: int, low: int, high: int, *shape: int) -> np.ndarray:
    """int64[shape] in [low, high)."""
    return np.random.default_rng((seed, 3)).integers(low, high, shape)


def additive(mask: torch.Tensor) -> torch.Tensor:
    """bool[B, T, S] -> float[B, 1, T, S]: 0 where allowed, the lowest float elsewhere."""
    return torch.where(mask, 0.0, torch.finfo(torch.float32).min)[:, None]


def first(output):
    """The tensor of a layer that may return a tuple."""
    return output[0] if isinstance(output, tuple) else output


def reference(build: Callable[..., Recording]) -> Callable[..., Recording]:
    """Seeds PyTorch, fills in default sizes and calls `build(record, seed, **sizes)`."""
    defaults = {
        k: p.default for k, p in inspect.signature(build).parameters.items() if p.default is not p.empty
    }

    def built(seed: int = 0, **sizes) -> Recording:
        torch.manual_seed(seed)
        sizes = {**defaults, **sizes}
        return build(partial(record, seed=seed, sizes=sizes), seed, **sizes)

    built.__doc__, built.__name__ = build.__doc__, build.__name__
    return built


def _numpy(tensors: Tensors) -> dict[str, np.ndarray]:
    return {name: t.detach().numpy() for name, t in tensors.items()}
