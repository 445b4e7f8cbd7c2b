"""Compares mmjax with a recording: every output, and every gradient of the recorded objective."""

import functools

import chex
import jax
import numpy as np
from cases import Case
from flax.core import meta

from mmjax.interop.names import to_ours, to_reference
from tools.golden.recording import Recording

# The gradient of a key bias is zero in exact arithmetic and rounding noise on both sides: below this share of
# the largest gradient, tensors are compared in absolute terms.
FLOOR = 1e-3


def relative_error(actual, expected, scale: float = 0.0) -> float:
    """|actual - expected| / max(|expected|, scale), in the Euclidean norm."""
    difference = np.linalg.norm(np.asarray(actual, np.float64) - np.asarray(expected, np.float64))
    return float(difference / max(np.linalg.norm(expected), scale, 1e-30))


def tolerances(case: Case) -> tuple[float, float]:
    """Largest relative error of (outputs, gradients): 1e-5 for a layer, 1e-4 for a model."""
    return (1e-5 if case.depth == 1 else 1e-4), 1e-4


def evaluate(case: Case, recording: Recording):
    """mmjax's outputs and gradients on the recorded weights -> (outputs, weight gradients, input gradients).

    Weight gradients come back in the reference's names and shapes.
    """
    inputs = {
        name: np.asarray(a, np.int32) if a.dtype == np.int64 else a for name, a in recording.inputs.items()
    }
    shapes = _parameter_shapes(case, inputs)
    params = to_ours(recording.weights, shapes, case.table)
    chex.assert_trees_all_equal_shapes(params, shapes)

    def objective(params, floats):
        apply = functools.partial(case.module.apply, {"params": params})
        apply.params = params
        outputs = case.run(apply, {**inputs, **floats})
        if "loss" in outputs:
            return outputs["loss"], outputs
        return sum((recording.cotangents[k] * outputs[k]).sum() for k in outputs), outputs

    floats = {name: inputs[name] for name in recording.input_gradients}
    gradient = jax.value_and_grad(objective, argnums=(0, 1), has_aux=True)
    gradient = jax.jit(gradient, compiler_options={"xla_backend_optimization_level": 0})  # compiles faster
    (_, outputs), (weights, input_gradients) = gradient(params, floats)
    return outputs, to_reference(weights, recording.weights, case.table), input_gradients


def errors(recording: Recording, outputs, weights, inputs) -> tuple[dict[str, float], dict[str, float]]:
    """Relative errors by name of what `evaluate` returned: of the outputs, and of the gradients."""
    chex.assert_trees_all_equal_shapes(dict(outputs), recording.outputs)
    forward = {name: relative_error(outputs[name], y) for name, y in recording.outputs.items()}
    actual, expected = {**weights, **inputs}, {**recording.weight_gradients, **recording.input_gradients}
    floor = FLOOR * max(np.linalg.norm(g) for g in expected.values())
    return forward, {name: relative_error(actual[name], g, floor) for name, g in expected.items()}


def _parameter_shapes(case: Case, inputs) -> dict:
    """Shapes of the parameters, by tracing the initialisation."""

    def init():
        found = {}

        def apply(*args, **kwargs):
            found.update(case.module.init(jax.random.key(0), *args, **kwargs)["params"])
            raise StopIteration

        try:
            case.run(apply, inputs)
        except StopIteration:
            return meta.unbox(found)

    return jax.eval_shape(init)
