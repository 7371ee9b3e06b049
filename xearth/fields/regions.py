r"""Boxes of latitude and longitude, and means over them.

Let cell :math:`i` have the area :math:`A_i` and let :math:`f_i` be the part of it inside the
box. The mean of a field :math:`x` over the box is

.. math:: \bar x = \frac{\sum_i f_i A_i x_i}{\sum_i f_i A_i},

both sums over the cells whose value is not missing. On a grid with 1-D latitude and longitude
:math:`f_i A_i` is exact: the overlap in longitude times the band of the sphere between the
latitudes, :math:`\Delta\lambda\,(\sin\varphi_n - \sin\varphi_s)`. On a grid with 2-D latitude
and longitude a cell counts when its center lies inside, with the weight
:math:`\cos\varphi_i`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import xarray as xr

from ..cf.attrs import index_attrs
from ..cf.packing import decoded
from ..errors import MissingDataError, RegionError
from .weights import lat_lon, latitude_edges, longitude_edges

__all__ = ["NINO3", "NINO4", "NINO12", "NINO34", "TROPICS", "Box", "box_mean"]

Obj = TypeVar("Obj", xr.DataArray, xr.Dataset)

#: Part of a box that a grid must cover. Grids cut out by cell centers often miss a part of a
#: cell at the rim of a box; what is missing beyond that is another region.
MINIMUM_COVERAGE = 0.95

_SLIVER = 1e-4  # degrees; rounding of coordinates stored as float32


@dataclass(frozen=True)
class Box:
    """A box between two latitudes and two longitudes, eastward from ``west`` to ``east``.

    Parameters
    ----------
    south, north : float
        Latitudes in degrees north, south < north.
    west, east : float
        Longitudes in degrees east, in any convention (-170 and 190 are the same); ``east``
        may be numerically below ``west`` (a box across the dateline or Greenwich). Equal
        values modulo 360 mean all longitudes.
    name : str
        Short name, used for the results.

    Raises
    ------
    RegionError
        Latitudes out of order or out of [-90, 90].

    Examples
    --------
    >>> Box(-5, 5, -170, -120, "nino34")
    Box(south=-5, north=5, west=-170, east=-120, name='nino34')
    >>> str(NINO34)
    'nino34 (5S-5N, 170W-120W)'
    """

    south: float
    north: float
    west: float
    east: float
    name: str = "box"

    def __post_init__(self) -> None:
        """Refuse a box that is empty or beyond the poles."""
        if not -90 <= self.south < self.north <= 90:
            raise RegionError(
                f"box {self.name!r}: expected -90 <= south < north <= 90, found south = "
                f"{self.south}, north = {self.north}."
            )
        if not np.isfinite([self.west, self.east]).all():
            raise RegionError(
                f"box {self.name!r}: expected finite longitudes, found west = {self.west}, "
                f"east = {self.east}."
            )

    @property
    def width(self) -> float:
        """Width in degrees of longitude, in (0, 360]."""
        return (self.east - self.west) % 360.0 or 360.0

    def __str__(self) -> str:
        lat = f"{_lat_text(self.south)}-{_lat_text(self.north)}"
        lon = f"{_lon_text(self.west)}-{_lon_text(self.east)}"
        return f"{self.name} ({lat}, {'all longitudes' if self.width == 360 else lon})"

    def weights(self, obj: xr.DataArray | xr.Dataset) -> xr.DataArray:
        """Return the weight of every cell: area inside the box, as a part of the box.

        Parameters
        ----------
        obj : DataArray or Dataset
            With latitude and longitude. Cell bounds are used when a Dataset holds them, else
            the edges are midway between the centers.

        Returns
        -------
        DataArray
            On the horizontal dimensions, units 1. On a 1-D grid that covers the box the sum
            is 1; ``attrs["coverage"]`` is that sum.

        Raises
        ------
        RegionError
            The grid covers less than 95 % of the box, or covers a part of it twice, or has no
            cell center in it (2-D grids).

        Examples
        --------
        >>> from xearth.data.sources import samples
        >>> w = NINO34.weights(samples.open("kaplan_sst"))
        >>> w.dims, round(float(w.sum()), 6), int((w > 0).sum())
        (('lat', 'lon'), 1.0, 20)
        """
        lat_name, lon_name = lat_lon(obj)
        lat, lon = obj[lat_name], obj[lon_name]
        if lat.ndim == 1 and lon.ndim == 1 and lat.dims != lon.dims:
            values = self._exact(obj, lat_name, lon_name)
            dims = (*lat.dims, *lon.dims)
            coverage = float(values.sum())
        else:
            lat, lon = xr.broadcast(lat, lon)
            values = self._by_centers(lat.values, lon.values)
            dims = lat.dims
            coverage = self._curvilinear_coverage(lat.values, lon.values)
        self._check(coverage, lat, lon)
        if not values.any():
            raise RegionError(
                f"{self}: no cell center of the grid {lat_name!r}, {lon_name!r} lies inside the "
                "box; expected at least one. Choose a larger box."
            )
        return xr.DataArray(
            values,
            coords={lat_name: obj[lat_name], lon_name: obj[lon_name]},
            dims=dims,
            name=f"{self.name}_weights",
            attrs={"long_name": f"area inside {self}", "units": "1", "coverage": coverage},
        )

    def _exact(self, obj: xr.DataArray | xr.Dataset, lat: str, lon: str) -> npt.NDArray[np.float64]:
        """(lat, lon): area of each cell inside the box over the area of the box."""
        edges = np.sort(latitude_edges(obj, lat), axis=1)
        sines = np.sin(np.deg2rad(edges.clip(self.south, self.north)))
        whole = np.sin(np.deg2rad(self.north)) - np.sin(np.deg2rad(self.south))
        band = (sines[:, 1] - sines[:, 0]) / whole
        edges = np.sort(longitude_edges(obj, lon), axis=1)
        start = (edges[:, 0] - self.west) % 360.0
        stop = start + (edges[:, 1] - edges[:, 0])
        # a cell that begins before the box, or reaches around the globe into it, counts twice
        inside = np.zeros(start.shape)
        for turn in (0.0, 360.0):
            overlap = np.minimum(stop - turn, self.width) - np.maximum(start - turn, 0.0)
            inside += overlap.clip(min=0.0)
        return band[:, None] * (inside / self.width)[None, :]

    def _by_centers(self, lat: npt.NDArray, lon: npt.NDArray) -> npt.NDArray[np.float64]:
        """Cosine of latitude where the center lies inside the box, scaled to the sum 1."""
        inside = (lat >= self.south) & (lat <= self.north)
        inside &= (lon - self.west) % 360.0 <= self.width
        weights = np.where(inside, np.cos(np.deg2rad(lat)), 0.0)
        return weights / max(weights.sum(), np.finfo(float).tiny)

    def _curvilinear_coverage(self, lat: npt.NDArray, lon: npt.NDArray) -> float:
        """Part of a lattice of points of the box that lie in a cell of a 2-D grid.

        A point lies in a cell when it is nearer to its center than half the diagonal of a
        square cell with the largest distance to a neighbor as its side.
        """
        from scipy.spatial import cKDTree

        points = _on_sphere(lat, lon)
        side = np.zeros(lat.shape)
        for axis in (0, 1):
            step = np.linalg.norm(np.diff(points, axis=axis), axis=-1)
            near, far = [(0, 0), (0, 0)], [(0, 0), (0, 0)]
            near[axis], far[axis] = (1, 0), (0, 1)
            side = np.fmax(side, np.fmax(np.pad(step, near), np.pad(step, far)))
        known = np.isfinite(points).all(axis=-1)
        if not known.any():
            return 0.0
        middle = (np.arange(24) + 0.5) / 24
        south, north = np.sin(np.deg2rad([self.south, self.north]))
        lat_in = np.rad2deg(np.arcsin(south + middle * (north - south)))
        lattice = np.meshgrid(lat_in, self.west + middle * self.width, indexing="ij")
        distance, nearest = cKDTree(points[known]).query(_on_sphere(*lattice).reshape(-1, 3))
        return float((distance <= side[known][nearest] * np.sqrt(0.5) * 1.05).mean())

    def _check(self, coverage: float, lat: xr.DataArray, lon: xr.DataArray) -> None:
        extent = (
            f"latitude centers {float(lat.min()):g} to {float(lat.max()):g}, longitude centers "
            f"{float(lon.min()):g} to {float(lon.max()):g}"
        )
        if coverage < MINIMUM_COVERAGE:
            raise RegionError(
                f"{self}: the grid covers {coverage:.1%} of the box, expected at least "
                f"{MINIMUM_COVERAGE:.0%}. The grid has {extent}. Choose a box inside it."
            )
        if coverage > 1 + _SLIVER:
            raise RegionError(
                f"{self}: the cells cover {coverage:.1%} of the box, expected at most 100 %: some "
                f"overlap ({extent}). Drop the repeated column, as in "
                f"obj.isel({lon.dims[-1]}=slice(None, -1))."
            )


def _lat_text(lat: float) -> str:
    return "0" if lat == 0 else f"{abs(lat):g}{'N' if lat > 0 else 'S'}"


def _lon_text(lon: float) -> str:
    turned = (lon + 180.0) % 360.0 - 180.0
    if turned in (0.0, -180.0):
        return f"{abs(turned):g}"
    return f"{abs(turned):g}{'E' if turned > 0 else 'W'}"


def _on_sphere(lat: npt.NDArray, lon: npt.NDArray) -> npt.NDArray[np.float64]:
    """Return unit vectors, shape (..., 3)."""
    phi, theta = np.deg2rad(lat), np.deg2rad(lon)
    return np.stack([np.cos(phi) * np.cos(theta), np.cos(phi) * np.sin(theta), np.sin(phi)], -1)


NINO12 = Box(-10, 0, -90, -80, "nino12")
NINO3 = Box(-5, 5, -150, -90, "nino3")
NINO34 = Box(-5, 5, -170, -120, "nino34")
NINO4 = Box(-5, 5, 160, -150, "nino4")
TROPICS = Box(-20, 20, 0, 360, "tropics")


def box_mean(obj: Obj, box: Box) -> Obj:
    """Return the area mean over a box; missing cells are left out and the rest re-weighted.

    Parameters
    ----------
    obj : DataArray or Dataset
        With latitude and longitude (1-D or 2-D, any order and convention) and any other
        dimensions, which are kept. Dask arrays stay lazy. In a Dataset the variables without
        horizontal dimensions are dropped.
    box : Box
        Where.

    Returns
    -------
    DataArray or Dataset
        float64, units of the input. NaN where all cells of the box are missing (at a missing
        time step).

    Raises
    ------
    RegionError
        The grid does not cover the box.
    MissingDataError
        No cell of the box ever holds a value (checked when the values are in memory).

    Examples
    --------
    >>> from xearth.data.sources import samples
    >>> sst = samples.open("kaplan_sst").sel(time="1997-12")
    >>> box_mean(sst, NINO34).values.round(2).tolist()
    [2.6]
    """
    weights = box.weights(obj)
    if isinstance(obj, xr.Dataset):
        fields = {
            name: _mean(da, weights, box)
            for name, da in obj.data_vars.items()
            if set(weights.dims) <= set(da.dims)
        }
        return xr.Dataset(fields, attrs=obj.attrs)
    return _mean(obj, weights, box)


def _mean(da: xr.DataArray, weights: xr.DataArray, box: Box) -> xr.DataArray:
    da = decoded(da)
    some = weights.values > 0
    spans = (np.flatnonzero(some.any(axis=other)) for other in (1, 0))
    window = dict(zip(weights.dims, spans, strict=True))
    part = da.isel(window).astype(np.float64)
    inside = weights.isel(window).drop_vars(list(weights.coords))
    total = xr.dot(part.notnull().astype(np.float64), inside, dim=weights.dims)
    mean = xr.dot(part.fillna(0.0), inside, dim=weights.dims) / total.where(total > 0)
    if da.chunks is None and mean.size and bool(mean.isnull().all()):
        raise MissingDataError(
            f"{box}: all values of {da.name!r} inside the box are missing; expected at least one "
            "cell with a value. Choose a box over valid cells."
        )
    name = da.attrs.get("long_name", da.name or "value")
    mean.attrs = index_attrs(da.attrs, f"{name}, mean over {box}")
    if "base_period" in da.attrs:
        mean.attrs["base_period"] = da.attrs["base_period"]
    if weights.attrs["coverage"] < 1 - _SLIVER:
        mean.attrs["comment"] = f"The grid covers {weights.attrs['coverage']:.1%} of the box."
    return mean.rename(da.name)
