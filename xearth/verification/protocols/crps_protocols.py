r"""Published ways to report "CRPS" for precipitation nowcasts: three estimators, one word.

On one ensemble of 8 members the three differ by up to 18 %, so the estimator is a knob like any
other. With mean :math:`\bar x` and standard deviation s (divisor M - 1) of the members at a pixel
and :math:`z = (y - \bar x) / s`, the Gaussian one is

.. math:: s \left[ z (2 \Phi(z) - 1) + 2 \varphi(z) - \frac{1}{\sqrt\pi} \right] ,

and :math:`|y - \bar x|` where the members agree (the published evaluators divide by zero there or
add a small number). The others are in :mod:`xearth.verification.scores.probabilistic`.

===============  =======================================================================
cascast_crps     CasCast (Gong et al. 2024): Gaussian, of fractions of 255, mean of all pixels
flowcast_crps    FlowCast (2026): the same
ensemble_crps    of the empirical distribution of the members (properscoring)
fair_crps        the same without the bias of a finite ensemble
===============  =======================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import xarray as xr

from ...cf.attrs import score_attrs
from ...errors import ProtocolError
from ..pairs import pair
from ..scores.gaussian import gaussian_crps
from ..scores.probabilistic import crps_ensemble
from .event_protocols import member_of, protocol_attrs

__all__ = ["CRPS_PROTOCOLS", "CrpsProtocol"]


@dataclass(frozen=True, kw_only=True)
class CrpsProtocol:
    """A way to report the CRPS of an ensemble of fields.

    Parameters
    ----------
    name : str
    source : str
    estimator : {"gaussian", "ensemble", "fair"}

    Examples
    --------
    >>> import xarray as xr
    >>> f = xr.DataArray([[1.0, 2.0, 4.0]], dims=("x", "member"), attrs={"units": "1"})
    >>> o = xr.DataArray([3.0], dims="x", attrs={"units": "1"})
    >>> {name: p.score(f, o).crps.round(3).item() for name, p in CRPS_PROTOCOLS.items()
    ...  if name != "flowcast_crps"}
    {'cascast_crps': 0.471, 'ensemble_crps': 0.667, 'fair_crps': 0.333}
    """

    name: str
    source: str
    estimator: Literal["gaussian", "ensemble", "fair"]

    #: The knobs, in the order in which they act.
    KNOBS = ("estimator",)
    headline = "crps"

    def knobs(self) -> dict[str, str]:
        """Return every knob in words.

        Examples
        --------
        >>> CRPS_PROTOCOLS["fair_crps"].knobs()["estimator"]
        'fair'
        """
        return {"estimator": self.estimator, "pixels": "mean of all with a truth and two members"}

    def score(self, forecast: xr.DataArray, obs: xr.DataArray) -> xr.Dataset:
        """Score an ensemble.

        Parameters
        ----------
        forecast : DataArray
            With a member dimension. Dask arrays stay lazy.
        obs : DataArray

        Returns
        -------
        Dataset
            ``crps``, the mean of all pixels, in the units of the forecast; pixels without a
            truth, or with too few known members, are left out.

        Raises
        ------
        ProtocolError
            Fewer than two members.
        UnitsError, GridMismatchError
            As :func:`~xearth.verification.pairs.pair`.
        """
        member = member_of(forecast)
        if member is None or forecast.sizes[member] < 2:
            raise ProtocolError(
                f"protocol {self.name!r} needs an ensemble of two members or more; "
                f"{forecast.name!r} has the dims {forecast.dims}."
            )
        if self.estimator == "gaussian":
            f, o = pair(forecast, obs)
            points: xr.DataArray = xr.apply_ufunc(
                gaussian_crps,
                o - f.mean(member, skipna=True),
                f.std(member, ddof=1, skipna=True),
                dask="parallelized",
                output_dtypes=[np.float64],
            )
            score = points.mean()
        else:
            score = crps_ensemble(forecast, obs, estimator=self.estimator, member=member)
        units = forecast.attrs.get("units")
        label = f"continuous ranked probability score ({self.estimator})"
        score.attrs = (
            {"long_name": label} if units is None else score_attrs(label, units=units, unit_power=1)
        )
        found = xr.Dataset({"crps": score.reset_coords(drop=True)})
        found.attrs = protocol_attrs(self.name, self.source, self.knobs())
        return found


#: The protocols of this module, by name.
CRPS_PROTOCOLS: Mapping[str, CrpsProtocol] = {
    protocol.name: protocol
    for protocol in (
        CrpsProtocol(
            name="cascast_crps", source="CasCast (Gong et al. 2024)", estimator="gaussian"
        ),
        CrpsProtocol(name="flowcast_crps", source="FlowCast (2026)", estimator="gaussian"),
        CrpsProtocol(name="ensemble_crps", source="properscoring", estimator="ensemble"),
        CrpsProtocol(name="fair_crps", source="Ferro (2014)", estimator="fair"),
    )
}
