"""The KL autoencoders of latent diffusion (Rombach et al. 2022)."""

from mmjax.reproduce.row import Row

_CODE = "CompVis/latent-diffusion:ldm/modules/diffusionmodules/model.py, instantiated"

_COUNTS = tuple(
    Row(
        id=f"autoencoder/KL-{size}/parameters/{part or 'total'}",
        what=f"parameters, {part or 'total'}",
        source=_CODE,
        expected=expected,
        compute="counts.parameters",
        of=("kl_autoencoder", size, part),
    )
    for size, part, expected in (
        ("f4", None, 55_312_063),
        ("f8", None, 83_653_863),
        ("f8", "encoder", 34_163_592),
        ("f8", "decoder", 49_490_179),
    )
)

_OTHER = (
    Row(
        id="autoencoder/KL-f8/scale",
        what="factor of the latents",
        source="CompVis/stable-diffusion:configs; facebookresearch/DiT:train.py",
        expected=0.18215,
        compute="configs.field",
        of=("kl_autoencoder", "f8", "scale"),
    ),
    Row(
        id="autoencoder/KL-f8/latent",
        what="rows, columns and channels of the latent of a 256-pixel picture",
        source="Rombach et al. 2022, table 8",
        expected=(32, 32, 4),
        compute="configs.field",
        of=("kl_autoencoder", "f8", "latent_shape"),
    ),
    Row(
        id="autoencoder/KL-f4/latent",
        what="rows, columns and channels of the latent of a 256-pixel picture",
        source="Rombach et al. 2022, table 8",
        expected=(64, 64, 3),
        compute="configs.field",
        of=("kl_autoencoder", "f4", "latent_shape"),
    ),
)

ROWS = (*_COUNTS, *_OTHER)
