"""OpenFlamingo (Awadalla et al. 2023; `open_flamingo/src`): CLIP L/14, a resampler, and gated cross-attention
before the last of every k layers of an open language model.

3B and 9B stand on MPT; 4B on RedPajama-INCITE-3B, a GPT-NeoX with sequential residuals and full rotary
positions. Each token table is cut to the tokenizer's 50,277 tokens and three more, all of whose rows train.
"""

import dataclasses

from mmjax.language.decoder import DecoderConfig
from mmjax.layers.queries import ResamplerConfig, resampler_transformer
from mmjax.layers.transformer import TransformerConfig
from mmjax.systems.flamingo import Flamingo
from mmjax.systems.sizes import clip, mpt

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
_REDPAJAMA = DecoderConfig(
    vocabulary_size=50432,
    context_length=2048,
    tied=False,
    transformer=TransformerConfig(
        depth=32, width=2560, heads=32, activation="gelu", rope_base=10000.0, dtype="bfloat16"
    ),
)
_TOKENS = 50277  # of the GPT-NeoX tokenizer


def _open_flamingo(language: DecoderConfig, *, cross_every: int) -> Flamingo:
    vocabulary = _TOKENS + 3
    return Flamingo(
        vision=VISION,
        resampler=RESAMPLER,
        language=dataclasses.replace(
            language,
            vocabulary_size=vocabulary,
            cross_every=cross_every,
            cross_first=cross_every - 1,
            cross=TransformerConfig(
                depth=language.transformer.depth // cross_every,
                width=language.transformer.width,
                heads=8,
                head_dim=64,
                activation="gelu",
                attention_bias=False,
                mlp_bias=False,
                dtype="bfloat16",
            ),
        ),
        trained_rows=(0, vocabulary),
        eos_token=_TOKENS,  # <|endofchunk|>
        image_token=_TOKENS + 1,
        pad_token=_TOKENS + 2,
    )


SIZES = {
    "3B": _open_flamingo(mpt.SIZES["1B"].decoder, cross_every=1),
    "4B": _open_flamingo(_REDPAJAMA, cross_every=2),
    "9B": _open_flamingo(mpt.SIZES["7B"].decoder, cross_every=4),
}
