r"""Calibration as a step: what an ensemble got wrong in training years, taken out of new forecasts.

=========================  =======================================================================
:class:`EMOS`              Gaussian regression: mean and spread are fitted, so that a spread too
                           narrow or too wide is mended; for values that are nearly normal
:class:`EnsembleDressing`  bias correction and a normal kernel around each member; for ensembles
                           that are too narrow, and keeps their shape (two peaks, skewness)
=========================  =======================================================================

Both are fitted for each lead and season (or month) of the start and each cell, on training cases
only; what they give says so in its attributes, so that the leak guard knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from ..cf.attrs import score_attrs
from ..errors import ConfigError, XearthWarning, warn
from ..verification.leaks.provenance import Judged
from .calibration import Array, Coefficients
from .minimum_crps import minimum_crps
from .training_cases import Training

__all__ = ["EMOS", "EnsembleDressing"]


@dataclass(frozen=True, eq=False)
class EMOS:
    r"""Ensemble model output statistics: Gaussian regression with members put back in their ranks.

    The truth is taken to be normal with the mean :math:`a + b \bar x` and the variance
    :math:`c + d s^2` of ensemble mean and variance, :math:`b, c, d \ge 0`; the coefficients have
    the lowest CRPS in training (:mod:`xearth.forecasting.minimum_crps` says how).

    A calibrated forecast has as many members as the raw one: the quantiles
    :math:`(k - \frac12) / M` of the normal distribution, the M values of lowest CRPS (Bröcker
    2012). The member that was k-th before is k-th after (ensemble copula coupling; Schefzik et al.
    2013), in each cell and at each lead, so that members stay fields and trajectories: what was
    coherent in space and time is so afterwards. Equal members are ranked by their number. Members
    that are missing stay missing, and the others share the quantiles among them. Judge such
    members by the CRPS of the ensemble: the fair one is for random draws and flatters quantiles.

    Attributes
    ----------
    coefficients : Coefficients
        ``coefficients.table`` is a Dataset with ``a``, ``b``, ``c``, ``d`` and the number of
        training cases ``n``.

    References
    ----------
    Gneiting, T. et al. (2005), Mon. Wea. Rev. 133, 1098-1118. Bröcker, J. (2012), Q. J. R.
    Meteorol. Soc. 138, 1611-1617. Schefzik, R., Thorarinsdottir, T. L. and Gneiting, T. (2013),
    Statist. Sci. 28, 616-640.

    Examples
    --------
    >>> from xearth.data.sources import samples
    >>> from xearth.reference.persistence import Persistence
    >>> nino34 = samples.open("oisst_nino34").load()
    >>> raw = Persistence.fit(nino34.sel(time=slice("1982", "2001")), horizon=3)
    >>> raw = raw.forecast(nino34, init=slice("1982", None), members=9)
    >>> emos = EMOS.fit(raw, nino34, by="lead", training=slice("1982", "2009"))
    >>> emos.coefficients.table.b.values.round(1).tolist()
    [1.0, 0.9, 0.8]
    >>> new = raw.sel(init=slice("2010", None))
    >>> found = emos.apply(new)
    >>> found.sizes == new.sizes, found.attrs["xearth_calibration_period"]
    (True, '1982-02-01/2009-12-01')
    """

    coefficients: Coefficients

    @classmethod
    def fit(
        cls,
        forecast: xr.DataArray,
        truth: xr.DataArray,
        *,
        by: str | Sequence[str] = ("lead", "season"),
        training: slice | str | None = None,
    ) -> EMOS:
        """Fit the coefficients.

        Parameters
        ----------
        forecast : DataArray (init, lead, member, ...)
            2 members or more. A Dask array is computed once; what is held is the mean and the
            variance of each start and lead.
        truth : DataArray (time, ...) or (init, lead, ...)
            Converted to the units of the forecast.
        by : str or sequence of str
            Of "lead", "season" and "month" (of the start), "valid_season" and "valid_month"; ``()``
            for one set of coefficients.
        training : slice or str, optional
            Period that start and valid time must lie in, such as ``slice("1982", "2009")`` or
            ``"1982/1995, 2001/2009"``; by default all that is there.

        Raises
        ------
        AxisError, UnitsError, GridMismatchError, TimeAxisError
            Forecast and truth cannot be paired.
        MissingDataError
            Fewer than 10 training cases of a lead and season.
        ConfigError
            Less than 2 members, unknown groups, or a period that cannot be read.
        """
        cases = Training.of(forecast, truth, by, training)
        units = cases.facts["attrs"].get("units")
        return cls(
            cases.fit(
                minimum_crps,
                {
                    "a": _attrs("intercept of the mean", units, 1),
                    "b": _attrs("slope of the mean by the ensemble mean", units, 0),
                    "c": _attrs("intercept of the variance", units, 2),
                    "d": _attrs("slope of the variance by the ensemble variance", units, 0),
                },
            )
        )

    def apply(self, forecast: xr.DataArray) -> xr.DataArray:
        """Calibrate forecasts.

        Parameters
        ----------
        forecast : DataArray (init, lead, member, ...)
            Of leads, seasons and cells that were trained. Dask arrays stay lazy.

        Returns
        -------
        DataArray
            Same labels, units and number of members. NaN where fewer than 2 members are known, or
            the cell had fewer than 10 training cases.

        Raises
        ------
        AxisError, ConfigError, UnitsError, GridMismatchError
            It is no such ensemble.
        MissingDataError
            A lead or season that was not trained.

        Warns
        -----
        LeakageWarning
            Valid times that the calibration has seen.
        """
        return self.coefficients.apply(
            forecast, _quantiles, method="EMOS with ensemble copula coupling", numbers=_nothing
        )

    def to_json(self) -> str:
        """Return the coefficients as JSON; numbers keep every bit."""
        return self.coefficients.to_json("EMOS")

    @classmethod
    def from_json(cls, text: str) -> EMOS:
        """Read what :meth:`to_json` wrote; CheckpointError if it is something else."""
        return cls(Coefficients.from_json(text, "EMOS"))


@dataclass(frozen=True, eq=False)
class EnsembleDressing:
    r"""A bias correction, and a normal kernel around each member.

    With the mean error :math:`e = \overline{y - \bar x}` of the training cases the kernel has the
    variance

    .. math:: q^2 = \max\Big(0,\; \overline{(y - \bar x - e)^2}
              - \Big(1 + \frac1M\Big) \overline{s^2}\Big),

    what the ensemble lacks for its spread to match its error (Wang and Bishop 2005). The kernel
    of the best member (Roulston and Smith 2003) is not used: it is narrower in ensembles with more
    members, and right for none.

    A dressed member is :math:`x_m + e + q z_m`, one normal number :math:`z_m` for each start and
    member, the same in all cells and at all leads: members stay fields and trajectories.

    Attributes
    ----------
    coefficients : Coefficients
        ``coefficients.table`` is a Dataset with ``shift`` :math:`e` and ``width`` :math:`q`, and
        the number of training cases ``n``.

    References
    ----------
    Wang, X. and Bishop, C. H. (2005), Q. J. R. Meteorol. Soc. 131, 965-986. Roulston, M. S. and
    Smith, L. A. (2003), Tellus A 55, 16-30.

    Examples
    --------
    >>> from xearth.data.sources import samples
    >>> from xearth.reference.persistence import Persistence
    >>> nino34 = samples.open("oisst_nino34").load()
    >>> raw = Persistence.fit(nino34.sel(time=slice("1982", "2001")), horizon=2)
    >>> raw = raw.forecast(nino34, init=slice("1982", None), members=4) + 1.0
    >>> narrow = raw.mean("member") + 0.1 * (raw - raw.mean("member"))
    >>> narrow.attrs = raw.attrs
    >>> dressing = EnsembleDressing.fit(narrow, nino34, by="lead", training=slice("1982", "2009"))
    >>> dressing.coefficients.table["shift"].values.round(1).tolist()
    [-1.0, -1.0]
    >>> dressing.apply(narrow.sel(init=slice("2010", None)), copies=5).sizes["member"]
    20
    """

    coefficients: Coefficients

    @classmethod
    def fit(
        cls,
        forecast: xr.DataArray,
        truth: xr.DataArray,
        *,
        by: str | Sequence[str] = ("lead", "season"),
        training: slice | str | None = None,
    ) -> EnsembleDressing:
        """Fit shift and width; parameters and errors as of :meth:`EMOS.fit`.

        Warns
        -----
        XearthWarning
            The spread is already above the error somewhere: the kernel there has no width, and
            the spread stays too wide.
        """
        cases = Training.of(forecast, truth, by, training)
        units, members = cases.facts["attrs"].get("units"), cases.facts["members"]

        def kernel(mean: Array, variance: Array, y: Array) -> Array:
            known = np.isfinite(mean) & np.isfinite(variance) & np.isfinite(y)
            n = known.sum(axis=0)
            error = np.where(known, y - mean, 0.0)
            shift = error.sum(axis=0) / n
            square = (np.where(known, error - shift, 0.0) ** 2).sum(axis=0) / n
            spread = np.where(known, variance, 0.0).sum(axis=0) / n
            lacking = square - (1 + 1 / members) * spread
            return np.stack([shift, np.sqrt(lacking.clip(min=0.0))])

        found = cases.fit(
            kernel,
            {
                "shift": _attrs("mean error of the ensemble mean, truth minus forecast", units, 1),
                "width": _attrs("standard deviation of the kernel", units, 1),
            },
        )
        wide = float((found.table["width"] == 0).mean())
        if wide > 0:
            warn(
                f"ensemble dressing: in {wide:.0%} of leads, seasons and cells the spread of the "
                "training forecasts is not below their error, and a kernel cannot make it "
                "narrower. Use EMOS there.",
                XearthWarning,
            )
        return cls(found)

    def apply(self, forecast: xr.DataArray, *, copies: int = 1, seed: int = 0) -> xr.DataArray:
        """Calibrate forecasts.

        Parameters
        ----------
        forecast : DataArray (init, lead, member, ...)
            Of leads, seasons and cells that were trained. Dask arrays stay lazy.
        copies : int
            Draws around each member; members ``copies * m`` and on are those of member m.
        seed : int
            The draws of a start depend on it, the seed and the number of members.

        Returns
        -------
        DataArray
            ``copies`` times as many members; labels and units stay. NaN where a member is missing,
            or the cell had fewer than 10 training cases.

        Raises
        ------
        AxisError, ConfigError, UnitsError, GridMismatchError
            It is no such ensemble, or no copies.
        MissingDataError
            A lead or season that was not trained.

        Warns
        -----
        LeakageWarning
            Valid times that the calibration has seen.
        """
        if copies < 1:
            raise ConfigError(f"copies={copies}: expected 1 or more draws around each member.")

        def draws(judged: Judged, members: int) -> Array:
            streams = (np.random.default_rng([seed, int(start)]) for start in judged.inits)
            return np.stack(
                [rng.standard_normal((copies, members)).T.reshape(-1) for rng in streams]
            )

        return self.coefficients.apply(
            forecast, _dressed, method="ensemble dressing (normal kernel)", numbers=draws
        )

    def to_json(self) -> str:
        """Return the coefficients as JSON; numbers keep every bit."""
        return self.coefficients.to_json("EnsembleDressing")

    @classmethod
    def from_json(cls, text: str) -> EnsembleDressing:
        """Read what :meth:`to_json` wrote; CheckpointError if it is something else."""
        return cls(Coefficients.from_json(text, "EnsembleDressing"))


def _attrs(long_name: str, units: str | None, power: int) -> dict[str, str]:
    if units is None and power:
        return {"long_name": long_name}
    return score_attrs(long_name, units=units, unit_power=power)


def _nothing(judged: Judged, members: int) -> Array:
    return np.zeros((judged.inits.size, members))


def _quantiles(members: Array, coefficients: Array, _: Array) -> Array:
    """Return the quantiles of the normal distribution in the order of the members, axis 2."""
    from scipy.special import ndtri

    a, b, c, d = coefficients
    known = np.isfinite(members)
    n = known.sum(axis=2)
    values = np.where(known, members, 0.0)
    mean = values.sum(axis=2) / np.maximum(n, 1)
    squares = (np.where(known, values - mean[:, :, None], 0.0) ** 2).sum(axis=2)
    variance = np.where(n > 1, squares / np.maximum(n - 1, 1), np.nan)
    order = np.argsort(np.where(known, members, np.inf), axis=2, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(
        ranks, order, np.arange(order.shape[2]).reshape(-1, *(1,) * (order.ndim - 3)), 2
    )
    counts = np.arange(1, members.shape[2] + 1)[:, None]
    with np.errstate(invalid="ignore"):
        levels = ndtri((np.arange(counts.size) + 0.5) / counts)  # NaN beyond the count
    normal = levels[np.maximum(n, 1)[:, :, None] - 1, ranks]
    found = (a + b * mean)[:, :, None] + np.sqrt(c + d * variance)[:, :, None] * normal
    return np.where(known, found, np.nan)


def _dressed(members: Array, coefficients: Array, draws: Array) -> Array:
    """Return the members, shifted and each with its draws around it, axis 2."""
    shift, width = (part[:, :, None] for part in coefficients)
    copies = draws.shape[1] // members.shape[2]
    z = draws.reshape(draws.shape[0], 1, -1, *(1,) * (members.ndim - 3))
    return np.repeat(members, copies, axis=2) + shift + width * z
