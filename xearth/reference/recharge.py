r"""Extended nonlinear recharge oscillator (XRO; Zhao et al. 2024).

Notation
--------
:math:`X = (T, h, X_3, \dots, X_K)` are monthly anomalies: the Nino3.4 temperature :math:`T`, the
warm water volume :math:`h` and the indices of the other basins. With the phase :math:`\varphi` of
the year,

.. math::

   \frac{dX}{dt} = L(\varphi)\, X + N(X, \varphi) + \sigma(\varphi)\, \xi, \qquad
   L(\varphi) = L_0 + \sum_{j=1}^{J} L^c_j \cos j\varphi + L^s_j \sin j\varphi ,

:math:`J = 2`: annual and semiannual cycle. The published nonlinear terms are :math:`b_1 T^2 + b_2
T h` in the equation of :math:`T` and :math:`b_3 X_{IOD}^2` in that of the Indian Ocean dipole;
their coefficients have the same harmonics.

**Fit.** For each index, least squares of the change to the next month,
:math:`X_{t+1} - X_t`, on the terms of its equation at :math:`t` times the harmonics at the
middle of month :math:`t`, :math:`\varphi = 2\pi (m + \tfrac12) / 12` for :math:`m = 0 \dots 11`.
There is no constant. The published model is fitted without penalty; with ten indices and some
twenty years that is sixty coefficients from less than three hundred months, and a
:class:`~xearth.reference.shrinkage.Shrinkage` helps.

**Integration.** From one month to the next the coefficients are held at those of the beginning of
the month, :math:`\varphi = 2\pi m / 12`, and the state takes ``substeps`` Euler steps. The
forecast of the month is the mean of the states after these steps; the state itself goes on. These
choices are those with which the authors' hindcasts come out to the third digit; instant values,
other phases and other numbers of steps do not give them.

**Members.** :math:`\xi` is red noise from month to month with the lag-1 autocorrelation :math:`a`
of the residuals of the fit, :math:`\xi_{n+1} = a \xi_n + \sqrt{1 - a^2}\, w_n`, and
:math:`\sigma` their standard deviation in each calendar month. These members are underdispersive
(a 90 % interval of Nino3.4 holds about half the cases at lead 1): they carry neither the error of
the coefficients nor that of the start.

A nonlinear model fitted on few years may run away from a start. At the end of every month state
and forecast are brought back within :attr:`RechargeOscillator.limits`, twice the largest values of
the training period, so they stay finite.

Source: Zhao, S., F.-F. Jin, M. F. Stuecker, P. R. Thompson, J.-S. Kug, M. J. McPhaden, M. A. Cane,
A. T. Wittenberg and W. Cai (2024): Explainable El Nino predictability from climate mode
interactions. Nature 630, 891-898, doi:10.1038/s41586-024-07534-6.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, overload

import numpy as np
import numpy.typing as npt
import xarray as xr

from ..errors import ConfigError, MissingDataError
from .indices import IndexSet, waves_of_year
from .shrinkage import Shrinkage
from .training import Floats, check_members, check_whole, normal_draws

__all__ = ["PUBLISHED", "RechargeOscillator", "Regression"]

Terms = Mapping[str, tuple[tuple[str, ...], ...]]

PUBLISHED: Terms = MappingProxyType(
    {"Nino34": (("Nino34", "Nino34"), ("Nino34", "WWV")), "IOD": (("IOD", "IOD"),)}
)
"""Nonlinear terms of Zhao et al. (2024): to each equation the products of indices in it."""

_ROWS = 4096  # trajectories that fit the cache together
_HEADROOM = 2.0


@dataclass(frozen=True, eq=False)
class RechargeOscillator:
    """A seasonal recharge oscillator with the other ocean basins.

    Attributes
    ----------
    indices : IndexSet
        Training data; its ``names`` order the state X.
    horizon : int
    substeps : int
        Euler steps per month.
    products : tuple of tuple of int
        Positions in X of the factors of each nonlinear term.
    coefficients : ndarray (K, K + P, 1 + 2 J)
        Of each equation, term (the K indices, then the P products) and harmonic (constant, then
        cosine and sine of each order), in change per month; zero for terms not in an equation.
    autocorrelation : ndarray (K,)
        Of the residuals from month to month, a.
    spread : ndarray (12, K)
        Standard deviation of the residuals by calendar month, sigma, in change per month.
    limits : ndarray (K,)
        Largest magnitude the state may take.

    Examples
    --------
    >>> from xearth.data.sources import samples
    >>> indices = samples.open("xro_indices").load()
    >>> xro = RechargeOscillator.fit(indices.sel(time=slice("1979", "2001")), horizon=12)
    >>> fc = xro.forecast(indices, init="2015-05", members=20)
    >>> fc.Nino34.dims, fc.Nino34.attrs["units"], fc.WWV.attrs["units"]
    (('init', 'lead', 'member'), 'K', 'm')
    >>> round(float(xro.forecast(indices, init="2015-05").Nino34.sel(lead=7).item()), 1)
    3.8
    """

    indices: IndexSet
    horizon: int
    substeps: int
    products: tuple[tuple[int, ...], ...]
    coefficients: Floats
    autocorrelation: Floats
    spread: Floats
    limits: Floats
    name: ClassVar[str] = "recharge_oscillator"
    history: ClassVar[int] = 1

    @classmethod
    def fit(
        cls,
        train: xr.DataArray | xr.Dataset,
        *,
        horizon: int,
        nonlinear: Terms = PUBLISHED,
        harmonics: int = 2,
        substeps: int = 10,
        shrinkage: Shrinkage | None = None,
    ) -> RechargeOscillator:
        """Find the coefficients by regression of the monthly changes.

        Parameters
        ----------
        train : Dataset or DataArray
            Monthly anomalies of indices: variables along time, or (time, names) in any order.
        horizon : int
            Number of leads in months.
        nonlinear : mapping of str to tuples of names
            Products of indices in the equation of an index; a cube is ``("T", "T", "T")``. An
            empty mapping makes the linear model.
        harmonics : int
            Orders of the annual cycle, J; 0 makes it the same all year.
        substeps : int
            Euler steps per month.
        shrinkage : Shrinkage, optional
            Ridge penalties instead of plain least squares; they make forecasts of years that
            were not fitted better, see :mod:`~xearth.reference.shrinkage`.

        Raises
        ------
        ConfigError
            An unknown index in ``nonlinear``, a negative ``harmonics``, ``substeps`` below 1, or
            an index that is not an anomaly.
        MissingDataError
            Fewer months than coefficients, or a calendar month that is not there.
        """
        check_whole(harmonics=(harmonics, 0), substeps=(substeps, 1))
        indices = IndexSet.of(train, horizon=horizon)
        found = Regression.of(
            indices, nonlinear=nonlinear, harmonics=harmonics, shrinkage=shrinkage
        )
        return cls(
            indices=indices,
            horizon=int(horizon),
            substeps=int(substeps),
            products=found.products,
            coefficients=found.coefficients,
            autocorrelation=_autocorrelation(found.residuals, found.rows),
            spread=_spread(found.residuals, indices.months[found.rows], indices),
            limits=_HEADROOM * np.nanmax(np.abs(indices.values), axis=0),
        )

    @overload
    def forecast(
        self, history: xr.Dataset, *, init: Any = None, members: int | None = None, seed: int = 0
    ) -> xr.Dataset: ...
    @overload
    def forecast(
        self, history: xr.DataArray, *, init: Any = None, members: int | None = None, seed: int = 0
    ) -> xr.DataArray: ...
    def forecast(
        self,
        history: xr.DataArray | xr.Dataset,
        *,
        init: Any = None,
        members: int | None = None,
        seed: int = 0,
    ) -> xr.DataArray | xr.Dataset:
        """Forecast all indices as described in :class:`~xearth.reference.protocol.Forecaster`.

        A history along a dimension of names gives (init, lead[, member], names).

        Raises
        ------
        GridMismatchError
            The history lacks an index, or is laid out otherwise than the training data.
        MissingDataError
            A start misses a value.
        """
        starts = self.indices.starts(history, init)
        state = self.indices.state(starts)
        check_members(members)
        one = next(iter(starts.values()))
        if members is None:
            values = self.integrate(state, one.months)
        else:
            # members first: a member is the same however many there are
            noise = normal_draws(seed, one, (members, self.horizon, len(self.limits)))
            values = self._members(state, one.months, noise)
        return self.indices.label(values, starts, name=self.name)

    def integrate(
        self, state: Floats, months: npt.NDArray[np.int64], forcing: Floats | None = None
    ) -> Floats:
        """Integrate many trajectories at once.

        Parameters
        ----------
        state : ndarray (B, K)
            Anomalies at the starts.
        months : ndarray (B,)
            Calendar month 0..11 of each start.
        forcing : ndarray (B, L, K), optional
            Added to the change per month on the way to each lead.

        Returns
        -------
        ndarray (B, L, K)
        """
        out = np.empty((len(state), self.horizon, state.shape[1]))
        steps = self.step_matrices()
        for first in range(0, len(state), _ROWS):
            part = slice(first, first + _ROWS)
            pushed = None if forcing is None else forcing[part] / self.substeps
            out[part] = self._integrate(state[part], months[part], steps, pushed)
        return out

    def step_matrices(self) -> Floats:
        """Matrices (12, K, K + P) of one Euler step from calendar month m, on X and products."""
        waves = waves_of_year(np.arange(12), (self.coefficients.shape[2] - 1) // 2)
        rates = np.einsum("kfh,mh->mkf", self.coefficients, waves) / self.substeps
        return rates + np.eye(*rates.shape[1:])

    def _integrate(
        self,
        state: Floats,
        months: npt.NDArray[np.int64],
        steps: Floats,
        pushed: Floats | None,
    ) -> Floats:
        """(B, K) -> (B, L, K), side by side: starts in one calendar month share their matrix."""
        size = state.shape[1]
        month, group, place, depth = _by_month(months)
        now, then = np.zeros((2, month.size, steps.shape[2], depth))
        now[group, :size, place] = state
        out = np.zeros((self.horizon, month.size, size, depth))
        push = np.zeros((month.size, size, depth))
        for lead in range(self.horizon):
            step, mean = steps[(month + lead) % 12], out[lead]
            if pushed is not None:
                push[group, :, place] = pushed[:, lead]
            for _ in range(self.substeps):
                for i, factors in enumerate(self.products, start=size):
                    np.multiply(now[:, factors[0]], now[:, factors[1]], out=now[:, i])
                    for factor in factors[2:]:
                        now[:, i] *= now[:, factor]
                after = then[:, :size]
                np.matmul(step, now, out=after)
                if pushed is not None:
                    after += push
                np.add(mean, after, out=mean)
                now, then = then, now
            np.divide(mean, self.substeps, out=mean)
            for kept in (now[:, :size], mean):
                np.clip(kept, -self.limits[:, None], self.limits[:, None], out=kept)
        return out.transpose(1, 3, 0, 2)[group, place]

    def _members(self, state: Floats, months: npt.NDArray[np.int64], noise: Floats) -> Floats:
        """(I, K) -> (I, L, M, K), driven by red noise made of white noise (I, M, L, K)."""
        count = noise.shape[1]
        a = self.autocorrelation
        for lead in range(1, self.horizon):
            noise[:, :, lead] = a * noise[:, :, lead - 1] + np.sqrt(1 - a**2) * noise[:, :, lead]
        season = (months[:, None] + np.arange(self.horizon)) % 12
        noise *= self.spread[season][:, None]
        flat = noise.reshape(-1, *noise.shape[2:])
        values = self.integrate(np.repeat(state, count, axis=0), np.repeat(months, count), flat)
        return values.reshape(len(state), count, *values.shape[1:]).swapaxes(1, 2)


@dataclass(frozen=True, eq=False)
class Regression:
    """Coefficients of the monthly changes, as of :class:`RechargeOscillator`.

    Attributes
    ----------
    products : tuple of tuple of int
    coefficients : ndarray (K, K + P, 1 + 2 J)
    residuals : ndarray (N, K)
        What the coefficients leave of the changes.
    rows : ndarray (N,)
        Months from which the changes are known to the next one.
    """

    products: tuple[tuple[int, ...], ...]
    coefficients: Floats
    residuals: Floats
    rows: npt.NDArray[np.int64]

    @classmethod
    def of(
        cls,
        indices: IndexSet,
        *,
        nonlinear: Terms,
        harmonics: int,
        shrinkage: Shrinkage | None = None,
        weights: Floats | None = None,
    ) -> Regression:
        """Solve the least squares of each equation.

        Parameters
        ----------
        weights : ndarray, optional
            Of each month of ``indices``, positive; default equal ones.

        Raises
        ------
        ConfigError, MissingDataError
            As :meth:`RechargeOscillator.fit`.
        """
        equations = _equations(indices.names, nonlinear)
        products = tuple(sorted({term for terms in equations.values() for term in terms}))
        x = indices.values
        known = np.asarray(np.isfinite(x).all(axis=1))
        rows = np.flatnonzero(known[:-1] & known[1:])
        root = np.ones(rows.size) if weights is None else np.sqrt(weights[rows])
        waves = waves_of_year(indices.months[rows] + 0.5, harmonics)
        features = _features(x[rows], products)
        change = x[rows + 1] - x[rows]
        k = x.shape[1]
        coefficients = np.zeros((k, features.shape[1], waves.shape[1]))
        residuals = np.empty_like(change)
        for i in range(k):
            own = [*range(k), *(k + products.index(term) for term in equations.get(i, ()))]
            design = (features[:, own, None] * waves[:, None, :]).reshape(rows.size, -1)
            if weights is None:  # positive ones do not change the rank
                _check_rank(design, indices)
            weighted, aim = design * root[:, None], change[:, i] * root
            if shrinkage is None:
                solution = np.linalg.lstsq(weighted, aim, rcond=None)[0]
            else:
                relative = shrinkage.weights(indices.names, i, own, harmonics)
                scale = features[:, own].std(axis=0)
                solution = shrinkage.solve(weighted, aim, scale, relative)
            coefficients[i, own] = solution.reshape(len(own), -1)
            residuals[:, i] = change[:, i] - design @ solution
        return cls(products, coefficients, residuals, rows)


def _equations(names: tuple[str, ...], terms: Terms) -> dict[int, tuple[tuple[int, ...], ...]]:
    """Positions for names: to each equation the factors of its products."""
    unknown = {name for key, value in terms.items() for name in (key, *sum(value, ()))}
    unknown -= set(names)
    if unknown:
        raise ConfigError(
            f"nonlinear terms name the indices {sorted(unknown)}, which the training data "
            f"{list(names)} do not hold. Rename the indices, or give the terms for yours: "
            "nonlinear={} makes the linear model."
        )
    found = {}
    for key, value in terms.items():
        if any(len(term) < 2 for term in value):
            raise ConfigError(f"a nonlinear term has two factors or more; found {value}.")
        places = {tuple(sorted(names.index(name) for name in term)) for term in value}
        found[names.index(key)] = tuple(sorted(places))
    return found


def _features(x: Floats, products: tuple[tuple[int, ...], ...]) -> Floats:
    """State and products, (N, K + P)."""
    made = [np.prod(x[:, list(factors)], axis=1) for factors in products]
    return np.concatenate([x, *(column[:, None] for column in made)], axis=1)


def _check_rank(design: Floats, indices: IndexSet) -> None:
    rank = int(np.linalg.matrix_rank(design)) if design.size else 0
    if rank < design.shape[1]:
        raise MissingDataError(
            f"the training period {indices.period} gives {len(design)} pairs of months that "
            f"determine {rank} of the {design.shape[1]} coefficients of an equation. Train on "
            "more years, leave out indices that depend on others, or use fewer harmonics."
        )


def _autocorrelation(residuals: Floats, rows: npt.NDArray[np.int64]) -> Floats:
    """Lag-1 correlation of the residuals of months that follow each other, (K,)."""
    next_to = np.flatnonzero(np.diff(rows) == 1)
    first, second = residuals[next_to], residuals[next_to + 1]
    first, second = first - first.mean(axis=0), second - second.mean(axis=0)
    scale = np.sqrt((first**2).sum(axis=0) * (second**2).sum(axis=0))
    return np.divide((first * second).sum(axis=0), scale, out=np.zeros(len(scale)), where=scale > 0)


def _spread(residuals: Floats, months: npt.NDArray[np.int64], indices: IndexSet) -> Floats:
    """Find the standard deviation of the residuals by calendar month, (12, K)."""
    counts = np.bincount(months, minlength=12)
    if counts.min() < 2:
        raise MissingDataError(
            f"the training period {indices.period} holds {counts.min()} changes from calendar "
            f"month {int(counts.argmin()) + 1}; expected 2 or more. Train on more years."
        )
    return np.stack([residuals[months == month].std(axis=0) for month in range(12)])


def _by_month(
    months: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64], int]:
    """Months that occur, and to each row its group, its place in it, and the largest group."""
    month, group, counts = np.unique(months, return_inverse=True, return_counts=True)
    order = np.argsort(group, kind="stable")
    place = np.empty(len(months), dtype=np.int64)
    place[order] = np.arange(len(months)) - np.repeat(np.cumsum(counts) - counts, counts)
    return month, group, place, int(counts.max())
