"""Training steps, sampling and generation beside PyTorch, on one device, in one run.

    python -m tools.benchmarks.beside_torch [--only products,clip,decoder,dit,sample,generate] [--rounds 5]
        [--backend gpu --dtype bfloat16] [--profile DIR]

Needs the `parity` extra (torch, transformers, diffusers). Both sides have the same sizes and random weights,
and parameters in float32; steps are forward, backward and AdamW, the peer's fused one, its attention
PyTorch's own. The two take turns, and each side's time is its fastest turn, since other processes can only
slow a turn down.

    ratio > 1: mmjax is faster
    TFLOP/s    matrix products only, nothing computed twice; with the MFU where the chip's peak is known

With --profile also where the time of one call goes, see `profiles`: it adds up to the clock on one core
(`taskset -c 0 python -m ...`).
"""

import argparse
import contextlib
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import linen as nn

from mmjax import flops
from mmjax.cli.main import keep_freed_memory
from mmjax.diffusion.process import GaussianDiffusion
from mmjax.diffusion.samplers import DDIM
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
from mmjax.training.telemetry import peak_flops
from mmjax.training.trainer import model_flops
from tools.benchmarks import profiles

DEPTH, WIDTH, HEADS, VOCABULARY = 6, 256, 4, 2048
RANDOM = np.random.default_rng(0)
BACKENDS = {"cpu": ("cpu", "cpu"), "gpu": ("cuda", "cuda")}  # what JAX and torch call them


@dataclasses.dataclass(frozen=True, kw_only=True)
class Side:
    """PyTorch's device and type of products, and ours."""

    device: str
    dtype: str

    def put(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device)

    def products(self) -> contextlib.AbstractContextManager:
        """PyTorch's way to multiply float32 parameters in another type."""
        lower = self.dtype != "float32"
        return torch.autocast(self.device, getattr(torch, self.dtype), enabled=lower)

    def wait(self) -> None:
        if self.device != "cpu":
            torch.cuda.synchronize()

    def transformer(self, **fields) -> TransformerConfig:
        """Unrolled: in a scan each layer's parameters are copied out, and what it keeps is copied in."""
        shape = dict(depth=DEPTH, width=WIDTH, heads=HEADS, unroll=DEPTH, dtype=self.dtype)
        return TransformerConfig(**shape | fields)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workload:
    """The same work on both sides; each call does it once and waits for it.

    Attributes:
      program: what is compiled of ours.
      flops: of one call; None where shapes do not tell.
    """

    ours: Callable[[], None]
    peer: Callable[[], None]
    program: jax.stages.Compiled
    flops: float | None = None


def step(side: Side, system, batch, model: torch.nn.Module, loss: Callable[[], torch.Tensor]) -> Workload:
    """One update per call, each side on a state of its own."""
    boxed = abstract_params(system)
    treatments, axes = optimizers.treat(system.treatments(), boxed), optimizers.logical_axes(boxed)
    config = optimizers.OptimizerConfig(schedule="constant", warmup=0, clip_norm=0.0, learning_rate=1e-4)
    optimizer = optimizers.make_optimizer(config, steps=100, treatments=treatments, axes=axes)
    state = jax.jit(lambda: create(system, optimizer, treatments, seed=0, ema=False))()
    update = make_step(system, optimizer, treatments, schedule=config.make_schedule(100))
    batch = jax.device_put(batch)
    update = jax.jit(update, donate_argnums=0).lower(state, batch).compile()

    def ours():
        nonlocal state
        state, metrics = update(state, batch)
        jax.block_until_ready(metrics)

    adamw = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.98), fused=True)

    def peer():
        adamw.zero_grad(set_to_none=True)
        with side.products():
            value = loss()
        value.backward()
        adamw.step()
        side.wait()

    params = jax.eval_shape(lambda: nn.meta.unbox(system.init(jax.random.key(0))))
    work = model_flops(system, treatments, params, batch)
    return Workload(ours=ours, peer=peer, program=update, flops=work)


def clip(side: Side, batch: int = 64, size: int = 64, patch: int = 8, length: int = 32) -> Workload:
    """A CLIP step: 6 + 6 layers of width 256."""
    from transformers import CLIPConfig, CLIPModel

    image = RANDOM.normal(size=(batch, 3, size, size)).astype(np.float32)
    tokens = RANDOM.integers(3, VOCABULARY, (batch, length))
    tokens[:, -1] = 2
    tower = side.transformer(activation="quick_gelu")
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
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=WIDTH)
    model = CLIPModel(config).to(side.device)
    pixels, words = side.put(image), side.put(tokens)
    rows = {"image": image.transpose(0, 2, 3, 1)[:, None], "tokens": tokens.astype(np.int32)}
    loss = lambda: model(input_ids=words, pixel_values=pixels, return_loss=True).loss  # noqa: E731
    return step(side, system, rows, model, loss)


def products(side: Side, tokens: int = 4096, times: int = DEPTH) -> Workload:
    """The products of six layers' matrices alone, forward and backward, 4,096 tokens of width 256."""
    sizes = [(WIDTH, 3 * WIDTH), (WIDTH, WIDTH), (WIDTH, 4 * WIDTH), (4 * WIDTH, WIDTH)]
    inputs, matrices = (
        [RANDOM.normal(size=shape).astype(np.float32) for shape in shapes]
        for shapes in ([(tokens, before) for before, _ in sizes], sizes)
    )

    def all_of(inputs, matrices):
        outputs = [x @ w for x, w in zip(inputs, matrices, strict=True)]
        backward = [(y @ w.T, x.T @ y) for x, w, y in zip(inputs, matrices, outputs, strict=True)]
        return outputs, backward

    here = [[jnp.asarray(x, side.dtype) for x in xs] for xs in (inputs, matrices)]
    run = jax.jit(all_of).lower(*here).compile()
    there = [[side.put(x).to(getattr(torch, side.dtype)) for x in xs] for xs in (inputs, matrices)]

    def ours():
        for _ in range(times):
            jax.block_until_ready(run(*here))

    def peer():
        with torch.inference_mode():
            for _ in range(times):
                all_of(*there)
        side.wait()

    work = 6.0 * times * tokens * sum(m.size for m in matrices)
    return Workload(ours=ours, peer=peer, program=run, flops=work)


def llama(side: Side, length: int):
    """The same decoder on both sides."""
    from transformers import LlamaConfig, LlamaForCausalLM

    blocks = side.transformer(
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
    return system, LlamaForCausalLM(config).to(side.device)


def decoder(side: Side, batch: int = 16, length: int = 128) -> Workload:
    """A step of a Llama of 6 layers, width 256, on 16 x 128 tokens."""
    system, model = llama(side, length)
    tokens = RANDOM.integers(0, VOCABULARY, (batch, length)).astype(np.int32)
    ones = np.ones_like(tokens)
    targets = np.concatenate([tokens[:, 1:], -ones[:, :1]], axis=1)
    positions = np.tile(np.arange(length, dtype=np.int32), (batch, 1))
    rows = dict(tokens=tokens, targets=targets, segment=ones, block_start=ones, positions=positions)
    words = side.put(tokens).long()
    return step(side, system, rows, model, lambda: model(input_ids=words, labels=words).loss)


def denoiser(side: Side, size: int, patch: int):
    """The same DiT on both sides."""
    from diffusers import DiTTransformer2DModel

    network = DenoiserConfig(
        image_size=size, patch=patch, channels=4, classes=10, transformer=side.transformer()
    )
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
    return network, model.to(side.device)


def dit(side: Side, batch: int = 32, size: int = 16, patch: int = 2) -> Workload:
    """A step of a DiT of 6 layers, width 256, on 32 latents of 16 x 16 x 4: squared error of the noise."""
    network, model = denoiser(side, size, patch)
    latent = RANDOM.normal(size=(batch, size, size, 4)).astype(np.float32)
    label = RANDOM.integers(0, 10, batch).astype(np.int32)
    clean, classes = side.put(latent.transpose(0, 3, 1, 2)), side.put(label).long()
    keep = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, device=side.device), dim=0)

    def loss():
        at, noise = torch.randint(0, 1000, (batch,), device=side.device), torch.randn_like(clean)
        alpha = keep[at][:, None, None, None]
        answer = model(alpha.sqrt() * clean + (1 - alpha).sqrt() * noise, at, classes).sample
        return torch.nn.functional.mse_loss(answer[:, :4], noise)

    return step(side, DiT(denoiser=network, bound=0.0), dict(latent=latent, label=label), model, loss)


def sample(side: Side, batch: int = 8, size: int = 16, patch: int = 2, steps: int = 20) -> Workload:
    """8 latents from the same DiT by 20 steps of guided DDIM."""
    from diffusers import DDIMScheduler

    network, model = denoiser(side, size, patch)
    model.eval()
    system = DiT(denoiser=network, process=GaussianDiffusion(learned_variance=True), sampler=DDIM())
    params = jax.jit(lambda key: nn.meta.unbox(system.init(key)))(jax.random.key(0))
    label = RANDOM.integers(0, 10, batch).astype(np.int32)

    def draw(params, label):
        return system.sample(params, label, jax.random.key(0), steps=steps, guidance=4.0)

    run, scheduler = jax.jit(draw).lower(params, label).compile(), DDIMScheduler(clip_sample=False)
    scheduler.set_timesteps(steps)
    classes = side.put(label).long()
    classes = torch.cat([classes, torch.full_like(classes, 10)])

    def peer():
        with torch.inference_mode(), side.products():
            x = torch.randn(batch, 4, size, size, device=side.device)
            for time_ in scheduler.timesteps:
                at = torch.full((2 * batch,), int(time_), device=side.device)
                answer = model(torch.cat([x, x]), at, classes).sample[:, :4]
                with_class, without = answer.chunk(2)
                x = scheduler.step(without + 4.0 * (with_class - without), time_, x).prev_sample
        side.wait()

    work = 2.0 * flops.multiply_adds(draw, params, label)
    return Workload(
        ours=lambda: jax.block_until_ready(run(params, label)), peer=peer, program=run, flops=work
    )


def generate(side: Side, batch: int = 8, prompt: int = 32, length: int = 96) -> Workload:
    """Greedy continuation of 8 prompts by 96 tokens, each side with its cache."""
    system, model = llama(side, prompt + length)
    model.eval()
    tokens = RANDOM.integers(0, VOCABULARY, (batch, prompt)).astype(np.int32)
    params = jax.jit(lambda key: nn.meta.unbox(system.init(key)))(jax.random.key(0))
    words = side.put(tokens).long()

    def continued(params, tokens):
        return system.generate(params, tokens, jnp.ones_like(tokens), jax.random.key(0), length=length)

    run = jax.jit(continued).lower(params, tokens).compile()

    def peer():
        with torch.inference_mode(), side.products():
            settings = dict(max_new_tokens=length, min_new_tokens=length, do_sample=False)
            model.generate(words, attention_mask=torch.ones_like(words), **settings)
        side.wait()

    return Workload(ours=lambda: jax.block_until_ready(run(params, tokens)), peer=peer, program=run)


WORKLOADS = {work.__name__: work for work in (products, clip, decoder, dit, sample, generate)}


def fastest(workload: Workload, rounds: int) -> tuple[float, float]:
    """Seconds of the fastest turn of either side; the first two turns compile and warm up."""
    times = ([], [])
    for _ in range(rounds + 2):
        for turn, seconds in zip((workload.ours, workload.peer), times, strict=True):
            start = time.monotonic()
            turn()
            seconds.append(time.monotonic() - start)
    return min(times[0][2:]), min(times[1][2:])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(WORKLOADS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--backend", choices=BACKENDS, default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--profile", help="where both sides' time goes; our trace goes here")
    arguments = parser.parse_args()
    keep_freed_memory()  # as the command line does; PyTorch gains by it too
    platform, device = BACKENDS[arguments.backend]
    jax.config.update("jax_platforms", platform)
    peak = peak_flops(jax.devices()[:1])
    side = Side(device=device, dtype=arguments.dtype)
    for name in arguments.only.split(","):
        workload = WORKLOADS[name](side)
        ours, peer = fastest(workload, arguments.rounds)
        line = f"mmjax {1000 * ours:7.1f} ms   torch {1000 * peer:7.1f} ms   ratio {peer / ours:.2f}"
        if workload.flops:
            line += f"   {workload.flops / ours / 1e12:6.3f} TFLOP/s"
            line += f" = {workload.flops / ours / peak:.1%} MFU" if peak else ""
        print(f"{name:9} {line}   {WORKLOADS[name].__doc__.splitlines()[0]}", flush=True)
        if arguments.profile:
            spent = profiles.ours(workload.ours, workload.program, Path(arguments.profile) / name)
            print(f"{'':9} mmjax, ms: {profiles.told(spent)}", flush=True)
            spent = profiles.peer(workload.peer, side.device)
            print(f"{'':9} torch, ms: {profiles.told(spent)}", flush=True)


if __name__ == "__main__":
    main()
