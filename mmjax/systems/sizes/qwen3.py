"""The dense models of Qwen3 (Yang et al. 2025, table 1)."""

from mmjax.language.decoder import DecoderConfig
from mmjax.layers.transformer import TransformerConfig
from mmjax.systems.language_model import LanguageModel


def _qwen3(depth: int, width: int, heads: int, mlp_width: int, *, tied: bool) -> LanguageModel:
    return LanguageModel(
        eos_token=151645,
        pad_token=151643,
        decoder=DecoderConfig(
            vocabulary_size=151936,
            context_length=40960,
            tied=tied,
            transformer=TransformerConfig(
                depth=depth,
                width=width,
                heads=heads,
                head_dim=128,
                kv_heads=8,
                mlp_width=mlp_width,
                norm="rms",
                epsilon=1e-6,
                activation="silu",
                gated_mlp=True,
                attention_bias=False,
                mlp_bias=False,
                qk_norm="rms",
                rope_base=1000000.0,
                dtype="bfloat16",
            ),
        ),
    )


SIZES = {
    "0.6B": _qwen3(28, 1024, 16, 3072, tied=True),
    "1.7B": _qwen3(28, 2048, 16, 6144, tied=True),
    "4B": _qwen3(36, 2560, 32, 9728, tied=True),
    "8B": _qwen3(36, 4096, 32, 12288, tied=False),
    "14B": _qwen3(40, 5120, 40, 17408, tied=False),
    "32B": _qwen3(64, 5120, 64, 25600, tied=False),
}
