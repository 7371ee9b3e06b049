"""Colors of rain, reflectivity and vertically integrated liquid, with boundaries and units.

What is below the first boundary is white, no rain; cells without data are gray, which no class
is. From class to class colors only darken, so that they read in order in print, on a gray screen
and with any color vision.

=======================  ========================================================================
:data:`RAIN_RATE`        mm h-1, blue to crimson
:data:`REFLECTIVITY`     dBZ, the same colors
:data:`VIL`              kg m-2, green to violet; the boundaries are the pixel values of the SEVIR
                         display 16, 31, 59, 74, 100, 133, 160, 181, 219, of which six are the
                         thresholds of its tables
:data:`VIL_PIXELS`       the same for SEVIR's pixel values
:data:`PROBABILITY`      %, orange to brown
=======================  ========================================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ..data.sources.sevir import vil_from_pixels
from ..errors import ConfigError
from ..fields.rain import kind_of
from ..units import compatible
from .style import LAND, pyplot

if TYPE_CHECKING:
    from matplotlib.colors import BoundaryNorm, Colormap

__all__ = [
    "PROBABILITY",
    "RAIN_RATE",
    "REFLECTIVITY",
    "VIL",
    "VIL_PIXELS",
    "Scale",
    "scale_of",
]


@dataclass(frozen=True)
class Scale:
    """Classes of a field and their colors.

    Parameters
    ----------
    name : str
        Under which matplotlib knows the colors once they were used, as ``xearth_<name>``.
    units : str
        Of the boundaries.
    boundaries : tuple of float
        Ascending; a class holds its lower one.
    colors : tuple of str
        One for each boundary: of the values from it to the next, the last without end.
    event : float, optional
        The threshold that a probability is shown for where none is asked for.

    Raises
    ------
    ConfigError
        Fewer than two boundaries, not ascending, or not a color for each.

    Examples
    --------
    >>> from xearth.plotting.scales import RAIN_RATE
    >>> RAIN_RATE.boundaries[:3], RAIN_RATE.units
    ((0.1, 0.2, 0.5), 'mm h-1')
    >>> cmap, norm = RAIN_RATE.colormap(), RAIN_RATE.norm()
    >>> cmap.name, tuple(map(float, cmap(norm(0.0))))  # no rain is white
    ('xearth_rain_rate', (1.0, 1.0, 1.0, 1.0))
    """

    name: str
    units: str
    boundaries: tuple[float, ...]
    colors: tuple[str, ...]
    event: float | None = None

    def __post_init__(self) -> None:
        values = np.asarray(self.boundaries, dtype=float)
        if values.size < 2 or not np.isfinite(values).all() or (np.diff(values) <= 0).any():
            raise ConfigError(
                f"scale {self.name!r}: expected two or more ascending boundaries; found "
                f"{self.boundaries}. Sort them, each once."
            )
        if len(self.colors) != len(self.boundaries):
            raise ConfigError(
                f"scale {self.name!r}: expected a color from each of the {len(self.boundaries)} "
                f"boundaries on, found {len(self.colors)} colors. What is below the first is white."
            )

    def colormap(self) -> Colormap:
        """Return the colors; from now on matplotlib knows them as ``xearth_<name>``.

        Raises
        ------
        ConfigError
            Other colors go by that name.
        MissingDependencyError
            If matplotlib is not installed.
        """
        pyplot()
        from matplotlib import colormaps
        from matplotlib.colors import ListedColormap

        name = f"xearth_{self.name}"
        made = ListedColormap(list(self.colors), name=name).with_extremes(
            bad=LAND, under="white", over=self.colors[-1]
        )
        if name not in colormaps:
            colormaps.register(made)
        elif colormaps[name] != made:
            raise ConfigError(
                f"scale {self.name!r}: other colors already go by {name!r} in matplotlib. Give "
                "this scale another name."
            )
        return made

    def norm(self) -> BoundaryNorm:
        """Return the classes, as matplotlib sorts values into them."""
        pyplot()
        from matplotlib.colors import BoundaryNorm

        return BoundaryNorm(self.boundaries, len(self.colors), extend="max")


_RAIN = (
    "#d9eef7", "#b3dcf0", "#84c1e6", "#55a2d8", "#2f80c3",
    "#3b5bab", "#54348c", "#6f1768", "#5f0a38", "#2b0412",
)  # fmt: skip
_VIL = (
    "#eaf4b5", "#c6e39d", "#8fcb8b", "#55b08a", "#2b918d",
    "#1f7090", "#274d8b", "#352a72", "#250a3f",
)  # fmt: skip
_CHANCE = (
    "#fff0cc", "#fee0a3", "#fdc974", "#f9ad4a", "#ee8d2d",
    "#d96d1a", "#b94f10", "#8f380b", "#5c2307",
)  # fmt: skip
_PIXELS = (16.0, 31.0, 59.0, 74.0, 100.0, 133.0, 160.0, 181.0, 219.0)

#: Rain rate, mm h-1.
RAIN_RATE = Scale(
    "rain_rate", "mm h-1", (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0), _RAIN, 1.0
)
#: Reflectivity, dBZ.
REFLECTIVITY = Scale(
    "reflectivity", "dBZ", (10.0, 15.0, 20.0, 25.0, 30.0, 35.0, 40.0, 45.0, 50.0, 55.0), _RAIN, 25.0
)
#: Vertically integrated liquid, pixel values of SEVIR.
VIL_PIXELS = Scale("vil_pixels", "1", _PIXELS, _VIL, 74.0)
#: Vertically integrated liquid, kg m-2.
VIL = Scale(
    "vil",
    "kg m-2",
    tuple(float(value) for value in vil_from_pixels(np.array(_PIXELS))),
    _VIL,
    float(vil_from_pixels(np.array([74.0]))[0]),
)
#: Probability, %.
PROBABILITY = Scale("probability", "%", tuple(float(p) for p in range(10, 100, 10)), _CHANCE)


def scale_of(field: xr.DataArray, asked: Any = None) -> Scale:
    """Return the scale asked for, or the one that a field is drawn with by its name and units.

    Raises
    ------
    ConfigError
        The field is neither rain, reflectivity nor liquid, and no scale was asked for; or what
        was asked for is none.

    Examples
    --------
    >>> import xarray as xr
    >>> scale_of(xr.DataArray(0.0, name="dbz", attrs={"units": "dBZ"})).name
    'reflectivity'
    """
    if isinstance(asked, Scale):
        return asked
    if asked is not None:
        raise ConfigError(
            f"scale: expected an xearth.plotting.Scale, found {asked!r}. For example "
            "scale=xearth.plotting.RAIN_RATE."
        )
    kind = kind_of(field)
    if kind in ("rate", "reflectivity"):
        return RAIN_RATE if kind == "rate" else REFLECTIVITY
    units = str(field.attrs.get("units", ""))
    words = f"{field.attrs.get('long_name', '')} {field.name}".lower()
    if "liquid" in words or "vil" in words.split():
        if units == "1":
            return VIL_PIXELS
        if units and compatible(units, VIL.units):
            return VIL
    raise ConfigError(
        f"{field.name!r} with units {units!r} is neither a rain rate, a reflectivity nor "
        "vertically integrated liquid, by its names and units. An amount of rain becomes a rate "
        "with xearth.rain_rate(field). Else say how to draw it: "
        "scale=xearth.plotting.Scale('mine', units, boundaries, colors)."
    )
