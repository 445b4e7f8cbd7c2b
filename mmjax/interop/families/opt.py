"""OPT as transformers lays it out (`OPTForCausalLM`); the first uploads lack the 'model.' of a name."""

from typing import Any

from mmjax.interop.families.llama import data
from mmjax.interop.family import ACTIVATIONS, Config, Family
from mmjax.interop.names import without
from mmjax.interop.pixels import Pixels
from mmjax.interop.tables.language import OPT as TABLE
from mmjax.language.decoder import DecoderConfig
from mmjax.layers.transformer import TransformerConfig
from mmjax.systems.language_model import LanguageModel

PREFIX = "model."
DEFAULTS = dict(
    vocab_size=50272,
    hidden_size=768,
    num_hidden_layers=12,
    num_attention_heads=12,
    ffn_dim=3072,
    max_position_embeddings=2048,
    do_layer_norm_before=True,
    activation_function="relu",
    eos_token_id=2,
    pad_token_id=1,
    tie_word_embeddings=True,
)
_ROWS_BEFORE = 2  # of the position table


def _read(config: Config, pixels: Pixels | None) -> LanguageModel:
    c = DEFAULTS | config
    if c.get("_remove_final_layer_norm"):
        raise ValueError("_remove_final_layer_norm is true")
    if not c.get("enable_bias", True) or not c.get("layer_norm_elementwise_affine", True):
        raise ValueError("its layers have no biases or its norms no scales")
    width, narrow, pre = c["hidden_size"], c.get("word_embed_proj_dim"), c["do_layer_norm_before"]
    return LanguageModel(
        eos_token=c["eos_token_id"],
        pad_token=c["pad_token_id"],
        decoder=DecoderConfig(
            vocabulary_size=c["vocab_size"],
            context_length=c["max_position_embeddings"],
            learned_positions=True,
            position_offset=_ROWS_BEFORE,
            embedding_width=None if narrow in (None, width) else narrow,
            final_norm=pre,
            transformer=TransformerConfig(
                depth=c["num_hidden_layers"],
                width=width,
                heads=c["num_attention_heads"],
                mlp_width=c["ffn_dim"],
                activation=ACTIVATIONS[c["activation_function"]],
                order="pre" if pre else "post",
            ),
        ),
    )


def _write(system: LanguageModel) -> dict[str, Any]:
    d, t = system.decoder, system.decoder.transformer
    return {
        "architectures": ["OPTForCausalLM"],
        "model_type": "opt",
        "vocab_size": d.vocabulary_size,
        "hidden_size": t.width,
        "word_embed_proj_dim": d.embedding_width or t.width,
        "num_hidden_layers": t.depth,
        "num_attention_heads": t.heads,
        "ffn_dim": t.mlp_width or 4 * t.width,
        "max_position_embeddings": d.context_length,
        "do_layer_norm_before": t.order == "pre",
        "activation_function": next(name for name, ours in ACTIVATIONS.items() if ours == t.activation),
        "bos_token_id": system.eos_token,
        "eos_token_id": system.eos_token,
        "pad_token_id": system.pad_token,
    }


FAMILIES = (
    Family(
        name="opt",
        kind=LanguageModel,
        read=_read,
        write=_write,
        tables=lambda system: (TABLE, without(PREFIX, TABLE)),
        data=data,
        ties=lambda system: {"lm_head.weight": "model.decoder.embed_tokens.weight"},
    ),
)
