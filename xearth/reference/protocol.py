"""What a forecaster is: the one interface of reference forecasts and of networks."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import xarray as xr

__all__ = ["Forecaster"]


@runtime_checkable
class Forecaster(Protocol):
    """Anything that turns a labeled history into a labeled forecast.

    Attributes
    ----------
    name : str
        Short name for tables and attributes.
    history : int
        Number of steps needed up to and including the start.
    horizon : int
        Number of leads it forecasts.
    """

    @property
    def name(self) -> str:
        """Short name for tables and attributes."""
        ...

    @property
    def history(self) -> int:
        """Number of steps needed up to and including the start."""
        ...

    @property
    def horizon(self) -> int:
        """Number of leads it forecasts."""
        ...

    def forecast(
        self, history: xr.DataArray, *, init: Any = None, members: int | None = None, seed: int = 0
    ) -> xr.DataArray:
        """Forecast from the starts ``init`` on the time axis of ``history``.

        Parameters
        ----------
        history : DataArray
            Observed field (time, ...).
        init : str, datetime, slice or sequence, optional
            Starts, each the last observed step; by default the last step of ``history``.
        members : int, optional
            Size of the ensemble; by default one deterministic forecast.
        seed : int
            Of the ensemble. A start gets the same members whatever other starts are asked for.

        Returns
        -------
        DataArray
            (init, lead[, member], ...) with ``valid_time`` (init, lead).
        """
        ...
