"""Llama 1, 2, 3, 3.1 and 3.2 as Meta released them.

Touvron et al. 2023a, table 2; Touvron et al. 2023b, table 1 and appendix A.2.1; Llama Team 2024, table 3; the
model cards of Llama 3.2. Llama 1 and 2 share three of their sizes but for context and epsilon.
"""

from mmjax.language.decoder import DecoderConfig
from mmjax.layers.rotary import RopeScaling
from mmjax.layers.transformer import TransformerConfig
from mmjax.systems.language_model import LanguageModel


def _llama(
    depth: int,
    width: int,
    heads: int,
    mlp_width: int,
    *,
    context_length: int,
    kv_heads: int | None = None,
    vocabulary_size: int = 32000,
    epsilon: float = 1e-5,
    rope_base: float = 10000.0,
    rope_scaling: RopeScaling | None = None,
    tied: bool = False,
    tokens: tuple[int, int] = (2, 0),
) -> LanguageModel:
    """tokens: the ids that end a text and that pad it (Llama has none for padding: any id does)."""
    return LanguageModel(
        eos_token=tokens[0],
        pad_token=tokens[1],
        decoder=DecoderConfig(
            vocabulary_size=vocabulary_size,
            context_length=context_length,
            tied=tied,
            transformer=TransformerConfig(
                depth=depth,
                width=width,
                heads=heads,
                kv_heads=kv_heads,
                mlp_width=mlp_width,
                norm="rms",
                epsilon=epsilon,
                activation="silu",
                gated_mlp=True,
                attention_bias=False,
                mlp_bias=False,
                rope_base=rope_base,
                rope_scaling=rope_scaling,
                dtype="bfloat16",
            ),
        ),
    )


_ONE = dict(context_length=2048, epsilon=1e-6)
_TWO = dict(context_length=4096)
_THREE = dict(
    context_length=8192, kv_heads=8, vocabulary_size=128256, rope_base=500000.0, tokens=(128001, 128004)
)
_LONG = _THREE | dict(context_length=131072, rope_scaling=RopeScaling(factor=8.0))  # 3.1
_SMALL = _LONG | dict(rope_scaling=RopeScaling(factor=32.0), tied=True)  # 3.2

SIZES = {
    "1-7B": _llama(32, 4096, 32, 11008, **_ONE),
    "1-13B": _llama(40, 5120, 40, 13824, **_ONE),
    "1-33B": _llama(60, 6656, 52, 17920, **_ONE),
    "1-65B": _llama(80, 8192, 64, 22016, **_ONE),
    "2-7B": _llama(32, 4096, 32, 11008, **_TWO),
    "2-13B": _llama(40, 5120, 40, 13824, **_TWO),
    "2-70B": _llama(80, 8192, 64, 28672, kv_heads=8, **_TWO),
    "3-8B": _llama(32, 4096, 32, 14336, **_THREE),
    "3-70B": _llama(80, 8192, 64, 28672, **_THREE),
    "3.1-8B": _llama(32, 4096, 32, 14336, **_LONG),
    "3.1-70B": _llama(80, 8192, 64, 28672, **_LONG),
    "3.1-405B": _llama(126, 16384, 128, 53248, **_LONG),
    "3.2-1B": _llama(16, 2048, 32, 8192, **_SMALL),
    "3.2-3B": _llama(28, 3072, 24, 8192, **_SMALL),
}
