"""CLIP of open_clip, which kept OpenAI's layout and code: vision transformers, and the residual towers that
Hugging Face has no port of."""

import numpy as np

from tools.golden.isolated import modules
from tools.golden.reference import arrays, integers, reference


def _text(seed, batch, length, vocabulary):
    """int64[B, L]: the largest id ends every row, at other places; other tokens, not padding, follow it."""
    tokens = integers(seed, 0, vocabulary - 1, batch, length)
    for row, end in enumerate(integers(seed + 1, 1, length, batch)):
        tokens[row, end] = vocabulary - 1
    return tokens


def _model(vision, *, embedding, length, vocabulary, width, heads, depth, quick_gelu):
    model, loss = modules(
        "open_clip.model", "open_clip.loss", packages=("open_clip",), hidden=("timm", "transformers")
    )
    text = dict(context_length=length, vocab_size=vocabulary, width=width, heads=heads, layers=depth)
    module = model.CLIP(embedding, vision, text, quick_gelu=quick_gelu)

    def run(forward, i):
        pixels = i["image"] if i["image"].is_floating_point() else i["image"] / 127.5 - 1
        image, text, scale = forward(pixels.permute(0, 3, 1, 2), i["tokens"])
        return {"image": image, "text": text, "loss": loss.ClipLoss()(image, text, scale)}

    return module, run


@reference
def open_clip(
    record,
    seed,
    batch=3,
    size=8,
    patch=4,
    width=12,
    heads=2,
    vision=20,
    head_dim=10,
    mlp_ratio=2.29,
    depth=2,
    length=6,
    vocabulary=24,
    embedding=8,
    quick_gelu=False,
):
    """A vision transformer in the manner of ViT-g: heads and a hidden width that are no usual multiples."""
    tower = dict(image_size=size, patch_size=patch, layers=depth, width=vision)
    module, run = _model(
        tower | dict(head_width=head_dim, mlp_ratio=mlp_ratio),
        embedding=embedding,
        length=length,
        vocabulary=vocabulary,
        width=width,
        heads=heads,
        depth=depth,
        quick_gelu=quick_gelu,
    )
    image, tokens = arrays(seed)(batch, size, size, 3), _text(seed, batch, length, vocabulary)
    return record(module, {"image": image, "tokens": tokens}, run)


@reference
def clip_resnet(
    record,
    seed,
    batch=5,
    size=32,
    depths=(1, 2, 1, 1),
    vision=2,
    head_dim=16,
    width=8,
    heads=2,
    depth=1,
    length=4,
    vocabulary=12,
    embedding=7,
):
    """A residual tower, whose batch norms read the running moments and then, in training, those of the batch.

    The outputs have some running moments after the step of training. Pictures are bytes, which the tower
    reads as -1 ... 1 and the recording does not differentiate.

    The default sizes keep every ReLU 1e-4 away from its kink: where rounding flips one, gradients are off by
    percents on either side.
    """
    module, run = _model(
        dict(image_size=size, layers=depths, width=vision, head_width=head_dim),
        embedding=embedding,
        length=length,
        vocabulary=vocabulary,
        width=width,
        heads=heads,
        depth=depth,
        quick_gelu=True,
    )
    running = {}

    def apart(weights):  # a training step writes to its buffers
        running.update({name: w.clone() for name, w in weights.items() if not w.requires_grad})
        return {**weights, **running}

    def both(forward, i):
        outputs = {f"evaluated_{name}": y for name, y in run(forward, i).items()}
        module.train()
        outputs["trained_loss"] = run(forward, i)["loss"]
        outputs["mean"] = running["visual.bn1.running_mean"]
        outputs["var"] = running["visual.layer2.1.bn2.running_var"]
        return outputs

    image = integers(seed, 0, 256, batch, size, size, 3).astype(np.uint8)
    tokens = _text(seed, batch, length, vocabulary)
    return record(module, {"image": image, "tokens": tokens}, both, tie=apart)
