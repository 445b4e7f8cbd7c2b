"""What the backward pass recomputes changes neither the loss nor its gradient, only what is kept."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import pytest
from jax.ad_checkpoint import print_saved_residuals
from perturbed import normal, parameters

from mmjax.layers.masks import SelfMask
from mmjax.layers.transformer import REMAT_POLICIES, Block, Inputs, Stack, TransformerConfig

CONFIG = TransformerConfig(depth=3, width=16, heads=2, mlp_width=24, gated_mlp=True, rope_base=1e4)
X, INPUTS = normal(0, 2, 5, 16), Inputs(mask=SelfMask(order="causal"))


def gradients(remat):
    stack = Stack(dataclasses.replace(CONFIG, remat=remat))
    params = parameters(stack, X, INPUTS)

    def loss(params, x):
        return jnp.sum(jnp.square(stack.apply({"params": params}, x, INPUTS)[0]))

    return jax.jit(jax.value_and_grad(loss, (0, 1)))(params, X)


@pytest.fixture(scope="module")
def plain():
    return gradients(None)


@pytest.mark.parametrize("policy", REMAT_POLICIES)
def test_every_policy_gives_the_same_gradient(policy, plain):
    chex.assert_trees_all_close(gradients(policy), plain, rtol=1e-5, atol=1e-5)


def kept(capsys, attention):
    """How many arrays each policy keeps of a block."""
    block = Block(dataclasses.replace(CONFIG, attention=attention))
    params = parameters(block, X, None, INPUTS)
    counts = {}
    for name, policy in REMAT_POLICIES.items():
        run = jax.checkpoint(
            lambda params, x: block.apply({"params": params}, x, None, INPUTS)[0].sum(), policy=policy
        )
        print_saved_residuals(run, params, X)
        lines = capsys.readouterr().out.splitlines()
        counts[name] = sum("argument" not in line and "constant" not in line for line in lines)
    return counts


def test_policies_keep_what_they_say(capsys):
    counts = kept(capsys, "xla")
    assert counts["full"] == 0
    assert counts["attention"] == 3  # queries, keys and values
    assert counts["dots_attention"] == counts["dots"]


def test_what_a_kernel_for_short_sequences_read_is_kept(capsys):
    counts = kept(capsys, "short")
    assert counts["attention"] == 3 + 1
    assert counts["dots_attention"] == counts["dots"] + 1


def test_what_a_kernel_for_long_sequences_read_is_kept_with_its_logsumexp(capsys):
    counts = kept(capsys, "splash")
    assert counts["attention"] == 3 + 2
    assert counts["dots_attention"] == counts["dots"] + 2
