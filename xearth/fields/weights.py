r"""Area weights of grid cells.

On a sphere a cell between latitudes :math:`\varphi_s, \varphi_n` that is
:math:`\Delta\lambda` wide has the area

.. math:: A = R^2 \, (\sin\varphi_n - \sin\varphi_s) \, \Delta\lambda .

:func:`cos_lat_weights` is the midpoint form of it, :func:`cell_area` the exact one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import xarray as xr

from ..cf.discover import discover
from ..errors import AxisError

__all__ = [
    "EARTH_RADIUS",
    "cell_area",
    "cos_lat_weights",
    "lat_lon",
    "latitude_edges",
    "longitude_edges",
]

#: Radius in meters of the sphere whose surface equals that of WGS 84 (authalic radius).
EARTH_RADIUS = 6371007.2

Obj = xr.DataArray | xr.Dataset


def lat_lon(obj: Obj) -> tuple[str, str]:
    """Return the names of latitude and longitude, both of which ``obj`` must have.

    Raises
    ------
    AxisError
        It has no horizontal dimensions, or they carry no latitude and longitude.
    """
    axes = discover(obj, require=("y", "x"))
    if axes.lat is None or axes.lon is None:
        raise AxisError(
            f"expected latitude and longitude on the dims {axes.y!r} and {axes.x!r}, found "
            f"coordinates {sorted(map(str, obj.coords))}. Give the latitude the attribute "
            "units = 'degrees_north' and the longitude 'degrees_east'."
        )
    return axes.lat, axes.lon


def cos_lat_weights(obj: Obj) -> xr.DataArray:
    """Return the cosine of latitude, at least 0, on the dimensions of the latitude.

    Parameters
    ----------
    obj : DataArray or Dataset
        Anything with a latitude, 1-D or 2-D.

    Returns
    -------
    DataArray
        ``cos(lat)``, units 1.

    Raises
    ------
    AxisError
        No latitude can be found.

    Examples
    --------
    >>> import xarray as xr
    >>> lat = xr.Variable("lat", [0.0, 60.0], {"units": "degrees_north"})
    >>> lon = xr.Variable("lon", [0.0, 5.0], {"units": "degrees_east"})
    >>> grid = xr.DataArray([[1.0, 2.0], [3.0, 4.0]], {"lat": lat, "lon": lon}, ("lat", "lon"))
    >>> cos_lat_weights(grid).values.round(6).tolist()
    [1.0, 0.5]
    """
    name, _ = lat_lon(obj)
    cosine = np.cos(np.deg2rad(obj[name].values.astype(np.float64))).clip(min=0.0)
    weights = obj[name].copy(data=cosine)
    weights.attrs = {"long_name": "cosine of latitude", "units": "1"}
    return weights.rename("cos_lat")


def latitude_edges(obj: Obj, name: str) -> npt.NDArray[np.float64]:
    """Return the edges in degrees of the cells of a 1-D latitude, shape (n, 2).

    They are the variable named in the coordinate's ``bounds`` attribute when ``obj`` holds it
    (a Dataset does, a DataArray cannot), else the midpoints between neighbors, the outermost
    cells being as wide as the step beside them, but not beyond the poles. A cell reaches no
    further to one side than twice as far as to the other, so that a hole in the grid stays one.

    Raises
    ------
    AxisError
        A single cell without bounds, or values that do not run in one direction.
    """
    bounds = _bounds(obj, name)
    if bounds is not None:
        return bounds
    return _midpoint_edges(obj[name].values, name).clip(-90.0, 90.0)


def longitude_edges(obj: Obj, name: str) -> npt.NDArray[np.float64]:
    """Return the edges in degrees of the cells of a 1-D longitude, shape (n, 2).

    As :func:`latitude_edges`; the values are unwrapped, so that they run on across the
    dateline or Greenwich.
    """
    bounds = _bounds(obj, name)
    if bounds is None:
        values = np.asarray(obj[name].values, dtype=np.float64)
        order = _eastward(values)
        edges = np.empty((values.size, 2))
        edges[order] = _midpoint_edges(np.unwrap(values[order], period=360.0), name)
        return edges
    if abs(bounds[0, 1] - bounds[0, 0]) == 360.0:  # one cell around the globe
        return bounds
    width = (bounds[:, 1] - bounds[:, 0] + 180.0) % 360.0 - 180.0
    return np.stack([bounds[:, 0], bounds[:, 0] + width], axis=1)


def _eastward(lon: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """Return the order in which neighbors on the globe follow each other.

    Columns that already run in one direction stay as they are; a region across the dateline
    stored sorted (-180 ... -70, 150 ... 180) is cut at its widest gap.
    """
    steps = np.diff(np.unwrap(lon, period=360.0))
    if lon.size < 2 or np.all(steps > 0) or np.all(steps < 0):
        return np.arange(lon.size)
    order = np.argsort(lon % 360.0, kind="stable")
    gaps = np.diff(lon[order] % 360.0, append=lon[order[0]] % 360.0 + 360.0)
    return np.roll(order, -(int(np.argmax(gaps)) + 1))


def _bounds(obj: Obj, name: str) -> npt.NDArray[np.float64] | None:
    """Return the bounds variable of a coordinate, or None when ``obj`` does not hold it."""
    coordinate = obj[name]
    bounds = coordinate.attrs.get("bounds") or coordinate.encoding.get("bounds")
    if not isinstance(obj, xr.Dataset) or bounds not in obj.variables:
        return None
    return np.asarray(obj[bounds].values, dtype=np.float64)


def _midpoint_edges(values: npt.ArrayLike, name: str) -> npt.NDArray[np.float64]:
    values = np.asarray(values, dtype=np.float64)
    if values.size < 2:
        raise AxisError(
            f"{name!r} has {values.size} value, so the size of its cell is unknown: expected two "
            f"or more, or a Dataset with the bounds of {name!r}."
        )
    steps = np.diff(values)
    if not (np.all(steps > 0) or np.all(steps < 0)):
        raise AxisError(
            f"{name!r} must run in one direction; found {values[:4].tolist()} ... Sort it with "
            f"obj.sortby({name!r})."
        )
    before = np.concatenate([steps[:1], steps])
    after = np.concatenate([steps, steps[-1:]])
    sign = np.sign(steps[0])
    # a step over twice its neighbor is a hole in the grid, not a wide cell
    left = np.minimum(abs(before), 2 * abs(after)) / 2
    right = np.minimum(abs(after), 2 * abs(before)) / 2
    return np.stack([values - sign * left, values + sign * right], axis=1)


def cell_area(obj: Obj) -> xr.DataArray:
    """Return the area of the cells of a 1-D lat/lon grid, exact on the sphere.

    Parameters
    ----------
    obj : DataArray or Dataset
        With 1-D latitude and longitude; bounds in a Dataset are used when there.

    Returns
    -------
    DataArray
        (lat, lon), units m2, standard_name ``cell_area``.

    Raises
    ------
    AxisError
        Latitude and longitude are not 1-D: cells of such a grid have no edges to go by.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> lat = xr.Variable("lat", np.arange(-87.5, 90, 5.0), {"units": "degrees_north"})
    >>> lon = xr.Variable("lon", np.arange(2.5, 360, 5.0), {"units": "degrees_east"})
    >>> grid = xr.DataArray(np.ones((36, 72)), coords={"lat": lat, "lon": lon}, dims=("lat", "lon"))
    >>> print(f"{float(cell_area(grid).sum()):.4e} m2")
    5.1007e+14 m2
    """
    lat_name, lon_name = lat_lon(obj)
    lat, lon = obj[lat_name], obj[lon_name]
    if lat.ndim != 1 or lon.ndim != 1:
        raise AxisError(
            f"cell_area needs 1-D latitude and longitude; found {lat_name!r} with dims {lat.dims} "
            f"and {lon_name!r} with dims {lon.dims}. Use cos_lat_weights, or the areas that come "
            "with the data."
        )
    band = np.abs(np.diff(np.sin(np.deg2rad(latitude_edges(obj, lat_name))), axis=1)[:, 0])
    width = np.deg2rad(np.abs(np.diff(longitude_edges(obj, lon_name), axis=1)[:, 0]))
    area = EARTH_RADIUS**2 * band[:, None] * width[None, :]
    return xr.DataArray(
        area,
        coords={lat_name: lat, lon_name: lon},
        dims=(lat.dims[0], lon.dims[0]),
        name="cell_area",
        attrs={"standard_name": "cell_area", "long_name": "area of the grid cell", "units": "m2"},
    )
