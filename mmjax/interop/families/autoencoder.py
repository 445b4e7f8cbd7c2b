"""The KL autoencoder as diffusers lays it out: the `vae` folder of a pipeline (`AutoencoderKL`)."""

from typing import Any

from mmjax.interop.family import Config, Family
from mmjax.interop.pixels import Pixels
from mmjax.interop.tables.autoencoder import ATTENTION, OLD_ATTENTION
from mmjax.interop.tables.autoencoder import autoencoder as table
from mmjax.systems.autoencoder import Autoencoder

DEFAULTS = dict(
    in_channels=3,
    out_channels=3,
    block_out_channels=(64,),
    layers_per_block=1,
    latent_channels=4,
    norm_num_groups=32,
    sample_size=32,
    scaling_factor=0.18215,
    act_fn="silu",
)
_ON = ("use_quant_conv", "use_post_quant_conv", "mid_block_add_attention")


def _read(config: Config, pixels: Pixels | None) -> Autoencoder:
    c = DEFAULTS | config
    widths = c["block_out_channels"]
    if any(width % widths[0] for width in widths):
        raise ValueError(f"block_out_channels are {list(widths)}, no multiples of the first")
    if c["act_fn"] != "silu" or c["out_channels"] != c["in_channels"] or c.get("shift_factor"):
        raise ValueError(
            "act_fn, out_channels or shift_factor is not that of a KL autoencoder of latent diffusion"
        )
    for name in _ON:
        if not c.get(name, True):
            raise ValueError(f"{name} is false")
    return Autoencoder(
        image_size=c["sample_size"],
        channels=c["in_channels"],
        latent=c["latent_channels"],
        width=widths[0],
        multipliers=tuple(width // widths[0] for width in widths),
        blocks=c["layers_per_block"],
        groups=c["norm_num_groups"],
        scale=c["scaling_factor"],
    )


def _write(system: Autoencoder) -> dict[str, Any]:
    levels = len(system.multipliers)
    return {
        "_class_name": "AutoencoderKL",
        "act_fn": "silu",
        "block_out_channels": [system.width * multiplier for multiplier in system.multipliers],
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "in_channels": system.channels,
        "out_channels": system.channels,
        "latent_channels": system.latent,
        "layers_per_block": system.blocks,
        "norm_num_groups": system.groups,
        "sample_size": system.image_size,
        "scaling_factor": system.scale,
    }


def _tables(system: Autoencoder) -> tuple[dict[str, Any], ...]:
    return tuple(
        table(len(system.multipliers), system.blocks, attention) for attention in (ATTENTION, OLD_ATTENTION)
    )


FAMILIES = (
    Family(
        name="AutoencoderKL",
        kind=Autoencoder,
        read=_read,
        write=_write,
        tables=_tables,
        stem="diffusion_pytorch_model",
    ),
)
