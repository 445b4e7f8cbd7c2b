"""A world of plain colours and a system that knows it by heart, so that every figure has a known value."""

import dataclasses
import io

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from mmjax.data import records
from mmjax.data.pipeline import DataConfig, Pipeline, train_tokenizer
from mmjax.data.tokenizer import EOS
from mmjax.data.worlds import world

COUNT, SIZE, BUCKETS, LENGTH = 23, 8, 997, 32
PALETTE = np.random.default_rng(0).integers(0, 256, (COUNT, 3)).astype(np.uint8)
CAPTIONS = [f"colour {chr(97 + number) * 3} number {number}" for number in range(COUNT)]


def picture(colour) -> bytes:
    """A PNG of one colour."""
    file = io.BytesIO()
    Image.fromarray(np.broadcast_to(colour, (SIZE, SIZE, 3))).save(file, "PNG")
    return file.getvalue()


def pipeline(directory) -> Pipeline:
    """COUNT pictures of one colour each, one of them broken."""
    members = [
        records.Record(id=f"r{number}", image=picture(colour), caption=caption)
        for number, (colour, caption) in enumerate(zip(PALETTE, CAPTIONS, strict=True))
    ]
    broken = records.Record(id="broken", image=b"not a picture", caption="nothing")
    world.write(directory / "world", {"train": members, "held_out": [*members[:9], broken, *members[9:]]}, {})
    config = DataConfig(
        source=str(directory / "world"), image_size=SIZE, text_length=LENGTH, threads=0, max_bad_share=0.1,
        vocabulary_size=400,
    )  # fmt: skip
    return Pipeline(config, train_tokenizer(config), split="held_out")


def _bucket(tokens: jax.Array, segment: jax.Array) -> jax.Array:
    return (tokens * segment * (1 + jnp.arange(tokens.shape[1]))).sum(axis=1) % BUCKETS


def parameters(pipeline: Pipeline, known: int = COUNT) -> dict:
    """A table from captions to colours; the first `known` records are right, the others say black."""
    colours = np.zeros((BUCKETS, 3), np.float32)
    said = np.zeros((COUNT, LENGTH), np.int32)
    for number, caption in enumerate(CAPTIONS):
        example = pipeline.template.prompt(pipeline.tokenizer, LENGTH, caption)
        bucket = int(_bucket(example["tokens"][None], example["segment"][None])[0])
        assert not colours[bucket].any()
        colours[bucket] = PALETTE[number] / 255 if number < known else 0
        ids = [*pipeline.tokenizer.encode(caption if number < known else "colour"), EOS]
        said[number, : len(ids)] = ids
    return {"clip": {"colours": jnp.asarray(colours)}, "said": jnp.asarray(said)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Painter:
    """Embeds, names and paints colours from its table."""

    noise: float = 0.0

    def encode_image(self, params, image):
        return self._unit(image[:, 0].astype(jnp.float32).mean(axis=(1, 2)) / 255)

    def encode_text(self, params, tokens, segment):
        clip = params.get("clip", params)
        return self._unit(clip["colours"][_bucket(tokens, segment)])

    def caption(self, params, image, image_valid, tokens, segment, key, *, length, temperature=0.0):
        colour = image[:, 0].astype(jnp.float32).mean(axis=(1, 2))
        nearest = jnp.argmin(jnp.square(colour[:, None] - jnp.asarray(PALETTE, jnp.float32)).sum(-1), axis=1)
        return params["said"][nearest, :length]

    def draw(self, params, tokens, segment, key, *, steps, guidance):
        colour = params["clip"]["colours"][_bucket(tokens, segment)]
        noise = self.noise * jax.random.normal(key, (len(tokens), SIZE, SIZE, 3))
        return jnp.clip(colour[:, None, None] + noise, 0, 1)

    def _unit(self, x):
        # Distance of colours as cosine: a point on the sphere for every point of the cube.
        x = jnp.concatenate([x - 0.5, jnp.full((len(x), 1), 0.5)], axis=1)
        return x / jnp.linalg.norm(x, axis=1, keepdims=True)
