r"""Skill of climate indices by lead and by the month of the start, and its summaries.

The skill of forecasts of the tropical Pacific falls fastest through the northern spring, whatever
the lead: in a table of start month by lead the loss runs along a diagonal of equal target months
(the spring predictability barrier). A mean over all starts hides it.

With the correlation :math:`r_l` of lead l of L,

.. math:: \textrm{C-Nino3.4-M} = \frac1L \sum_l r_l, \qquad
          \textrm{C-Nino3.4-WM} = \frac1L \sum_l a_l \ln(l) \, r_l,

:math:`a` = 1.5 for the leads 1-4, 2 for 5-11, 3 for 12-18 and 4 beyond (Earthformer's ICAR-ENSO).
The second is no mean: a perfect forecast of 12 leads has 3.406. The protocols that fix how the
index is made are in :mod:`xearth.verification.protocols.index_protocols`.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from ...cf.attrs import score_attrs
from ...cf.discover import discover
from ...cf.forecast_coords import lead_steps
from ...cf.timeaxis import Step
from ...errors import ConfigError
from ..align import observations_at
from ..evaluate import evaluate
from ..protocols.index_protocols import icar_weights
from .deterministic_rows import CORRELATION

__all__ = ["c_nino34", "correlation_by_start", "useful_lead"]


def correlation_by_start(forecast: xr.DataArray, obs: xr.DataArray) -> xr.Dataset:
    """Return the correlation of an index by the calendar month of the start and by lead.

    Parameters
    ----------
    forecast : DataArray (init, lead[, member], ...)
        An index in monthly steps; of an ensemble the mean of the known members.
    obs : DataArray (time, ...) or (init, lead, ...)
        Truth, as a series or at the valid times.

    Returns
    -------
    Dataset (month, lead, ...)
        ``correlation``, NaN where fewer than two pairs are known, and ``n``, the number of
        pairs; with the coordinate ``target_month`` (month, lead).

    Raises
    ------
    AxisError
        No starts or no leads.
    LeadError
        Leads that are no whole months.
    GridMismatchError, UnitsError
        As :func:`~xearth.verification.pairs.pair`.

    Examples
    --------
    >>> from xearth.data.sources import samples
    >>> from xearth.reference.persistence import Persistence
    >>> from xearth.fields.climatology import anomaly
    >>> nino34 = anomaly(samples.open("oisst_nino34"), base=("1991", "2020"))
    >>> fc = Persistence.fit(nino34, horizon=6).forecast(nino34, init=slice("1982", None))
    >>> table = correlation_by_start(fc, nino34)
    >>> table.correlation.sel(month=[2, 8], lead=6).round(2).values.tolist()
    [-0.07, 0.83]
    """
    axes = discover(forecast, require=("init", "lead"))
    init, lead, member = str(axes.init), str(axes.lead), axes.member
    truth = obs if {init, lead} <= set(obs.dims) else observations_at(forecast, obs)
    number = forecast.notnull().any(member) if member is not None else forecast.notnull()
    known = number & truth.notnull()
    starts = forecast[init].dt.month.values
    months = np.unique(starts)
    rows, counts = [], []
    for month in months:
        own = {init: np.flatnonzero(starts == month)}
        rows.append(
            evaluate(CORRELATION, forecast.isel(own), truth.isel(own), dim=init, member=member)
        )
        counts.append(known.isel(own).sum(init))
    attrs = {"long_name": "calendar month of the start", "units": "1"}
    label = xr.Variable("month", months, attrs)
    found = xr.Dataset(
        {
            "correlation": xr.concat(rows, label, combine_attrs="override"),
            "n": xr.concat(counts, label, combine_attrs="override"),
        }
    )
    found["n"].attrs = {"long_name": "number of pairs of forecast and truth", "units": "1"}
    steps = lead_steps(forecast[lead], Step(1, "months"))
    target = (months[:, None] + steps - 1) % 12 + 1
    found = found.drop_vars("valid_time", errors="ignore")
    names = {"long_name": "calendar month of the target", "units": "1"}
    return found.assign_coords(target_month=(("month", lead), target, names))


def useful_lead(
    correlation: xr.DataArray, *, least: float = 0.5, lead: str = "lead"
) -> xr.DataArray:
    """Return the lead up to which the correlation stays at or above a value.

    Parameters
    ----------
    correlation : DataArray (lead, ...)
        By lead in ascending order, such as that of :func:`correlation_by_start`.
    least : float
        0.5 is the usual bound of a useful forecast.
    lead : str
        Name of the dimension of the leads.

    Returns
    -------
    DataArray
        In units of the lead; 0 where the first lead is below already. Later returns above it do
        not count.

    Examples
    --------
    >>> import xarray as xr
    >>> r = xr.DataArray([0.9, 0.7, 0.4, 0.6], {"lead": [1, 2, 3, 4]}, ("lead",))
    >>> useful_lead(r).item()
    2
    """
    through = (correlation >= least).astype(np.int64).cumprod(lead)
    steps = correlation[lead] if lead in correlation.coords else None
    if steps is None or not bool((np.diff(steps) > 0).all()):
        raise ConfigError(
            f"expected the leads in ascending order as the coordinate {lead!r}; found "
            f"{None if steps is None else steps.values.tolist()}."
        )
    found = (through * steps).max(lead)
    units = {"units": steps.attrs["units"]} if "units" in steps.attrs else {}
    found.attrs = {
        "long_name": f"longest lead with a correlation of {least:g} or more at it and before",
        **units,
    }
    return found.rename("useful_lead")


def c_nino34(
    correlation: xr.DataArray, *, weighted: bool = False, lead: str = "lead"
) -> xr.DataArray:
    """Return C-Nino3.4-M, the mean of the correlation over the leads, or C-Nino3.4-WM.

    Parameters
    ----------
    correlation : DataArray (lead, ...)
        Correlation of the 3-month mean of the Nino3.4 index, leads 1 .. L.
    weighted : bool
        C-Nino3.4-WM, the weighted sum over the number of leads; see the head of this module.
    lead : str
        Name of the dimension of the leads.

    Returns
    -------
    DataArray
        The attribute ``formula`` says which; NaN where a lead is missing.

    Raises
    ------
    ConfigError
        Leads other than 1 .. L.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> r = xr.DataArray(np.ones(12), {"lead": np.arange(1, 13)}, ("lead",))
    >>> c_nino34(r).item(), c_nino34(r, weighted=True).round(3).item()
    (1.0, 3.406)
    """
    number = correlation.sizes.get(lead, 0)
    labels = correlation[lead].values if lead in correlation.coords else np.arange(1, number + 1)
    if not number or not np.array_equal(labels, np.arange(1, number + 1)):
        raise ConfigError(
            f"expected correlations of the leads 1, 2, ... along {lead!r}; found "
            f"{np.asarray(labels).tolist()}."
        )
    if not weighted:
        found = correlation.mean(lead, skipna=False)
        found.attrs = score_attrs("C-Nino3.4-M") | {"formula": "sum over leads l of r_l, over L"}
        return found.rename("c_nino34_m")
    weights = xr.DataArray(icar_weights(number), dims=lead)
    found = (weights * correlation).sum(lead, skipna=False) / number
    found.attrs = score_attrs("C-Nino3.4-WM") | {
        "formula": "sum over leads l of a_l ln(l) r_l, over L; a = 1.5 for l = 1-4, 2 for 5-11, "
        "3 for 12-18, 4 beyond"
    }
    return found.rename("c_nino34_wm")
