"""Models of transformers and diffusers, saved by them, converted, run, converted back and loaded by them."""

import pytest

pytestmark = pytest.mark.parity
pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("diffusers")

import diffusers  # noqa: E402
import jax  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from diffusers.models.embeddings import Timesteps  # noqa: E402

from mmjax.interop.convert import from_hugging_face, to_hugging_face  # noqa: E402
from mmjax.training.checkpoints import Trained  # noqa: E402

TOWER = dict(num_hidden_layers=3, num_attention_heads=4, hidden_size=32, intermediate_size=48)
TEXT = TOWER | dict(vocab_size=60, max_position_embeddings=11)
VISION = TOWER | dict(image_size=24, patch_size=8)
SPECIAL = dict(bos_token_id=58, eos_token_id=59, pad_token_id=59)
DECODER = TOWER | dict(vocab_size=60, max_position_embeddings=32) | SPECIAL
LLAMA3 = dict(
    rope_type="llama3",
    rope_theta=5e5,
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=16,
)
LANGUAGE_MODELS = {
    "llama": (
        transformers.LlamaForCausalLM,
        transformers.LlamaConfig(**DECODER, num_key_value_heads=2, rope_parameters=LLAMA3),
    ),
    "qwen3": (
        transformers.Qwen3ForCausalLM,
        transformers.Qwen3Config(**DECODER, num_key_value_heads=2, head_dim=12, tie_word_embeddings=True),
    ),
    "gpt2": (
        transformers.GPT2LMHeadModel,
        transformers.GPT2Config(vocab_size=60, n_layer=3, n_head=4, n_embd=32, n_positions=32, **SPECIAL),
    ),
    "opt": (transformers.OPTForCausalLM, transformers.OPTConfig(**DECODER, ffn_dim=48)),
    "mpt": (
        transformers.MptForCausalLM,
        transformers.MptConfig(
            vocab_size=60,
            d_model=36,
            n_layers=3,
            n_heads=6,
            max_seq_len=32,
            tie_word_embeddings=True,
            **SPECIAL,
        ),
    ),
    "opt_350m": (
        transformers.OPTForCausalLM,
        transformers.OPTConfig(**DECODER, ffn_dim=48, word_embed_proj_dim=16, do_layer_norm_before=False),
    ),
}


def perturbed(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Every parameter moved, so that none is at a value that hides a mistake."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def there_and_back(model, folder, **options) -> Trained:
    """The converted model; asserts that converting back gives what the reference loads as the same model."""
    model.save_pretrained(folder / "hf", **options)
    from_hugging_face(folder / "hf", folder / "ours")
    to_hugging_face(folder / "ours", folder / "back")
    again = type(model).from_pretrained(folder / "back")
    state = again.state_dict()
    assert state.keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        assert state[name].dtype == value.dtype and torch.equal(state[name], value), name
    return Trained.load(folder / "ours")


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        (transformers.CLIPModel, transformers.CLIPConfig(text_config=TEXT | SPECIAL, vision_config=VISION)),
        (
            transformers.SiglipModel,
            transformers.SiglipConfig(text_config=TEXT | SPECIAL, vision_config=VISION),
        ),
    ],
)
def test_contrastive_models_embed_the_same(kind, config, tmp_path):
    model = perturbed(kind(config))
    trained = there_and_back(model, tmp_path)
    rng = np.random.default_rng(1)
    image = rng.normal(size=(3, 24, 24, 3)).astype(np.float32)
    tokens = rng.integers(0, 58, (3, 11), np.int32)
    tokens[:, 8] = 59
    with torch.no_grad():
        pixels = torch.from_numpy(image.transpose(0, 3, 1, 2))
        wanted = model(input_ids=torch.from_numpy(tokens).long(), pixel_values=pixels)
    system, params = trained.system, trained.params
    images = jax.jit(system.encode_image)(params, image[:, None])
    texts = jax.jit(system.encode_text)(params, tokens)
    np.testing.assert_allclose(images, wanted.image_embeds, atol=1e-5)
    np.testing.assert_allclose(texts, wanted.text_embeds, atol=1e-5)
    np.testing.assert_allclose(
        system.logits(params, images, texts), wanted.logits_per_image, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("name", LANGUAGE_MODELS)
def test_language_models_continue_the_same(name, tmp_path):
    kind, config = LANGUAGE_MODELS[name]
    model = perturbed(kind(config))
    trained = there_and_back(model, tmp_path)
    tokens = np.random.default_rng(2).integers(0, 58, (2, 20), np.int32)
    with torch.no_grad():
        wanted = model(torch.from_numpy(tokens).long()).logits
    logits = jax.jit(trained.system.logits)(trained.params, tokens, np.ones_like(tokens))
    np.testing.assert_allclose(logits, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("alpha_type", ["float", "vector"])
def test_idefics_reads_pictures_the_same(alpha_type, tmp_path):
    config = transformers.IdeficsConfig(
        **DECODER,
        additional_vocab_size=2,
        cross_layer_interval=1,
        qk_layer_norms=True,
        alpha_type=alpha_type,
        use_resampler=True,
        vision_config=dict(
            embed_dim=24,
            image_size=16,
            patch_size=8,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
        ),
        perceiver_config=dict(
            use_resampler=True,
            resampler_n_latents=3,
            resampler_depth=2,
            resampler_n_heads=2,
            resampler_head_dim=8,
            qk_layer_norms_perceiver=True,
        ),
    )
    model = perturbed(transformers.IdeficsForVisionText2Text(config))
    trained = there_and_back(model, tmp_path)
    rng = np.random.default_rng(5)
    tokens = rng.integers(0, 58, (2, 9), np.int32)
    tokens[:, 0] = trained.system.image_token  # so that every token sees the one picture
    image = rng.normal(size=(2, 1, 16, 16, 3)).astype(np.float32)
    with torch.no_grad():
        wanted = model(
            input_ids=torch.from_numpy(tokens).long(),
            attention_mask=torch.ones(2, 9),
            pixel_values=torch.from_numpy(image.transpose(0, 1, 4, 2, 3)),
            image_attention_mask=torch.ones(2, 9, 1),
        ).logits
    ones, positions = np.ones_like(tokens), np.broadcast_to(np.arange(9), (2, 9))
    found = jax.jit(trained.system.module.apply)(
        {"params": trained.params}, tokens, positions, ones, ones, image, np.ones((2, 1), bool)
    )
    np.testing.assert_allclose(found, wanted, atol=1e-4, rtol=1e-4)


def test_dit_denoises_the_same(tmp_path):
    """The port, set to what DiT's own code does where the two differ; the weights were trained with that.

    All norms have epsilon 1e-6, and the last frequency of the time embedding is not quite 1 / 10000.
    """
    sizes = dict(num_attention_heads=2, attention_head_dim=16, num_layers=2, sample_size=8, patch_size=2)
    model = diffusers.DiTTransformer2DModel(
        **sizes, in_channels=4, out_channels=8, num_embeds_ada_norm=10, norm_eps=1e-6
    )
    embeddings = perturbed(model).transformer_blocks[0].norm1.emb.state_dict()
    model.transformer_blocks[1].norm1.emb.load_state_dict(embeddings)  # as in every release
    for block in model.transformer_blocks:
        block.norm1.emb.time_proj = Timesteps(256, flip_sin_to_cos=True, downscale_freq_shift=0)
    trained = there_and_back(model, tmp_path)
    x = np.random.default_rng(3).normal(size=(2, 8, 8, 4)).astype(np.float32)
    steps, label = np.array([3, 700]), np.array([1, 9])
    with torch.no_grad():
        latent = torch.from_numpy(x.transpose(0, 3, 1, 2))
        wanted = model(latent, torch.from_numpy(steps), torch.from_numpy(label)).sample
    nothing_dropped = np.zeros(2, bool)
    time = (steps / 1000).astype(np.float32)
    found = jax.jit(trained.system.denoise)(trained.params, x, time, (label, nothing_dropped))
    np.testing.assert_allclose(found, wanted.permute(0, 2, 3, 1), atol=1e-4)


def test_an_autoencoder_codes_the_same(tmp_path):
    blocks = dict(down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2)
    model = diffusers.AutoencoderKL(block_out_channels=(8, 16), norm_num_groups=4, sample_size=16, **blocks)
    trained = there_and_back(perturbed(model), tmp_path)
    x = np.random.default_rng(4).normal(size=(2, 16, 16, 3)).astype(np.float32)
    with torch.no_grad():
        latent = model.encode(torch.from_numpy(x.transpose(0, 3, 1, 2))).latent_dist.mean
        picture = model.decode(latent).sample
    system, params = trained.system, trained.params
    ours = jax.jit(system.encode)(params, x[:, None])
    np.testing.assert_allclose(ours / system.scale, latent.permute(0, 2, 3, 1), atol=1e-4)
    np.testing.assert_allclose(jax.jit(system.decode)(params, ours), picture.permute(0, 2, 3, 1), atol=1e-4)


def test_half_precision_in_shards(tmp_path):
    config = transformers.CLIPConfig(text_config=TEXT | SPECIAL, vision_config=VISION)
    model = perturbed(transformers.CLIPModel(config)).to(torch.bfloat16)
    trained = there_and_back(model, tmp_path, max_shard_size="30KB")
    assert len(list((tmp_path / "hf").glob("*.safetensors"))) > 1
    assert {leaf.dtype.name for leaf in jax.tree.leaves(trained.params)} == {"bfloat16"}
    to_hugging_face(tmp_path / "ours", tmp_path / "shards", shard_bytes=30_000)
    state = transformers.CLIPModel.from_pretrained(tmp_path / "shards").state_dict()
    for name, value in model.state_dict().items():
        assert torch.equal(state[name], value), name
