"""The proof of ci/gaussian_proof.py in small: laws of guided samplers without any sampling.

For an equality the guided sampler is an affine map of its noise: the mean and the covariance of
what it makes follow from the responses to unit noise, exactly.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from xearth.models.prediff.guidance import PosteriorGuidance, ProjectionGuidance, guided
from xearth.models.prediff.guidance_covariance import CovarianceGuidance, CovarianceWalk
from xearth.models.prediff.sampler import sample
from xearth.models.prediff.sampler_dpm import DPMSolver

SIZE = 16


def _load():
    path = Path(__file__).parents[4] / "ci" / "gaussian_proof.py"
    spec = importlib.util.spec_from_file_location("gaussian_proof", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


proof = _load()
CASES = proof.cases(SIZE)


def _exact_law(truth, guidance, steps=40):
    """Return the mean and covariance (n,), (n, n) of a guided sampler that is affine."""
    n = SIZE**2
    units = torch.cat([torch.zeros(1, n), torch.eye(n)]).double().reshape(-1, 1, SIZE, SIZE, 1)
    found = sample(
        DPMSolver(steps=steps), proof.PROCESS, guided(truth.prior, guidance), lambda _: units
    ).flatten(1)
    responses = found[1:] - found[0]
    return found[0], responses.T @ responses


@pytest.mark.parametrize(("every", "within"), [(1, 0.01), (3, 0.025)])
@pytest.mark.parametrize("truth", [CASES[0], CASES[2]], ids=lambda truth: truth.name)
def test_covariance_guidance_has_the_conditional_law(truth, every, within):
    """Mean within 2 %, trace and the 20 leading eigenvalues, without sampling error."""
    guidance = CovarianceGuidance(condition=truth.condition)
    walk = guidance if every == 1 else CovarianceWalk(guidance, every=every)
    mean, covariance = _exact_law(truth, walk)
    assert (mean - truth.mean()).norm() < 0.02 * truth.mean().norm()
    assert float(covariance.trace()) == pytest.approx(truth.trace(), rel=0.01)
    found = torch.linalg.eigvalsh(covariance).flip(0)[: proof.LEADING].numpy()
    assert found == pytest.approx(truth.leading[0], rel=within)


def test_projection_holds_and_has_another_law():
    truth = CASES[0]
    mean, covariance = _exact_law(truth, ProjectionGuidance(condition=truth.condition))
    assert truth.condition.residual(mean.reshape(1, 1, SIZE, SIZE, 1)).abs().max() < 1e-12
    assert (mean - truth.mean()).norm() > 0.5 * truth.mean().norm()
    assert float(covariance.trace()) > 1.2 * truth.trace()


@pytest.mark.parametrize("truth", CASES, ids=lambda truth: truth.name)
def test_energy_distance_is_a_fifth_of_the_others(truth):
    real = truth.draw(400, torch.Generator().manual_seed(0))

    def distance(guidance, *, afterwards=False):
        way = proof.Way("", guidance, afterwards)
        return proof.energy_distance(way.sample(truth, 400, steps=16, seed=3), real)

    ours = distance(CovarianceGuidance(condition=truth.condition))
    others = [
        distance(PosteriorGuidance(condition=truth.condition, scale=scale)) for scale in (1.0, 3.0)
    ]
    assert ours < min(others) / 5
    assert ours < distance(None, afterwards=True) / 5


@pytest.mark.parametrize("truth", CASES, ids=lambda truth: truth.name)
def test_the_stated_law_is_that_of_its_draws(truth):
    """The closed form against draws by kriging, which share none of its covariance."""
    fields = truth.draw(20_000, torch.Generator().manual_seed(5)).double()
    assert (fields.mean(0) - truth.mean()).norm() < 0.03 * truth.mean().norm()
    assert float(fields.var(0).sum()) == pytest.approx(truth.trace(), rel=0.02)
    values, vectors = truth.leading
    along = (fields @ torch.from_numpy(vectors)).var(0)
    assert along.numpy() == pytest.approx(values, rel=0.04)
    assert proof.relative(
        truth.condition, fields.float().reshape(-1, 1, SIZE, SIZE, 1)
    ).max() == pytest.approx(0.0, abs=1e-6)
