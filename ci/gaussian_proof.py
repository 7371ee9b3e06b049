"""Ways to impose a condition on a law that is known: ci/gaussian_proof.py [--out TABLE.rst].

The prior is a stationary Gaussian field with an exact predictor, so that the law of fields that
hold a linear condition is known in closed form. Every way samples it; what it makes is compared
with that law: mean, total variance, the variances along the 20 leading directions, the energy
distance, the residual of the condition, and the cost against sampling without any condition.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from xearth.models.conditions.linear import Linear
from xearth.models.conditions.protocol import relative
from xearth.models.conditions.rows import Rows
from xearth.models.prediff.config import DenoiserConfig
from xearth.models.prediff.denoiser import Denoiser
from xearth.models.prediff.gaussian import GaussianField
from xearth.models.prediff.guidance import (
    Guidance,
    PosteriorGuidance,
    ProjectionGuidance,
    ScoreGuidance,
    guided,
)
from xearth.models.prediff.guidance_covariance import CovarianceGuidance, CovarianceWalk
from xearth.models.prediff.levels import Level, Predictor
from xearth.models.prediff.process import Diffusion
from xearth.models.prediff.sampler import sample
from xearth.models.prediff.sampler_dpm import DPMSolver

#: The last level holds no signal, so that it is N(0, 1) under every condition.
PROCESS = Diffusion(prediction="v", zero_terminal=True)
LEADING = 20


class _Product(torch.autograd.Function):
    """A symmetric matrix, diagonal in Fourier space, times a field: it is its own transpose."""

    @staticmethod
    def forward(ctx: Any, field: Tensor, matrix: GaussianField) -> Tensor:
        ctx.matrix = matrix
        return matrix.covariance(field)

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> tuple[Tensor, None]:
        return _Product.apply(gradient[0], ctx.matrix), None


class Prior(GaussianField):
    """The exact predictor, whose derivative costs no more than itself."""

    def __call__(self, z: Tensor, level: Level) -> Tensor:
        """Return E[x_0 | z]."""
        gain = level.alpha * self.spectrum / (level.alpha**2 * self.spectrum + level.sigma**2)
        filtered = GaussianField(self.mean, gain)
        if not bool(self.mean.any()):
            return _Product.apply(z, filtered)
        mean = self.mean.to(z)[..., None]
        return _Product.apply(z - level.alpha * mean, filtered) + mean


def matern(size: int) -> Prior:
    """Return a rough field of variance 1 whose correlations reach further along x than along y."""
    k = torch.fft.fftfreq(size, dtype=torch.float64) * 64.0
    spectrum = (1.0 + (k[:, None] / 4.5) ** 2 + (k / 3.0) ** 2) ** -2.5
    return Prior(torch.zeros(size, size), spectrum / spectrum.mean())


@dataclass(frozen=True)
class Truth:
    """The law of fields of a Gaussian prior that hold linear statements."""

    name: str
    prior: GaussianField
    condition: Linear
    rows: Tensor  # A, (m, 1, H, W, 1)
    wanted: Tensor  # E[A x], (m,)
    variance: Tensor  # Cov(A x), (m, m): 0 for equalities
    draw_wanted: Callable[[int, torch.Generator], Tensor]

    @property
    def spread(self) -> Tensor:
        """C A^T, (m, 1, H, W, 1)."""
        return self.prior.covariance(self.rows)

    @property
    def inner(self) -> Tensor:
        """A C A^T, (m, m)."""
        return self.rows.flatten(1) @ self.spread.flatten(1).T

    @property
    def gain(self) -> Tensor:
        """C A^T (A C A^T)^-1, (n, m)."""
        return torch.linalg.solve(self.inner, self.spread.flatten(1)).T

    def mean(self) -> Tensor:
        return self.gain @ self.wanted

    def covariance(self, v: Tensor) -> Tensor:
        """Return the covariance times rows (k, n)."""
        G = self.gain
        prior = self.prior.covariance(v.reshape(-1, *self.rows.shape[1:])).flatten(1)
        return prior - v @ G @ (self.inner - self.variance) @ G.T

    def trace(self) -> float:
        G = self.gain
        prior = float(self.prior.spectrum.sum())
        return prior - float((G @ (self.inner - self.variance) * G).sum())

    @cached_property
    def leading(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the leading eigenvalues and vectors (n, 20) of the covariance.

        By iteration of a block: many eigenvalues are pairs, of which Lanczos may find one.
        """
        generator = torch.Generator().manual_seed(0)
        block = torch.randn(
            4 * LEADING, self.rows[0].numel(), generator=generator, dtype=torch.float64
        )
        for _ in range(100):
            block = torch.linalg.qr(self.covariance(block).T).Q.T
        values, inside = torch.linalg.eigh(block @ self.covariance(block).T)
        vectors = (inside.T @ block).flip(0)[:LEADING]
        return values.flip(0)[:LEADING].numpy(), vectors.T.numpy()

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Return fields of the law, by kriging of fields of the prior."""
        white = torch.randn(count, *self.rows.shape[1:], generator=generator)
        fields = self.prior.draw(white).double().flatten(1)
        measured = fields @ self.rows.flatten(1).T
        moved = self.draw_wanted(count, generator) - measured
        return (fields + moved @ self.gain.T).float()


def equal(name: str, prior: GaussianField, rows: Tensor, level: Sequence[float]) -> Truth:
    """Return the law where the sums are so many of their standard deviations."""
    sd = (rows.flatten(1) * prior.covariance(rows).flatten(1)).sum(1).sqrt()
    b = sd * torch.tensor(level, dtype=torch.float64)
    condition = Linear(_rows(rows), lower=b, upper=b, scale=sd, name=name)
    zero = torch.zeros(len(b), len(b), dtype=torch.float64)
    return Truth(name, prior, condition, rows, b, zero, lambda n, _: b.expand(n, -1))


def at_least(name: str, prior: GaussianField, row: Tensor, level: float) -> Truth:
    """Return the law where one sum is at least so many of its standard deviations."""
    sd = float((row * prior.covariance(row)).sum().sqrt())
    law = stats.truncnorm(level, np.inf, scale=sd)
    condition = Linear(_rows(row), lower=level * sd, scale=sd, name=name)

    def draws(count: int, generator: torch.Generator) -> Tensor:
        u = torch.rand(count, 1, generator=generator, dtype=torch.float64)
        return torch.from_numpy(law.ppf(u.numpy()))

    wanted = torch.tensor([law.mean()], dtype=torch.float64)
    variance = torch.tensor([[law.var()]], dtype=torch.float64)
    return Truth(name, prior, condition, row, wanted, variance, draws)


def _rows(rows: Tensor) -> Rows:
    return Rows.from_matrix(rows.flatten(1), torch.Size(rows.shape[1:]))


def cases(size: int) -> list[Truth]:
    """Return the three conditional laws that are sampled."""
    prior, part = matern(size), size // 4
    box = torch.zeros(1, 1, size, size, 1, dtype=torch.float64)
    box[:, :, part : 2 * part, part : 3 * part] = 1.0 / (2 * part**2)
    gauge = torch.zeros_like(box)
    gauge[:, :, 3 * part, part] = 1.0
    return [
        equal("mean of a box = 3 sd", prior, box, [3.0]),
        at_least("mean of a box >= 2 sd", prior, box, 2.0),
        equal(
            "mean of a box = 2 sd, a gauge = -1.5 sd", prior, torch.cat([box, gauge]), [2.0, -1.5]
        ),
    ]


# --- ways -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Way:
    """A way to impose a condition: guidance while sampling, a projection afterwards, or none."""

    name: str
    guidance: Guidance | None = None
    afterwards: bool = False
    every: int = 1

    def led(self, predict: Predictor) -> Predictor:
        """Return the predictor of one walk."""
        if self.guidance is None:
            return predict
        if isinstance(self.guidance, CovarianceGuidance) and self.every > 1:
            return guided(predict, CovarianceWalk(self.guidance, every=self.every))
        return guided(predict, self.guidance)

    def sample(
        self, truth: Truth, count: int, *, steps: int, seed: int, batch: int = 128
    ) -> Tensor:
        """Return fields (N, n)."""
        generator, parts = torch.Generator().manual_seed(seed), []
        for start in range(0, count, batch):
            shape = (min(batch, count - start), *truth.rows.shape[1:])
            fields = sample(
                DPMSolver(steps=steps),
                PROCESS,
                self.led(truth.prior),
                lambda _, shape=shape: torch.randn(shape, generator=generator),
            )
            parts.append(truth.condition.project(fields) if self.afterwards else fields)
        return torch.cat(parts).flatten(1)


SCALES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)


def best_scale(truth: Truth, steps: int) -> float:
    """Return the scale of DPS with the smallest energy distance, from a list."""
    real = truth.draw(512, torch.Generator().manual_seed(90))
    tried = {}
    for scale in SCALES:
        way = Way("", PosteriorGuidance(condition=truth.condition, scale=scale))
        tried[scale] = energy_distance(way.sample(truth, 512, steps=steps, seed=91), real)
    return min(tried, key=tried.__getitem__)


def ways(truth: Truth, scale: float) -> list[Way]:
    """Return the ways that are compared, sampling without a condition first."""
    condition = truth.condition
    norm = float((truth.rows.flatten(1) ** 2).sum(1).max())
    return [
        Way("no condition"),
        Way("projection afterwards (clipping)", afterwards=True),
        Way("DPS, scale 1", PosteriorGuidance(condition=condition, scale=1.0)),
        Way(
            f"DPS, best of {len(SCALES)} scales: {scale:g}",
            PosteriorGuidance(condition=condition, scale=scale),
        ),
        Way(
            "SDA, gamma = A A^T",
            ScoreGuidance(
                condition=condition, error=0.01 * float(condition.scale.min()), gamma=norm
            ),
        ),
        Way("projection inside", ProjectionGuidance(condition=condition), afterwards=True),
        Way("covariance-aware", CovarianceGuidance(condition=condition)),
        Way(
            "covariance-aware, products at each second level",
            CovarianceGuidance(condition=condition),
            every=2,
        ),
    ]


# --- comparison -------------------------------------------------------------------------------


def energy_distance(x: Tensor, y: Tensor) -> float:
    """Return 2 E|X - Y| - E|X - X'| - E|Y - Y'|, without bias: it may be below 0."""

    def within(a: Tensor) -> float:
        return float(torch.cdist(a, a).double().sum()) / (len(a) * (len(a) - 1))

    return 2.0 * float(torch.cdist(x, y).double().mean()) - within(x) - within(y)


@dataclass(frozen=True)
class Row:
    """What one way made of one condition."""

    way: str
    count: int
    mean: float
    trace: float
    leading: float
    distance: float
    residual: float
    cost: float = math.nan
    beside_network: float = math.nan


def compare(truth: Truth, way: Way, found: Tensor, real: Tensor) -> Row:
    """Compare fields (N, n) with the law: relative errors, energy distance, residual."""
    mean = truth.mean()
    values, vectors = truth.leading
    center = found.mean(0)
    along = (found - center) @ torch.from_numpy(vectors).float()
    trace = float((found - center).square().sum(0).double().sum()) / (len(found) - 1)
    leading = along.double().var(0).numpy() / values - 1.0
    residual = relative(truth.condition, found.reshape(-1, *truth.rows.shape[1:]))
    return Row(
        way.name,
        len(found),
        float((center - mean).norm() / mean.norm()),
        trace / truth.trace() - 1.0,
        float(leading[np.abs(leading).argmax()]),
        energy_distance(found[: len(real)], real),
        float(residual.max()),
    )


def costs(truth: Truth, list_of_ways: Sequence[Way], *, rounds: int = 15) -> list[float]:
    """Return the CPU time of each way over that of the first, beside the exact predictor."""
    return _ratios(
        [lambda w=way: w.sample(truth, 128, steps=13, seed=0) for way in list_of_ways], rounds
    )


def costs_beside_network(
    truth: Truth, list_of_ways: Sequence[Way], *, rounds: int = 5
) -> list[float]:
    """The same with a small latent denoiser in place of the exact predictor."""
    torch.manual_seed(0)
    size = truth.rows.shape[2]
    shape = (1, size, size, 1)
    network = Denoiser(
        DenoiserConfig(input_shape=shape, target_shape=shape, base_units=16, depth=(1, 1))
    ).eval()
    torch.nn.init.normal_(network.out.weight, std=0.1)
    predict = PROCESS.predictor(lambda z, t: network(z, t, torch.zeros(1, *shape)))

    def run(way: Way) -> None:
        led = way.led(predict)
        fields = sample(DPMSolver(steps=7), PROCESS, led, lambda _: torch.randn(1, *shape))
        if way.afterwards:
            truth.condition.project(fields)

    return _ratios([lambda w=way: run(w) for way in list_of_ways], rounds)


def _ratios(calls: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    """Return the median over rounds that take turns of the time of each call over the first's."""
    spent: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call()
    for _ in range(rounds):
        for k, call in enumerate(calls):
            start = time.process_time()
            call()
            spent[k].append(time.process_time() - start)
    return [median(a / b for a, b in zip(one, spent[0], strict=True)) for one in spent]


HEAD = """\
   * - way
     - fields
     - mean
     - total variance
     - leading {leading}
     - energy distance
     - residual
     - cost
     - cost, network"""


def table(truth: Truth, rows: Sequence[Row], floor: float) -> str:
    """Return the table of one condition as reStructuredText."""
    lines = [
        truth.name,
        "~" * len(truth.name),
        "",
        f"Energy distance of two samples of the true law: {floor:.4f}.",
        "",
        ".. list-table::",
        "   :header-rows: 1",
        "",
        HEAD.format(leading=LEADING),
    ]
    for row in rows:
        cells = [
            row.way,
            f"{row.count:,}",
            f"{row.mean:.1%}",
            f"{row.trace:+.1%}",
            f"{row.leading:+.1%}",
            f"{row.distance:.4f}",
            f"{row.residual:.0e}",
            f"{row.cost:.2f}",
            f"{row.beside_network:.2f}",
        ]
        lines.append("\n".join(f"   {'*' if i == 0 else ' '} - {c}" for i, c in enumerate(cells)))
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Kept:
    """What was measured of the laws, by name, in a file if there is one: it need not be again."""

    path: Path | None
    laws: dict[str, Any]

    @classmethod
    def of(cls, path: Path | None) -> Kept:
        """Return what a file holds."""
        return cls(path, json.loads(path.read_text()) if path and path.exists() else {})

    def law(self, name: str) -> dict[str, Any]:
        """Return what is known of one law, to be added to."""
        return self.laws.setdefault(name, {"rows": {}})

    def write(self) -> None:
        if self.path is not None:
            self.path.write_text(json.dumps(self.laws, indent=1))


def fidelity(truth: Truth, kept: Kept, a: argparse.Namespace) -> tuple[list[Way], list[Row]]:
    """Sample one law in the ways that are not known; by the covariance with all fields."""
    law = kept.law(truth.name)
    if "scale" not in law:
        law["scale"] = best_scale(truth, a.steps)
    real = truth.draw(a.few, torch.Generator().manual_seed(1))
    if "floor" not in law:
        law["floor"] = energy_distance(truth.draw(a.few, torch.Generator().manual_seed(2)), real)
    chosen = ways(truth, law["scale"])
    for k, way in enumerate(chosen):
        if way.name in law["rows"]:
            continue
        many = isinstance(way.guidance, CovarianceGuidance)
        found = way.sample(truth, a.fields if many else a.few, steps=a.steps, seed=10 + k)
        row = compare(truth, way, found, real)
        law["rows"][way.name] = asdict(row)
        kept.write()
        print(f"  {row}", flush=True)
    return chosen, [Row(**law["rows"][way.name]) for way in chosen]


def prove(truth: Truth, kept: Kept, a: argparse.Namespace) -> str:
    """Return the table of one law, with costs."""
    chosen, rows = fidelity(truth, kept, a)
    spent = zip(rows, costs(truth, chosen), costs_beside_network(truth, chosen), strict=True)
    rows = [replace(row, cost=one, beside_network=two) for row, one, two in spent]
    return table(truth, rows, kept.law(truth.name)["floor"])


def page(size: int, steps: int, few: int, body: str) -> str:
    """Return the page."""
    return f"""\
Fields of {size} x {size} cells of a Gaussian law with variance 1 and correlations that fall off as
a Matern field of order 3/2, longer along x; {steps} steps of DPM-Solver++ of the exact predictor, in
float32. Errors are relative to the closed form: of the mean in the norm of fields, of the total
variance, and the largest of the variances along the {LEADING} leading directions of the true
covariance; samples alone make these uncertain by a share of sqrt(2 / fields) each, the largest of
{LEADING} by about twice that. Energy distances are of {few:,} fields to as many of the true law. Residuals are the
largest of all fields, relative. Costs are CPU times over those without a condition, medians of
rounds in which the ways take turns: beside the exact predictor, which takes no more than two Fourier
transforms, and beside a latent denoiser of the smallest useful size (base width 16, two levels). Made by ``python ci/gaussian_proof.py --out docs/performance/guidance.rst``.

{body}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--fields", type=int, default=20_480)
    parser.add_argument("--few", type=int, default=2_048)
    parser.add_argument("--cases", type=int, default=3, help="how many of the three laws")
    parser.add_argument("--rows", type=Path, help="where fidelity is kept, for costs alone later")
    parser.add_argument("--out", type=Path)
    a = parser.parse_args()
    torch.set_num_threads(1)
    started, parts, kept = time.perf_counter(), [], Kept.of(a.rows)
    for truth in cases(a.size)[: a.cases]:
        print(truth.name)
        parts.append(prove(truth, kept, a))
        print(parts[-1])
    print(f"{time.perf_counter() - started:.0f} s")
    if a.out is not None:
        a.out.write_text(page(a.size, a.steps, a.few, "\n".join(parts)))


if __name__ == "__main__":
    main()
