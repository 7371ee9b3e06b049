r"""The nearest forecast that holds constraints, member by member.

Each member :math:`y` of each start becomes

.. math:: y' = \arg\min_{y'' \in \mathcal C} \lVert y'' - y \rVert^2

in physical units, where :math:`\mathcal C` are the fields that hold all constraints
(:mod:`xearth.models.conditions`; cells that are missing stay so). It needs no model, so it serves
every forecast that has been made. What it does not do: a member that held the constraints stays as
it is, so inequalities leave many members on their bound, and cells move only where a constraint
has weight: it is the nearest field, not the most likely one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ..cf.discover import discover
from ..cf.packing import decoded
from ..constraints.compiled import all_of
from ..constraints.constraint import Constraint
from ..constraints.geometry import Geometry
from ..data.geometry import inverse, take
from ..errors import ConstraintError
from .steering import PROJECTED, Steering, audited, starts

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["forecast_held", "impose", "projected"]

Forecast = xr.DataArray | xr.Dataset


def impose(forecast: Forecast, constraints: Constraint | Sequence[Constraint]) -> Any:
    """Return the nearest forecast that holds constraints, each member by itself.

    For any forecast that has been made, of whatever model. Where the model is at hand,
    ``xearth.forecast(..., constraints=)`` can do better: a law with a Gaussian head is conditioned.

    Parameters
    ----------
    forecast : DataArray or Dataset (init, lead[, member], y, x)
        Computed, if it is lazy.
    constraints : Constraint or sequence of them

    Returns
    -------
    DataArray or Dataset
        With the same labels, and an audit in its attributes: ``xearth_constraints`` for readers,
        ``xearth_audit`` as JSON, with the residuals before and after.

    Raises
    ------
    ConstraintError
        The constraints contradict each other, do not fit the forecast, or have no projection.
    LeadError, RegionError
        The forecast lacks the leads or the place.

    Examples
    --------
    >>> import xearth
    >>> sst = xearth.samples.open("kaplan_sst")
    >>> climatology = xearth.Climatology.fit(sst.sel(time=slice("1950", "1981")), horizon=9)
    >>> fc = climatology.forecast(sst, init="1997-06", members=4)
    >>> warm = xearth.Nino34(season="DJF") >= xearth.Q(1.5, "K")
    >>> held = impose(fc, warm)
    >>> bool(warm.check(held).all())
    True
    """
    steering = Steering.of(_Made(), 1, constraints=constraints, impose=PROJECTED)
    if steering is None:
        raise ConstraintError("constraints: expected at least one, found None.")
    steering.require(forecast)
    return projected(forecast, steering)


class _Made:
    """A forecast that was made: no model is at hand."""

    name = "a forecast that was made"


def forecast_held(
    forecaster: Any, history: Any, steering: Steering, *, init: Any, members: int | None, seed: int
) -> Any:
    """Return the forecast of any forecaster that holds constraints, in a way of its own if asked.

    One member is forecast first, to check the constraints before the ensemble is.
    """
    asked = {"init": init, "members": members, "seed": seed}
    if steering.way in getattr(forecaster, "ways", ()):
        chosen = {"constraints": steering.constraints, "impose": steering.way}
        return forecaster.forecast(history, **asked, **chosen)
    steering.require(forecaster.forecast(history, **asked | {"members": 1}))
    return projected(forecaster.forecast(history, **asked), steering)


def projected(forecast: Forecast, steering: Steering) -> Any:
    """Return a forecast with its members projected, and the audit."""
    forecast = forecast.compute()
    init = discover(forecast, require=()).init
    parts = [_nearest(one, steering) for one in starts(forecast)]
    made = (
        parts[0]
        if len(parts) == 1
        else xr.concat(parts, str(init), coords="different", compat="equals", join="override")
    )
    return audited(made.transpose(*forecast.dims), forecast, steering)


def _nearest(one: Any, steering: Steering) -> Any:
    """Return the nearest forecast of one start."""
    import torch

    layout = _Layout(one)
    condition = all_of(steering.conditions(one))
    y = torch.as_tensor(np.stack([layout.tensor(name) for name in layout.names], -1))
    held = condition.project(y)
    if layout.single and not condition.convex:
        # rounding may bring cells to the other side of a threshold
        held = condition.project(held.float())
    if isinstance(one, xr.DataArray):
        return layout.field(layout.names[0], held[..., 0])
    return one.assign({n: layout.field(n, held[..., c]) for c, n in enumerate(layout.names)})


class _Layout(Geometry):
    """Between the labels of one start's forecast and tensors (M, T, H, W)."""

    @property
    def single(self) -> bool:
        """Whether all fields are in single precision."""
        return all(self._stored(name).dtype == np.float32 for name in self.names)

    def _stored(self, name: str) -> xr.DataArray:
        made = self.template
        return decoded(made if isinstance(made, xr.DataArray) else made[name])

    def _cases(self, field: xr.DataArray) -> tuple[list[Any], list[Any]]:
        """Return the dims of cases and those of frames, rows and columns."""
        from ..constraints.frames import frame_dim

        plane = [frame_dim(field), self.grid.axes.y, self.grid.axes.x]
        plane = [d for d in plane if d in field.dims]
        return [d for d in field.dims if d not in plane], plane

    def tensor(self, name: str) -> np.ndarray:
        """Return a field as (M, T, H, W), float64."""
        field = self._stored(name)
        cases, plane = self._cases(field)
        values = self.canonical(field.transpose(*cases, *plane).values.astype(np.float64))
        return values.reshape(-1, *self.shape[:3])

    def field(self, name: str, values: Tensor) -> xr.DataArray:
        """Return (M, T, H, W) as the field that :meth:`tensor` came from."""
        field = self._stored(name)
        cases, plane = self._cases(field)
        ordered = field.transpose(*cases, *plane)
        stored = take(values.numpy(), inverse(self.grid.y_index), -2)
        stored = take(stored, inverse(self.grid.x_index), -1).reshape(ordered.shape)
        return ordered.copy(data=stored.astype(field.dtype)).transpose(*field.dims)
