"""Golden vectors of diffusion: schedules, steps, solvers, averages of weights, losses.

:data:`DIFFUSION` maps the start of a case's name to its runner, which takes a :class:`Case` and
returns the pairs (found, expected). Cases that need a network name another case, which the
caller builds: ``Case.network``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from xearth.models.prediff.guidance import AlignmentGuidance, guided
from xearth.models.prediff.levels import Level
from xearth.models.prediff.objective import (
    denoising_errors,
    frame_means,
    published_vlb_weights,
)
from xearth.models.prediff.process import Diffusion
from xearth.models.prediff.sampler import run
from xearth.models.prediff.sampler_ancestral import DDIM, DDPM
from xearth.models.prediff.sampler_dpm import DPMSolver
from xearth.models.prediff.stage import Stage
from xearth.training.ema import warmed_average

__all__ = ["DIFFUSION", "Case", "Pairs", "runner"]

Pairs = Sequence[tuple[Any, Any]]


@dataclass(frozen=True)
class Case:
    """One case: keyword arguments, arrays as stored, and networks by the name of their case."""

    name: str
    kwargs: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]
    network: Callable[[str], nn.Module]

    def tensor(self, name: str) -> Tensor:
        return torch.from_numpy(np.asarray(self.arrays[name]))


def runner(name: str) -> Callable[[Case], Pairs] | None:
    """Return the runner of a case, by the longest start of its name that is known."""
    known = [start for start in DIFFUSION if name.startswith(start)]
    return DIFFUSION[max(known, key=len)] if known else None


# --- schedules --------------------------------------------------------------------------------


def _process(kwargs: Mapping[str, Any]) -> Diffusion:
    names = {
        "timesteps": "steps",
        "beta_schedule": "schedule",
        "linear_start": "start",
        "linear_end": "end",
        "cosine_s": "cosine_offset",
        "v_posterior": "v_posterior",
        "parameterization": "prediction",
    }
    return Diffusion(**{names[key]: value for key, value in kwargs.items() if key in names})


def _tables(process: Diffusion) -> dict[str, np.ndarray]:
    abar = process.alpha_bar
    c1, c2 = process.posterior_coefficients
    return {
        "betas64": process.betas,
        "betas": process.betas,
        "alphas_cumprod": abar,
        "alphas_cumprod_prev": process.alpha_bar_before,
        "sqrt_alphas_cumprod": np.sqrt(abar),
        "sqrt_one_minus_alphas_cumprod": np.sqrt(1.0 - abar),
        "log_one_minus_alphas_cumprod": np.log(1.0 - abar),
        "sqrt_recip_alphas_cumprod": np.sqrt(1.0 / abar),
        "sqrt_recipm1_alphas_cumprod": np.sqrt(1.0 / abar - 1.0),
        "posterior_variance": process.posterior_variance,
        "posterior_log_variance_clipped": process.posterior_log_variance,
        "posterior_mean_coef1": c1,
        "posterior_mean_coef2": c2,
        "lvlb_weights": published_vlb_weights(process),
    }


def _schedule(case: Case) -> Pairs:
    tables = _tables(_process(case.kwargs))
    return [(tables[name], expected) for name, expected in case.arrays.items()]


# --- steps ------------------------------------------------------------------------------------


def _bound(case: Case) -> Callable[[Tensor, Tensor], Tensor]:
    return partial(_call, case.network(case.kwargs["unet"]), case.tensor("cond"))


def _call(network: nn.Module, context: Tensor, z: Tensor, t: Tensor) -> Tensor:
    return network(z, t, context)


def _one_step(case: Case, sampler: Any, levels: Sequence[Level], clean: Tensor) -> Tensor:
    def nothing(z: Tensor, level: Level) -> Tensor:
        raise AssertionError("these steps predict once")

    stage = Stage(levels, 0, case.tensor("zt"), (clean,), nothing, lambda _: case.tensor("noise"))
    return sampler.step(stage)


def _ddpm_step(case: Case) -> Pairs:
    process, z = _process(case.kwargs), case.tensor("zt")
    ddpm = DDPM(v_posterior=process.v_posterior)
    predict = process.predictor(_bound(case))
    alignment = AlignmentGuidance(
        network=case.network(case.kwargs["align"]),
        target=case.tensor("avg_x_gt"),
        scale=case.kwargs["guide_scale"],
        scaling="sigma",
        norm="batch",
    )
    pairs: list[tuple[Any, Any]] = []
    for t in sorted({int(name[1:].split(".")[0]) for name in case.arrays if name[0] == "t"}):
        levels = (process.level(t), process.level(t - 1))
        with torch.no_grad():
            clean = predict(z, levels[0])
            led = guided(predict, alignment)(z, levels[0])
        found = {
            "eps": process.output(z, levels[0], clean),
            "x0": clean,
            "mean": _mean(case, levels, clean),
            "var": torch.full((len(z),), process.posterior_variance[t]),
            "logvar": torch.full((len(z),), process.posterior_log_variance[t]),
            "next": _one_step(case, ddpm, levels, clean),
            "next_clip": _one_step(
                case, DDPM(clip=1.0, v_posterior=process.v_posterior), levels, clean
            ),
            "aligned_mean": _mean(case, levels, led),
            "next_guided": _one_step(case, ddpm, levels, led),
            "grad_shift": alignment.scale * alignment.gradient(z, levels[0]),
        }
        pairs += [(found[n], case.arrays[f"t{t}.{n}"]) for n in found if f"t{t}.{n}" in case.arrays]
    return pairs


def _mean(case: Case, levels: Sequence[Level], clean: Tensor) -> Tensor:
    return DDPM().mean(
        Stage(levels, 0, case.tensor("zt"), (clean,), lambda z, _: z, lambda _: clean)
    )


def _ddim_helpers(case: Case) -> Pairs:
    process, pairs = Diffusion(), []
    for name in {key.split(".")[0] for key in case.arrays}:
        spacing = {"uniform": "leading", "quad": "quad"}[name.rstrip("0123456789")]
        levels = process.levels(int(name.lstrip("adfimnoqru")), spacing, end="first")[::-1]
        sigmas = {}
        for eta in (0.0, 1.0):
            pairs_of = zip(levels[1:], levels[:-1], strict=True)
            sigmas[eta] = [_ddim_std(here, there, eta) for here, there in pairs_of]
        found = {
            "timesteps": [level.t for level in levels[1:]],
            "alphas": [level.alpha**2 for level in levels[1:]],
            "alphas_prev": [level.alpha**2 for level in levels[:-1]],
            "eta0.sigmas": sigmas[0.0],
            "eta1.sigmas": sigmas[1.0],
        }
        pairs += [(found[n], case.arrays[f"{name}.{n}"]) for n in found]
    return pairs


def _ddim_std(here: Level, there: Level, eta: float) -> float:
    """Return what a step of DDIM adds for noise of 1 where state and clean field are 0."""
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    stage = Stage((here, there), 0, zero, (zero,), lambda z, _: z, lambda _: one)
    return float(DDIM(eta=eta).step(stage))


def _ddim_step(case: Case) -> Pairs:
    process, k = Diffusion(), case.kwargs
    levels = process.levels(k["steps"], "leading", end="first")
    at = len(levels) - 2 - k["index"]
    here = levels[at : at + 2]
    with torch.no_grad():
        clean = process.predictor(_bound(case))(case.tensor("zt"), here[0])
    return [
        (here[0].t, case.arrays["t"]),
        (here[0].alpha ** 2, case.arrays["alpha"]),
        (here[1].alpha ** 2, case.arrays["alpha_prev"]),
        (_ddim_std(*here, k["eta"]), case.arrays["sigma"]),
        (clean, case.arrays["x0"]),
        (_one_step(case, DDIM(eta=k["eta"]), here, clean), case.arrays["next"]),
    ]


# --- solvers ----------------------------------------------------------------------------------


def _solver(settings: Mapping[str, Any], steps: int) -> tuple[Any, dict[str, str]]:
    """Return a sampler and its levels by the settings of a scheduler."""
    grid = {"spacing": settings["timestep_spacing"]}
    if "solver_order" in settings:
        if settings["use_karras_sigmas"]:
            grid["spacing"] = "karras"
        return DPMSolver(steps=steps, order=settings["solver_order"]), grid
    grid["end"] = "clean" if settings["set_alpha_to_one"] else "first"
    return DDIM(steps=steps, spacing=grid["spacing"]), grid


def _analytic(z: Tensor, t: Tensor) -> Tensor:
    wave = torch.cos(2.0 * math.pi * t / 1000.0).to(z).reshape(-1, *([1] * (z.ndim - 1)))
    return 0.9 * torch.tanh(0.5 * z) + 0.1 * wave * z


def _solvers(case: Case) -> Pairs:
    process, start, pairs = Diffusion(), case.tensor("x_T"), []
    predict = process.predictor(_analytic)
    for key, expected in case.arrays.items():
        if key == "x_T":
            continue
        solver, steps, what = key.rsplit(".", 2)
        sampler, grid = _solver(case.kwargs[solver], int(steps))
        levels = process.levels(int(steps), **grid)  # type: ignore[arg-type]
        if what == "timesteps":
            pairs.append(([level.t for level in levels[:-1]], expected))
            continue
        states = list(run(sampler, predict, levels, lambda _: start))
        pairs.append((torch.stack(states) if what == "traj" else states[-1], expected))
    return pairs


# --- training ---------------------------------------------------------------------------------


def _ema(case: Case) -> Pairs:
    shadow = case.arrays["shadow"]
    kept = (1 + 1) / (10 + 1)
    # The weights at the start follow from the first average: p + (1 - d) 0.1.
    start = torch.from_numpy(shadow[0]).double() - (1.0 - kept) * 0.1
    network = nn.Linear(len(start), 1, bias=False).double()
    with torch.no_grad():
        network.weight.copy_(start[None])
    average, found = warmed_average(network, case.kwargs["decay"]), []
    for index in range(len(shadow)):
        with torch.no_grad():
            network.weight += 0.1 * (index + 1)
        average.update_parameters(network)
        found.append(average.module.weight[0].detach().clone())
    updates = int(average.n_averaged) - 1
    return [(torch.stack(found), shadow), (updates, case.arrays["num_updates"])]


def _train_loss(case: Case) -> Pairs:
    process, t = _process(case.kwargs), case.tensor("t")
    x0, noise = case.tensor("x_start"), case.tensor("noise")
    with torch.no_grad():
        errors = denoising_errors(process, _bound(case), x0, t=t, noise=noise)
    log_variance = torch.linspace(-1.0, 1.0, process.steps)[t]
    loss = (errors / log_variance.exp() + log_variance).mean()
    bound = (torch.from_numpy(published_vlb_weights(process))[t] * errors).mean()
    return [
        (process.noised(x0, t, noise), case.arrays["x_noisy"]),
        (errors.mean(), case.arrays["loss_simple"]),
        (loss, case.arrays["loss_gamma"]),
        (loss, case.arrays["loss"]),
        (bound, case.arrays["loss_vlb"]),
    ]


def _align_target(case: Case) -> Pairs:
    return [(frame_means(case.tensor("x")), case.arrays["target"])]


# Start of a case's name -> runner.
DIFFUSION: dict[str, Callable[[Case], Pairs]] = {
    "schedule_": _schedule,
    "ddpm_step": _ddpm_step,
    "ddim_helpers": _ddim_helpers,
    "ddim_step": _ddim_step,
    "solvers_diffusers": _solvers,
    "ema": _ema,
    "train_loss": _train_loss,
    "align_target": _align_target,
}
