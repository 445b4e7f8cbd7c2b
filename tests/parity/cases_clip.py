"""The mmjax side of the CLIP recordings in OpenAI's layout.

Hugging Face has no port of the residual towers, so the reference is open_clip, which kept OpenAI's code.
"""

import jax
import jax.numpy as jnp
from cases import Case, contrastive

from mmjax.interop.tables import openai_clip
from mmjax.interop.tables.nfnet import NFNET
from mmjax.layers.nfnet import NFNetConfig
from mmjax.layers.resnet import ResNetConfig
from mmjax.layers.transformer import TransformerConfig
from mmjax.layers.vision import VisionConfig
from mmjax.objectives.contrastive import softmax_contrastive
from mmjax.systems.clip import CLIP, TextConfig
from mmjax.training.optimizers import split, track, treat


def _text(sizes, activation, **options):
    return TextConfig(
        vocabulary_size=sizes["vocabulary"],
        length=sizes["length"],
        eos_token=sizes["vocabulary"] - 1,
        transformer=TransformerConfig(
            depth=sizes["depth"], width=sizes["width"], heads=sizes["heads"], activation=activation, **options
        ),
    )


def open_clip(sizes, **options):
    activation = "quick_gelu" if sizes["quick_gelu"] else "gelu"
    tower = TransformerConfig(
        depth=sizes["depth"],
        width=sizes["vision"],
        heads=sizes["vision"] // sizes["head_dim"],
        mlp_width=int(sizes["vision"] * sizes["mlp_ratio"]),
        activation=activation,
        **options,
    )
    system = CLIP(
        embedding=sizes["embedding"],
        vision=VisionConfig(
            image_size=sizes["size"],
            patch=sizes["patch"],
            pre_norm=True,
            patch_bias=False,
            transformer=tower,
        ),
        text=_text(sizes, activation, **options),
    )
    return contrastive(system, openai_clip.CLIP, sizes["depth"])


def clip_resnet(sizes, **options):
    tower = ResNetConfig(
        image_size=sizes["size"],
        depths=tuple(sizes["depths"]),
        width=sizes["vision"],
        head_dim=sizes["head_dim"],
        embedding=sizes["embedding"],
    )
    system = CLIP(
        embedding=sizes["embedding"],
        vision=tower,
        vision_projection=False,
        text=_text(sizes, "quick_gelu", **options),
    )

    def run(apply, i):
        image, text = apply(i["image"], i["tokens"])
        params = apply.params
        total, count = softmax_contrastive(image, text, jnp.exp(params["logit_scale"]))
        outputs = {"image": image, "text": text, "loss": total / count}
        outputs = {f"evaluated_{name}": y for name, y in outputs.items()}

        batch = {"image": i["image"][:, None], "tokens": i["tokens"]}
        terms, others = system.loss(params, batch, None)
        ((_, total, count),) = terms.values()
        treatments = treat(system.treatments(), params)
        _, frozen = split(params, treatments)
        moved = jax.lax.stop_gradient(track(frozen, others["tracked"], treatments, where=True))["vision"]
        return {
            **outputs,
            "trained_loss": total / count,
            "mean": moved["stem_norm1"]["mean"],
            "var": moved["stage2"]["layers"]["norm2"]["var"][0],
        }

    return Case(module=system.module, run=run, table=openai_clip.RESNET_CLIP, depth=sum(sizes["depths"]))


def nfnet(sizes, **options):
    """timm differs from the released code in the GELU and in what keeps a kernel's variance from zero."""
    config = NFNetConfig(
        image_size=sizes["size"],
        depths=tuple(sizes["depths"]),
        widths=tuple(sizes["widths"]),
        stem=sizes["stem"],
        group=sizes["group"],
        final=sizes["final"],
        epsilon=1e-5,
        activation="gelu",
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    )

    def run(apply, i):
        features, pooled = apply(i["image"])
        return {"features": features, "pooled": pooled}

    return Case(module=config.tower(), run=run, table=NFNET, depth=sum(sizes["depths"]))


CASES = {f.__name__: f for f in (open_clip, clip_resnet, nfnet)}
OTHER_SIZES = {
    "open_clip": dict(
        batch=5,
        size=24,
        patch=8,
        width=32,
        heads=4,
        vision=33,
        head_dim=11,
        depth=3,
        length=9,
        quick_gelu=True,
    ),
    "clip_resnet": dict(batch=7, size=64, depths=(2, 3, 1, 2), vision=4, width=16, depth=2, embedding=10),
    "nfnet": dict(batch=3, size=96, depths=(2, 1, 3, 2), widths=(32, 16, 48, 32), stem=16, group=8, final=40),
}
# Packages that the `parity` extra does not bring.
NEEDS = {"open_clip": "open_clip", "open_flamingo": "open_clip", "clip_resnet": "open_clip", "nfnet": "timm"}
