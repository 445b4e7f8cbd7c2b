"""MPT as MosaicML released it: ALiBi, no biases anywhere, one table for tokens in and out.

1B is mpt-1b-redpajama-200b, which also normalises queries and keys, over all heads at once.
"""

from mmjax.language.decoder import DecoderConfig
from mmjax.layers.transformer import TransformerConfig
from mmjax.systems.language_model import LanguageModel


def _mpt(depth: int, width: int, heads: int, *, vocabulary=50432, context_length=2048, **fields):
    return LanguageModel(
        eos_token=0,
        pad_token=1,
        decoder=DecoderConfig(
            vocabulary_size=vocabulary,
            context_length=context_length,
            transformer=TransformerConfig(
                depth=depth,
                width=width,
                heads=heads,
                norm="layer_no_bias",
                activation="gelu",
                attention_bias=False,
                mlp_bias=False,
                alibi=True,
                dtype="bfloat16",
                **fields,
            ),
        ),
    )


SIZES = {
    "1B": _mpt(24, 2048, 16, vocabulary=50368, qk_norm="layer_no_bias", qk_norm_joint=True),
    "7B": _mpt(32, 4096, 32),
    "30B": _mpt(48, 7168, 64, context_length=8192),
}
