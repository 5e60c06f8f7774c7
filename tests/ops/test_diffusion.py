"""Noise schedules and samplers: against diffusers' step by step, and against what is known in closed form."""

import math
import warnings

import pytest

torch = pytest.importorskip("torch")

from impasto.errors import CancelledError, UsageError  # noqa: E402
from impasto.ops.noise import (  # noqa: E402
    PARAMETRISATIONS,
    NoiseSchedule,
    cosine_schedule,
    linear_schedule,
    scaled_linear_schedule,
    zero_terminal_snr,
)
from impasto.ops.samplers import (  # noqa: E402
    SAMPLERS,
    classifier_free_guidance,
    ddim_inversion,
    noise_for,
    sample,
    sample_from,
    timesteps,
)

SHAPE = (2, 3, 5, 4)
LINEAR = linear_schedule()
SCHEDULES = {
    "linear": LINEAR,
    "scaled": scaled_linear_schedule(),
    "cosine": cosine_schedule(),
    "zero": zero_terminal_snr(LINEAR),
}


def normal(seed, shape=SHAPE, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def fake(x_t, t):
    """A denoiser that looks at picture and step, and is far from linear."""
    return torch.tanh(0.7 * x_t + 0.3 * math.sin(float(t))) + 0.1 * x_t.flip(-1)


def gaussian(schedule, mean=0.3, deviation=0.5):
    """The perfect denoiser (predicting x_0) of pictures whose pixels are N(mean, deviation^2)."""

    def denoise(x_t, t):
        abar = schedule.alpha_cumprod(int(t))
        gain = math.sqrt(abar) * deviation**2 / (abar * deviation**2 + 1 - abar)
        return mean + gain * (x_t - math.sqrt(abar) * mean)

    return denoise


def flow(schedule, x_t, t, mean=0.3, deviation=0.5):
    """Where the probability-flow ODE leads from x_t, for the same pictures."""
    abar = schedule.alpha_cumprod(t)
    return mean + deviation * (x_t - math.sqrt(abar) * mean) / math.sqrt(abar * deviation**2 + 1 - abar)


# -- the forward process -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("linear", {"beta_start": 1e-4, "beta_end": 0.02}),
        ("scaled", {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}),
        ("cosine", {"beta_schedule": "squaredcos_cap_v2"}),
        ("zero", {"beta_start": 1e-4, "beta_end": 0.02, "rescale_betas_zero_snr": True}),
    ],
)
def test_schedules_are_those_of_diffusers(name, settings):
    diffusers = pytest.importorskip("diffusers")
    wanted = diffusers.DDIMScheduler(**settings).alphas_cumprod.double()
    torch.testing.assert_close(SCHEDULES[name].alphas_cumprod, wanted, rtol=3e-4, atol=1e-6)  # theirs are float32


def test_zero_terminal_snr_leaves_nothing_at_the_end_and_the_first_step_as_it_was():
    zero = SCHEDULES["zero"]
    assert float(zero.alphas_cumprod[-1]) == 0 == float(zero.snr(zero.steps - 1))
    assert float(zero.alphas_cumprod[0]) == pytest.approx(float(LINEAR.alphas_cumprod[0]), rel=1e-12)


@pytest.mark.parametrize("t", [0, 300, 999])
def test_q_sample_has_the_moments_of_the_definition(t):
    x0 = torch.full((1, 1, 200, 200), 0.7, dtype=torch.float64)
    x_t = LINEAR.q_sample(x0, normal(0, x0.shape), t)
    abar = float(LINEAR.alphas_cumprod[t])
    assert float(x_t.mean()) == pytest.approx(0.7 * math.sqrt(abar), abs=0.02)
    assert float(x_t.var()) == pytest.approx(1 - abar, rel=0.03)


def test_steps_of_a_batch_may_differ():
    x0, noise, t = normal(0), normal(1), torch.tensor([10, 900])
    each = [LINEAR.q_sample(x0[i : i + 1], noise[i : i + 1], int(t[i])) for i in range(2)]
    assert torch.equal(LINEAR.q_sample(x0, noise, t), torch.cat(each))
    assert LINEAR.q_sample(x0.half(), noise.half(), t).dtype == torch.float16
    assert torch.equal(LINEAR.q_sample(x0, noise, -1), x0)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("parametrisation", PARAMETRISATIONS)
def test_a_perfect_answer_gives_picture_and_noise_back(schedule, parametrisation):
    x0, noise, t = normal(0), normal(1), torch.tensor([1, 700])
    x_t = schedule.q_sample(x0, noise, t)
    answer = schedule.training_target(x0, noise, t, parametrisation=parametrisation)
    torch.testing.assert_close(schedule.predicted_x0(answer, x_t, t, parametrisation=parametrisation), x0)
    torch.testing.assert_close(schedule.predicted_noise(answer, x_t, t, parametrisation=parametrisation), noise)


def test_v_becomes_epsilon_and_v_again():
    x_t, v, t = normal(0), normal(1), torch.tensor([5, 600])
    noise = LINEAR.predicted_noise(v, x_t, t, parametrisation="v")
    x0 = LINEAR.predicted_x0(noise, x_t, t, parametrisation="epsilon")
    torch.testing.assert_close(LINEAR.training_target(x0, noise, t, parametrisation="v"), v)


def test_epsilon_says_nothing_where_alpha_is_0():
    with pytest.raises(UsageError, match="cannot start where alpha is 0"):
        sample("ddim", fake, normal(0), schedule=SCHEDULES["zero"], steps=4)


@pytest.mark.parametrize("parametrisation", PARAMETRISATIONS)
def test_min_snr_weighs_the_error_of_x0_alike_whatever_is_predicted(parametrisation):
    x0, noise, error = normal(0), normal(1), normal(2)
    for t in (20, 150, 400, 980):
        x_t = LINEAR.q_sample(x0, noise, t)
        answer = LINEAR.training_target(x0, noise, t, parametrisation=parametrisation) + 0.1 * error
        loss = LINEAR.min_snr_weight(t, 5.0, parametrisation=parametrisation) * (0.1 * error).square().mean()
        off = (LINEAR.predicted_x0(answer, x_t, t, parametrisation=parametrisation) - x0).square().mean()
        assert float(loss) == pytest.approx(min(float(LINEAR.snr(t)), 5.0) * float(off), rel=1e-9)
    assert LINEAR.min_snr_weight(torch.tensor([3, 4]), parametrisation=parametrisation).shape == (2,)


def test_weights_are_finite_where_nothing_is_left():
    for parametrisation, wanted in (("epsilon", 1.0), ("v", 0.0), ("sample", 0.0)):
        assert float(SCHEDULES["zero"].min_snr_weight(999, parametrisation=parametrisation)) == wanted


@pytest.mark.parametrize("table", [[0.5, 0.6], [1.0, 0.5], [[0.5]], [0.5, float("nan")]])
def test_a_table_that_does_not_fall_is_refused(table):
    with pytest.raises(UsageError, match="alphas_cumprod must"):
        NoiseSchedule(torch.tensor(table, dtype=torch.float64))


# -- the ladder --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("steps", [1, 2, 7, 10, 50])
def test_ladders_are_those_of_diffusers(spacing, steps):
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.DDIMScheduler(timestep_spacing=spacing, steps_offset=0)
    theirs.set_timesteps(steps)
    if (spacing, steps) != ("linspace", 1):  # there theirs is step 0: noise is taken for a clean picture
        assert timesteps(1000, steps, spacing=spacing) == theirs.timesteps.tolist()


def test_a_ladder_of_less_noise_has_as_many_rungs():
    for spacing in ("leading", "trailing", "linspace"):
        ladder = timesteps(1000, 12, spacing=spacing, start=0.4)
        assert len(ladder) == len(set(ladder)) == 12 and ladder == sorted(ladder, reverse=True)
        assert 360 <= ladder[0] < 400
    assert timesteps(1000, 12, start=0.003) == [2, 1, 0]
    assert timesteps(1000, 12, start=0) == []
    assert timesteps(1000, 4, spacing="leading", offset=1) == [751, 501, 251, 1]
    for spacing in ("leading", "trailing", "linspace"):
        assert timesteps(1000, 1000, spacing=spacing, offset=1) == list(range(999, -1, -1))


# -- against diffusers, step by step -----------------------------------------------------------------------------------

KINDS = {"epsilon": "epsilon", "v": "v_prediction", "sample": "sample"}


def compared(theirs, sampler, ladder, parametrisation, schedule=LINEAR, **settings):
    """Largest difference from a scheduler of diffusers over all steps of a run, relative to the largest number."""
    seen, x_t = [], normal(3)

    def denoise(x, t):
        seen.append(x)
        return fake(x, t)

    last = sample_from(sampler, denoise, x_t, ladder, schedule=schedule, parametrisation=parametrisation, **settings)
    ours = [*seen[1:], last]
    differences = []
    for t, mine in zip(ladder, ours, strict=True):
        extra = {}
        if "generators" in settings:
            extra["generator"] = GENERATORS["theirs"]
        x_t = theirs.step(fake(x_t, t), t, x_t, **extra).prev_sample
        differences.append(float((x_t - mine).abs().max() / x_t.abs().max().clamp(min=1)))
    return max(differences)


GENERATORS = {}


@pytest.fixture
def generators(monkeypatch):
    """The same noise for both: of one generator, drawn for the whole batch."""
    GENERATORS["theirs"] = torch.Generator().manual_seed(7)
    mine = torch.Generator().manual_seed(7)

    def drawn(like, generators):
        return torch.randn(like.shape, generator=mine, dtype=like.dtype)

    monkeypatch.setattr("impasto.ops.samplers.noise_for", drawn)
    return [mine, mine]


@pytest.mark.parametrize("parametrisation", PARAMETRISATIONS)
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_ddpm_is_that_of_diffusers(parametrisation, spacing, generators):
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.DDPMScheduler(
        clip_sample=False, prediction_type=KINDS[parametrisation], timestep_spacing=spacing,
        trained_betas=betas(LINEAR),
    )  # fmt: skip
    theirs.alphas_cumprod = LINEAR.alphas_cumprod
    theirs.one = torch.ones((), dtype=torch.float64)
    theirs.set_timesteps(20)
    ladder = timesteps(1000, 20, spacing=spacing)
    assert compared(theirs, "ddpm", ladder, parametrisation, generators=generators) < 1e-8


def betas(schedule):
    table = schedule.alphas_cumprod
    return (1 - table / torch.cat([torch.ones(1, dtype=torch.float64), table[:-1]])).numpy()


@pytest.mark.parametrize("parametrisation", PARAMETRISATIONS)
@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_ddim_is_that_of_diffusers(parametrisation, eta, spacing, generators):
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.DDIMScheduler(
        clip_sample=False, set_alpha_to_one=True, prediction_type=KINDS[parametrisation], timestep_spacing=spacing
    )
    theirs.alphas_cumprod = LINEAR.alphas_cumprod
    theirs.set_timesteps(20)
    step = theirs.step
    theirs.step = lambda *given, **named: step(*given, eta=eta, **named)
    ladder = timesteps(1000, 20, spacing=spacing)
    assert compared(theirs, "ddim", ladder, parametrisation, eta=eta, generators=generators) < 1e-8


@pytest.mark.parametrize("parametrisation", PARAMETRISATIONS)
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("steps", [1, 2, 9, 20])
def test_dpm_solver_is_that_of_diffusers(parametrisation, spacing, steps):
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.DPMSolverMultistepScheduler(
        algorithm_type="dpmsolver++", solver_order=2, solver_type="midpoint", final_sigmas_type="zero",
        prediction_type=KINDS[parametrisation], trained_betas=betas(LINEAR),
    )  # fmt: skip
    theirs.alphas_cumprod = LINEAR.alphas_cumprod
    ladder = timesteps(1000, steps, spacing=spacing, offset=int(spacing == "leading"))
    with warnings.catch_warnings():  # of how it makes arrays of tensors
        warnings.simplefilter("ignore", DeprecationWarning)
        theirs.set_timesteps(timesteps=ladder)
    assert compared(theirs, "dpm-solver++", ladder, parametrisation) < 2e-6  # it computes in float32


def test_inversion_is_that_of_diffusers():
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.DDIMInverseScheduler(clip_sample=False, set_alpha_to_one=True)
    theirs.alphas_cumprod = LINEAR.alphas_cumprod
    theirs.set_timesteps(20)
    ladder = timesteps(1000, 20, spacing="leading")
    x_t = x0 = normal(3)
    for t in theirs.timesteps.tolist():
        x_t = theirs.step(fake(x_t, t), t, x_t).prev_sample
    mine = ddim_inversion(fake, x0, ladder, schedule=LINEAR)
    assert len(mine) == 20
    torch.testing.assert_close(mine[0], x_t, rtol=0, atol=1e-8)


# -- against what is known ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_many_steps_follow_the_exact_flow_and_few_of_the_second_order_are_nearer(schedule):
    noise = normal(4, (4, 1, 16, 16))
    off = {}
    for sampler, steps in (("ddim", 12), ("dpm-solver++", 12), ("ddim", 400), ("dpm-solver++", 400)):
        found = sample(sampler, gaussian(schedule), noise, schedule=schedule, steps=steps, parametrisation="sample")
        off[sampler, steps] = float((found - flow(schedule, noise, schedule.steps - 1)).abs().max())
    assert off["ddim", 400] < 0.03 and off["dpm-solver++", 400] < 0.01
    assert off["dpm-solver++", 12] < off["ddim", 12]


@pytest.mark.parametrize(("sampler", "eta"), [("ddpm", 0.0), ("ddim", 1.0)])
def test_samplers_with_noise_draw_from_the_pictures_they_know(sampler, eta):
    noise = normal(5, (1, 1, 128, 128))
    found = sample(
        sampler, gaussian(LINEAR), noise, schedule=LINEAR, steps=250, parametrisation="sample", eta=eta,
        generators=[torch.Generator().manual_seed(1)],
    )  # fmt: skip
    assert float(found.mean()) == pytest.approx(0.3, abs=0.02)
    assert float(found.std()) == pytest.approx(0.5, rel=0.03)


def test_ddim_up_and_down_leads_back():
    x0, ladder = normal(6), timesteps(1000, 20)
    off = []
    for refinements in (0, 1, 4, 40):
        x_t = ddim_inversion(fake, x0, ladder, schedule=LINEAR, refinements=refinements)[0]
        off.append(float((sample_from("ddim", fake, x_t, ladder, schedule=LINEAR) - x0).abs().max()))
    assert off == sorted(off, reverse=True)
    assert off[0] > 1e-2 and off[-1] < 1e-5


@pytest.mark.parametrize("parametrisation", ["v", "sample"])
def test_inversion_knows_every_parametrisation(parametrisation):
    denoise = gaussian(LINEAR)
    if parametrisation == "v":

        def denoise(x_t, t, look=gaussian(LINEAR)):  # noqa: B008
            x0 = look(x_t, t)
            noise = LINEAR.predicted_noise(x0, x_t, t, parametrisation="sample")
            return LINEAR.training_target(x0, noise, t, parametrisation="v")

    x0, ladder = 0.3 + 0.5 * normal(6), timesteps(1000, 50)
    x_t = ddim_inversion(denoise, x0, ladder, schedule=LINEAR, parametrisation=parametrisation, refinements=8)[0]
    back = sample_from("ddim", denoise, x_t, ladder, schedule=LINEAR, parametrisation=parametrisation)
    assert float((back - x0).abs().max()) < 1e-3
    assert float(x_t.std()) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_start_leads_from_the_content_to_something_else(sampler):
    content, noise = normal(8), normal(9)

    def run(start):
        generators = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
        return sample(
            sampler, gaussian(LINEAR), noise, schedule=LINEAR, steps=10, parametrisation="sample", start=start,
            content=content, generators=generators,
        )  # fmt: skip

    away = [float((run(start) - content).abs().mean()) for start in (0, 0.25, 0.5, 0.75, 1)]
    assert away[0] == 0 and away == sorted(away)
    with pytest.raises(UsageError, match="needs a content"):
        sample(sampler, fake, noise, schedule=LINEAR, steps=4, start=0.5)


# -- the rest ----------------------------------------------------------------------------------------------------------


def test_each_picture_has_its_own_noise():
    like = torch.zeros(SHAPE)

    def drawn(*seeds):
        return noise_for(like[: len(seeds)], [torch.Generator().manual_seed(seed) for seed in seeds])

    assert torch.equal(drawn(1, 2)[1:], drawn(2)) and not torch.equal(drawn(1), drawn(2))
    with pytest.raises(UsageError, match="2 pictures need 2 generators, not 1"):
        noise_for(like, [torch.Generator()])


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_step_is_told_and_can_stop_the_run(sampler):
    told = []

    def look(step, steps, x0):
        told.append((step, steps, tuple(x0.shape)))
        if step == 3:
            raise CancelledError("enough")

    with pytest.raises(CancelledError):
        sample(sampler, fake, normal(0), schedule=LINEAR, steps=5, parametrisation="v", on_step=look)
    assert told == [(step, 5, SHAPE) for step in (1, 2, 3)]


def test_predicted_pictures_are_clipped():
    found = sample("ddim", fake, 9 * normal(0), schedule=LINEAR, steps=5, clip=1.0)
    assert float(found.abs().max()) <= 1


def test_guidance_moves_away_from_the_unconditional_and_keeps_contrast_if_asked():
    conditional, unconditional = normal(1), normal(2)
    torch.testing.assert_close(classifier_free_guidance(conditional, unconditional, 1.0), conditional)
    torch.testing.assert_close(classifier_free_guidance(conditional, unconditional, 0.0), unconditional)
    guided = classifier_free_guidance(conditional, unconditional, 7.5)
    kept = classifier_free_guidance(conditional, unconditional, 7.5, rescale=1.0)
    torch.testing.assert_close(kept.std((1, 2, 3)), conditional.std((1, 2, 3)))
    half = classifier_free_guidance(conditional, unconditional, 7.5, rescale=0.5)
    torch.testing.assert_close(half, (kept + guided) / 2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sampler": "euler"}, "sampler must be one of"),
        ({"parametrisation": "eps"}, "parametrisation must be one of"),
        ({"spacing": "karras"}, "spacing must be one of"),
        ({"steps": 0}, "steps must lie between"),
        ({"start": 1.5}, "start must lie between"),
        ({"eta": -1.0}, "eta must lie between"),
    ],
)
def test_wrong_settings_are_refused(change, words):
    settings = {"sampler": "ddim", "steps": 3, "schedule": LINEAR} | change
    with pytest.raises(UsageError, match=words):
        sample(settings.pop("sampler"), fake, normal(0), **settings)
