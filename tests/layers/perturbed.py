"""Random parameters and inputs: nothing still is exactly zero or one. NumPy: nothing compiles."""

import jax
import numpy as np
from flax.core import meta


def parameters(module, *args, seed=0, scale=0.3, **kwargs):
    """Parameters of the right shapes, unboxed: scales around one, everything else around zero."""
    shapes = meta.unbox(jax.eval_shape(lambda: module.init(jax.random.key(0), *args, **kwargs)["params"]))
    random = np.random.default_rng(seed)

    def leaf(path, shape):
        return (path[-1].key == "scale") + scale * random.standard_normal(shape.shape, np.float32)

    return jax.tree_util.tree_map_with_path(leaf, shapes)


def normal(seed, *shape):
    """Standard normal float32[shape]."""
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def integers(*rows):
    return np.array(rows, np.int32)
