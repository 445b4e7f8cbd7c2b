"""Llama, Qwen3 (qk-norm), GPT-2, OPT, MPT of transformers; layers of BERT and Chameleon for their orders."""

import dataclasses

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
def llama_stretched(
    record,
    seed,
    batch=2,
    length=12,
    vocabulary=30,
    width=32,
    depth=1,
    heads=2,
    kv_heads=1,
    mlp_width=24,
    factor=4.0,
    original_length=64,
):
    """Llama 3.2: a tied head, and rotary frequencies stretched in part; some stay, some turn slower."""
    config = transformers.LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=mlp_width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        rope_parameters=dict(
            rope_type="llama3",
            rope_theta=10000.0,
            factor=factor,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=original_length,
        ),
        tie_word_embeddings=True,
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


def _separate(weights, heads):
    """Queries, keys and values apart; GPT-NeoX joins the three of each head."""
    apart = {}
    for name, value in weights.items():
        if "query_key_value" in name:
            joined = value.reshape(heads, 3, -1, *value.shape[1:])
            for part, own in enumerate(("query", "key", "value")):
                own_name = name.replace("query_key_value", own)
                apart[own_name] = joined[:, part].reshape(-1, *value.shape[1:])
        else:
            apart[name] = value
    return apart


@reference
def gpt_neox(record, seed, batch=2, length=7, vocabulary=30, width=20, depth=2, heads=2):
    """RedPajama-INCITE, the language model of OpenFlamingo-4B: all channels turn, residuals in sequence."""
    config = transformers.GPTNeoXConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        rope_parameters=dict(rope_type="default", rope_theta=10000.0, partial_rotary_factor=1.0),
        use_parallel_residual=False,
        attn_implementation="eager",
        pad_token_id=None,
    )
    text = _text(seed, batch, length, vocabulary)
    recording = record(transformers.GPTNeoXForCausalLM(config), text, _language)
    return dataclasses.replace(
        recording,
        weights=_separate(recording.weights, heads),
        weight_gradients=_separate(recording.weight_gradients, heads),
    )


def _opt(seed, batch, length, vocabulary, width, depth, heads, **fields):
    config = transformers.OPTConfig(
        vocab_size=vocabulary,
        max_position_embeddings=length + 1,
        hidden_size=width,
        ffn_dim=2 * width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        attn_implementation="eager",
        dropout=0.0,
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=None,
        **fields,
    )
    return transformers.OPTForCausalLM(config), _text(seed, batch, length, vocabulary)


@reference
def opt(record, seed, batch=2, length=7, vocabulary=30, width=20, depth=2, heads=4):
    """Learned positions behind two unused rows, ReLU, a tied head."""
    text = dict(batch=batch, length=length, vocabulary=vocabulary)
    model, inputs = _opt(seed, **text, width=width, depth=depth, heads=heads, word_embed_proj_dim=width)
    return record(model, inputs, _language)


@reference
def opt_post(record, seed, batch=2, length=7, vocabulary=30, width=20, depth=2, heads=4, embedding_width=12):
    """OPT-350M: norms behind the residuals, none at the end, and a token table narrower than the layers."""
    text = dict(batch=batch, length=length, vocabulary=vocabulary)
    fields = dict(word_embed_proj_dim=embedding_width, do_layer_norm_before=False)
    model, inputs = _opt(seed, **text, width=width, depth=depth, heads=heads, **fields)
    return record(model, inputs, _language)


def mpt_model(length, vocabulary, width, depth, heads):
    """MPT with ALiBi for texts of up to `length` tokens."""
    config = transformers.MptConfig(
        vocab_size=vocabulary, d_model=width, n_layers=depth, n_heads=heads, max_seq_len=length
    )
    config._attn_implementation = "eager"
    return transformers.MptForCausalLM(config)


@reference
def mpt(record, seed, batch=2, length=7, vocabulary=30, width=24, depth=2, heads=3):
    """MPT-7B: linear biases of distance, here of three heads, no biases of layers or norms, a tied head."""
    model = mpt_model(length + 3, vocabulary, width, depth, heads)
    return record(model, _text(seed, batch, length, vocabulary), _language)


class _NormalisedQueriesKeys(torch.nn.Module):
    """MPT's joint projection, queries and keys normalised over all heads at once."""

    def __init__(self, projection, width):
        super().__init__()
        self.projection = projection
        self.q_ln, self.k_ln = (torch.nn.LayerNorm(width, bias=False) for _ in range(2))

    def forward(self, x):
        query, key, value = self.projection(x).chunk(3, dim=2)
        return torch.cat([self.q_ln(query), self.k_ln(key), value], dim=2)


MOSAIC_NAMES = (  # of the port of transformers, of the code that MPT-1B was released with
    ("Wqkv.projection", "Wqkv"),
    ("Wqkv.q_ln", "q_ln"),
    ("Wqkv.k_ln", "k_ln"),
    ("norm_1", "ln_1"),
    ("norm_2", "ln_2"),
    ("norm_f", "ln_f"),
    ("ffn.up_proj", "mlp.mlp_up"),
    ("ffn.down_proj", "mlp.mlp_down"),
)


def _renamed(tensors):
    renamed = {}
    for name, value in tensors.items():
        for port, original in MOSAIC_NAMES:
            name = name.replace(port, original)
        renamed[name] = value
    return renamed


@reference
def mosaic_gpt(record, seed, batch=2, length=7, vocabulary=30, width=24, depth=2, heads=4):
    """MPT-1B. The port has no norms of queries and keys, whatever the config says: they are put in."""
    model = mpt_model(length + 3, vocabulary, width, depth, heads)
    for block in model.transformer.blocks:
        block.attn.Wqkv = _NormalisedQueriesKeys(block.attn.Wqkv, width)
    recording = record(model, _text(seed, batch, length, vocabulary), _language)
    return dataclasses.replace(
        recording,
        weights=_renamed(recording.weights),
        weight_gradients=_renamed(recording.weight_gradients),
    )


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
