"""The name tables of the transformer and autoencoder of diffusers: each tensor in its shape."""

import jax
import pytest
from flax import linen as nn

from mmjax.diffusion.denoiser import DenoiserConfig
from mmjax.interop.names import reference_shapes
from mmjax.interop.tables.autoencoder import autoencoder
from mmjax.interop.tables.dit import dit
from mmjax.layers.transformer import TransformerConfig
from mmjax.systems.autoencoder import Autoencoder
from mmjax.systems.dit import DiT

pytestmark = pytest.mark.parity
pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")


def ours(system):
    return nn.meta.unbox(jax.eval_shape(system.init, jax.random.key(0)))


def theirs(model):
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def test_transformer():
    model = diffusers.DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, num_layers=3, out_channels=8, num_embeds_ada_norm=5
    )
    transformer = TransformerConfig(depth=3, width=16, heads=2)
    denoiser = DenoiserConfig(image_size=32, patch=2, channels=4, classes=5, transformer=transformer)
    assert reference_shapes(ours(DiT(denoiser=denoiser))["denoiser"], dit(3)) == theirs(model)


def test_autoencoder():
    model = diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(4, 8, 8),
        layers_per_block=2,
        norm_num_groups=2,
    )
    system = Autoencoder(image_size=32, width=4, multipliers=(1, 2, 2), groups=2)
    assert reference_shapes(ours(system), autoencoder(3, 2)) == theirs(model)
