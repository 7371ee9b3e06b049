r"""The mean of several forecasters: errors that they do not share partly cancel.

Each index is forecast by the plain mean of the parts that forecast it; the weights are equal on
purpose. Weights found on twenty years say more about those years than about the parts.

Source: Hagedorn, R., F. J. Doblas-Reyes and T. N. Palmer (2005): The rationale behind the success
of multi-model ensembles in seasonal forecasting. Tellus 57A, 219-233.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from ..errors import ConfigError, GridMismatchError
from .protocol import Forecaster
from .training import refuse_members

__all__ = ["Combination"]


@dataclass(frozen=True, eq=False)
class Combination:
    """Forecasters of the same indices, with equal weights.

    Attributes
    ----------
    parts : mapping of str to Forecaster
        By name. Each takes and gives Datasets of index series; one may forecast some of the
        indices only.
    name : str

    Raises
    ------
    ConfigError
        No parts, or parts with different horizons.

    Examples
    --------
    >>> from xearth.data.sources import samples
    >>> from xearth.reference.lagged import LaggedRegression
    >>> from xearth.reference.recharge import RechargeOscillator
    >>> indices = samples.open("xro_indices").load()
    >>> train = indices.sel(time=slice("1979", "2001"))
    >>> both = Combination(
    ...     {
    ...         "xro": RechargeOscillator.fit(train, horizon=6, nonlinear={}),
    ...         "lagged": LaggedRegression.fit(train, horizon=6),
    ...     }
    ... )
    >>> both.forecast(indices, init="2015-05").Nino34.dims, both.history
    (('init', 'lead'), 10)
    """

    parts: Mapping[str, Forecaster]
    name: str = "combination"

    def __post_init__(self) -> None:
        horizons = {label: part.horizon for label, part in self.parts.items()}
        if len(set(horizons.values())) != 1:
            raise ConfigError(
                f"a combination needs parts with one horizon; found {horizons}. Fit them with the "
                "same horizon."
            )

    @property
    def history(self) -> int:
        """Number of steps needed up to and including the start: the most that a part needs."""
        return max(part.history for part in self.parts.values())

    @property
    def horizon(self) -> int:
        """Number of leads."""
        return next(iter(self.parts.values())).horizon

    def forecast(
        self,
        history: xr.DataArray | xr.Dataset,
        *,
        init: Any = None,
        members: int | None = None,
        seed: int = 0,
    ) -> Any:
        """Forecast as described in :class:`~xearth.reference.protocol.Forecaster`.

        Raises
        ------
        ConfigError
            Members: :class:`~xearth.reference.dressed.Dressed` gives them.
        GridMismatchError
            The history is no Dataset.
        """
        refuse_members(members, self.name, "forecasts the mean of its parts")
        if not isinstance(history, xr.Dataset):
            raise GridMismatchError(
                f"{self.name} takes a Dataset of index series; found a {type(history).__name__}. "
                "Give the indices as variables: da.to_dataset('index')."
            )
        found: list[Any] = [
            part.forecast(history, init=init)  # type: ignore[arg-type]
            for part in self.parts.values()
        ]
        names = list(dict.fromkeys(str(name) for fc in found for name in fc.data_vars))
        return xr.Dataset(
            {name: self._mean([fc[name] for fc in found if name in fc]) for name in names}
        )

    def _mean(self, forecasts: list[xr.DataArray]) -> xr.DataArray:
        """Mean with the labels of the first, in double precision on the way."""
        first = forecasts[0]
        values = np.mean([fc.values for fc in forecasts], axis=0, dtype=np.float64)
        attrs = {**first.attrs, "forecaster": self.name}
        own = str(first.attrs["forecaster"]).replace("_", " ")
        attrs["long_name"] = str(first.attrs["long_name"]).replace(own, self.name.replace("_", " "))
        out = first.copy(data=values.astype(first.dtype))
        out.attrs = attrs
        return out
