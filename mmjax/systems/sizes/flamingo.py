"""Flamingo as its paper describes it (Alayrac et al. 2022, tables 4 and 5, appendix A.1), and OpenFlamingo.

What is added to the frozen models follows from the paper: shapes, squared ReLU, heads of 96 (resampler) and
128 (all else), 64 latents, embeddings of 8 frames. Table 5 agrees with that only in the cross-attention of 3B
(1.2B). For 9B it says 1.6B, where the text and the shapes give 1.8B; for 80B it says 10B, where the shapes
give 8.4B; and its resampler has 194M, where the shapes give 170M.

The vision encoder is NFNet-F6 at the 320 pixels that Flamingo trains on: 10 x 10 features of width 1536. Its
count, with the final convolution and without any projection, is the published 435M.

Chinchilla is not public in full: its positions are relative with learned maps (Transformer-XL), and its
vocabulary is not released. What stands here for it has rotary positions, RMSNorm, layers without biases and
32,000 tokens, so its count is not the published one.
"""

import dataclasses

from mmjax.language.decoder import DecoderConfig
from mmjax.layers.nfnet import nfnet
from mmjax.layers.queries import ResamplerConfig, resampler_transformer
from mmjax.layers.transformer import TransformerConfig
from mmjax.systems.flamingo import Flamingo
from mmjax.systems.sizes import openflamingo

_FEATURES = 1536
_ADDED = dict(activation="relu_squared", dtype="bfloat16")  # the shapes that the paper adds


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishedFlamingo(Flamingo):
    """Counted as the paper's numbers can be read: the weight matrices and latents of what is added.

    Its norms, gates and frame embeddings, which the paper does not count, are a part of their own.
    """

    def part(self, path):
        part = super().part(path)
        is_counted = path.endswith(("/kernel", "/latents")) or part in ("vision", "language")
        return part if is_counted else "norms_gates_frames"


def _flamingo(depth: int, width: int, heads: int, *, cross_every: int) -> Flamingo:
    return PublishedFlamingo(
        vision=nfnet(6, image_size=320, dtype="bfloat16"),
        resampler=ResamplerConfig(
            queries=64,
            frames=8,
            transformer=resampler_transformer(depth=6, width=_FEATURES, heads=16, head_dim=96, **_ADDED),
        ),
        language=DecoderConfig(
            vocabulary_size=32000,
            context_length=2048,
            transformer=TransformerConfig(
                depth=depth,
                width=width,
                heads=heads,
                norm="rms",
                activation="gelu",
                attention_bias=False,
                mlp_bias=False,
                rope_base=10000.0,
                dtype="bfloat16",
            ),
            cross_every=cross_every,
            cross=TransformerConfig(
                depth=depth, width=width, heads=heads, attention_bias=False, mlp_bias=False, **_ADDED
            ),
        ),
    )


SIZES = {
    "3B": _flamingo(24, 2048, 16, cross_every=1),
    "9B": _flamingo(40, 4096, 32, cross_every=4),
    "80B": _flamingo(80, 8192, 64, cross_every=7),
} | {f"OpenFlamingo-{name}": system for name, system in openflamingo.SIZES.items()}
