"""Noise schedules of DDPM, improved DDPM, latent and stable diffusion, and DDIM's steps."""

from mmjax.reproduce.row import Row, Tolerance, relative, within

_DDPM = "Ho et al. 2020, section 4; hojonathanho/diffusion, in float64"
_COSINE = "Nichol & Dhariwal 2021, equation 17; openai/guided-diffusion, in float64"
_STABLE = "CompVis/stable-diffusion:configs (0.00085 to 0.012, linear in the root), in float64"
_LATENT = "CompVis/latent-diffusion:ldm/modules/diffusionmodules/util.py, in float64"
_DDIM = "Song et al. 2021; ermongroup/ddim:runners/diffusion.py"
_NINE, _EIGHT = relative(1e-9), relative(1e-8)

_ALPHA_BARS = tuple(
    Row(
        id=f"schedules/{name}/alpha-bar/{t}",
        what=f"alpha_bar at step {t} of 1000",
        source=source,
        expected=expected,
        tolerance=tolerance,
        compute="schedules.alpha_bar",
        of=(schedule, t),
    )
    for name, schedule, source, tolerance, values in (
        ("linear", "linear", _DDPM, _NINE, {500: 0.07858724288, 1000: 4.035829765e-5}),
        (
            "cosine",
            "cosine",
            _COSINE,
            _EIGHT,
            {250: 0.8470121613, 500: 0.4938435904, 750: 0.1442721024, 1000: 2.428766907e-9},
        ),
        ("stable-diffusion", "stable diffusion", _STABLE, _EIGHT, {500: 0.2776696505, 1000: 0.004660098513}),
        (
            "latent-diffusion",
            "latent diffusion",
            _LATENT,
            _EIGHT,
            {500: 0.1158444908, 1000: 1.423039752e-4},
        ),
        ("latent-diffusion-text", "latent diffusion, text", _LATENT, _EIGHT, {1000: 6.686651737e-4}),
    )
    for t, expected in values.items()
)


def _linear(name: str, what: str, expected: float, tolerance: Tolerance, function: str, *of) -> Row:
    return Row(
        id=f"schedules/linear/{name}",
        what=what,
        source=_DDPM,
        expected=expected,
        tolerance=tolerance,
        compute=f"schedules.{function}",
        of=("linear", *of),
    )


_LINEAR = (
    _linear("beta/first", "beta of step 1", 1e-4, _NINE, "beta", 1),
    _linear("beta/last", "beta of step 1000", 0.02, _NINE, "beta", 1000),
    _linear("alpha/1000", "sqrt(alpha_bar) at step 1000", 0.0063528181, relative(1e-8), "alpha", 1000),
    _linear("log-snr/1", "log signal-to-noise ratio at step 1", 9.210240, within(1e-6), "log_snr", 1),
    _linear(
        "log-snr/1000", "log signal-to-noise ratio at step 1000", -10.117673, within(1e-6), "log_snr", 1000
    ),
    _linear("posterior/2", "posterior variance of step 2", 5.4531877e-5, _EIGHT, "posterior_variance", 2),
    _linear(
        "posterior/clipped-log",
        "clipped log posterior variance of step 1",
        -9.816725,
        within(1e-6),
        "clipped_log_variance",
    ),
    _linear(
        "prior",
        "KL of the last step from the standard normal for |x0| = 1, bits per dimension",
        2.9113e-5,
        within(5e-10),
        "prior_bits",
    ),
    _linear(
        "ancestral",
        "difference of DDIM's variance at eta 1 from DDPM's posterior variance, over all steps",
        0.0,
        within(1e-12),
        "ancestral_difference",
    ),
    _linear(
        "one-jump",
        "error of one deterministic DDIM jump to x0 with the true noise, over all steps",
        0.0,
        within(1e-12),
        "one_jump_error",
    ),
)

_OTHER = (
    Row(
        id="schedules/cosine/beta/first",
        what="beta of step 1",
        source=_COSINE,
        expected=4.128422482e-5,
        tolerance=_EIGHT,
        compute="schedules.beta",
        of=("cosine", 1),
    ),
    Row(
        id="schedules/cosine/capped",
        what="betas at the cap of 0.999",
        source=_COSINE,
        expected=1,
        compute="schedules.capped_betas",
        of=("cosine",),
    ),
    Row(
        id="schedules/ddim/quadratic/10",
        what="steps that 10 quadratic DDIM steps visit",
        source=_DDIM,
        expected=(0, 9, 39, 88, 158, 246, 355, 483, 632, 800),
        compute="schedules.visited_steps",
        of=("quadratic", 10),
    ),
    Row(
        id="schedules/ddim/uniform/10",
        what="steps that 10 uniform DDIM steps visit",
        source=_DDIM,
        expected=(0, 100, 200, 300, 400, 500, 600, 700, 800, 900),
        compute="schedules.visited_steps",
        of=("leading", 10),
    ),
)

ROWS = (*_ALPHA_BARS, *_LINEAR, *_OTHER)
