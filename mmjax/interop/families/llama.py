"""Llama 1 to 3.2 as transformers lays them out (`LlamaForCausalLM`)."""

from typing import Any

from mmjax.interop.family import ACTIVATIONS, Config, Family
from mmjax.interop.tables.language import LLAMA as TABLE
from mmjax.language.decoder import DecoderConfig
from mmjax.layers.rotary import RopeScaling
from mmjax.layers.transformer import TransformerConfig
from mmjax.systems.language_model import LanguageModel

DEFAULTS = dict(
    hidden_act="silu",
    max_position_embeddings=2048,
    rms_norm_eps=1e-6,
    tie_word_embeddings=False,
    attention_bias=False,
    mlp_bias=False,
    eos_token_id=2,
    rope_theta=10000.0,
)


def read(config: Config, defaults: Config, **settings: Any) -> LanguageModel:
    """A decoder with rotary positions, RMSNorm and a gated MLP; settings: further fields of its blocks."""
    c = defaults | config
    heads = c["num_attention_heads"]
    base, scaling = _rope(c)
    eos = c["eos_token_id"]
    eos = eos[0] if isinstance(eos, list) else eos
    pad = c.get("pad_token_id")
    return LanguageModel(
        eos_token=eos,
        pad_token=eos if pad is None or pad < 0 else pad,
        decoder=DecoderConfig(
            vocabulary_size=c["vocab_size"],
            context_length=c["max_position_embeddings"],
            tied=c["tie_word_embeddings"],
            transformer=TransformerConfig(
                depth=c["num_hidden_layers"],
                width=c["hidden_size"],
                heads=heads,
                head_dim=c.get("head_dim") or c["hidden_size"] // heads,
                kv_heads=c.get("num_key_value_heads") or heads,
                mlp_width=c["intermediate_size"],
                norm="rms",
                epsilon=c["rms_norm_eps"],
                activation=ACTIVATIONS[c["hidden_act"]],
                gated_mlp=True,
                attention_bias=c["attention_bias"],
                mlp_bias=c.get("mlp_bias", False),
                rope_base=base,
                rope_scaling=scaling,
                **settings,
            ),
        ),
    )


def write(system: LanguageModel) -> dict[str, Any]:
    """The inverse of `read`."""
    d, t = system.decoder, system.decoder.transformer
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": t.rope_base}
    if t.rope_scaling is not None:
        rope |= {
            "rope_type": "llama3",
            "factor": t.rope_scaling.factor,
            "low_freq_factor": t.rope_scaling.low,
            "high_freq_factor": t.rope_scaling.high,
            "original_max_position_embeddings": t.rope_scaling.original_length,
        }
    return {
        "vocab_size": d.vocabulary_size,
        "hidden_size": t.width,
        "intermediate_size": t.mlp_width or 4 * t.width,
        "num_hidden_layers": t.depth,
        "num_attention_heads": t.heads,
        "num_key_value_heads": t.kv_heads or t.heads,
        "head_dim": t.head_dim or t.width // t.heads,
        "hidden_act": next(name for name, ours in ACTIVATIONS.items() if ours == t.activation),
        "max_position_embeddings": d.context_length,
        "rms_norm_eps": t.epsilon,
        "tie_word_embeddings": d.tied,
        "attention_bias": t.attention_bias,
        "rope_parameters": rope,
        "rope_theta": t.rope_base,  # for readers before transformers 5
        "eos_token_id": system.eos_token,
        "pad_token_id": system.pad_token,
    }


def _rope(config: Config) -> tuple[float, RopeScaling | None]:
    """(base, scaling); transformers 5 has `rope_parameters` in place of `rope_theta` and `rope_scaling`."""
    fields = config.get("rope_parameters") or config.get("rope_scaling") or {}
    base = float(fields.get("rope_theta", config["rope_theta"]))
    kind = fields.get("rope_type", fields.get("type", "default"))
    scalings = {
        "default": lambda: None,
        "llama3": lambda: RopeScaling(
            factor=float(fields["factor"]),
            low=float(fields["low_freq_factor"]),
            high=float(fields["high_freq_factor"]),
            original_length=fields["original_max_position_embeddings"],
        ),
    }
    if kind not in scalings:
        raise ValueError(f"rope_type is {kind!r} and not one of {', '.join(scalings)}")
    return base, scalings[kind]()


def data(system: LanguageModel) -> dict[str, Any]:
    """How examples are laid out: plain text up to the end token."""
    return dict(text_length=min(system.decoder.context_length, 2048), template="{caption}<eos>")


def ties(system: LanguageModel) -> dict[str, str]:
    """A head that is the token table, written twice."""
    return {"lm_head.weight": "model.embed_tokens.weight"} if system.decoder.tied else {}


def _write(system: LanguageModel) -> dict[str, Any]:
    named = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
    return named | write(system) | {"mlp_bias": system.decoder.transformer.mlp_bias}


FAMILIES = (
    Family(
        name="llama",
        kind=LanguageModel,
        read=lambda config, pixels: read(config, DEFAULTS),
        write=_write,
        tables=lambda system: (TABLE,),
        data=data,
        buffers=(r".*\.rotary_emb\.inv_freq",),
        ties=ties,
    ),
)
