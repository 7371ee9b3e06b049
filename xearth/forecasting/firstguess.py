r"""A linear first guess that a network departs from.

Notation: :math:`x_{t-\tau}` is the normalized field :math:`\tau` steps before the init,
:math:`w` the square root of cell areas, :math:`E` the leading :math:`K` EOFs of :math:`w x`
and :math:`p_\tau = E^T (w x_{t-\tau})`. With :math:`\theta` the time of year of the init,

.. math::

   \hat p_n = \left([1, p_{\tau_1}, \dots, p_{\tau_m}] \otimes
              [1, \cos\theta, \sin\theta]\right) B_n, \qquad
   \hat x_n = w^{-1} E \hat p_n + a_n \circ (x_t - w^{-1} E p_0).

:math:`B_n` is a ridge regression per lead :math:`n`; its penalty is chosen by leaving out
stretches of time, and the guesses made without the stretch are what a network is trained
against, so that the departure it learns is that of unseen years. :math:`a_n` damps, cell by
cell, what the EOFs leave out.

The errors of those held-out guesses also give the width: with :math:`e` (samples by leads and
cells) and its singular value decomposition :math:`w e / \sqrt{N} = U S V^T`, the first
guess of factor :math:`k` is :math:`w^{-1} S_k V_k`, so that members are coherent over cells and
leads as the errors were. Sources: Hoerl & Kennard 1970 (ridge); Penland & Magorian 1993
(linear ENSO prediction in EOF space); Wolpert 1992 (stacking on held-out guesses).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from ..errors import CheckpointError, ConfigError

__all__ = ["FittedGuess", "LinearGuess"]

_SHARE = 0.25
PENALTIES = tuple(10.0**power for power in np.arange(0.0, 4.1, 0.5))


@dataclass(frozen=True)
class LinearGuess:
    """Which linear first guess to fit.

    Parameters
    ----------
    components : int
        K, the number of EOFs.
    lags : tuple of int
        Steps before the init, each less than the history.
    blocks : int
        Stretches of time left out in turn.

    Raises
    ------
    ConfigError
        If a number is out of range.
    """

    components: int = 15
    lags: tuple[int, ...] = (0, 3, 6, 9)
    blocks: int = 10

    def __post_init__(self) -> None:
        if self.components < 1 or self.blocks < 2 or not self.lags or min(self.lags) < 0:
            raise ConfigError(
                f"{self}: expected at least 1 component, 2 blocks and one lag, and no lag below 0"
            )

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
        N, L = y.shape[:2]
        weight = np.sqrt(np.repeat(area.reshape(-1), x.shape[-1])).astype(np.float64)
        last = x[:, -1].reshape(N, -1) * weight
        eofs = np.linalg.svd(last, full_matrices=False)[2][: self.components]
        scale = float((last @ eofs[0]).std()) or 1.0
        shell = FittedGuess(
            eofs=eofs,
            weight=weight,
            lags=self.lags,
            scale=scale,
            coefficients=np.zeros((L, 3 * (1 + len(self.lags) * len(eofs)), len(eofs))),
            damping=np.zeros((L, weight.size)),
            factors=np.zeros((rank, L, weight.size)),
            unit=np.zeros((L, weight.size)),
        )
        features = shell.features(x, season)
        p = (y.reshape(N, L, -1) * weight) @ eofs.T
        damping = _damping(shell.remainder(x[:, -1]), y.reshape(N, L, -1) - shell.expand(p))
        reach = x.shape[1] + L
        held, best = _leave_out(features, p, self.blocks, reach)
        whole = _Ridge(features, p)
        coefficients = np.stack([whole.solve(PENALTIES[best[n]])[:, n] for n in range(L)])
        guesses = shell.expand(held) + damping * shell.remainder(x[:, -1])[:, None]
        error = guesses - y.reshape(N, L, -1)
        fitted = replace(
            shell,
            coefficients=coefficients,
            damping=damping,
            factors=_factors(error, weight, rank),
            unit=_SHARE * np.sqrt(np.square(error).mean(0)),
        )
        return fitted.rounded(), guesses.reshape(y.shape).astype(np.float32)


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
    coefficients : array (L, F, K), F = 3 (1 + K m) with m lags
    damping : array (L, P)
    factors : array (R, L, P)
        First guess of the R factors.
    unit : array (L, P)
        What one unit of a network's output is worth: a share of the held-out error, so that an
        untrained network departs little.
    """

    eofs: np.ndarray
    weight: np.ndarray
    lags: tuple[int, ...]
    scale: float
    coefficients: np.ndarray
    damping: np.ndarray
    factors: np.ndarray
    unit: np.ndarray

    def __post_init__(self) -> None:
        components, cells = self.eofs.shape
        leads = len(self.coefficients)
        expected = {
            "weight": (cells,),
            "coefficients": (leads, 3 * (1 + components * len(self.lags)), components),
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
        parts = [np.ones((N, 1))]
        for lag in self.lags:
            frame = x[:, x.shape[1] - 1 - lag].reshape(N, -1) * self.weight
            parts.append(frame @ self.eofs.T / self.scale)
        base = np.concatenate(parts, 1)
        angle = 2 * np.pi * np.asarray(season, dtype=np.float64)[:, None]
        return np.concatenate([base, base * np.cos(angle), base * np.sin(angle)], 1)

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
        names = ("eofs", "weight", "coefficients", "damping", "factors", "unit")
        return {name: getattr(self, name) for name in names}

    def facts(self) -> dict[str, Any]:
        """Return what is to be stored as text."""
        return {"lags": list(self.lags), "scale": self.scale}

    @classmethod
    def restore(cls, arrays: dict[str, np.ndarray], facts: dict[str, Any]) -> FittedGuess:
        """Return the guess of :meth:`arrays` and :meth:`facts`."""
        values = {name: np.asarray(value, dtype=np.float64) for name, value in arrays.items()}
        return cls(**values, lags=tuple(facts["lags"]), scale=float(facts["scale"]))


class _Ridge:
    """Least squares of p (N, L, K) on features (N, F) for any penalty, from one eigenbasis."""

    def __init__(self, features: np.ndarray, p: np.ndarray) -> None:
        self.shape = p.shape[1:]
        self.values, self.vectors = np.linalg.eigh(features.T @ features)
        self.rotated = self.vectors.T @ (features.T @ p.reshape(len(p), -1))

    def solve(self, penalty: float) -> np.ndarray:
        """Return coefficients (F, L, K)."""
        shrunk = self.rotated / (np.maximum(self.values, 0) + penalty)[:, None]
        return (self.vectors @ shrunk).reshape(-1, *self.shape)


def _leave_out(
    features: np.ndarray, p: np.ndarray, blocks: int, reach: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return held-out p (N, L, K) at the best penalty of each lead, and those penalties' indices.

    Samples within ``reach`` of a stretch share steps with it and are left out with it.
    """
    N = len(p)
    edges = np.linspace(0, N, blocks + 1).round().astype(int)
    guesses = np.empty((len(PENALTIES), *p.shape))
    for start, stop in pairwise(edges):
        kept = np.r_[0 : max(start - reach, 0), min(stop + reach, N) : N]
        if kept.size == 0:
            raise ConfigError(
                f"LinearGuess(blocks={blocks}): {N} windows of {reach} steps overlap so much that "
                "nothing is left when one stretch of time is held out. Give a longer training "
                "period, or fit without a first guess (guess=None)."
            )
        ridge = _Ridge(features[kept], p[kept])
        for i, penalty in enumerate(PENALTIES):
            guesses[i, start:stop] = np.einsum(
                "nf,flk->nlk", features[start:stop], ridge.solve(penalty)
            )
    error = np.square(guesses - p).sum((1, 3))
    best = error.argmin(0)
    return guesses[best, :, np.arange(p.shape[1])].transpose(1, 0, 2), best


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
