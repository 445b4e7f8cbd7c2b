"""Training steps and generation beside PyTorch, on this machine's CPU, in one run.

    python -m tools.benchmarks.cpu_steps [--only clip,decoder,dit,generate] [--rounds 5] [--profile DIR]

Needs the `parity` extra (torch, transformers, diffusers). Both sides have the same sizes, random weights and
float32; steps are forward, backward and AdamW, the peer's fused one, its attention PyTorch's own. The two
take turns, and each side's time is its fastest turn, since other processes can only slow a turn down.

    ratio > 1: mmjax is faster
"""

import argparse
import time
from collections.abc import Callable

import jax
import numpy as np
import torch
from flax import linen as nn

from mmjax.language.decoder import DecoderConfig
from mmjax.layers.transformer import TransformerConfig
from mmjax.layers.vision import VisionConfig
from mmjax.systems.clip import CLIP, TextConfig
from mmjax.systems.diffusion_decoder import DenoiserConfig
from mmjax.systems.dit import DiT
from mmjax.systems.language_model import LanguageModel
from mmjax.training import optimizers
from mmjax.training.state import abstract_params, create
from mmjax.training.step import make_step

DEPTH, WIDTH, HEADS, VOCABULARY = 6, 256, 4, 2048
RANDOM = np.random.default_rng(0)
Turns = tuple[Callable[[], None], Callable[[], None]]


def transformer(**fields) -> TransformerConfig:
    """On CPU a scanned step is slower than an unrolled one: each layer's parameters are copied out first."""
    return TransformerConfig(**dict(depth=DEPTH, width=WIDTH, heads=HEADS, unroll=DEPTH) | fields)


def our_step(system, batch) -> Callable[[], None]:
    """One update per call, on a state of its own."""
    boxed = abstract_params(system)
    treatments, axes = optimizers.treat(system.treatments(), boxed), optimizers.logical_axes(boxed)
    config = optimizers.OptimizerConfig(schedule="constant", warmup=0, clip_norm=0.0, learning_rate=1e-4)
    optimizer = optimizers.make_optimizer(config, steps=100, treatments=treatments, axes=axes)
    state = jax.jit(lambda: create(system, optimizer, treatments, seed=0, ema=False))()
    step = jax.jit(
        make_step(system, optimizer, treatments, schedule=config.make_schedule(100)), donate_argnums=0
    )
    batch = jax.device_put(batch)

    def turn():
        nonlocal state
        state, metrics = step(state, batch)
        jax.block_until_ready(metrics)

    return turn


def peer_step(model: torch.nn.Module, loss: Callable[[], torch.Tensor]) -> Callable[[], None]:
    """One update per call."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.98), fused=True)

    def turn():
        optimizer.zero_grad(set_to_none=True)
        loss().backward()
        optimizer.step()

    return turn


def clip(batch: int = 64, size: int = 64, patch: int = 8, length: int = 32) -> Turns:
    """A CLIP step: 6 + 6 layers of width 256."""
    from transformers import CLIPConfig, CLIPModel

    image = RANDOM.normal(size=(batch, 3, size, size)).astype(np.float32)
    tokens = RANDOM.integers(3, VOCABULARY, (batch, length))
    tokens[:, -1] = 2
    tower = transformer(activation="quick_gelu")
    system = CLIP(
        embedding=WIDTH,
        vision=VisionConfig(image_size=size, patch=patch, pre_norm=True, patch_bias=False, transformer=tower),
        text=TextConfig(vocabulary_size=VOCABULARY, length=length, transformer=tower),
    )
    shape = dict(
        hidden_size=WIDTH, intermediate_size=4 * WIDTH, num_hidden_layers=DEPTH, num_attention_heads=HEADS
    )
    ids = dict(bos_token_id=1, eos_token_id=2, pad_token_id=0)
    text = dict(**shape, **ids, vocab_size=VOCABULARY, max_position_embeddings=length)
    vision = dict(**shape, image_size=size, patch_size=patch)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=WIDTH))
    pixels, words = torch.from_numpy(image), torch.from_numpy(tokens)
    ours = our_step(
        system, {"image": image.transpose(0, 2, 3, 1)[:, None], "tokens": tokens.astype(np.int32)}
    )
    return ours, peer_step(model, lambda: model(input_ids=words, pixel_values=pixels, return_loss=True).loss)


def llama(length: int):
    """The same decoder on both sides."""
    from transformers import LlamaConfig, LlamaForCausalLM

    blocks = transformer(
        norm="rms",
        gated_mlp=True,
        activation="silu",
        mlp_width=640,
        attention_bias=False,
        mlp_bias=False,
        rope_base=1e4,
    )
    system = LanguageModel(
        decoder=DecoderConfig(
            vocabulary_size=VOCABULARY, context_length=length, tied=False, transformer=blocks
        ),
        eos_token=VOCABULARY,  # never: both sides generate all tokens
    )
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=640,
        num_hidden_layers=DEPTH,
        num_attention_heads=HEADS,
        max_position_embeddings=length,
        pad_token_id=0,
        eos_token_id=None,
    )
    return system, LlamaForCausalLM(config)


def decoder(batch: int = 16, length: int = 128) -> Turns:
    """A step of a Llama of 6 layers, width 256, on 16 x 128 tokens."""
    system, model = llama(length)
    tokens = RANDOM.integers(0, VOCABULARY, (batch, length)).astype(np.int32)
    ones = np.ones_like(tokens)
    targets = np.concatenate([tokens[:, 1:], -ones[:, :1]], axis=1)
    positions = np.tile(np.arange(length, dtype=np.int32), (batch, 1))
    rows = dict(tokens=tokens, targets=targets, segment=ones, block_start=ones, positions=positions)
    words = torch.from_numpy(tokens).long()
    return our_step(system, rows), peer_step(model, lambda: model(input_ids=words, labels=words).loss)


def dit(batch: int = 32, size: int = 16, patch: int = 2) -> Turns:
    """A step of a DiT of 6 layers, width 256, on 32 latents of 16 x 16 x 4: squared error of the noise."""
    from diffusers import DiTTransformer2DModel

    latent = RANDOM.normal(size=(batch, size, size, 4)).astype(np.float32)
    label = RANDOM.integers(0, 10, batch).astype(np.int32)
    network = DenoiserConfig(image_size=size, patch=patch, channels=4, classes=10, transformer=transformer())
    model = DiTTransformer2DModel(
        num_attention_heads=HEADS,
        attention_head_dim=WIDTH // HEADS,
        in_channels=4,
        out_channels=8,
        num_layers=DEPTH,
        sample_size=size,
        patch_size=patch,
        num_embeds_ada_norm=10,
    )
    clean, classes = torch.from_numpy(latent.transpose(0, 3, 1, 2)), torch.from_numpy(label).long()
    keep = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), dim=0)

    def loss():
        at, noise = torch.randint(0, 1000, (batch,)), torch.randn_like(clean)
        alpha = keep[at][:, None, None, None]
        answer = model(alpha.sqrt() * clean + (1 - alpha).sqrt() * noise, at, classes).sample
        return torch.nn.functional.mse_loss(answer[:, :4], noise)

    return our_step(DiT(denoiser=network, bound=0.0), dict(latent=latent, label=label)), peer_step(
        model, loss
    )


def generate(batch: int = 8, prompt: int = 32, length: int = 96) -> Turns:
    """Greedy continuation of 8 prompts by 96 tokens, each side with its cache."""
    system, model = llama(prompt + length)
    model.eval()
    tokens = RANDOM.integers(0, VOCABULARY, (batch, prompt)).astype(np.int32)
    params = jax.jit(lambda key: nn.meta.unbox(system.init(key)))(jax.random.key(0))
    words = torch.from_numpy(tokens).long()
    run = jax.jit(lambda p, t: system.generate(p, t, np.ones_like(tokens), jax.random.key(0), length=length))

    def peer():
        with torch.inference_mode():
            settings = dict(max_new_tokens=length, min_new_tokens=length, do_sample=False)
            model.generate(words, attention_mask=torch.ones_like(words), **settings)

    return lambda: jax.block_until_ready(run(params, tokens)), peer


WORKLOADS = {"clip": clip, "decoder": decoder, "dit": dit, "generate": generate}


def fastest(turns: Turns, rounds: int) -> tuple[float, float]:
    """Seconds of the fastest turn of either side; the first two turns compile and warm up."""
    times = ([], [])
    for _ in range(rounds + 2):
        for turn, seconds in zip(turns, times, strict=True):
            start = time.monotonic()
            turn()
            seconds.append(time.monotonic() - start)
    return min(times[0][2:]), min(times[1][2:])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(WORKLOADS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile", help="write a profile of our side here, for TensorBoard or xprof")
    arguments = parser.parse_args()
    for name in arguments.only.split(","):
        turns = WORKLOADS[name]()
        ours, peer = fastest(turns, arguments.rounds)
        summary = f"mmjax {1000 * ours:7.1f} ms   torch {1000 * peer:7.1f} ms   ratio {peer / ours:.2f}"
        print(f"{name:9} {summary}   {WORKLOADS[name].__doc__.splitlines()[0]}", flush=True)
        if arguments.profile:
            with jax.profiler.trace(f"{arguments.profile}/{name}"):
                turns[0]()


if __name__ == "__main__":
    main()
