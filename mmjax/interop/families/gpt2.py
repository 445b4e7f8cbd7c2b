"""GPT-2 as transformers lays it out (`GPT2LMHeadModel`); the first uploads lack the prefix 'transformer.'."""

from typing import Any

from mmjax.interop.families.llama import data
from mmjax.interop.family import ACTIVATIONS, Config, Family
from mmjax.interop.names import without
from mmjax.interop.pixels import Pixels
from mmjax.interop.tables.language import GPT2 as TABLE
from mmjax.language.decoder import DecoderConfig
from mmjax.layers.transformer import TransformerConfig
from mmjax.systems.language_model import LanguageModel

PREFIX = "transformer."
DEFAULTS = dict(
    vocab_size=50257,
    n_positions=1024,
    n_embd=768,
    n_layer=12,
    n_head=12,
    n_inner=None,
    activation_function="gelu_new",
    layer_norm_epsilon=1e-5,
    eos_token_id=50256,
)
_UNSUPPORTED = ("scale_attn_by_inverse_layer_idx", "add_cross_attention")


def _read(config: Config, pixels: Pixels | None) -> LanguageModel:
    c = DEFAULTS | config
    for name in _UNSUPPORTED:
        if c.get(name):
            raise ValueError(f"{name} is true")
    pad = c.get("pad_token_id")
    return LanguageModel(
        eos_token=c["eos_token_id"],
        pad_token=c["eos_token_id"] if pad is None else pad,
        decoder=DecoderConfig(
            vocabulary_size=c["vocab_size"],
            context_length=c["n_positions"],
            learned_positions=True,
            transformer=TransformerConfig(
                depth=c["n_layer"],
                width=c["n_embd"],
                heads=c["n_head"],
                mlp_width=c["n_inner"] or 4 * c["n_embd"],
                epsilon=c["layer_norm_epsilon"],
                activation=ACTIVATIONS[c["activation_function"]],
            ),
        ),
    )


def _write(system: LanguageModel) -> dict[str, Any]:
    d, t = system.decoder, system.decoder.transformer
    names = {ours: name for name, ours in ACTIVATIONS.items()}  # of two names the later: 'gelu_new'
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": d.vocabulary_size,
        "n_positions": d.context_length,
        "n_embd": t.width,
        "n_layer": t.depth,
        "n_head": t.heads,
        "n_inner": t.mlp_width,
        "activation_function": names[t.activation],
        "layer_norm_epsilon": t.epsilon,
        "bos_token_id": system.eos_token,
        "eos_token_id": system.eos_token,
        "pad_token_id": system.pad_token,
    }


FAMILIES = (
    Family(
        name="gpt2",
        kind=LanguageModel,
        read=_read,
        write=_write,
        tables=lambda system: (TABLE, without(PREFIX, TABLE)),
        data=data,
        buffers=(r"(transformer\.)?h\.\d+\.attn\.(bias|masked_bias)",),
        ties=lambda system: {"lm_head.weight": "transformer.wte.weight"},
    ),
)
