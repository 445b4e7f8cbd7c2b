"""DiT as diffusers lays it out: the `transformer` folder of a pipeline (`DiTTransformer2DModel`).

The weights were trained with DiT's own code, so that is what we compute. The port differs from it in two
places: its blocks take the epsilon of their second norm from `norm_eps`, which released configs leave at 1e-5
(DiT: 1e-6 throughout), and its frequencies of time end at exactly 1 / 10000 (DiT: a little before).
"""

from typing import Any

from mmjax.diffusion.denoiser import DenoiserConfig
from mmjax.interop.family import Config, Family
from mmjax.interop.names import under
from mmjax.interop.pixels import Pixels
from mmjax.interop.tables.dit import dit as table
from mmjax.layers.transformer import TransformerConfig
from mmjax.systems.dit import DiT

DEFAULTS = dict(
    num_attention_heads=16,
    attention_head_dim=72,
    in_channels=4,
    num_layers=28,
    sample_size=32,
    patch_size=2,
    num_embeds_ada_norm=1000,
)


def _read(config: Config, pixels: Pixels | None) -> DiT:
    c = DEFAULTS | config
    heads, channels = c["num_attention_heads"], c["in_channels"]
    if c.get("out_channels", 2 * channels) != 2 * channels:
        raise ValueError("out_channels is not twice in_channels, so it has no learned variance")
    return DiT(
        denoiser=DenoiserConfig(
            image_size=c["sample_size"],
            patch=c["patch_size"],
            channels=channels,
            classes=c["num_embeds_ada_norm"],
            transformer=TransformerConfig(
                depth=c["num_layers"], width=heads * c["attention_head_dim"], heads=heads, epsilon=1e-6
            ),
        )
    )


def _write(system: DiT) -> dict[str, Any]:
    d, t = system.denoiser, system.denoiser.transformer
    return {
        "_class_name": "DiTTransformer2DModel",
        "activation_fn": "gelu-approximate",
        "attention_bias": True,
        "attention_head_dim": t.width // t.heads,
        "in_channels": d.channels,
        "norm_elementwise_affine": False,
        "norm_type": "ada_norm_zero",
        "num_attention_heads": t.heads,
        "num_embeds_ada_norm": d.classes,
        "num_layers": t.depth,
        "out_channels": 2 * d.channels,
        "patch_size": d.patch,
        "sample_size": d.image_size,
    }


def _table(system: DiT) -> dict[str, Any]:
    return under("denoiser", table(system.denoiser.transformer.depth, system.denoiser.channels))


FAMILIES = (
    Family(
        name="DiTTransformer2DModel",
        kind=DiT,
        read=_read,
        write=_write,
        tables=lambda system: (_table(system),),
        stem="diffusion_pytorch_model",
    ),
)
