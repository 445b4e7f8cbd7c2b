"""GPT-2 as OpenAI released it (Radford et al. 2019, table 2, whose counts the release calls wrong)."""

from mmjax.language.decoder import DecoderConfig
from mmjax.layers.transformer import TransformerConfig
from mmjax.systems.language_model import LanguageModel


def _gpt2(depth: int, width: int, heads: int) -> LanguageModel:
    return LanguageModel(
        eos_token=50256,
        pad_token=50256,  # the only special token there is
        decoder=DecoderConfig(
            vocabulary_size=50257,
            context_length=1024,
            learned_positions=True,
            transformer=TransformerConfig(depth=depth, width=width, heads=heads, dtype="bfloat16"),
        ),
    )


SIZES = {
    "small": _gpt2(12, 768, 12),
    "medium": _gpt2(24, 1024, 16),
    "large": _gpt2(36, 1280, 20),
    "xl": _gpt2(48, 1600, 25),
}
