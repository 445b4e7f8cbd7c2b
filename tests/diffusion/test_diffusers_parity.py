"""Our samplers against the schedulers of diffusers: every x on the way, with the same network and noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.diffusion.process import FlowMatching, GaussianDiffusion
from mmjax.diffusion.samplers import DDIM, DDPM, DPMSolver, Euler, Heun
from mmjax.diffusion.schedules import Cosine, Linear, SqrtLinear

pytestmark = pytest.mark.parity
SHAPE, STEPS, WEIGHTS = (2, 6), 20, np.random.default_rng(0).normal(size=(6, 12)).astype(np.float32) * 0.3
SCHEDULES = {"linear": Linear(), "scaled_linear": SqrtLinear(), "squaredcos_cap_v2": Cosine()}
NAMES = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}
KEY = jax.random.key(3)


def torch_path(scheduler, x, step, *, outputs=6, steps=STEPS, scale=1000):
    """x before the first step and after each; step(number, prediction, t, x) -> x. The network answers with
    `outputs` channels and sees t / scale."""
    torch = pytest.importorskip("torch")
    weights, path = torch.from_numpy(WEIGHTS[:, :outputs]), [torch.from_numpy(np.array(x))]
    for number, t in enumerate(scheduler.timesteps):
        prediction = torch.tanh(path[-1] @ weights) + t / scale
        path.append(step(number, prediction, t, path[-1]))
    return np.stack([x.numpy() for x in path])


def network(outputs=6):
    return lambda x, time: jnp.tanh(x @ WEIGHTS[:, :outputs]) + time[:, None]


def start():
    return jax.random.normal(jax.random.split(KEY)[0], SHAPE)


def noise(number):
    import torch

    key = jax.random.fold_in(jax.random.split(KEY)[1], number)
    return torch.from_numpy(np.array(jax.random.normal(key, SHAPE)))


def our_path(sampler, process, outputs=6):
    return sampler.trajectory(network(outputs), process, KEY, SHAPE, STEPS)


def assert_close(ours, theirs):
    assert ours.shape == theirs.shape
    for number, (our, their) in enumerate(zip(np.asarray(ours), theirs, strict=True)):
        np.testing.assert_allclose(
            our, their, rtol=1e-4, atol=1e-4 * np.abs(theirs).max(), err_msg=f"step {number}"
        )


def options(schedule, prediction, spacing):
    start, end = (0.00085, 0.012) if schedule == "scaled_linear" else (1e-4, 0.02)
    return {
        "beta_schedule": schedule, "beta_start": start, "beta_end": end, "prediction_type": NAMES[prediction],
        "timestep_spacing": spacing,
    }  # fmt: skip


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("prediction", NAMES)
@pytest.mark.parametrize(("eta", "spacing", "clip"), [(0.0, "leading", None), (0.7, "trailing", 1.0)])
def test_ddim(schedule, prediction, eta, spacing, clip):
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDIMScheduler(
        clip_sample=clip is not None, **options(schedule, prediction, spacing)
    )
    scheduler.set_timesteps(STEPS)

    def step(number, prediction, t, x):
        settings = dict(eta=eta, use_clipped_model_output=True, variance_noise=noise(number))
        return scheduler.step(prediction, t, x, **settings).prev_sample

    process = GaussianDiffusion(prediction=prediction, schedule=SCHEDULES[schedule])
    ours = our_path(DDIM(eta=eta, spacing=spacing, clip=clip), process)
    assert_close(ours, torch_path(scheduler, start(), step))


# Not "large" with "trailing": diffusers then adds noise to the final picture, because its last t is not 0.
DDPM_CASES = [
    ("small", "leading", None),
    ("small", "trailing", 1.0),
    ("small", "linspace", None),
    ("large", "leading", 1.0),
    ("large", "linspace", None),
    ("learned", "leading", 1.0),
    ("learned", "linspace", None),
]


@pytest.mark.parametrize("prediction", NAMES)
@pytest.mark.parametrize(("variance", "spacing", "clip"), DDPM_CASES)
def test_ddpm(prediction, variance, spacing, clip, monkeypatch):
    diffusers = pytest.importorskip("diffusers")
    learned = variance == "learned"
    scheduler = diffusers.DDPMScheduler(
        variance_type="learned_range" if learned else f"fixed_{variance}",
        clip_sample=clip is not None,
        **options("scaled_linear", prediction, spacing),
    )
    scheduler.set_timesteps(STEPS)
    module = __import__("diffusers.schedulers.scheduling_ddpm", fromlist=["randn_tensor"])

    def step(number, prediction, t, x):
        monkeypatch.setattr(module, "randn_tensor", lambda *args, **kwargs: noise(number))
        return scheduler.step(prediction, t, x).prev_sample

    outputs = 12 if learned else 6
    process = GaussianDiffusion(prediction=prediction, schedule=SqrtLinear(), learned_variance=learned)
    ours = our_path(DDPM(variance=variance, spacing=spacing, clip=clip), process, outputs)
    assert_close(ours, torch_path(scheduler, start(), step, outputs=outputs))


def first_of(scheduler):
    return lambda number, prediction, t, x: scheduler.step(prediction, t, x).prev_sample


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("prediction", NAMES)
def test_dpm_solver(schedule, prediction):
    """Trailing: with the other spacings this scheduler visits other times than its siblings, see below."""
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DPMSolverMultistepScheduler(**options(schedule, prediction, "trailing"))
    scheduler.set_timesteps(STEPS)
    process = GaussianDiffusion(prediction=prediction, schedule=SCHEDULES[schedule])
    assert_close(our_path(DPMSolver(), process), torch_path(scheduler, start(), first_of(scheduler)))


@pytest.mark.parametrize("sampler", [Euler(spacing="linspace"), Heun(spacing="linspace")])
def test_flow_matching(sampler):
    """diffusers' times go from 1 evenly to 1/1000 and jump; our default is even to the end, and fits its
    Euler scheduler when that is given the same sigmas."""
    diffusers = pytest.importorskip("diffusers")
    name = f"FlowMatch{type(sampler).__name__}DiscreteScheduler"
    scheduler = getattr(diffusers, name)()
    scheduler.set_timesteps(STEPS)
    theirs = torch_path(scheduler, start(), first_of(scheduler))
    if isinstance(sampler, Heun):  # its Euler points, and then where it goes from there
        theirs = np.concatenate([theirs[:1], theirs[2::2], theirs[-1:]])
    assert_close(our_path(sampler, FlowMatching()), theirs)
    if isinstance(sampler, Euler):
        scheduler.set_timesteps(sigmas=np.linspace(1, 0, STEPS + 1)[:-1])
        theirs = torch_path(scheduler, start(), first_of(scheduler))
        assert_close(our_path(Euler(), FlowMatching()), theirs)


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_ddim_inversion(spacing):
    """For noise predictions. For others diffusers takes the answer as one about the cleaner point, which is
    not what the sampler will do with it on the way back; ours inverts the sampler's own step."""
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDIMInverseScheduler(
        clip_sample=False, set_alpha_to_one=True, **options("linear", "eps", spacing)
    )
    scheduler.set_timesteps(STEPS)
    theirs = torch_path(scheduler, start(), first_of(scheduler))
    ours = DDIM(spacing=spacing).invert(network(), GaussianDiffusion(), start(), STEPS)
    np.testing.assert_allclose(ours, theirs[-1], rtol=1e-4, atol=1e-4 * np.abs(theirs[-1]).max())


SPACINGS = {  # scheduler -> spacing -> the first and last two of ten times, where they are not ours
    "DDIMScheduler": {"leading": None, "trailing": None, "linspace": None},
    "DDPMScheduler": {"leading": None, "trailing": None, "linspace": None},
    "DPMSolverMultistepScheduler": {
        "leading": [900, 810, 180, 90],  # leaves out 0, and steps by 1000 // 11
        "trailing": None,
        "linspace": [999, 899, 200, 100],  # eleven points, without the 0
    },
}


@pytest.mark.parametrize(("name", "spacing"), [(n, s) for n, found in SPACINGS.items() for s in found])
def test_spacings(name, spacing):
    diffusers = pytest.importorskip("diffusers")
    scheduler = getattr(diffusers, name)(timestep_spacing=spacing)
    scheduler.set_timesteps(10)
    theirs, ours = scheduler.timesteps.numpy(), np.round(GaussianDiffusion().grid(10, spacing)[:-1] * 1000)
    if SPACINGS[name][spacing] is None:
        np.testing.assert_array_equal(ours, theirs)
    else:
        np.testing.assert_array_equal(theirs[[0, 1, -2, -1]], SPACINGS[name][spacing])
        assert (ours != theirs).any()
