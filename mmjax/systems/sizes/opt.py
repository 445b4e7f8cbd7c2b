"""OPT as Meta released it (Zhang et al. 2022, table 1)."""

from mmjax.language.decoder import DecoderConfig
from mmjax.layers.transformer import TransformerConfig
from mmjax.systems.language_model import LanguageModel


def _opt(depth: int, width: int, heads: int, *, order: str = "pre", **fields) -> LanguageModel:
    return LanguageModel(
        eos_token=2,
        pad_token=1,
        decoder=DecoderConfig(
            vocabulary_size=50272,
            context_length=2048,
            learned_positions=True,
            position_offset=2,
            transformer=TransformerConfig(
                depth=depth, width=width, heads=heads, activation="relu", order=order, dtype="bfloat16"
            ),
            **fields,
        ),
    )


SIZES = {
    "125M": _opt(12, 768, 12),
    # The one with norms behind the residuals and a token table narrower than its layers.
    "350M": _opt(24, 1024, 16, order="post", embedding_width=512, final_norm=False),
    "1.3B": _opt(24, 2048, 32),
    "2.7B": _opt(32, 2560, 32),
    "6.7B": _opt(32, 4096, 32),
    "13B": _opt(40, 5120, 40),
    "30B": _opt(48, 7168, 56),
    "66B": _opt(64, 9216, 72),
    "175B": _opt(96, 12288, 96),
}
