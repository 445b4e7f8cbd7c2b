"""Mesh, rules, and every way in which they can fail to fit."""

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

from mmjax.errors import UserError
from mmjax.layers.partitioning import constrain
from mmjax.sharding import (
    PRESETS,
    ShardingConfig,
    ShardingRules,
    activate,
    check_batch_size,
    check_replication,
    parameter_shardings,
)

MESH = {"data": 2, "fsdp": 2, "tensor": 2, "sequence": 1}


def abstract_mesh(**sizes):
    sizes = {"data": 1, "fsdp": 1, "tensor": 1, "sequence": 1} | sizes
    return AbstractMesh(tuple(sizes.values()), tuple(sizes), axis_types=(AxisType.Auto,) * 4)


def spec(rules, logical, shape, mesh=MESH):
    return rules.spec(PartitionSpec(*logical), shape, mesh, "a/kernel")


def test_presets_place_parameters():
    logical, shape = ("layers", "embed", "heads", "head_dim"), (3, 8, 4, 5)
    assert spec(PRESETS["replicated"], logical, shape) == PartitionSpec(None, None, None, None)
    assert spec(PRESETS["fsdp"], logical, shape) == PartitionSpec(None, ("fsdp",), None, None)
    assert spec(PRESETS["fsdp_tensor"], logical, shape) == PartitionSpec(None, ("fsdp",), ("tensor",), None)
    assert spec(PRESETS["fsdp"], ("embed",), (8,), MESH | {"fsdp": 1}) == PartitionSpec(None)
    assert spec(PRESETS["fsdp"], ("embed", "embed"), (8, 8)) == PartitionSpec(("fsdp",), None)


def test_two_logical_axes_on_one_mesh_axis_collide():
    rules = PRESETS["fsdp"].override({"mlp": "fsdp"})
    with pytest.raises(UserError, match="a/kernel would use mesh axis 'fsdp' for both 'embed' and 'mlp'"):
        spec(rules, ("embed", "mlp"), (8, 16))


def test_an_axis_must_divide_by_its_devices():
    with pytest.raises(
        UserError, match="axis 'heads' of parameter a/kernel has size 3, not divisible by the 2"
    ):
        spec(PRESETS["fsdp_tensor"], ("embed", "heads"), (8, 3))
    both = ShardingRules(embed=("fsdp", "tensor"))
    with pytest.raises(
        UserError, match=r"size 6, not divisible by the 4 devices .* works is 3 devices or a size of 8"
    ):
        spec(both, ("embed",), (6,))


def test_an_axis_without_a_rule_is_an_error():
    with pytest.raises(UserError, match="logical axis 'colour', which no rule covers"):
        spec(PRESETS["fsdp"], ("colour",), (4,))


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ({"embde": "fsdp"}, "unknown logical axis 'embde'; did you mean embed"),
        ({"embed": "fdsp"}, "unknown mesh axis 'fdsp'; did you mean fsdp"),
        ({"embed": ("fsdp", "fsdp")}, "names a mesh axis twice"),
    ],
)
def test_overrides_are_checked(lines, sentence):
    with pytest.raises(UserError, match=sentence):
        PRESETS["fsdp"].override(lines)


def test_overrides_replace_lines():
    rules = PRESETS["fsdp"].override({"embed": None, "vocab": ("fsdp", "tensor")})
    assert rules.embed == ()
    assert rules.vocab == ("fsdp", "tensor")


def test_unknown_preset():
    with pytest.raises(UserError, match=r"sharding.rules='fspd' is not one of replicated, fsdp, fsdp_tensor"):
        ShardingConfig(rules="fspd").make_rules()


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({}, (8, 1, 1, 1)),
        ({"fsdp": 4}, (2, 4, 1, 1)),
        ({"data": 2, "fsdp": -1, "tensor": 2}, (2, 2, 2, 1)),
        ({"fsdp": 3}, "fsdp=3 do not fit 8 devices; the nearest that fits is data=2,fsdp=4"),
        ({"data": 4}, "data=4 do not fit 8 devices; the nearest that fits is data=8"),
        ({"fsdp": -1}, "at most one may be -1"),
        ({"fsdp": 0}, "must be positive"),
    ],
)
def test_mesh_sizes(sizes, expected):
    if isinstance(expected, str):
        with pytest.raises(UserError, match=expected):
            ShardingConfig(**sizes).mesh_sizes(8)
    else:
        assert tuple(ShardingConfig(**sizes).mesh_sizes(8).values()) == expected


def test_a_batch_must_divide_by_its_shards():
    mesh = abstract_mesh(data=2, fsdp=2, tensor=2)
    check_batch_size(mesh, 12)
    with pytest.raises(UserError, match=r"training.batch_size=1 must be divisible by 4 .*nearest is 4"):
        check_batch_size(mesh, 1)
    with pytest.raises(UserError, match=r"divisible by 12 .*training.accumulate=3.*nearest is 12"):
        check_batch_size(mesh, 16, accumulate=3)


class Dense(nn.Module):
    @nn.compact
    def __call__(self, x):
        init = nn.with_logical_partitioning(nn.initializers.ones, ("embed", None))
        return x @ self.param("kernel", init, (8, 8)) + self.param("bias", nn.initializers.ones, (8,))


def test_shardings_of_a_module_and_the_share_that_stays_whole():
    boxed = jax.eval_shape(lambda: Dense().init(jax.random.key(0), jnp.ones((1, 8))))["params"]
    shapes, mesh = nn.meta.unbox(boxed), abstract_mesh(fsdp=4, data=2)
    split = parameter_shardings(boxed, mesh, PRESETS["fsdp"])
    assert split == {
        "kernel": NamedSharding(mesh, PartitionSpec(("fsdp",), None)),
        "bias": NamedSharding(mesh, PartitionSpec(None)),
    }
    assert check_replication(shapes, split, mesh, max_replicated=0.2) == pytest.approx(8 / 72)
    whole = parameter_shardings(boxed, mesh, PRESETS["replicated"])
    with pytest.raises(UserError, match=r"100% of the parameter bytes stay replicated on a mesh with fsdp=4"):
        check_replication(shapes, whole, mesh, max_replicated=0.2)
    copies = abstract_mesh(data=8)  # a mesh that does not split parameters may copy them all
    assert check_replication(
        shapes, parameter_shardings(boxed, copies, PRESETS["fsdp"]), copies, max_replicated=0
    )


def test_constraints_reach_the_program_under_activate():
    # One device is enough to see that mesh and rules are both in place; tests/training uses eight.
    config = ShardingConfig(rules="fsdp")
    with activate(config.make_mesh(jax.devices()[:1]), config.make_rules()):
        x = jnp.ones((4, 8))
        text = str(jax.make_jaxpr(lambda x: nn.with_logical_constraint(x, ("batch", "embed")))(x))
        constrain(x, "batch", "embed")
    assert "sharding_constraint" in text
    # The rows take (data, fsdp), so the width of an activation stays whole although `embed` is split.
    assert "('data', 'fsdp')" in text
    assert "None" in text
