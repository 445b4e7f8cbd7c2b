"""Greedy continuations of tiny random language models, token for token as transformers generates them."""

import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import jax  # noqa: E402
import numpy as np  # noqa: E402
from flax.core import meta  # noqa: E402

from mmjax.interop.names import to_ours  # noqa: E402
from mmjax.interop.tables import language as names  # noqa: E402
from mmjax.language.decoder import DecoderConfig  # noqa: E402
from mmjax.layers.rotary import RopeScaling  # noqa: E402
from mmjax.layers.transformer import TransformerConfig  # noqa: E402
from mmjax.systems.language_model import LanguageModel  # noqa: E402

VOCABULARY, WIDTH, DEPTH, HEADS, PAD, EOS, NEW = 60, 32, 2, 4, 1, 2, 12
SHARED = dict(vocab_size=VOCABULARY, pad_token_id=PAD, bos_token_id=0, eos_token_id=EOS)


def _llama():
    scaling = dict(factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16)
    config = transformers.LlamaConfig(
        hidden_size=WIDTH,
        intermediate_size=48,
        num_hidden_layers=DEPTH,
        num_attention_heads=HEADS,
        num_key_value_heads=2,
        rope_parameters=dict(rope_type="llama3", rope_theta=10000.0, **scaling),
        **SHARED,
    )
    transformer = dict(
        kv_heads=2,
        mlp_width=48,
        norm="rms",
        epsilon=1e-6,
        activation="silu",
        gated_mlp=True,
        attention_bias=False,
        mlp_bias=False,
        rope_base=1e4,
        rope_scaling=RopeScaling(factor=4.0, original_length=16),
    )
    return transformers.LlamaForCausalLM(config), names.LLAMA, transformer, dict(tied=False)


def _gpt2():
    config = transformers.GPT2Config(n_positions=40, n_embd=WIDTH, n_layer=DEPTH, n_head=HEADS, **SHARED)
    return transformers.GPT2LMHeadModel(config), names.GPT2, {}, dict(learned_positions=True)


def _opt(before):
    config = transformers.OPTConfig(
        max_position_embeddings=40,
        hidden_size=WIDTH,
        ffn_dim=4 * WIDTH,
        num_hidden_layers=DEPTH,
        num_attention_heads=HEADS,
        do_layer_norm_before=before,
        word_embed_proj_dim=WIDTH if before else 16,
        **SHARED,
    )
    fields = dict(learned_positions=True, position_offset=2)
    if not before:
        fields |= dict(embedding_width=16, final_norm=False)
    transformer = dict(activation="relu", order="pre" if before else "post")
    return transformers.OPTForCausalLM(config), names.OPT, transformer, fields


def _mpt():
    config = transformers.MptConfig(
        d_model=WIDTH, n_layers=DEPTH, n_heads=HEADS, max_seq_len=40, use_cache=True, **SHARED
    )
    transformer = dict(
        norm="layer_no_bias", activation="gelu", attention_bias=False, mlp_bias=False, alibi=True
    )
    return transformers.MptForCausalLM(config), names.MPT, transformer, {}


MODELS = {
    "llama": _llama,
    "gpt2": _gpt2,
    "opt": lambda: _opt(True),
    "opt_post": lambda: _opt(False),
    "mpt": _mpt,
}


@pytest.mark.parametrize("name", MODELS)
def test_greedy_continuations_are_those_of_transformers(name):
    torch.manual_seed(5)
    model, table, transformer, fields = MODELS[name]()
    for key, parameter in model.eval().named_parameters():  # a fresh model says the same word again and again
        scale = 0.1 if parameter.ndim < 2 or "embed_tokens" in key or "wte" in key else 0.5
        parameter.data += scale * torch.randn_like(parameter)
    model.tie_weights()
    system = LanguageModel(
        decoder=DecoderConfig(
            vocabulary_size=VOCABULARY,
            context_length=40,
            transformer=TransformerConfig(depth=DEPTH, width=WIDTH, heads=HEADS, **transformer),
            **fields,
        ),
        eos_token=EOS,
        pad_token=PAD,
    )
    weights = {key: value.detach().numpy() for key, value in model.named_parameters()}
    params = to_ours(weights, meta.unbox(jax.eval_shape(system.init, jax.random.key(0))), table)

    random = np.random.default_rng(0)
    lengths = np.array([9, 4, 1, 6])
    segment = (np.arange(9) >= 9 - lengths[:, None]).astype(np.int32)  # padded on the left
    tokens = np.where(segment, random.integers(3, VOCABULARY, segment.shape), PAD).astype(np.int32)
    generated = model.generate(
        input_ids=torch.from_numpy(tokens).long(),
        attention_mask=torch.from_numpy(segment).long(),
        max_new_tokens=NEW,
        do_sample=False,
    )[:, 9:].numpy()
    expected = np.pad(generated, ((0, 0), (0, NEW - generated.shape[1])), constant_values=PAD)
    assert len(np.unique(expected)) > 5

    generate = jax.jit(lambda p, *text: system.generate(p, *text, jax.random.key(0), length=NEW))
    np.testing.assert_array_equal(generate(params, tokens, segment), expected)
    # The reference wants its padding on the left; here either side does.
    rolled = [[np.roll(row, n) for row, n in zip(a, lengths, strict=True)] for a in (tokens, segment)]
    np.testing.assert_array_equal(generate(params, *np.array(rolled)), expected)
