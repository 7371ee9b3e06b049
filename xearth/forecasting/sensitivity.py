r"""Sensitivities: the derivative of a forecast index by all that the forecast looks back on.

Notation: :math:`s` is the field as it was given, in its own cells and units. Its anomalies are
averaged over the forecaster's cells (the matrix :math:`R` of :mod:`xearth.fields.regrid`) and
normalized to :math:`x`, from which first guess and networks make the mean forecast
:math:`\mu(x)`; the index is :math:`J = w^\top \mu`. With the normalization
:math:`x = a R s + b` the chain rule gives

.. math:: g = \frac{\partial J}{\partial s} = a\, R^\top \left(\frac{\partial \mu}{\partial x}
          \right)^{\!\top} w ,

computed in float64 by automatic differentiation. To first order a change :math:`\delta s` of the
history changes the index by :math:`\sum_i g_i\, \delta s_i`, so that :math:`g` is the best
precursor: of all changes with the same sum of squares, the one along :math:`g` changes the index
most. The climatology that anomalies depart from is held fixed.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ..cf.attrs import append_history
from ..cf.forecast_coords import forecast_coords
from ..constraints.functional import Index
from ..errors import ConfigError
from ..units import cf_format, compatible
from .adapt import canonical
from .forecaster import NetworkForecaster
from .history import Histories, read_histories
from .inputs import first_guess
from .place import Anywhere

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..reference.protocol import Forecaster

__all__ = ["sensitivity"]

_BATCH = 8  # inits at once: the way back keeps all activations


def sensitivity(
    history: xr.DataArray | xr.Dataset,
    model: Forecaster | str | Path,
    *,
    of: Index,
    init: Any = None,
) -> xr.DataArray:
    """Return the derivative of a forecast index by the values of the history.

    Parameters
    ----------
    history : DataArray (time, lat, lon)
        What a forecast is made from: any product, see :func:`xearth.as_history`. Of a forecaster
        that reads index series a Dataset with them; they are held fixed.
    model : NetworkForecaster, path or str
        Its mean forecast is differentiated.
    of : Index
        Such as ``xearth.Nino34(lead=9)``.
    init : str, datetime, slice or sequence, optional
        Starts, each the last observed step; by default the last of ``history``. A network is not
        linear, so each start has a sensitivity of its own: average them with ``.mean("init")``.

    Returns
    -------
    DataArray (init, lag, lat, lon)
        float64, on the cells of ``history``; ``lag`` counts steps before the start, 0 is the start
        itself. In units of the index per unit of the field **of one cell**: finer cells have
        smaller values, and the sum over cells of sensitivity times change is the change of the
        index. Missing where ``history`` is; 0 where the forecaster does not look.

    Raises
    ------
    ConfigError
        The forecaster is no network of one field, ``history`` no DataArray (or, with index series,
        no Dataset), or ``of`` no Index.
    LeadError
        A lead beyond the horizon.
    RegionError
        The forecaster's grid does not cover the box.
    XearthError
        As a forecast from ``history``.

    Examples
    --------
    >>> import xearth
    >>> sst = xearth.samples.open("kaplan_sst").sel(time=slice("1990", "1996"))
    >>> g = sensitivity(sst, "enso-small", of=xearth.Nino34(lead=3), init="1996-12")
    >>> dict(g.sizes), g.attrs["units"]
    ({'init': 1, 'lag': 12, 'lat': 12, 'lon': 22}, 'K K-1')
    >>> east = g.isel(init=0).sel(lag=0, lat=slice(-5, 5), lon=slice(200, 260)).sum()
    >>> bool(0.1 < east < 1.2)  # K in three months for 1 K in the eastern equatorial Pacific
    True
    """
    from .io import forecaster_of

    forecaster = forecaster_of(model)
    if not isinstance(forecaster, NetworkForecaster) or len(forecaster.normalizer.variables) != 1:
        raise ConfigError(
            f"sensitivity of {getattr(forecaster, 'name', forecaster)!r}: expected a network of "
            f"one field, found {type(forecaster).__name__}. Load one, such as 'enso-small'."
        )
    if not isinstance(history, xr.DataArray) and forecaster.indices is None:
        raise ConfigError(
            f"sensitivity by a {type(history).__name__}: expected a DataArray. Choose a variable, "
            f"for example ds[{forecaster.normalizer.variables[0]!r}]."
        )
    if not isinstance(of, Index):
        raise ConfigError(f"of={of!r}: expected an Index, such as xearth.Nino34(lead=9).")
    if isinstance(forecaster.place, Anywhere):
        raise ConfigError(
            f"sensitivity of {forecaster.name!r}: expected a network that knows its cells, found "
            "one that forecasts anywhere, where an index has no place. Use a network trained on "
            "whole grids."
        )
    leads = of.positions(_leads(forecaster))
    past = read_histories(forecaster, history, init)
    field = history[past.variables[0].name] if isinstance(history, xr.Dataset) else history
    weights = canonical(of.box.weights(forecaster.grid.template), forecaster.grid)
    if forecaster.grid.mask is not None:
        weights = weights * forecaster.grid.mask / (weights * forecaster.grid.mask).sum()
    networks = [copy.deepcopy(network).double() for network in forecaster.networks]
    parts = []
    for start in range(0, len(past.positions), _BATCH):
        rows = slice(start, min(start + _BATCH, len(past.positions)))
        x = past.batch(rows)[0].double()
        x.requires_grad_()
        value = index_of(forecaster, networks, past, rows, x, leads=leads, weights=weights)
        value.sum().backward()
        parts.append(_gradient(x, forecaster))
    return _labeled(np.concatenate(parts), forecaster, past, field, of)


def index_of(
    forecaster: NetworkForecaster,
    networks: list[nn.Module],
    past: Histories,
    rows: slice,
    x: Tensor,
    *,
    leads: np.ndarray,
    weights: np.ndarray,
) -> Tensor:
    """Return the normalized index (n,) of the mean forecast, as a function of x (n, T, H, W, 1)."""
    import torch

    positions = past.positions[rows]
    season = past.reader.season_of(positions)
    network_input = past.reader.network_input(x, positions)
    guess = first_guess(forecaster.guess, x, season, rank=forecaster.head.rank).to(x)
    means = [forecaster.head.predict(n(network_input)).about(guess).mean for n in networks]
    mean = torch.stack(means).mean(0)[:, torch.as_tensor(leads), ..., 0]
    return (mean * torch.as_tensor(weights, dtype=x.dtype)).sum((-2, -1)).mean(1)


def _leads(forecaster: NetworkForecaster) -> np.ndarray:
    """Return the values of the lead coordinate."""
    return np.arange(1, forecaster.horizon + 1) * forecaster.step.count


def _gradient(x: Tensor, forecaster: NetworkForecaster) -> np.ndarray:
    """Return the gradient (n, T, H, W), 0 in the cells that the forecaster does not know."""
    if x.grad is None:
        raise ConfigError(f"{forecaster.name!r}: its forecast does not depend on the history.")
    gradient = x.grad[..., 0].numpy()
    return gradient if forecaster.grid.mask is None else gradient * forecaster.grid.mask


def _labeled(
    values: np.ndarray,
    forecaster: NetworkForecaster,
    past: Histories,
    history: xr.DataArray,
    of: Index,
) -> xr.DataArray:
    """Return the gradient by normalized values (I, T, H, W) as labeled one on the given cells.

    The index is normalized as the field is, so the scale of the one cancels that of the other.
    """
    step, lags = forecaster.step, np.arange(values.shape[1]) * forecaster.step.count
    lag = xr.Variable("lag", lags, {"long_name": "time before the start", "units": step.unit})
    coords = {"init": forecast_coords(past.axis, past.positions, 1)["init"], "lag": lag}
    found = past.grid.with_mask(None).label(values[:, ::-1], ("init", "lag"), coords=coords)
    known = _at(past.variables[0], past) if past.adapted.known is None else _used(forecaster, past)
    found = found.where(known, 0.0)
    if past.adapted.regridder is not None:
        found = past.adapted.regridder.pull_back(found, _at(history, past))
    found = found.where(_at(history, past)).transpose("init", "lag", ...)
    lead = {"standard_name": "forecast_period", "units": step.unit}
    found = found.assign_coords(lead=((), of.lead, lead)).rename("sensitivity")
    return _described(found, forecaster, past, history, of)


def _at(field: Any, past: Histories) -> xr.DataArray:
    """Return where a field (time, y, x) holds values, by (init, lag)."""
    steps = xr.DataArray(past.steps[:, ::-1], dims=("init", "lag"))
    known: xr.DataArray = field.isel({past.axis.name: steps}).notnull().compute()
    return known.reset_coords(drop=True).drop_vars(past.axis.name, errors="ignore")


def _used(forecaster: NetworkForecaster, past: Histories) -> xr.DataArray:
    """Return the cells (y, x) whose values come from the product, not from the training mean."""
    known = np.asarray(past.adapted.known)
    return past.grid.with_mask(None).label(known).reset_coords(drop=True)


def _described(
    found: xr.DataArray,
    forecaster: NetworkForecaster,
    past: Histories,
    history: xr.DataArray,
    of: Index,
) -> xr.DataArray:
    """Return the sensitivities with names, units and origin."""
    unit = str(history.attrs.get("units", "1"))
    one = "K" if compatible(unit, "K") else cf_format(unit)
    what = history.attrs.get("standard_name") or history.name or "the field"
    found.attrs = {
        "long_name": f"sensitivity of {of} {forecaster.step.unit} to {what}".replace("_", " "),
        "units": f"{one} {one}-1" if one != "1" else "1",
        "comment": "Derivative of the index of the mean forecast by the value of each cell; summed "
        "over cells with a change of the field it is the change of the index.",
        "forecaster": forecaster.name,
    }
    if "training_period" in forecaster.provenance:
        found.attrs["training_period"] = forecaster.provenance["training_period"]
    for key in ("base_period", "xearth_read_as"):
        if key in past.variables[0].attrs:
            found.attrs[key] = past.variables[0].attrs[key]
    found.attrs = append_history(found.attrs, f"sensitivity of {forecaster!r}")
    return found
