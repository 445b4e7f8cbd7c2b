"""The whole circle: picture in, caption out; text in, picture out.

    picture -> [Flamingo] -> caption

    text <image_query_0> ... <image_query_7> -> [Flamingo's language model] -> states at the queries
                 |                                                                  | projection
                 +-> [CLIP text tower] -> embedding -> [diffusion decoder] <- context

The language model stays frozen; the rows of its learned image queries, the decoding-side projection and the
diffusion decoder are trained (the family of GILL, MiniGPT-5 and DreamLLM; systems.md A25).

Axes: B batch, L tokens, N image queries, D width.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import linen as nn

from mmjax.layers.normalization import normalization
from mmjax.layers.partitioning import dense
from mmjax.layers.slots import slots_of, take
from mmjax.systems.diffusion_decoder import DiffusionDecoder
from mmjax.systems.flamingo import Flamingo
from mmjax.systems.system import FREEZE, TRAIN, Rows, System


class Projection(nn.Module):
    """Language states -> the decoder's context: norm, linear, GELU, linear."""

    width: int
    dtype: str = "float32"

    @nn.compact
    def __call__(self, states: jax.Array) -> jax.Array:
        """float[B, N, D] -> float[B, N, width]."""
        x = normalization("layer", dtype=self.dtype, name="norm")(states)
        x = dense(self.width, ("embed", "mlp"), dtype=self.dtype, name="up")(x)
        return dense(self.width, ("mlp", "embed"), dtype=self.dtype, name="down")(jax.nn.gelu(x))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Generator(System):
    """Flamingo and a diffusion decoder, joined by learned image queries.

    Attributes:
      query_token: id of the first image query; `queries` consecutive ids are used.
    """

    flamingo: Flamingo
    decoder: DiffusionDecoder
    query_token: int = 4
    queries: int = 8

    def __post_init__(self):
        if self.decoder.denoiser.context is None:
            raise ValueError("model.decoder.denoiser.context is None: give the width of the projected states")

    @property
    def projection(self) -> Projection:
        return Projection(self.decoder.denoiser.context, self.decoder.denoiser.transformer.dtype)

    def init(self, key):
        keys = jax.random.split(key, 3)
        states = jnp.zeros((1, self.queries, self.flamingo.language.transformer.width))
        return {
            "flamingo": self.flamingo.init(keys[0]),
            "decoder": self.decoder.init(keys[1]),
            "projection": self.projection.init(keys[2], states)["params"],
        }

    def treatments(self):
        rows = Rows(start=self.query_token, stop=self.query_token + self.queries)
        return (
            (r"flamingo/language/tokens/table", rows),
            (r"flamingo/.*|decoder/clip/.*", FREEZE),
            (".*", TRAIN),
        )

    def loss(self, params, batch, key):
        """Denoising of the row's picture, given its text followed by the image queries."""
        embedding, context = self.condition(params, batch["tokens"], batch["segment"])
        return self.decoder.denoising_loss(params["decoder"], batch, embedding, context, key)

    def condition(self, params, tokens, segment):
        """Texts with image queries int[B, L] -> CLIP embedding float[B, E], context float[B, N, D']."""
        is_query = (tokens >= self.query_token) & (tokens < self.query_token + self.queries)
        caption = jnp.where(is_query, self.flamingo.pad_token, tokens)[:, : self.decoder.clip.text.length]
        embedding = self.decoder.clip.encode_text(params["decoder"]["clip"], caption)
        states = self.flamingo.states(params["flamingo"], tokens, segment)
        read = take(states, slots_of(tokens, self.query_token, self.queries))
        return embedding, self.projection.apply({"params": params["projection"]}, read)

    def draw(self, params, tokens, segment, key, *, steps, guidance):
        """Texts with image queries int[B, L] -> pictures float32[B, H, W, 3] in [0, 1]."""
        embedding, context = self.condition(params, tokens, segment)
        drawn = self.decoder.sample(
            params["decoder"], embedding, context, key, steps=steps, guidance=guidance
        )
        return self.decoder.picture(drawn)

    def caption(self, params, image, image_valid, tokens, segment, key, *, length, temperature=0.0):
        """See `Flamingo.caption`."""
        return self.flamingo.caption(
            params["flamingo"],
            image,
            image_valid,
            tokens,
            segment,
            key,
            length=length,
            temperature=temperature,
        )

    def encode_text(self, params, tokens, segment=None):
        """See `CLIP.encode_text`."""
        return self.decoder.clip.encode_text(params["decoder"]["clip"], tokens, segment)

    def encode_image(self, params, image):
        """See `CLIP.encode_image`."""
        return self.decoder.clip.encode_image(params["decoder"]["clip"], image)
