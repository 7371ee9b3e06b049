r"""Where the pixels of a map lie that is given by its projection and two corners.

Lambert's azimuthal equal-area projection of a sphere of radius :math:`a`, with the center
:math:`(\varphi_0, \lambda_0)`:

.. math::

   x &= a k \cos\varphi \sin(\lambda - \lambda_0), \\
   y &= a k \left(\cos\varphi_0 \sin\varphi
        - \sin\varphi_0 \cos\varphi \cos(\lambda - \lambda_0)\right), \\
   k &= \sqrt{2 / \left(1 + \sin\varphi_0 \sin\varphi
        + \cos\varphi_0 \cos\varphi \cos(\lambda - \lambda_0)\right)} .

Source: Snyder, J. P. (1987), Map projections, U.S. Geological Survey Professional Paper 1395,
section 24.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from ...errors import SourceError

__all__ = ["EqualArea", "placed"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class EqualArea:
    """Lambert's azimuthal equal-area projection of a sphere.

    Parameters
    ----------
    lat, lon : float
        Center, degrees.
    radius : float
        Of the sphere, m.
    easting, northing : float
        Coordinates of the center, m.

    Examples
    --------
    >>> laea = EqualArea.from_proj("+proj=laea +lat_0=38 +lon_0=-98 +units=m +a=6370997.0")
    >>> x, y = laea.forward(40.0, -100.0)
    >>> lat, lon = laea.inverse(x, y)
    >>> round(float(lat), 9), round(float(lon), 9)
    (40.0, -100.0)
    """

    lat: float
    lon: float
    radius: float
    easting: float = 0.0
    northing: float = 0.0

    @classmethod
    def from_proj(cls, text: str) -> EqualArea:
        """Read a string of PROJ, as SEVIR's catalog has it.

        Raises
        ------
        SourceError
            It is another projection, or not of a sphere.
        """
        found = dict(re.findall(r"\+(\w+)=([^\s+]+)", str(text)))
        radius = found.get("R", found.get("a"))
        sphere = found.get("ellps", "sphere") == "sphere" and found.get("b", radius) == radius
        if found.get("proj") != "laea" or radius is None or not sphere:
            raise SourceError(
                f"projection {text!r}: expected Lambert's azimuthal equal-area one of a sphere, "
                "such as '+proj=laea +lat_0=38 +lon_0=-98 +units=m +a=6370997.0 +ellps=sphere'. "
                "Place events of another projection with pyproj."
            )
        keys = ("lat_0", "lon_0", "x_0", "y_0")
        lat, lon, easting, northing = (float(found.get(key, 0.0)) for key in keys)
        return cls(lat, lon, float(radius), easting, northing)

    def forward(self, lat: Any, lon: Any) -> tuple[Array, Array]:
        """Return x and y in m of latitudes and longitudes in degrees."""
        phi, shift = np.deg2rad(lat), np.deg2rad(np.asarray(lon) - self.lon)
        sine, cosine = np.sin(np.deg2rad(self.lat)), np.cos(np.deg2rad(self.lat))
        toward = np.cos(phi) * np.cos(shift)
        k = self.radius * np.sqrt(2 / (1 + sine * np.sin(phi) + cosine * toward))
        x = k * np.cos(phi) * np.sin(shift)
        y = k * (cosine * np.sin(phi) - sine * toward)
        return x + self.easting, y + self.northing

    def inverse(self, x: Any, y: Any) -> tuple[Array, Array]:
        """Return latitudes and longitudes in degrees of x and y in m."""
        x, y = np.asarray(x) - self.easting, np.asarray(y) - self.northing
        sine, cosine = np.sin(np.deg2rad(self.lat)), np.cos(np.deg2rad(self.lat))
        rho = np.hypot(x, y)
        c = 2 * np.arcsin(rho / (2 * self.radius))
        north = np.divide(y * np.sin(c), rho, out=np.zeros_like(rho), where=rho > 0)
        phi = np.arcsin(np.cos(c) * sine + north * cosine)
        shift = np.arctan2(x * np.sin(c), rho * cosine * np.cos(c) - y * sine * np.sin(c))
        lon = self.lon + np.rad2deg(np.where(rho > 0, shift, 0.0))
        return np.rad2deg(phi), (lon + 180) % 360 - 180

    @property
    def attrs(self) -> dict[str, Any]:
        """The projection as a CF grid mapping."""
        return {
            "grid_mapping_name": "lambert_azimuthal_equal_area",
            "latitude_of_projection_origin": self.lat,
            "longitude_of_projection_origin": self.lon,
            "false_easting": self.easting,
            "false_northing": self.northing,
            "earth_radius": self.radius,
        }


def placed(
    da: xr.DataArray, proj: str, southwest: tuple[float, float], northeast: tuple[float, float]
) -> xr.DataArray:
    """Return a map with its projected coordinates, latitudes, longitudes and grid mapping.

    Parameters
    ----------
    da : DataArray (..., y, x)
        Rows from the south, columns from the west; or rows from the north, if ``y`` falls.
    proj : str
        Projection as a string of PROJ.
    southwest, northeast : tuple of float
        Latitude and longitude of the outer corners, degrees.

    Returns
    -------
    DataArray
        ``y`` and ``x`` are the centers of pixels, m.
    """
    crs = EqualArea.from_proj(proj)
    (west, east), (south, north) = crs.forward(*np.array([southwest, northeast]).T)
    falls = da.sizes["y"] > 1 and da["y"].values[0] > da["y"].values[-1]
    x = west + (np.arange(da.sizes["x"]) + 0.5) * (east - west) / da.sizes["x"]
    y = south + (np.arange(da.sizes["y"]) + 0.5) * (north - south) / da.sizes["y"]
    y = y[::-1] if falls else y
    lat, lon = crs.inverse(*np.meshgrid(x, y))
    coords = {
        "y": ("y", y, _meters("y", "Y")),
        "x": ("x", x, _meters("x", "X")),
        "lat": (("y", "x"), lat, {"standard_name": "latitude", "units": "degrees_north"}),
        "lon": (("y", "x"), lon, {"standard_name": "longitude", "units": "degrees_east"}),
        "crs": ((), 0, crs.attrs),
    }
    found = da.assign_coords(coords)
    found.encoding = {**da.encoding, "grid_mapping": "crs", "coordinates": "lat lon"}
    return found


def _meters(name: str, axis: str) -> dict[str, str]:
    return {"standard_name": f"projection_{name}_coordinate", "units": "m", "axis": axis}
