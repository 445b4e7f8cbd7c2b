"""Multiply-adds against counts made by hand, and against another way of writing the same computation."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec as P

from mmjax.flops import multiply_adds, training_multiply_adds


def array(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def layer(x, kernel):
    return jax.nn.relu(x @ kernel)


def test_a_matrix_product():
    assert multiply_adds(jnp.matmul, array(3, 5), array(5, 7)) == 3 * 5 * 7


def test_batched_and_contracted_axes_count_once():
    # Attention logits: for B and H, T x S outputs of K terms each.
    count = multiply_adds(
        lambda q, k: jnp.einsum("BTHK,BSHK->BHTS", q, k), array(2, 3, 4, 8), array(2, 5, 4, 8)
    )
    assert count == 2 * 4 * 3 * 5 * 8


def test_convolutions():
    def convolve(x, kernel, **options):
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, kernel, (2, 2), "SAME", dimension_numbers=numbers, **options)

    assert multiply_adds(convolve, array(2, 8, 8, 6), array(3, 3, 6, 10)) == 2 * 4 * 4 * 10 * (3 * 3 * 6)

    def depthwise(x, kernel):
        return convolve(x, kernel, feature_group_count=6)

    assert multiply_adds(depthwise, array(2, 8, 8, 6), array(3, 3, 1, 6)) == 2 * 4 * 4 * 6 * (3 * 3)


def test_elementwise_work_is_free():
    assert multiply_adds(lambda x: jnp.exp(x) * x + jnp.sum(x), array(1000)) == 0


def test_a_scanned_stack_costs_what_the_unrolled_one_does():
    def unrolled(x, kernels):
        for kernel in kernels:
            x = layer(x, kernel)
        return x

    def scanned(x, kernels):
        return jax.lax.scan(lambda x, kernel: (layer(x, kernel), None), x, kernels)[0]

    def nested(x, kernels):
        grouped = kernels.reshape(3, 2, *kernels.shape[1:])
        return jax.lax.scan(lambda x, kernels: (scanned(x, kernels), None), x, grouped)[0]

    counts = {multiply_adds(f, array(4, 16), array(6, 16, 16)) for f in (unrolled, scanned, nested)}
    assert counts == {6 * 4 * 16 * 16}


def own_jvp(function):
    wrapped = jax.custom_jvp(function)
    wrapped.defjvp(lambda primals, tangents: jax.jvp(function, primals, tangents))
    return wrapped


def own_vjp(function):
    wrapped = jax.custom_vjp(function)
    wrapped.defvjp(lambda *arguments: jax.vjp(function, *arguments), lambda pull, ct: pull(ct))
    return wrapped


@pytest.mark.parametrize("wrap", [jax.jit, jax.checkpoint, own_jvp, own_vjp])
def test_wrappers_are_looked_into(wrap):
    assert multiply_adds(wrap(layer), array(2, 3), array(3, 5)) == 2 * 3 * 5


def test_gradients_of_a_linear_layer_cost_twice_its_forward_pass():
    def loss(kernel, x):
        return jnp.sum(jnp.square(x @ kernel))

    forward = multiply_adds(loss, array(3, 5), array(2, 3))
    assert multiply_adds(jax.grad(loss, (0, 1)), array(3, 5), array(2, 3)) == 3 * forward


def test_recomputation_counts():
    def loss(kernel, x):
        return jnp.sum(jnp.sin(jnp.sin(x @ kernel) @ kernel))

    plain = multiply_adds(jax.grad(loss), array(4, 4), array(2, 4))
    remat = multiply_adds(jax.grad(jax.checkpoint(loss)), array(4, 4), array(2, 4))
    assert (plain, remat) == (5 * 32, 7 * 32)  # both products once more


def test_the_dearest_branch_of_a_conditional():
    def choose(x, kernel):
        return jax.lax.cond(x[0, 0] > 0, lambda: x @ kernel @ kernel, lambda: x)

    assert multiply_adds(choose, array(2, 4), array(4, 4)) == 2 * (2 * 4 * 4)


def test_all_devices_of_a_shard_map():
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharded = jax.shard_map(jnp.matmul, mesh=mesh, in_specs=(P("data"), P()), out_specs=P("data"))
    assert multiply_adds(sharded, array(6, 3), array(3, 5)) == 6 * 3 * 5


def test_a_loop_of_unknown_length():
    def powers(x):
        return jax.lax.while_loop(lambda x: x[0, 0] < 1, lambda x: x @ x, x)

    with pytest.raises(ValueError, match="while_loop"):
        multiply_adds(powers, array(4, 4))
    assert multiply_adds(lambda x: jax.lax.while_loop(lambda x: x < 1, lambda x: 2 * x, x), array()) == 0


def test_shapes_are_enough():
    """A product of which neither factor would fit into any memory."""
    assert multiply_adds(jnp.matmul, array(10**9, 10**9), array(10**9, 1)) == 10**18


def test_training_costs_two_more_products_where_both_factors_are_trained_and_one_with_data_or_frozen():
    x, frozen, kernels = array(4, 8), array(8, 8), array(3, 8, 8)
    product = 4 * 8 * 8

    def loss(kernels, frozen, x):
        x = layer(x, frozen)  # nothing trained before it: forward only
        x = jax.lax.scan(jax.checkpoint(lambda x, kernel: (layer(x, kernel), None)), x, kernels)[0]
        return jnp.sum(layer(x, frozen)) + jnp.sum(jax.lax.stop_gradient(kernels[0]) @ frozen)

    # The first of the scanned layers reads data, but a scan differentiates all of its iterations alike.
    forward_only = product + 8 * 8 * 8
    assert training_multiply_adds(loss, kernels, frozen, x) == forward_only + (3 * 3 + 2) * product


def test_training_through_hand_written_derivatives_counts_what_they_replace():
    @jax.custom_vjp
    def product(x, kernel):
        return x @ kernel

    product.defvjp(lambda x, kernel: (x @ kernel, None), lambda _, gradient: (gradient, gradient))
    count = training_multiply_adds(lambda kernel, x: product(x, kernel).sum(), array(8, 8), array(4, 8))
    assert count == 2 * 4 * 8 * 8


def test_training_agrees_with_the_gradient_as_jax_writes_it():
    def loss(kernels, x):
        for kernel in kernels:
            x = layer(x, kernel)
        return jnp.sum(x)

    kernels, x = [array(8, 16), array(16, 4)], array(5, 8)
    assert training_multiply_adds(loss, kernels, x) == multiply_adds(jax.grad(loss), kernels, x)
