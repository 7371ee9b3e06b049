r"""Published ways to score an ENSO index by lead, each a named object with every knob fixed.

With forecasts :math:`p` and truth :math:`t` of the index at lead l, deviations :math:`p', t'`
from their means over the starts, L leads, and :math:`\epsilon` of the protocol,

.. math:: r_l = \frac{\sum p' t'}{\sqrt{\sum p'^2 \sum t'^2} + \epsilon}, \quad
          \textrm{C-Nino3.4-M} = \frac1L \sum_l r_l, \quad
          \textrm{C-Nino3.4-WM} = \frac1L \sum_l a_l \ln(l) \, r_l,

:math:`a` = 1.5 for the leads 1-4, 2 for 5-11, 3 for 12-18 and 4 beyond. The published tables have
L = 12, where perfect forecasts have C-Nino3.4-WM 3.406, not 1. Their MSE is that of the fields, of
all cells, months and starts alike, each value divided by the range of the training data.

==========  ====================================================================================
icar_enso   Earthformer's ICAR-ENSO: plain mean of the cells with centers in 5S-5N, 170W-120W;
            means of each month with the two after it, along the lead, so that L leads of months
            give L - 2; all starts together; MSE of fields over a range of 26.748 K
nino34      climate practice: area mean, centered 3-month means along the lead, all starts
            together, no epsilon
seasons     Ham et al. (2019): as nino34, but one correlation for each of the 12 target seasons,
            and the mean of the twelve
iri         IRI/CPC plume: forecasts are of seasons already, lead = center of the season minus
            the month of issue; truth is the centered 3-month mean of a monthly index
==========  ====================================================================================

Pairs of which one is missing are left out; ``n`` says how many remain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import xarray as xr

from ...cf.attrs import index_attrs, score_attrs
from ...cf.discover import discover
from ...cf.packing import decoded
from ...errors import ProtocolError, RegionError
from ...fields.regions import NINO34, box_mean
from ...units import affine
from ..pairs import pair
from ..scores.ensembles import combine_members
from ..scores.indices import running_mean
from .event_protocols import at_valid_times, member_of, protocol_attrs, words

__all__ = ["INDEX_PROTOCOLS", "IndexProtocol", "icar_weights"]

Smoothing = Literal["forward", "centered", "none", "given"]


def icar_weights(leads: int) -> npt.NDArray[np.float64]:
    """Return the weights of C-Nino3.4-WM.

    Examples
    --------
    >>> icar_weights(12).sum().round(3)
    np.float64(40.87)
    """
    steps = np.arange(1, leads + 1)
    a = np.select([steps <= 4, steps <= 11, steps <= 18], [1.5, 2.0, 3.0], 4.0)
    weights: npt.NDArray[np.float64] = a * np.log(steps)
    return weights


@dataclass(frozen=True, kw_only=True)
class IndexProtocol:
    """A way to score an index by lead, every knob fixed.

    Parameters
    ----------
    name : str
    source : str
    box : {"area", "plain"}
        Mean over the Nino3.4 box by area, or of the cells with their center in it. Series
        without latitude and longitude are taken as the index.
    smoothing : {"forward", "centered", "none", "given"}
        Of 3 months, along the lead within each forecast, labeled by the first or the middle
        month. ``"given"``: the forecasts are 3-month means already, and a monthly truth is
        averaged around the valid month.
    pooling : {"all", "season"}
        One correlation for all starts, or the mean of those of each calendar month of the start
        (which, at a lead, is one of each target season).
    epsilon : float
        Added to the denominator of the correlation.
    span : float or None
        What the errors of fields are divided by in ``mse``, in K; None: no such score.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> index = np.random.default_rng(0).standard_normal((30, 14))
    >>> truth = xr.DataArray(index, dims=("init", "lead"), coords={"lead": range(1, 15)})
    >>> result = INDEX_PROTOCOLS["icar_enso"].score(truth, truth)
    >>> result.sizes["lead"], result.correlation_wm.round(3).item()
    (12, 3.406)
    """

    name: str
    source: str
    box: Literal["area", "plain"] = "area"
    smoothing: Smoothing = "centered"
    pooling: Literal["all", "season"] = "all"
    epsilon: float = 0.0
    span: float | None = None

    #: The knobs of the correlations, in the order in which they act.
    KNOBS = ("box", "smoothing", "pooling", "epsilon")
    headline = "correlation_m"

    def __post_init__(self) -> None:
        allowed: Mapping[str, tuple[str, ...]] = {
            "box": ("area", "plain"),
            "smoothing": ("forward", "centered", "none", "given"),
            "pooling": ("all", "season"),
        }
        for knob, values in allowed.items():
            if getattr(self, knob) not in values:
                raise ProtocolError(
                    f"protocol {self.name!r}: {knob} must be one of {values}; found "
                    f"{getattr(self, knob)!r}."
                )
        if self.span is not None and not self.span > 0:
            raise ProtocolError(
                f"protocol {self.name!r}: span must be a positive number of K or None; found "
                f"{self.span!r}."
            )

    def knobs(self) -> dict[str, str]:
        """Return every knob in words.

        Examples
        --------
        >>> INDEX_PROTOCOLS["icar_enso"].knobs()["smoothing"]
        'forward'
        """
        own = (*self.KNOBS, *(("span",) if self.span is not None else ()))
        return {name: words(getattr(self, name)) for name in own} | _FIXED

    def score(self, forecast: xr.DataArray, obs: xr.DataArray) -> xr.Dataset:
        """Score a forecast of sea surface temperature, or of the index.

        Parameters
        ----------
        forecast : DataArray
            (init, lead[, member][, lat, lon]), leads of months. An ensemble is judged by its
            mean. Dask arrays stay lazy.
        obs : DataArray
            At the valid times (init, lead, ...), or a monthly record (time, ...). An index whose
            ``attrs["target"]`` is ``"forward mean over 3 steps"``, as the labels of ICAR-ENSO,
            is the truth of a forward smoothing as it is.

        Returns
        -------
        Dataset
            ``correlation``, ``rmse`` and ``n`` by lead; ``correlation_m`` and
            ``correlation_wm``, C-Nino3.4-M and -WM, and ``rmse_m``, the mean over the leads. With
            a ``span``, and of fields, also ``mse``.

        Raises
        ------
        ProtocolError
            No starts and leads, too few leads for the smoothing, or a truth that is smoothed in
            another way.
        RegionError
            No cell in the box.
        UnitsError, GridMismatchError
            As :func:`~xearth.verification.pairs.pair`.
        """
        forecast, obs = _single(decoded(forecast)), decoded(obs)
        f, o = self.pairs(forecast, obs)
        found = self._finish(f, o, *_starts(f))
        if self.span is not None and set(obs.dims) - set(o.dims) - {"time"}:
            found["mse"] = self._mse(forecast, obs)
        return found

    def pairs(self, forecast: xr.DataArray, obs: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
        """Return the index of forecast and truth as this protocol judges them.

        Parameters
        ----------
        forecast, obs : DataArray
            As of :meth:`score`, which raises the same.

        Returns
        -------
        tuple of DataArray
            (init, lead) each, NaN where one of them is missing.

        Examples
        --------
        >>> import numpy as np, xarray as xr
        >>> months = xr.DataArray(np.arange(12.0).reshape(3, 4), dims=("init", "lead"))
        >>> INDEX_PROTOCOLS["nino34"].pairs(months, months)[0].values.tolist()
        [[1.0, 2.0], [5.0, 6.0], [9.0, 10.0]]
        """
        f = self._index(_single(decoded(forecast)))
        _, lead = _starts(f)
        o = self._index(decoded(obs))
        if lead not in o.dims:
            if self.smoothing == "given":
                o = running_mean(o, align="centered")
            o = at_valid_times(f, o)
        f, o = pair(f, o)
        f, o = (self._smooth(x, lead) for x in (f, o))
        both = f.notnull() & o.notnull()
        return f.where(both), o.where(both)

    def _mse(self, forecast: xr.DataArray, obs: xr.DataArray) -> xr.DataArray:
        """Return the mean square error of fields in units of the span."""
        f, o = pair(forecast, at_valid_times(forecast, obs))
        units = f.attrs.get("units")
        kelvin = 1.0 if units is None else affine(units, "K", difference=True)[0]
        mse = ((f - o) ** 2).mean() * (kelvin / (self.span or 1.0)) ** 2
        mse.attrs = {
            "long_name": f"mean square error of the fields, each divided by {self.span:g} K",
            "units": "1",
        }
        return mse

    def _index(self, field: xr.DataArray) -> xr.DataArray:
        axes = discover(field, require=())
        if axes.lat is None or axes.lon is None:
            return field
        if self.box == "area":
            return box_mean(field, NINO34)
        lat, lon = field[axes.lat], field[axes.lon] % 360.0
        west, east = NINO34.west % 360.0, NINO34.east % 360.0
        inside = (lat >= NINO34.south) & (lat <= NINO34.north) & (lon >= west) & (lon <= east)
        if not inside.any():
            raise RegionError(f"{NINO34}: no cell center of {field.name!r} lies inside the box.")
        index = field.where(inside).mean(inside.dims, skipna=True, dtype=np.float64)
        index.attrs = index_attrs(field.attrs, f"mean of the cells in {NINO34}")
        return index.rename(field.name)

    def _smooth(self, index: xr.DataArray, lead: str) -> xr.DataArray:
        if self.smoothing in ("none", "given"):
            return index
        target = index.attrs.get("target")
        if target is not None and (target, self.smoothing) != (FORWARD, "forward"):
            raise ProtocolError(
                f"protocol {self.name!r} smooths months {self.smoothing}; {index.name!r} holds "
                f"means already ({target}). Give months, or a protocol without smoothing: "
                "dataclasses.replace(protocol, name=..., smoothing='none')."
            )
        number = index.sizes[lead] - 2
        if number < 1:
            raise ProtocolError(
                f"protocol {self.name!r} needs 3 leads or more; {index.name!r} has "
                f"{index.sizes[lead]}."
            )
        if target is not None:
            return index.isel({lead: slice(0, number)}).drop_vars("valid_time", errors="ignore")
        parts = [index.isel({lead: slice(k, k + number)}) for k in range(3)]
        label = parts[1 if self.smoothing == "centered" else 0]
        mean = label.copy(data=sum(part.data for part in parts) / 3)
        return mean.drop_vars("valid_time", errors="ignore")

    def _finish(self, f: xr.DataArray, o: xr.DataArray, init: str, lead: str) -> xr.Dataset:
        error = ((f - o) ** 2).mean(init, skipna=True) ** 0.5
        r = self._by_lead(f, o, init)
        units, number = f.attrs.get("units"), f.sizes[lead]
        weights = xr.DataArray(icar_weights(number), dims=lead)
        found = xr.Dataset(
            {
                "correlation": r,
                "rmse": error,
                "n": f.notnull().sum(init),
                "correlation_m": r.mean(lead, skipna=False),
                "correlation_wm": (weights * r).sum(lead, skipna=False) / number,
                "rmse_m": error.mean(lead, skipna=False),
            }
        )
        for name, label in _LABELS.items():
            power = int(name.startswith("rmse"))
            known = power == 0 or units is not None
            found[name].attrs = (
                score_attrs(label, units=units, unit_power=power) if known else {"long_name": label}
            )
        found.attrs = protocol_attrs(self.name, self.source, self.knobs())
        return found

    def _by_lead(self, f: xr.DataArray, o: xr.DataArray, init: str) -> xr.DataArray:
        if self.pooling == "all":
            return _correlation(f, o, init, self.epsilon)
        if f[init].dtype.kind not in "MO":
            raise ProtocolError(
                f"protocol {self.name!r} tells seasons apart, but {init!r} of {f.name!r} holds "
                f"no dates ({f[init].dtype})."
            )
        months = f[init].dt.month.values
        rows = [
            _correlation(f.isel({init: own}), o.isel({init: own}), init, self.epsilon)
            for own in (np.flatnonzero(months == month) for month in np.unique(months))
        ]
        return xr.concat(rows, "month", combine_attrs="override").mean("month", skipna=False)


#: ``attrs["target"]`` of an index that is the mean of each month and the two after it.
FORWARD = "forward mean over 3 steps"

#: What is the same in all of them.
_FIXED = {
    "region": str(NINO34),
    "ensemble": "mean",
    "climatology": "mean of the judged starts at each lead",
    "missing pairs": "left out",
    "leads of a mean": "equal weights; C-Nino3.4-WM 1.5, 2, 3, 4 times ln(lead), over their number",
}

_LABELS = {
    "correlation": "correlation",
    "rmse": "root mean square error",
    "n": "number of pairs",
    "correlation_m": "C-Nino3.4-M: mean of the correlations over the leads",
    "correlation_wm": "C-Nino3.4-WM: weighted sum of the correlations over the number of leads",
    "rmse_m": "root mean square error, mean over the leads",
}


def _correlation(f: xr.DataArray, o: xr.DataArray, dim: str, epsilon: float) -> xr.DataArray:
    f, o = f - f.mean(dim, skipna=True), o - o.mean(dim, skipna=True)
    size = ((f**2).sum(dim) * (o**2).sum(dim)) ** 0.5 + epsilon
    found: xr.DataArray = (f * o).sum(dim) / size.where(size > 0)
    return found


def _single(forecast: xr.DataArray) -> xr.DataArray:
    member = member_of(forecast)
    return forecast if member is None else combine_members(forecast, "mean", member=member)


def _starts(forecast: xr.DataArray) -> tuple[str, str]:
    axes = discover(forecast, require=())
    init, lead = (
        name if name in forecast.dims else found
        for name, found in (("init", axes.init), ("lead", axes.lead))
    )
    if init not in forecast.dims or lead not in forecast.dims:
        raise ProtocolError(
            f"an index is scored by lead over starts, (init, lead); {forecast.name!r} has the "
            f"dims {forecast.dims}. Name them 'init' and 'lead'."
        )
    return str(init), str(lead)


#: The protocols of this module, by name.
INDEX_PROTOCOLS: Mapping[str, IndexProtocol] = {
    protocol.name: protocol
    for protocol in (
        IndexProtocol(
            name="icar_enso",
            source="Earthformer (Gao et al. 2022), compute_enso_score",
            box="plain",
            smoothing="forward",
            epsilon=1e-6,
            span=10.198975563049316 + 16.549121856689453,
        ),
        IndexProtocol(name="nino34", source="climate practice"),
        IndexProtocol(
            name="seasons", source="Ham et al. (2019), Nature 573, 568-572", pooling="season"
        ),
        IndexProtocol(name="iri", source="IRI/CPC ENSO plume", smoothing="given"),
    )
}
