"""MPT as transformers lays it out (`MptForCausalLM`), and MPT-1B as the code it was released with does.

The port of transformers reads neither `qk_ln` nor `alibi` from its config: it never normalises and always has
the biases. A config that asks for anything else is refused, not read as the port would.
"""

from collections.abc import Mapping
from typing import Any

from mmjax.interop.families.llama import data
from mmjax.interop.family import Config, Family
from mmjax.interop.pixels import Pixels
from mmjax.interop.tables.language import MOSAIC_GPT, MPT
from mmjax.language.decoder import DecoderConfig
from mmjax.layers.transformer import TransformerConfig
from mmjax.systems.language_model import LanguageModel

DEFAULTS = dict(
    d_model=2048,
    n_heads=16,
    n_layers=24,
    max_seq_len=2048,
    vocab_size=50368,
    layer_norm_epsilon=1e-5,
    eos_token_id=0,  # <|endoftext|> of the GPT-NeoX tokenizer
)
# What our systems can say, and what a config means that does not say it.
_MPT = dict(no_bias=True, logit_scale=None, expansion_ratio=4)
_MPT_ATTENTION = dict(
    alibi=True,
    alibi_bias_max=8,
    attn_type="multihead_attention",
    clip_qkv=None,
    prefix_lm=False,
    qk_ln=False,
    softmax_scale=None,
)
_MOSAIC_GPT = dict(
    alibi=(True, False),
    alibi_bias_max=(8, 8),
    attn_clip_qkv=(None, None),
    attn_qk_ln=(True, False),
    logit_scale=(None, None),
    mlp_ratio=(4, 4),
    no_bias=(True, False),
    prefix_lm=(False, False),
    softmax_scale=(None, None),
)


def _require(config: Config, wanted: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    for name, value in wanted.items():
        found = config.get(name, defaults[name])
        if found != value:
            raise ValueError(f"{name} is {found!r} and not {value!r}")


def _language_model(config: Config, **norms: Any) -> LanguageModel:
    c = DEFAULTS | {name: value for name, value in config.items() if value is not None}
    return LanguageModel(
        eos_token=c["eos_token_id"],
        pad_token=c.get("pad_token_id", c["eos_token_id"]),
        decoder=DecoderConfig(
            vocabulary_size=c["vocab_size"],
            context_length=c["max_seq_len"],
            transformer=TransformerConfig(
                depth=c["n_layers"],
                width=c["d_model"],
                heads=c["n_heads"],
                norm="layer_no_bias",
                epsilon=c["layer_norm_epsilon"],
                activation="gelu",
                attention_bias=False,
                mlp_bias=False,
                alibi=True,
                **norms,
            ),
        ),
    )


def _read_mpt(config: Config, pixels: Pixels | None) -> LanguageModel:
    _require(config, _MPT, _MPT)
    _require(config.get("attn_config") or {}, _MPT_ATTENTION, _MPT_ATTENTION)
    return _language_model(config)


def _read_mosaic_gpt(config: Config, pixels: Pixels | None) -> LanguageModel:
    wanted, defaults = ({name: both[i] for name, both in _MOSAIC_GPT.items()} for i in (0, 1))
    _require(config, wanted, defaults)
    return _language_model(config, qk_norm="layer_no_bias", qk_norm_joint=True)


def _write(system: LanguageModel) -> dict[str, Any]:
    d, t = system.decoder, system.decoder.transformer
    return {
        "d_model": t.width,
        "n_heads": t.heads,
        "n_layers": t.depth,
        "max_seq_len": d.context_length,
        "vocab_size": d.vocabulary_size,
        "no_bias": True,
        "eos_token_id": system.eos_token,
        "pad_token_id": system.pad_token,
    }


def _write_mpt(system: LanguageModel) -> dict[str, Any]:
    named = {"architectures": ["MptForCausalLM"], "model_type": "mpt"}
    rest = {"layer_norm_epsilon": system.decoder.transformer.epsilon, "expansion_ratio": 4}
    return named | _write(system) | rest | {"attn_config": {"alibi": True, "alibi_bias_max": 8}}


def _write_mosaic_gpt(system: LanguageModel) -> dict[str, Any]:
    named = {"architectures": ["MosaicGPT"], "model_type": "mosaic_gpt"}
    return named | _write(system) | {"mlp_ratio": 4, "alibi": True, "alibi_bias_max": 8, "attn_qk_ln": True}


FAMILIES = (
    Family(
        name="mpt",
        kind=LanguageModel,
        read=_read_mpt,
        write=_write_mpt,
        tables=lambda system: (MPT,),
        data=data,
        ties=lambda system: {"lm_head.weight": "transformer.wte.weight"},
    ),
    Family(
        name="mosaic_gpt",
        kind=LanguageModel,
        read=_read_mosaic_gpt,
        write=_write_mosaic_gpt,
        tables=lambda system: (MOSAIC_GPT,),
        data=data,
    ),
)
