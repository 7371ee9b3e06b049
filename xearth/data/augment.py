r"""Maps mirrored and turned by right angles: eight pictures of one storm.

Mirroring east-west, :math:`M`, and turning counterclockwise by 90 degrees, :math:`R`, make the
eight symmetries :math:`R^t M^m` of a square. A labeled map is carried as a whole: each value keeps
its cell, and the cell moves,

.. math:: M (x, y) = (2 c_x - x, y), \qquad R (x, y) = (c_x - (y - c_y), c_y + (x - c_x)),

about the center :math:`c` of the map. Latitudes and longitudes in two dimensions move with their
values: they still say where a value was observed. The y and x of the result are not those of the
projection any more, so its grid mapping is left out.

Rows must be comparable to columns: maps on latitude and longitude are refused, since their cells
change with the latitude. So are components of vectors, which would have to turn as well.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import xarray as xr

from ..cf.discover import Axes, discover
from ..errors import AxisError, ConfigError
from .grid import Grid
from .horizontal import grid_mapping
from .loader import Batch

if TYPE_CHECKING:
    import torch

__all__ = ["SYMMETRIES", "Symmetry", "draw"]

Tensor = TypeVar("Tensor", "torch.Tensor", "np.ndarray[Any, Any]")
Labeled = TypeVar("Labeled", xr.DataArray, xr.Dataset)

_VECTOR = re.compile(r"eastward|northward|[xy]_(?:wind|velocity|stress)|direction")


@dataclass(frozen=True)
class Symmetry:
    """One of the eight ways to lay a square on itself.

    Parameters
    ----------
    mirror : bool
        Mirror east-west, first.
    turns : int
        Then turn counterclockwise by so many right angles, modulo 4.

    Examples
    --------
    >>> quarter = Symmetry(turns=1)
    >>> quarter.then(quarter).then(quarter) == quarter.inverse
    True
    >>> quarter.tensor(np.array([[1, 2], [3, 4]])[:, :, None])[..., 0]  # rows from the south
    array([[3, 1],
           [4, 2]])
    """

    mirror: bool = False
    turns: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.turns, int | np.integer) or isinstance(self.turns, bool):
            raise ConfigError(
                f"turns={self.turns!r}: expected a whole number of right angles. Other angles do "
                "not lay cells on cells."
            )
        object.__setattr__(self, "turns", int(self.turns) % 4)
        object.__setattr__(self, "mirror", bool(self.mirror))

    @property
    def inverse(self) -> Symmetry:
        """The one that undoes this."""
        return self if self.mirror else Symmetry(turns=-self.turns)

    @property
    def keeps_shape(self) -> bool:
        """Whether a map of H rows and W columns has as many afterwards, whatever H and W."""
        return self.turns % 2 == 0

    def then(self, other: Symmetry) -> Symmetry:
        """Return the one symmetry that is this one followed by ``other``."""
        turned = -self.turns if other.mirror else self.turns
        return Symmetry(self.mirror != other.mirror, other.turns + turned)

    def tensor(self, x: Tensor) -> Tensor:
        """Return maps mirrored and turned.

        Parameters
        ----------
        x : torch.Tensor or array (..., H, W, C)
            Rows south to north and columns west to east, as :class:`~xearth.Grid` makes them.

        Returns
        -------
        same type (..., H, W, C)
            (..., W, H, C) after an odd number of turns.
        """
        if self.mirror:
            x = _flip(x, -2)
        if self.turns % 2:
            x = _flip(x.swapaxes(-3, -2), -2)
        if self.turns >= 2:
            x = _flip(_flip(x, -3), -2)
        return x

    def batch(self, batch: Batch) -> Batch:
        """Return a batch whose maps and masks, observed and asked for, are carried alike."""
        moved = {name: self.tensor(getattr(batch, name)) for name in _MAPS}
        return replace(batch, **moved)

    def apply(self, obj: Labeled) -> Labeled:
        """Return a labeled map mirrored and turned: values stay in their cells, which move.

        Parameters
        ----------
        obj : DataArray or Dataset
            On projected or plain y and x; other dims are left alone. Lazy data stay lazy.

        Returns
        -------
        same type
            With moved coordinates, ``lat`` and ``lon`` beside their values, and ``symmetry``
            among the attributes. The inverse brings values and coordinates back, not the grid
            mapping.

        Raises
        ------
        AxisError
            Rows or columns cannot be told, or are latitudes and longitudes.
        ConfigError
            A variable is a component or direction of a vector.

        Examples
        --------
        >>> import xearth
        >>> rain = xearth.samples.open("knmi_radar")[0]
        >>> turned = Symmetry(turns=1).apply(rain)
        >>> rain.shape, turned.shape
        ((208, 209), (209, 208))
        >>> bool((Symmetry(turns=3).apply(turned).fillna(-1) == rain.fillna(-1)).all())
        True
        """
        axes = discover(obj, require=("y", "x"))
        _refuse(obj, axes)
        y, x = str(axes.y), str(axes.x)
        grid = Grid.from_array(obj, axes)
        rows = _ruler(obj, y, grid.y_index)
        columns = _ruler(obj, x, grid.x_index)
        found: Labeled = obj
        for step in ["mirror"] * self.mirror + ["turn"] * self.turns:
            middle_y, middle_x = _middle(rows), _middle(columns)
            if step == "mirror":
                columns = 2 * middle_x - columns
                continue
            rows, columns = middle_y + (columns - middle_x), middle_x - (rows - middle_y)
            found = (
                found.rename({y: x, x: y}) if {y, x} <= set(found.coords) else _swapped(found, y, x)
            )
        found = found.assign_coords(
            {y: (y, rows, _plain(obj, y, "Y")), x: (x, columns, _plain(obj, x, "X"))}
        )
        return _said(_ordered(found, obj), obj, self)


#: All eight, the identity first.
SYMMETRIES = tuple(Symmetry(mirror, turns) for mirror in (False, True) for turns in range(4))

_MAPS = ("x", "y", "mask_x", "mask_y")


def draw(rng: np.random.Generator, *, shape: tuple[int, int] | None = None) -> Symmetry:
    """Return one of the symmetries, each as likely as the others.

    Parameters
    ----------
    rng : numpy.random.Generator
    shape : tuple of int, optional
        (H, W) of the maps: only symmetries that keep it are drawn where it is no square.

    Returns
    -------
    Symmetry

    Examples
    --------
    >>> draw(np.random.default_rng(0), shape=(208, 209)).keeps_shape
    True
    """
    square = shape is None or shape[0] == shape[1]
    allowed = [one for one in SYMMETRIES if square or one.keeps_shape]
    return allowed[int(rng.integers(len(allowed)))]


def _flip(x: Any, axis: int) -> Any:
    return np.flip(x, axis) if isinstance(x, np.ndarray) else x.flip(axis)


def _refuse(obj: xr.DataArray | xr.Dataset, axes: Axes) -> None:
    for name in (axes.lat, axes.lon):
        if name is not None and obj[name].ndim == 1:
            raise AxisError(
                f"{name!r}: expected rows and columns of cells of one size, found those of "
                "latitude and longitude, whose width changes from row to row. Interpolate to a "
                "projected grid first."
            )
    fields = [obj] if isinstance(obj, xr.DataArray) else list(obj.data_vars.values())
    for field in fields:
        if _VECTOR.search(str(field.attrs.get("standard_name", ""))):
            raise ConfigError(
                f"{field.name!r} is a {field.attrs['standard_name']}: a mirrored or turned map of "
                "it would need its partner and new signs. Leave it out, or use its speed."
            )


def _ruler(obj: xr.DataArray | xr.Dataset, dim: str, order: np.ndarray) -> np.ndarray:
    """Return the coordinate of a dim; numbers in canonical order where it has none."""
    if dim in obj.coords:
        return np.asarray(obj[dim].values, dtype=np.float64)
    numbers = np.empty(order.size)
    numbers[order] = np.arange(order.size)
    return numbers


def _middle(ruler: np.ndarray) -> float:
    return float(ruler[0] + ruler[-1]) / 2


def _swapped(obj: Labeled, y: str, x: str) -> Labeled:
    """Exchange two dims where at least one has no coordinate."""
    bare = obj.drop_vars([name for name in (y, x) if name in obj.coords])
    return (
        bare.rename_dims({y: x, x: y})
        if isinstance(bare, xr.Dataset)
        else bare.rename({y: x, x: y})
    )


def _plain(obj: xr.DataArray | xr.Dataset, dim: str, axis: str) -> dict[Hashable, Any]:
    """Return the attributes of a moved ruler: it is no coordinate of the projection."""
    attrs = dict(obj[dim].attrs) if dim in obj.coords else {}
    attrs.pop("standard_name", None)
    return {**attrs, "axis": axis}


def _ordered(found: Any, obj: Any) -> Any:
    """Put the dims in the order they had."""
    if isinstance(obj, xr.DataArray):
        return found.transpose(*obj.dims)
    return found.assign(
        {name: found[name].transpose(*da.dims) for name, da in obj.data_vars.items()}
    )


def _said(found: Any, obj: Any, symmetry: Symmetry) -> Any:
    """Tell in the attributes what was done in all; the grid mapping does not hold any more."""
    before = _read(obj.attrs.get("symmetry"))
    total = before.then(symmetry)
    found = found.drop_vars([grid_mapping(obj)], errors="ignore")
    fields = [found] if isinstance(found, xr.DataArray) else list(found.data_vars.values())
    for field in fields:
        field.attrs.pop("grid_mapping", None)
        field.encoding.pop("grid_mapping", None)
    found.attrs.pop("symmetry", None)
    if total != Symmetry():
        found.attrs["symmetry"] = _written(total)
    return found


def _written(symmetry: Symmetry) -> str:
    mirrored = "mirrored east-west, then " if symmetry.mirror else ""
    return f"{mirrored}turned by {90 * symmetry.turns} degrees counterclockwise"


def _read(text: str | None) -> Symmetry:
    return next((one for one in SYMMETRIES if text == _written(one)), Symmetry())
