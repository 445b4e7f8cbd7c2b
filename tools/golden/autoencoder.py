"""The KL autoencoder of diffusers, with the two terms of its loss."""

import diffusers

from tools.golden.reference import arrays, reference

DIVERGENCE = 0.1  # its weight: enough for its gradient to count


class _Measured(diffusers.AutoencoderKL):
    """Encodes, decodes the mean, and measures both; diffusers itself has no loss for its autoencoder."""

    def forward(self, image):
        posterior = self.encode(image).latent_dist
        back = self.decode(posterior.mode()).sample
        # The divergence is diffusers' own; latent diffusion sums both terms over a picture.
        loss = (back - image).abs().sum((1, 2, 3)).mean() + DIVERGENCE * posterior.kl().mean()
        outputs = {"mean": posterior.mean, "log_variance": posterior.logvar, "image": back}
        return {name: y.permute(0, 2, 3, 1) for name, y in outputs.items()} | {"loss": loss}


@reference
def autoencoder(record, seed, batch=2, size=8, channels=3, latent=3, widths=(3, 6), blocks=1, groups=3):
    """Moments, the picture back from the mean, and a loss of both.

    The sides of a picture are different: `size` and half of it more, which tells rows from columns.
    """
    model = _Measured(
        in_channels=channels,
        out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        block_out_channels=tuple(widths),
        layers_per_block=blocks,
        latent_channels=latent,
        norm_num_groups=groups,
    )

    def run(forward, i):
        return forward(i["image"].permute(0, 3, 1, 2))

    return record(model, {"image": arrays(seed)(batch, size, size * 3 // 2, channels)}, run)
