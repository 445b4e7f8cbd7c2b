"""Directories in the layout of public releases, with tiny random weights."""

import json
from pathlib import Path

import numpy as np
from flax import linen as nn

from mmjax.interop import family, safetensors
from mmjax.interop.names import reference_shapes
from mmjax.training.state import abstract_params

TOWER = dict(num_hidden_layers=3, num_attention_heads=2, intermediate_size=24)
CLIP = {
    "model_type": "clip",
    "architectures": ["CLIPModel"],
    "dtype": "float32",
    "projection_dim": 8,
    "text_config": TOWER
    | dict(hidden_size=12, vocab_size=50, max_position_embeddings=9, eos_token_id=49, bos_token_id=48),
    "vision_config": TOWER | dict(hidden_size=16, image_size=16, patch_size=8),
}
SIGLIP = {
    "model_type": "siglip",
    "text_config": TOWER | dict(hidden_size=12, vocab_size=50, max_position_embeddings=9),
    "vision_config": TOWER | dict(hidden_size=12, image_size=16, patch_size=8),
}
DECODER = dict(num_hidden_layers=2, num_attention_heads=4, hidden_size=16, vocab_size=50)
LLAMA = {"model_type": "llama", **DECODER, "num_key_value_heads": 2, "intermediate_size": 24}
QWEN3 = {"model_type": "qwen3", **DECODER, "num_key_value_heads": 2, "intermediate_size": 24, "head_dim": 6}
GPT2 = {"model_type": "gpt2", "n_layer": 2, "n_head": 2, "n_embd": 16, "vocab_size": 50, "n_positions": 9}
OPT = {"model_type": "opt", **DECODER, "ffn_dim": 24, "max_position_embeddings": 9}
MPT = {"model_type": "mpt", "n_layers": 2, "n_heads": 3, "d_model": 12, "vocab_size": 50, "max_seq_len": 9}
MOSAIC_GPT = MPT | {"model_type": "mosaic_gpt", "alibi": True, "attn_qk_ln": True, "no_bias": True}
DIT = {
    "_class_name": "DiTTransformer2DModel",
    "num_layers": 2,
    "num_attention_heads": 2,
    "attention_head_dim": 8,
    "sample_size": 4,
    "num_embeds_ada_norm": 5,
}
AUTOENCODER = {
    "_class_name": "AutoencoderKL",
    "block_out_channels": [8, 16],
    "norm_num_groups": 4,
    "sample_size": 8,
}
IDEFICS = {
    "model_type": "idefics",
    **DECODER,
    "num_hidden_layers": 4,
    "cross_layer_interval": 2,
    "intermediate_size": 24,
    "additional_vocab_size": 2,
    "alpha_type": "float",
    "qk_layer_norms": True,
    "use_resampler": True,
    "vision_config": TOWER | dict(embed_dim=16, image_size=16, patch_size=8),
    "perceiver_config": dict(
        resampler_n_latents=3,
        resampler_depth=2,
        resampler_n_heads=2,
        resampler_head_dim=6,
        qk_layer_norms_perceiver=True,
    ),
}
CONFIGS = {
    "clip": CLIP,
    "siglip": SIGLIP,
    "llama": LLAMA,
    "qwen3": QWEN3 | {"tie_word_embeddings": True},
    "gpt2": GPT2,
    "opt": OPT,
    "opt_350m": OPT | {"word_embed_proj_dim": 8, "do_layer_norm_before": False},
    "mpt": MPT,
    "mosaic_gpt": MOSAIC_GPT,
    "idefics": IDEFICS,
    "dit": DIT,
    "autoencoder": AUTOENCODER,
}


def tensors(config: dict, *, dtype="float32", layout: int = 0, seed: int = 0) -> dict[str, np.ndarray]:
    """Random values for every tensor of a release."""
    found = family.find(config, "config.json")
    system = found.read(config, None)
    shapes = reference_shapes(nn.meta.unbox(abstract_params(system)), found.tables(system)[layout])
    rng = np.random.default_rng(seed)
    values = {
        name: rng.standard_normal(shape).astype(np.float32).astype(dtype) for name, shape in shapes.items()
    }
    for name in values:  # diffusers repeats the embeddings of a DiT in each of its blocks
        if ".norm1.emb." in name:
            values[name] = values["transformer_blocks.0" + name[name.index(".norm1") :]]
    return values


def write(directory: Path, config: dict, values: dict[str, np.ndarray], **options) -> Path:
    """A release of these tensors; options: of `safetensors.Writer`."""
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(config))
    stem = family.find(config, "config.json").stem
    spelled = {name: (value.dtype, value.shape) for name, value in values.items()}
    writer = safetensors.Writer(directory, spelled, stem=stem, **options)
    for name, value in values.items():
        with writer.open(name) as tensor:
            tensor[...] = value
    return directory


def read(directory: Path) -> dict[str, np.ndarray]:
    """All tensors of a release."""
    return {name: entry.read() for name, entry in safetensors.open_directory(directory).items()}


def assert_equal(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    """Same names, types and bytes."""
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name].dtype == value.dtype, name
        assert found[name].shape == value.shape, name
        assert found[name].tobytes() == value.tobytes(), name
