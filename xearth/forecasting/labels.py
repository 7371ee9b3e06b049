"""Labels of a network's forecast: from normalized numbers to a field with units."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ..cf.attrs import append_history
from ..cf.forecast_coords import forecast_coords
from ..data.normalize import scale_and_offset

if TYPE_CHECKING:
    from .forecaster import NetworkForecaster
    from .history import Histories

__all__ = ["labeled"]

_KEPT = ("standard_name", "units", "units_metadata", "cell_methods", "xearth_read_as")


def labeled(
    forecaster: NetworkForecaster, values: np.ndarray, past: Histories, members: int | None
) -> Any:
    """Return normalized values (I, L[, M], H, W, C) as the labeled forecast."""
    coords = forecast_coords(past.axis, past.positions, values.shape[1], members=members)
    dims = ("init", "lead") if members is None else ("init", "lead", "member")
    a, b = forecaster.normalizer.affine(past.source)
    fields = {}
    for c, variable in enumerate(past.variables):
        f, o = scale_and_offset(variable)
        stored = (values[..., c].astype(np.float64) - b[c]) / a[c]
        dtype = variable.dtype if variable.dtype.kind == "f" else np.dtype(np.float32)
        physical = (stored * f + o).astype(dtype)
        attrs = _attrs(forecaster, variable)
        fields[variable.name] = past.grid.label(
            physical, dims, coords=coords, name=variable.name, attrs=attrs
        )
    if isinstance(past.source, xr.DataArray):
        return next(iter(fields.values()))
    return xr.Dataset(fields)


def _attrs(forecaster: NetworkForecaster, variable: xr.DataArray) -> dict[str, Any]:
    attrs = {key: variable.attrs[key] for key in _KEPT if key in variable.attrs}
    what = variable.attrs.get("long_name", variable.name or "value")
    attrs["long_name"] = f"{what}, forecast by {forecaster.name}"
    attrs["forecaster"] = forecaster.name
    if "base_period" in variable.attrs:
        attrs["base_period"] = variable.attrs["base_period"]
    if "training_period" in forecaster.provenance:
        attrs["training_period"] = forecaster.provenance["training_period"]
    return append_history(attrs, f"forecast by {forecaster!r}")
