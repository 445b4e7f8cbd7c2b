"""DiT as published (Peebles & Xie 2023, table 1): on the latents of `kl_autoencoder` f8 of ImageNet pictures.

The autoencoder is a model of its own and is not counted; join the two with `dataclasses.replace(dit,
autoencoder=...)`.
"""

from mmjax.diffusion.denoiser import DenoiserConfig
from mmjax.layers.transformer import TransformerConfig
from mmjax.systems.dit import DiT

_STACKS = {"S": (12, 384, 6), "B": (12, 768, 12), "L": (24, 1024, 16), "XL": (28, 1152, 16)}


def _dit(stack: str, patch: int, latent: int = 32) -> DiT:
    depth, width, heads = _STACKS[stack]
    transformer = TransformerConfig(depth=depth, width=width, heads=heads, epsilon=1e-6, dtype="bfloat16")
    return DiT(
        denoiser=DenoiserConfig(
            image_size=latent, patch=patch, channels=4, classes=1000, transformer=transformer
        )
    )


SIZES = {f"{stack}/{patch}": _dit(stack, patch) for stack in _STACKS for patch in (2, 4, 8)}
SIZES["XL/2-512"] = _dit("XL", 2, latent=64)
