"""OpenFlamingo (Awadalla et al. 2023; `open_flamingo/src`): CLIP L/14, a resampler, and gated cross-attention
before the last of every k layers of an open language model.

4B is whole: RedPajama-INCITE-3B is a GPT-NeoX with sequential residuals and full rotary positions. The others
stand on MPT, whose positions are linear biases (ALiBi), and 3B's normalises queries and keys over all
heads at once; of these two sizes there is what OpenFlamingo adds to them (`Adapters`), which is also what it
trains and releases, but for the token table.
"""

import dataclasses

import jax
import jax.numpy as jnp

from mmjax.language.decoder import DecoderConfig
from mmjax.layers.queries import PerceiverResampler, ResamplerConfig, resampler_transformer
from mmjax.layers.transformer import Inputs, Stack, TransformerConfig
from mmjax.systems.flamingo import Flamingo
from mmjax.systems.sizes import clip
from mmjax.systems.system import System

VISION = dataclasses.replace(clip.SIZES["ViT-L/14"].vision, features="patches")
RESAMPLER = ResamplerConfig(
    queries=64,
    transformer=resampler_transformer(
        depth=6,
        width=VISION.transformer.width,
        heads=8,
        head_dim=64,
        activation="gelu",
        dtype="bfloat16",
    ),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adapters(System):
    """The resampler and the gated blocks alone, for a language model that lives elsewhere.

    Attributes:
      cross: all blocks as one stack; its depth is their number.
    """

    resampler: ResamplerConfig
    cross: TransformerConfig

    def init(self, key):
        features = jnp.zeros((1, 1, 1, 1, self.resampler.transformer.width))
        states = jnp.zeros((1, 1, self.cross.width))
        keys = jax.random.split(key)
        return {
            "resampler": PerceiverResampler(self.resampler).init(keys[0], features)["params"],
            "cross_attention": Stack(self.cross).init(keys[1], states, Inputs(context=features[0, 0]))[
                "params"
            ],
        }


def _cross(width: int, blocks: int) -> TransformerConfig:
    return TransformerConfig(
        depth=blocks,
        width=width,
        heads=8,
        head_dim=64,
        sublayers=("cross", "mlp"),
        gate="tanh",
        activation="gelu",
        attention_bias=False,
        mlp_bias=False,
        dtype="bfloat16",
    )


def _adapters(width: int, blocks: int) -> Adapters:
    return Adapters(resampler=RESAMPLER, cross=_cross(width, blocks))


_REDPAJAMA = DecoderConfig(
    vocabulary_size=50432,
    context_length=2048,
    tied=False,
    transformer=TransformerConfig(
        depth=32, width=2560, heads=32, activation="gelu", rope_base=10000.0, dtype="bfloat16"
    ),
    cross_every=2,
    cross_first=1,
    cross=_cross(2560, 16),
)
SIZES = {
    "3B-adapters": _adapters(2048, 24),  # on MPT-1B, before each layer
    "4B": Flamingo(
        vision=VISION,
        resampler=RESAMPLER,
        language=_REDPAJAMA,
        trained_rows=(0, 50432),
        image_token=50278,
        eos_token=50277,  # <|endofchunk|>
        pad_token=50279,
    ),
    "9B-adapters": _adapters(4096, 8),  # on MPT-7B, before the last of every 4 layers
}
