"""Normaliser-free networks without their classifier, as timm lays them out (`dm_nfnet_f0` to `_f6`)."""

from mmjax.interop.names import At, under


def _conv(ours: str, theirs: str, first: int = 0) -> dict:
    """A scaled convolution: kernel, bias, and a gain that has the shape of a kernel there."""
    return {
        ours: At(theirs, axes=(2, 3, 1, 0), first=first),
        f"{ours}/gain": At(f"{theirs}.gain", shape=(-1, 1, 1, 1), first=first),
    }


def _block(first: int = 0) -> dict:
    names = {"conv1": "conv1", "conv2": "conv2", "conv3": "conv2b", "conv4": "conv3"}
    convolutions = [_conv(ours, theirs, first) for ours, theirs in names.items()]
    return {
        **{path: at for conv in convolutions for path, at in conv.items()},
        **_conv("shortcut", "downsample.conv"),
        "squeeze_excite/down": At("attn_last.fc1", axes=(2, 3, 1, 0), first=first),
        "squeeze_excite/up": At("attn_last.fc2", axes=(2, 3, 1, 0), first=first),
        "gain": At("skipinit_gain", first=first),
    }


NFNET = {
    **{path: at for i in (1, 2, 3, 4) for path, at in _conv(f"stem_conv{i}", f"stem.conv{i}").items()},
    **{
        path: at
        for i in range(4)
        for path, at in {
            **under(f"stage{i + 1}/first", _block(), f"stages.{i}.0."),
            **under(f"stage{i + 1}/layers", _block(first=1), f"stages.{i}.{{}}."),
        }.items()
    },
    **_conv("final", "final_conv"),
}
