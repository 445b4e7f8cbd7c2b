"""IDEFICS, the open Flamingo of Hugging Face (Laurençon et al. 2023), on OpenCLIP's H/14 and LLaMA.

Two tokens are added to LLaMA's: <fake_token_around_image> (32000) and <image> (32001).
"""

import dataclasses

from mmjax.layers.queries import ResamplerConfig, resampler_transformer
from mmjax.systems.flamingo import Flamingo
from mmjax.systems.language_model import LanguageModel
from mmjax.systems.sizes import llama, openclip


def _idefics(language: LanguageModel, *, cross_every: int) -> Flamingo:
    vision = dataclasses.replace(openclip.SIZES["ViT-H/14"].vision, features="states")
    transformer = language.decoder.transformer
    return Flamingo(
        vision=vision,
        resampler=ResamplerConfig(
            queries=64,
            transformer=resampler_transformer(
                depth=6,
                width=vision.transformer.width,
                heads=16,
                head_dim=96,
                activation="relu",
                qk_norm="layer",
                dtype=transformer.dtype,
            ),
        ),
        language=dataclasses.replace(
            language.decoder,
            added_tokens=2,
            cross_every=cross_every,
            cross=dataclasses.replace(transformer, rope_base=None, qk_norm="rms", gate="tanh"),
        ),
        image_token=32001,
        trained_rows=None,
    )


SIZES = {
    "9B": _idefics(llama.SIZES["1-7B"], cross_every=4),
    "80B": _idefics(llama.SIZES["1-65B"], cross_every=4),
}
