r"""What is measured of a forecast: an index, as an object.

An :class:`Index` is the area mean of the field :math:`y` over a box, at a lead :math:`n`, or the
mean over the :math:`m` leads that end there,

.. math:: J = \frac{1}{m} \sum_{k=0}^{m-1} \sum_i w_i\, y_{n-k,\,i},

with the weights :math:`w` of :meth:`xearth.Box.weights`. It is linear in the forecast.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from ..errors import ConfigError, LeadError
from ..fields.regions import NINO3, NINO4, NINO12, NINO34, Box, box_mean

__all__ = ["Index", "Nino3", "Nino4", "Nino12", "Nino34"]


@dataclass(frozen=True)
class Index:
    """The mean over a box at a lead.

    Parameters
    ----------
    box : Box
    lead : int
        In the units of the forecast's ``lead`` coordinate.
    steps : int
        Mean over so many leads, the last of which is ``lead``; 3 for the seasonal index of
        monthly forecasts.

    Raises
    ------
    ConfigError
        A lead or a number of steps that is no whole number of at least 1.

    Examples
    --------
    >>> import xearth
    >>> str(Index(xearth.NINO34, lead=9))
    'nino34 at lead 9'
    >>> fc = xearth.samples.open("kaplan_sst").earthformer.forecast("enso-small", init="1997-06")
    >>> Nino34(lead=3).measure(fc).equals(fc.sel(lead=3).earthformer.nino34())
    True
    """

    box: Box
    lead: int
    steps: int = 1

    def __post_init__(self) -> None:
        for name, number in (("lead", self.lead), ("steps", self.steps)):
            whole = isinstance(number, int | np.integer) and not isinstance(number, bool)
            if not whole or number < 1:
                raise ConfigError(
                    f"{name}={number!r} of the index {self.box.name!r}: expected a whole number of "
                    "at least 1."
                )

    def __str__(self) -> str:
        mean = f", mean over {self.steps} leads" if self.steps > 1 else ""
        return f"{self.box.name} at lead {self.lead}{mean}"

    def positions(self, leads: np.ndarray) -> np.ndarray:
        """Return the positions (m,) in ``leads`` that are averaged.

        Raises
        ------
        LeadError
            A lead that there is not.
        """
        found = np.flatnonzero(np.asarray(leads) == self.lead)
        if found.size != 1 or found[0] + 1 < self.steps:
            raise LeadError(
                f"{self}: expected a forecast with that lead and {self.steps - 1} before it, found "
                f"the leads {np.asarray(leads).tolist()}. Choose one of them."
            )
        return np.arange(found[0] + 1 - self.steps, found[0] + 1)

    def measure(self, forecast: xr.DataArray) -> xr.DataArray:
        """Return the index of a forecast (..., lead, y, x), without the dim ``lead``.

        Raises
        ------
        LeadError
            A lead that the forecast has not.
        RegionError
            The grid does not cover the box.
        """
        at = self.positions(forecast["lead"].values)
        index = box_mean(forecast.isel(lead=at), self.box)
        last = index.isel(lead=-1)
        mean = index.mean("lead").assign_coords(last.coords)
        mean.attrs = index.attrs | {"long_name": f"{index.attrs['long_name']}, lead {self.lead}"}
        return mean


def Nino34(lead: int, *, steps: int = 1) -> Index:  # noqa: N802 (reads as the object it makes)
    """Return Nino3.4 (5S-5N, 170W-120W) at a lead.

    Examples
    --------
    >>> Nino34(lead=9).box.name
    'nino34'
    """
    return Index(NINO34, lead, steps)


def Nino3(lead: int, *, steps: int = 1) -> Index:  # noqa: N802
    """Return Nino3 (5S-5N, 150W-90W) at a lead.

    Examples
    --------
    >>> str(Nino3(lead=6, steps=3))
    'nino3 at lead 6, mean over 3 leads'
    """
    return Index(NINO3, lead, steps)


def Nino4(lead: int, *, steps: int = 1) -> Index:  # noqa: N802
    """Return Nino4 (5S-5N, 160E-150W) at a lead.

    Examples
    --------
    >>> str(Nino4(lead=3))
    'nino4 at lead 3'
    """
    return Index(NINO4, lead, steps)


def Nino12(lead: int, *, steps: int = 1) -> Index:  # noqa: N802
    """Return Nino1+2 (10S-0, 90W-80W) at a lead.

    Examples
    --------
    >>> str(Nino12(lead=3))
    'nino12 at lead 3'
    """
    return Index(NINO12, lead, steps)
