"""Our samplers against the schedulers of diffusers, whole trajectories with the same network and noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.diffusion.process import GaussianDiffusion
from mmjax.diffusion.samplers import DDIM, DDPM
from mmjax.diffusion.schedules import Cosine, Linear, SqrtLinear

pytestmark = pytest.mark.parity
SHAPE, STEPS, WEIGHTS = (2, 6), 20, np.random.default_rng(0).normal(size=(6, 6)).astype(np.float32) * 0.3
SCHEDULES = {"linear": Linear(), "scaled_linear": SqrtLinear(), "squaredcos_cap_v2": Cosine()}
NAMES = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}


def torch_sample(scheduler, key, **step_options):
    torch = pytest.importorskip("torch")
    start_key, step_key = jax.random.split(key)
    x = torch.from_numpy(np.array(jax.random.normal(start_key, SHAPE)))
    scheduler.set_timesteps(STEPS)
    for number, t in enumerate(scheduler.timesteps):
        prediction = torch.tanh(x @ torch.from_numpy(WEIGHTS)) + t / 1000
        noise = torch.from_numpy(np.array(jax.random.normal(jax.random.fold_in(step_key, number), SHAPE)))
        if "eta" in step_options:
            x = scheduler.step(prediction, t, x, variance_noise=noise, **step_options).prev_sample
        else:
            with pytest.MonkeyPatch.context() as patch:
                module = __import__("diffusers.schedulers.scheduling_ddpm", fromlist=["randn_tensor"])
                patch.setattr(module, "randn_tensor", lambda *args, noise=noise, **kwargs: noise)
                x = scheduler.step(prediction, t, x).prev_sample
    return x.numpy()


def our_sample(sampler, process, key):
    return sampler.sample(lambda x, time: jnp.tanh(x @ WEIGHTS) + time[:, None], process, key, SHAPE, STEPS)


def options(schedule, prediction, spacing, clip):
    start, end = (0.00085, 0.012) if schedule == "scaled_linear" else (1e-4, 0.02)
    return {
        "beta_schedule": schedule, "beta_start": start, "beta_end": end, "prediction_type": NAMES[prediction],
        "timestep_spacing": spacing, "clip_sample": clip is not None,
    }  # fmt: skip


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("prediction", NAMES)
@pytest.mark.parametrize(("eta", "spacing", "clip"), [(0.0, "leading", None), (0.7, "trailing", 1.0)])
def test_ddim(schedule, prediction, eta, spacing, clip):
    diffusers = pytest.importorskip("diffusers")
    key = jax.random.key(3)
    scheduler = diffusers.DDIMScheduler(**options(schedule, prediction, spacing, clip))
    theirs = torch_sample(scheduler, key, eta=eta, use_clipped_model_output=True)
    process = GaussianDiffusion(prediction=prediction, schedule=SCHEDULES[schedule])
    ours = our_sample(DDIM(eta=eta, spacing=spacing, clip=clip), process, key)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())


# Not "large" with "trailing": diffusers then adds noise to the final picture, because its last t is not 0.
DDPM_CASES = [
    ("small", "leading", None),
    ("small", "trailing", 1.0),
    ("small", "linspace", None),
    ("large", "leading", 1.0),
    ("large", "linspace", None),
]


@pytest.mark.parametrize("prediction", NAMES)
@pytest.mark.parametrize(("variance", "spacing", "clip"), DDPM_CASES)
def test_ddpm(prediction, variance, spacing, clip):
    diffusers = pytest.importorskip("diffusers")
    key = jax.random.key(4)
    scheduler = diffusers.DDPMScheduler(
        variance_type=f"fixed_{variance}", **options("scaled_linear", prediction, spacing, clip)
    )
    theirs = torch_sample(scheduler, key)
    process = GaussianDiffusion(prediction=prediction, schedule=SqrtLinear())
    ours = our_sample(DDPM(variance=variance, spacing=spacing, clip=clip), process, key)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())
