"""Llama, Qwen3 (qk-norm) and GPT-2 of transformers; layers of BERT and Chameleon for their block orders."""

import numpy as np
import torch
import transformers
from transformers.models.bert.modeling_bert import BertLayer
from transformers.models.chameleon.modeling_chameleon import (
    ChameleonRotaryEmbedding,
    ChameleonSwinDecoderLayer,
)

from tools.golden.reference import additive, arrays, first, integers, reference


def _text(seed, batch, length, vocabulary):
    """Right-padded rows: tokens, which of them are real, and aligned targets, -1 where there is no loss."""
    tokens = integers(seed, 0, vocabulary, batch, length)
    lengths = np.array([length, *integers(seed + 1, 2, length, batch - 1)])
    real = np.arange(length) < lengths[:, None]
    targets = np.where(real, np.roll(tokens, -1, axis=1), -1)
    targets[np.arange(batch), lengths - 1] = -1
    targets[:, 0] = -1  # a prompt that is not trained on
    return {"tokens": tokens, "real": real, "targets": targets}


def _language(forward, inputs):
    labels = torch.roll(inputs["targets"], 1, dims=1)  # the reference shifts them back itself
    labels = torch.where(labels < 0, -100, labels)
    out = forward(
        input_ids=inputs["tokens"], attention_mask=inputs["real"].long(), labels=labels, use_cache=False
    )
    return {"logits": out.logits * inputs["real"][:, :, None], "loss": out.loss}


@reference
def llama(
    record, seed, batch=2, length=7, vocabulary=30, width=24, depth=2, heads=4, kv_heads=2, mlp_width=40
):
    """RMSNorm, RoPE, grouped key-value heads, SwiGLU, a head of its own."""
    config = transformers.LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=mlp_width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        attn_implementation="eager",
        pad_token_id=None,
    )
    return record(transformers.LlamaForCausalLM(config), _text(seed, batch, length, vocabulary), _language)


@reference
def qwen3(
    record,
    seed,
    batch=2,
    length=7,
    vocabulary=30,
    width=24,
    depth=2,
    heads=4,
    kv_heads=2,
    head_dim=8,
    mlp_width=40,
):
    """Llama with RMS-normalised queries and keys, heads wider than width / heads, and a tied head."""
    config = transformers.Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=mlp_width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        tie_word_embeddings=True,
        attn_implementation="eager",
        pad_token_id=None,
    )
    return record(transformers.Qwen3ForCausalLM(config), _text(seed, batch, length, vocabulary), _language)


@reference
def gpt2(record, seed, batch=2, length=7, vocabulary=30, width=20, depth=2, heads=4):
    """Learned positions, tanh GELU, a tied head."""
    config = transformers.GPT2Config(
        vocab_size=vocabulary,
        n_positions=length + 3,
        n_embd=width,
        n_layer=depth,
        n_head=heads,
        attn_implementation="eager",
        bos_token_id=None,
        eos_token_id=None,
    )
    return record(transformers.GPT2LMHeadModel(config), _text(seed, batch, length, vocabulary), _language)


@reference
def bert_layer(record, seed, batch=2, length=7, width=32, heads=4, mlp_width=48):
    """Post-norm. The epsilon is large: the norms see branches of size one, where 1e-12 would not show."""
    config = transformers.BertConfig(
        hidden_size=width,
        num_attention_heads=heads,
        intermediate_size=mlp_width,
        layer_norm_eps=1e-3,
        attn_implementation="eager",
    )
    return record(
        BertLayer(config),
        {"x": arrays(seed)(batch, length, width)},
        lambda forward, i: {"y": first(forward(i["x"]))},
    )


@reference
def chameleon_swin_layer(record, seed, batch=2, length=7, width=32, heads=4, kv_heads=2, mlp_width=48):
    """Swin order: the norm stands behind the branch. LayerNorm on queries and keys.

    The reference gives each head its own norm parameters; the recording shares one set, as mmjax does.
    """
    config = transformers.ChameleonConfig(
        hidden_size=width,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        intermediate_size=mlp_width,
        attn_implementation="eager",
    )
    layer = ChameleonSwinDecoderLayer(config, 0)
    parameters = dict(layer.named_parameters())
    shared = {name: p for name, p in parameters.items() if "q_norm" in name or "k_norm" in name}
    for name, p in shared.items():
        owner, _, leaf = name.rpartition(".")
        setattr(layer.get_submodule(owner), leaf, torch.nn.Parameter(p.detach()[0]))
    mask = torch.ones(batch, length, length, dtype=torch.bool).tril()
    x = arrays(seed)(batch, length, width)
    positions = torch.arange(length).expand(batch, -1)
    cos_sin = ChameleonRotaryEmbedding(config)(torch.from_numpy(x), positions)
    return record(
        layer,
        {"x": x},
        lambda forward, i: {"y": first(forward(i["x"], additive(mask), position_embeddings=cos_sin))},
    )
