"""The KL autoencoder, as diffusers lays it out."""

from collections.abc import Mapping

from mmjax.interop.names import At, conv, under

_BLOCK = {
    "norm_1": "norm1",
    "conv_1": conv("conv1"),
    "norm_2": "norm2",
    "conv_2": conv("conv2"),
    "shortcut": conv("conv_shortcut"),
}
# Releases of Stable Diffusion 1 have the second names, which diffusers renames when it loads them.
ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "output": "to_out.0"}
OLD_ATTENTION = {"query": "query", "key": "key", "value": "value", "output": "proj_attn"}


def autoencoder(levels: int, blocks: int, attention: Mapping[str, str] = ATTENTION) -> dict[str, str | At]:
    """The table of an `Autoencoder` with so many levels, and residual blocks per level of the encoder."""
    table: dict[str, str | At] = {"to_moments": conv("quant_conv"), "from_latent": conv("post_quant_conv")}
    for ours, count, resampler in (("encoder", blocks, "down"), ("decoder", blocks + 1, "up")):
        names = {
            "input": conv("conv_in"),
            **under("middle_0", _BLOCK, "mid_block.resnets.0."),
            "middle_attention/norm": "mid_block.attentions.0.group_norm",
            **under("middle_attention", attention, "mid_block.attentions.0."),
            **under("middle_1", _BLOCK, "mid_block.resnets.1."),
            "norm": "conv_norm_out",
            "output": conv("conv_out"),
        }
        for level in range(levels):
            theirs = f"{resampler}_blocks.{level}."
            names[f"{resampler}_{level}_resample/conv"] = conv(f"{theirs}{resampler}samplers.0.conv")
            for block in range(count):
                names |= under(f"{resampler}_{level}_{block}", _BLOCK, f"{theirs}resnets.{block}.")
        table |= under(ours, names, f"{ours}.")
    return table
