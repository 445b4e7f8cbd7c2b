"""The normaliser-free network of timm in DeepMind's layout."""

import numpy as np

from tools.golden.isolated import modules
from tools.golden.reference import integers, reference


@reference
def nfnet(
    record,
    seed,
    batch=2,
    size=64,
    depths=(1, 1, 2, 1),
    widths=(16, 16, 16, 32),
    stem=8,
    group=8,
    final=24,
):
    """Without its classifier; pictures are bytes, which the tower reads as -1 ... 1."""
    packages = ("timm", "timm.models", "timm.data")
    (code,) = modules("timm.models.nfnet", packages=packages, constants=("timm.data.constants",))
    config = code.NfCfg(
        depths=depths,
        channels=widths,
        stem_type="deep_quad",
        stem_chs=stem,
        group_size=group,
        bottle_ratio=0.5,
        extra_conv=True,
        gamma_in_act=True,
        same_padding=True,
        skipinit=True,
        num_features=final,
        act_layer="gelu",
        attn_layer="se",
        attn_kwargs=dict(rd_ratio=0.5),
    )
    module, seen = code.NormFreeNet(config, num_classes=0), {}
    module.stages.register_forward_hook(lambda _, __, output: seen.update(grid=output))

    def run(forward, i):
        pooled = forward((i["image"] / 127.5 - 1).permute(0, 3, 1, 2))
        return {"features": seen["grid"].flatten(2).transpose(1, 2), "pooled": pooled}

    return record(module, {"image": integers(seed, 0, 256, batch, size, size, 3).astype(np.uint8)}, run)
