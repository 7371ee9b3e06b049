r"""A regression as the first guess that a network departs from.

Notation: :math:`x_{t-\tau}` is the normalized field :math:`\tau` steps before the init,
:math:`w` the square root of cell areas, :math:`E` the leading :math:`K` EOFs of :math:`w x`
and :math:`p_\tau = E^T (w x_{t-\tau})`. With :math:`\theta` the time of year of the init,

.. math::

   \hat p_n = (1 - s_n) \left([1, p_{\tau_1}, \dots, p_{\tau_m}, q] \otimes
              [1, \cos\theta, \sin\theta]\right) B_n
              + s_n\, G_{\theta + n - 1} \cdots G_{\theta}\, [1, p_0], \qquad
   \hat x_n = w^{-1} E \hat p_n + a_n \circ (x_t - w^{-1} E p_0).

:math:`q` are the products of pairs of the leading few components at all lags, without which the
guess is linear (Kondrashov et al. 2005). :math:`B_n` is a ridge regression per lead :math:`n`, or
the mean of several on the first components of different numbers; its penalty is chosen by leaving
out stretches of time, and the guesses made without the stretch are what a network is trained
against, so that the departure it learns is that of unseen years. :math:`G_\theta` are the
operators of a cyclostationary inverse model, which counts with the share :math:`s_n` at short
leads. :math:`a_n` damps, cell by cell, what the EOFs leave out.

The errors of those held-out guesses also give the width: with :math:`e` (samples by leads and
cells) and its singular value decomposition :math:`w e / \sqrt{N} = U S V^T`, the first
guess of factor :math:`k` is :math:`w^{-1} S_k V_k`, so that members are coherent over cells and
leads as the errors were. Sources: Hoerl & Kennard 1970 (ridge); Penland & Magorian 1993
(linear ENSO prediction in EOF space); Kondrashov, Kravtsov, Robertson & Ghil 2005 (products,
seasons and memory); Shin et al. 2021 (operators by month); Wolpert 1992 (stacking on held-out
guesses).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from ..errors import CheckpointError, ConfigError
from .stepwise import Stepwise, stepped

__all__ = ["FittedGuess", "LinearGuess"]

_SHARE = 0.25
_PRODUCT = np.sqrt(0.1)
PENALTIES = tuple(10.0**power for power in np.arange(0.0, 4.1, 0.5))


@dataclass(frozen=True)
class LinearGuess:
    """Which first guess to fit; linear in its coefficients, and in the history without products.

    Parameters
    ----------
    components : int or tuple of int
        K, the number of EOFs, at most as many as there are cells; of several numbers the mean of
        the regressions on the first of each number.
    lags : tuple of int
        Steps before the init, each less than the history.
    blocks : int
        Stretches of time left out in turn.
    products : int
        How many leading components enter in products of two.
    half_life : float, optional
        Samples so many before the last one count half; default all alike.
    stepwise : Stepwise, optional
        The part of the guess that is made step by step.
    annual : float
        Size of what varies over the year beside what does not: small values shrink the annual
        cycle of the coefficients more.
    penalties : tuple of float
        Those of the ridge to choose from.

    Raises
    ------
    ConfigError
        If a number is out of range.
    """

    components: int | tuple[int, ...] = 15
    lags: tuple[int, ...] = (0, 3, 6, 9)
    blocks: int = 10
    products: int = 0
    half_life: float | None = None
    stepwise: Stepwise | None = None
    annual: float = 1.0
    penalties: tuple[float, ...] = PENALTIES

    def __post_init__(self) -> None:
        if not self.numbers or min(self.numbers) < 1 or self.blocks < 2 or not self.lags:
            raise ConfigError(f"{self}: expected at least 1 component, 2 blocks and one lag")
        if min(self.lags) < 0 or not 0 <= self.products <= min(self.numbers):
            raise ConfigError(
                f"{self}: expected no lag below 0, and products of at most {min(self.numbers)} "
                "components"
            )
        if self.annual < 0 or not self.penalties or min(self.penalties) < 0:
            raise ConfigError(f"{self}: expected an annual size and penalties of at least 0")
        if self.half_life is not None and not self.half_life > 0:
            raise ConfigError(f"{self}: expected a half-life above 0 samples, or None")
        if self.stepwise is not None and self.stepwise.components > max(self.numbers):
            raise ConfigError(f"{self}: expected a stepwise part of at most {max(self.numbers)}")

    @property
    def numbers(self) -> tuple[int, ...]:
        """The numbers of components."""
        return self.components if isinstance(self.components, tuple) else (self.components,)

    def fit(
        self,
        x: np.ndarray,
        y: np.ndarray,
        *,
        season: np.ndarray,
        area: np.ndarray,
        rank: int = 0,
    ) -> tuple[FittedGuess, np.ndarray]:
        """Fit to samples in the order of time.

        Parameters
        ----------
        x : array (N, T, H, W, C)
            Normalized histories, 0 where missing.
        y : array (N, L, H, W, C)
            Normalized truth, 0 where missing.
        season : array (N,)
            Time of year of the init, in [0, 1).
        area : array (H, W)
            Relative areas, 0 in cells that never hold a value.
        rank : int
            Number of factors.

        Returns
        -------
        FittedGuess
            Fitted to all samples.
        array (N, L, H, W, C), float32
            Guesses for the samples, each made without its stretch of time.

        Raises
        ------
        ConfigError
            If a lag reaches beyond the history, or there are too few samples.
        """
        if max(self.lags) >= x.shape[1]:
            raise ConfigError(
                f"{self}: a lag of {max(self.lags)} steps needs a history of at least "
                f"{max(self.lags) + 1}, found {x.shape[1]}"
            )
        if len(x) < 2 * self.blocks:
            raise ConfigError(
                f"{self}: expected at least {2 * self.blocks} samples, found {len(x)}"
            )
        shell, p = self._shell(x, y, area=area, rank=rank)
        N, L = p.shape[:2]
        features, count = shell.features(x, season), _recency(N, self.half_life)
        splits = _splits(N, self.blocks, x.shape[1] + L)
        held, coefficients = np.zeros_like(p), np.zeros_like(shell.coefficients)
        for number in self.numbers:
            columns = shell.columns(number)
            without, solved = _regress(
                features[:, columns], p, count, splits, penalties=self.penalties
            )
            held += without / len(self.numbers)
            coefficients[:, columns] += solved / len(self.numbers)
        cycle = shell.cycle
        if self.stepwise is not None:
            p0 = shell.components(x[:, -1])
            share = self.stepwise.shares(L)[:, None]
            by_steps, cycle = self.stepwise.fit(p0, p, season, splits)
            held = (1 - share) * held + share * by_steps
            coefficients = (1 - share[:, None]) * coefficients
            cycle = share[:, None] * cycle
        damping = _damping(shell.remainder(x[:, -1]), y.reshape(N, L, -1) - shell.expand(p))
        guesses = shell.expand(held) + damping * shell.remainder(x[:, -1])[:, None]
        error = (guesses - y.reshape(N, L, -1)) * np.sqrt(count)[:, None, None]
        fitted = replace(
            shell,
            coefficients=coefficients,
            cycle=cycle,
            damping=damping,
            factors=_factors(error, shell.weight, rank),
            unit=_SHARE * np.sqrt(np.square(error).mean(0)),
        )
        return fitted.rounded(), guesses.reshape(y.shape).astype(np.float32)

    def _shell(
        self, x: np.ndarray, y: np.ndarray, *, area: np.ndarray, rank: int
    ) -> tuple[FittedGuess, np.ndarray]:
        """Return the guess before anything but EOFs is fitted, and components of y (N, L, K)."""
        N, L = y.shape[:2]
        weight = np.sqrt(np.repeat(area.reshape(-1), x.shape[-1])).astype(np.float64)
        last = x[:, -1].reshape(N, -1) * weight
        eofs = np.linalg.svd(last, full_matrices=False)[2][: max(self.numbers)]
        K = len(eofs)
        shell = FittedGuess(
            eofs=eofs,
            weight=weight,
            lags=self.lags,
            scale=float((last @ eofs[0]).std()) or 1.0,
            products=self.products,
            annual=self.annual,
            coefficients=np.zeros((L, regressors(K, len(self.lags), self.products), K)),
            cycle=np.zeros((0, L, 1 + K, K)),
            damping=np.zeros((L, weight.size)),
            factors=np.zeros((rank, L, weight.size)),
            unit=np.zeros((L, weight.size)),
        )
        return shell, (y.reshape(N, L, -1) * weight) @ eofs.T


def regressors(components: int, lags: int, products: int) -> int:
    """Return how many regressors a guess has, F = 3 (1 + K m + q).

    Examples
    --------
    >>> regressors(10, 5, 0), regressors(10, 5, 2)
    (153, 318)
    """
    pairs = products * lags
    return 3 * (1 + components * lags + pairs * (pairs + 1) // 2)


@dataclass(frozen=True, eq=False)
class FittedGuess:
    """A fitted first guess; all arrays float64.

    Parameters
    ----------
    eofs : array (K, P), P = H W C
    weight : array (P,)
        Square root of the relative areas, 0 where there is never a value.
    lags : tuple of int
    scale : float
        Standard deviation of the first component, by which all components are divided.
    coefficients : array (L, F, K)
        F = 3 (1 + K m + q) with m lags and q products.
    damping : array (L, P)
    factors : array (R, L, P)
        First guess of the R factors.
    unit : array (L, P)
        What one unit of a network's output is worth: a share of the held-out error, so that an
        untrained network departs little.
    products : int
        How many leading components enter in products of two.
    annual : float
        Factor of the regressors that vary over the year.
    cycle : array (S, L, 1 + K, K), optional
        What is made step by step, for each of S times of year; S may be 0.
    """

    eofs: np.ndarray
    weight: np.ndarray
    lags: tuple[int, ...]
    scale: float
    coefficients: np.ndarray
    damping: np.ndarray
    factors: np.ndarray
    unit: np.ndarray
    cycle: np.ndarray
    products: int = 0
    annual: float = 1.0

    def __post_init__(self) -> None:
        components, cells = self.eofs.shape
        leads = len(self.coefficients)
        regressed = regressors(components, len(self.lags), self.products)
        expected = {
            "weight": (cells,),
            "coefficients": (leads, regressed, components),
            "cycle": (len(self.cycle), leads, 1 + components, components),
            "damping": (leads, cells),
            "factors": (len(self.factors), leads, cells),
            "unit": (leads, cells),
        }
        found = {name: getattr(self, name).shape for name in expected}
        if found != expected:
            raise CheckpointError(
                f"first guess of {components} EOFs and {len(self.lags)} lags: expected arrays of "
                f"the shapes {expected}, found {found}"
            )

    def rounded(self) -> FittedGuess:
        """Return the same guess with numbers that float32, the dtype of files, can hold."""
        return self.restore(
            {name: array.astype(np.float32) for name, array in self.arrays().items()}, self.facts()
        )

    def features(self, x: np.ndarray, season: np.ndarray) -> np.ndarray:
        """Return the regressors (N, F) of histories x (N, T, H, W, C)."""
        N = len(x)
        past = [self.components(x[:, x.shape[1] - 1 - lag]) / self.scale for lag in self.lags]
        parts = [np.ones((N, 1)), *past]
        if self.products:
            few = np.concatenate([p[:, : self.products] for p in past], 1)
            i, j = np.triu_indices(few.shape[1])
            each = _PRODUCT / len(self.lags) * np.where(i == j, 1.0, np.sqrt(2.0))
            parts.append(few[:, i] * few[:, j] * each)
        base = np.concatenate(parts, 1)
        angle = 2 * np.pi * np.asarray(season, dtype=np.float64)[:, None]
        waves = [base * (self.annual * wave(angle)) for wave in (np.cos, np.sin)]
        return np.concatenate([base, *waves], 1)

    def columns(self, number: int) -> np.ndarray:
        """Return which regressors (F,) the first components of this number have."""
        lagged = np.tile(np.arange(len(self.eofs)) < number, len(self.lags))
        pairs = np.ones(self.coefficients.shape[1] // 3 - 1 - lagged.size, dtype=bool)
        return np.tile(np.concatenate([[True], lagged, pairs]), 3)

    def components(self, frame: np.ndarray) -> np.ndarray:
        """Return the components (N, K) of fields (N, H, W, C)."""
        return (frame.reshape(len(frame), -1) * self.weight) @ self.eofs.T

    def expand(self, p: np.ndarray) -> np.ndarray:
        """Return the fields (..., P) of components p (..., K)."""
        inverse = np.divide(1.0, self.weight, out=np.zeros_like(self.weight), where=self.weight > 0)
        return (p @ self.eofs) * inverse

    def remainder(self, frame: np.ndarray) -> np.ndarray:
        """Return what the EOFs leave out of fields (N, H, W, C), as (N, P)."""
        flat = frame.reshape(len(frame), -1) * (self.weight > 0)
        return flat - self.expand((flat * self.weight) @ self.eofs.T)

    def __call__(self, x: np.ndarray, season: np.ndarray) -> np.ndarray:
        """Return the guess (N, L, H, W, C), normalized; float64 of float64, else float32.

        Parameters
        ----------
        x : array (N, T, H, W, C)
            Normalized histories, 0 where missing.
        season : array (N,)
            Time of year of the init, in [0, 1).
        """
        p = np.einsum("nf,lfk->nlk", self.features(x, season), self.coefficients)
        if len(self.cycle):
            p0 = self.components(x[:, -1])
            p += stepped(self.cycle, p0, season)
        fields = self.expand(p) + self.damping * self.remainder(x[:, -1])[:, None]
        shaped = fields.reshape(len(x), len(self.damping), *x.shape[2:])
        return shaped.astype(np.result_type(x.dtype, np.float32))

    def spread(self, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Return factors (1, L, H, W, C, R) and unit (1, L, H, W, C), float32."""
        L = len(self.unit)
        factors = np.moveaxis(self.factors.reshape(-1, L, *shape), 0, -1)
        unit = self.unit.reshape(L, *shape)
        return factors[None].astype(np.float32), unit[None].astype(np.float32)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what is to be stored as arrays; with :meth:`facts` the inverse of ``restore``."""
        names = ("eofs", "weight", "coefficients", "cycle", "damping", "factors", "unit")
        return {name: getattr(self, name) for name in names}

    def facts(self) -> dict[str, Any]:
        """Return what is to be stored as text."""
        return {
            "lags": list(self.lags),
            "scale": self.scale,
            "products": self.products,
            "annual": self.annual,
        }

    @classmethod
    def restore(cls, arrays: dict[str, np.ndarray], facts: dict[str, Any]) -> FittedGuess:
        """Return the guess of :meth:`arrays` and :meth:`facts`."""
        values = {name: np.asarray(value, dtype=np.float64) for name, value in arrays.items()}
        leads, _, K = values["coefficients"].shape
        values.setdefault("cycle", np.zeros((0, leads, 1 + K, K)))  # as written by 0.1.0.dev
        return cls(
            **values,
            lags=tuple(facts["lags"]),
            scale=float(facts["scale"]),
            products=int(facts.get("products", 0)),
            annual=float(facts.get("annual", 1.0)),
        )


class _Ridge:
    """Least squares of p (N, L, K) on features (N, F) for any penalty, from one eigenbasis."""

    def __init__(self, features: np.ndarray, p: np.ndarray, count: np.ndarray) -> None:
        self.shape = p.shape[1:]
        counted = features.T * count
        self.values, self.vectors = np.linalg.eigh(counted @ features)
        self.rotated = self.vectors.T @ (counted @ p.reshape(len(p), -1))

    def solve(self, penalty: float) -> np.ndarray:
        """Return coefficients (F, L, K)."""
        shrunk = self.rotated / (np.maximum(self.values, 0) + penalty)[:, None]
        return (self.vectors @ shrunk).reshape(-1, *self.shape)


def _recency(samples: int, half_life: float | None) -> np.ndarray:
    """Return how much each sample counts (N,), 1 in the mean."""
    if half_life is None:
        return np.ones(samples)
    count = 0.5 ** (np.arange(samples)[::-1] / half_life)
    return np.asarray(count / count.mean())


def _splits(samples: int, blocks: int, reach: int) -> list[tuple[slice, np.ndarray]]:
    """Return stretches of time and the samples to learn from without each.

    Samples within ``reach`` of a stretch share steps with it and are left out with it.
    """
    edges = np.linspace(0, samples, blocks + 1).round().astype(int).tolist()
    splits = []
    for start, stop in pairwise(edges):
        kept = np.r_[0 : max(start - reach, 0), min(stop + reach, samples) : samples]
        if kept.size == 0:
            raise ConfigError(
                f"LinearGuess(blocks={blocks}): {samples} windows of {reach} steps overlap so "
                "much that nothing is left when one stretch of time is held out. Give a longer "
                "training period, or fit without a first guess (guess=None)."
            )
        splits.append((slice(start, stop), kept))
    return splits


def _regress(
    features: np.ndarray,
    p: np.ndarray,
    count: np.ndarray,
    splits: list[tuple[slice, np.ndarray]],
    *,
    penalties: tuple[float, ...],
) -> tuple[np.ndarray, np.ndarray]:
    """Return held-out p (N, L, K) at the best penalty of each lead, and coefficients (L, F, K)."""
    L = p.shape[1]
    guesses = np.empty((len(penalties), *p.shape))
    for part, kept in splits:
        ridge = _Ridge(features[kept], p[kept], count[kept])
        for i, penalty in enumerate(penalties):
            guesses[i, part] = np.tensordot(features[part], ridge.solve(penalty), 1)
    error = (count[:, None, None] * np.square(guesses - p)).sum((1, 3))
    best = error.argmin(0)
    whole = _Ridge(features, p, count)
    solved = {i: whole.solve(penalties[i]) for i in set(best.tolist())}
    coefficients = np.stack([solved[best[n]][:, n] for n in range(L)])
    return guesses[best, :, np.arange(L)].transpose(1, 0, 2), coefficients


def _factors(error: np.ndarray, weight: np.ndarray, rank: int) -> np.ndarray:
    """Return the leading factors (rank, L, P) of errors (N, L, P)."""
    N, L, P = error.shape
    rows = (error * weight).reshape(N, -1) / np.sqrt(N)
    _, strength, patterns = np.linalg.svd(rows, full_matrices=False)
    if rank > len(strength):
        raise ConfigError(f"a head of rank {rank} needs at least as many samples, found {N}")
    factors = (strength[:rank, None] * patterns[:rank]).reshape(rank, L, P)
    return np.divide(factors, weight, out=np.zeros_like(factors), where=weight > 0)


def _damping(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return the regression (L, P) of after (N, L, P) on before (N, P), within [0, 1]."""
    power = np.square(before).sum(0)
    shared = np.einsum("np,nlp->lp", before, after)
    slope = np.divide(shared, power, out=np.zeros_like(shared), where=power > 0)
    return np.clip(slope, 0.0, 1.0)
