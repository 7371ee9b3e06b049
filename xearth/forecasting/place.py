r"""Where a forecaster works: on the cells it was trained on, or anywhere.

A network of the sea surface knows its cells: the seventh row is the equator. A network of radar
images, trained on crops cut at random, knows what rain does within a window of so many cells of
so many meters, and no cell in particular. Its grid is then the *frame* it looks through, and its
place says how data on another grid are read and what becomes of the output:

======================  ===========================  ============================================
what                    :class:`Fixed`               :class:`Anywhere`
======================  ===========================  ============================================
data must lie on        the grid of training         any grid of that spacing, as large or larger
the network runs on     the grid at once             tiles, blended (:mod:`xearth.models.tiles`)
missing in the output   cells that training never    cells missing in the last frame observed
                        saw
missing in the history  only where training data     anywhere; read as the mean of the training
                        were missing                 data, as in training
======================  ===========================  ============================================
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ..cf.discover import discover
from ..cf.timeaxis import Step
from ..data.grid import Grid
from ..data.horizontal import horizontal_axes, ruler_name
from ..data.masks import restore
from ..data.normalize import Normalizer
from ..data.windows import Window
from ..errors import AxisError, CheckpointError, ConfigError, GridMismatchError
from ..units import compatible, convert

if TYPE_CHECKING:
    from torch import Tensor

    from .firstguess import FittedGuess
    from .history import Histories, Reads

__all__ = ["Anywhere", "Fixed", "Place", "frame_of", "place_from_dict", "spacing"]

_TOLERANCE = 0.05  # share of the spacing by which that of other data may differ
_REGULAR = 0.02  # share of the spacing by which single steps may differ


@dataclass(frozen=True)
class Fixed:
    """On the grid of the training data: what :func:`xearth.fit` gives without crops."""

    def check(self, name: str, guess: FittedGuess | None) -> None:
        """Accept any forecaster."""

    def settle(self, reads: Reads, history: xr.DataArray | xr.Dataset) -> Reads:
        """Return the forecaster as it reads these data: itself."""
        return reads

    def run(self, network: Callable[[Tensor], Tensor], x: Tensor, frame: Grid) -> Tensor:
        """Return the output (N, T_out, H, W, C) of a network for x (N, T, H, W, C)."""
        return network(x)

    def hide(self, values: np.ndarray, past: Histories, rows: slice) -> np.ndarray:
        """Return forecasts (n, ..., H, W, C) of some inits as they are."""
        return values

    def words(self, grid: Grid) -> str:
        """Return where the forecaster of a grid works, in words."""
        return f"on {grid.summary()}"

    def to_dict(self) -> dict[str, Any]:
        """Return the place as plain values."""
        return {"kind": "Fixed"}


@dataclass(frozen=True)
class Anywhere:
    """On any grid of the spacing of the training data, as large as the frame or larger.

    Parameters
    ----------
    overlap : (int, int)
        Rows and columns that neighboring tiles share at least.

    Raises
    ------
    ConfigError
        If the overlap is no pair of whole numbers from 0.

    Examples
    --------
    >>> Anywhere.for_frame((64, 64))
    Anywhere(overlap=(16, 16))
    """

    overlap: tuple[int, int]

    def __post_init__(self) -> None:
        whole = all(isinstance(n, int | np.integer) and n >= 0 for n in self.overlap)
        if len(self.overlap) != 2 or not whole:
            raise ConfigError(
                f"Anywhere(overlap={self.overlap!r}): expected rows and columns, two whole "
                "numbers of at least 0"
            )

    @classmethod
    def for_frame(cls, shape: tuple[int, int]) -> Anywhere:
        """Return the place with the usual overlap, a quarter of the frame."""
        return cls((shape[0] // 4, shape[1] // 4))

    def check(self, name: str, guess: FittedGuess | None) -> None:
        """Refuse a forecaster with a first guess.

        Raises
        ------
        ConfigError
            If there is one: it is fitted to cells.
        """
        if guess is not None:
            raise ConfigError(
                f"forecaster {name!r}: a first guess is fitted to the cells of a grid, so it "
                "cannot go anywhere. Train on crops without one, Recipe(guess=None)."
            )

    def settle(self, reads: Reads, history: xr.DataArray | xr.Dataset) -> Reads:
        """Return the forecaster as it reads these data: on their grid, with no cell required.

        Raises
        ------
        AxisError
            A grid without 1-D coordinates, or without their units.
        GridMismatchError
            A grid of another spacing, or smaller than the frame.
        """
        grid = Grid.from_array(history, discover(history)).horizontal()
        _check_spacing(reads, grid)
        if any(n < least for n, least in zip(grid.shape, reads.grid.shape, strict=True)):
            least, found = (" x ".join(map(str, g.shape)) for g in (reads.grid, grid))
            raise GridMismatchError(
                f"grid of the data: {reads.name!r} looks at {least} cells (rows x columns) at a "
                f"time and needs at least as many, found {found}. Give a larger part of the "
                "composite; where there is no radar, cells may be missing: .pad(...) with NaN."
            )
        return _Settled(
            name=reads.name,
            grid=grid,
            normalizer=reads.normalizer,
            window=reads.window,
            step=reads.step,
            required=np.zeros(grid.shape, dtype=bool),
            season=reads.season,
            provenance=reads.provenance,
            place=self,
        )

    def run(self, network: Callable[[Tensor], Tensor], x: Tensor, frame: Grid) -> Tensor:
        """Return the output (N, T_out, H, W, C) of a network of the frame, tile by tile."""
        from ..models.tiles import Tiles

        return Tiles((x.shape[2], x.shape[3]), frame.shape, self.overlap).run(network, x)

    def hide(self, values: np.ndarray, past: Histories, rows: slice) -> np.ndarray:
        """Return forecasts (n, ..., H, W, C), missing where the last frame was missing."""
        covered = past.valid(rows)[:, -1]
        between = tuple(range(1, values.ndim - 3))
        return restore(values, np.broadcast_to(np.expand_dims(covered, between), values.shape))

    def words(self, grid: Grid) -> str:
        """Return where the forecaster of a frame works, in words."""
        rows, columns = (f"{distance:g} {unit}" for distance, unit in spacing(grid))
        height, width = grid.shape
        return f"on any grid of {rows} x {columns}, in tiles of {height} x {width} cells"

    def to_dict(self) -> dict[str, Any]:
        """Return the place as plain values."""
        return {"kind": "Anywhere", "overlap": list(self.overlap)}


Place = Fixed | Anywhere


def place_from_dict(facts: Mapping[str, Any] | None) -> Place:
    """Return the place that ``to_dict`` wrote; files without any are of a fixed place.

    Raises
    ------
    CheckpointError
        If this version does not know the kind.

    Examples
    --------
    >>> place_from_dict(Anywhere((8, 8)).to_dict()), place_from_dict(None)
    (Anywhere(overlap=(8, 8)), Fixed())
    """
    kind = "Fixed" if facts is None else facts.get("kind")
    if kind == "Anywhere" and facts is not None:
        rows, columns = facts["overlap"]
        return Anywhere((int(rows), int(columns)))
    if kind != "Fixed":
        raise CheckpointError(
            f"place of the forecaster: expected Fixed or Anywhere, found {kind!r}. Read the file "
            "with the version that wrote it."
        )
    return Fixed()


@dataclass(frozen=True, eq=False)
class _Settled:
    """What decides how a history is read, for data on a grid of their own."""

    name: str
    grid: Grid
    normalizer: Normalizer
    window: Window
    step: Step
    required: np.ndarray
    season: bool
    provenance: Mapping[str, Any]
    place: Place


# -- frames and spacing ---------------------------------------------------------------------------


def frame_of(grid: Grid, shape: tuple[int, int]) -> Grid:
    """Return a frame of so many cells with the spacing of a grid: its south-western corner.

    The frame has no mask, no projection and no 2-D coordinates, which are those of a place.

    Parameters
    ----------
    grid : Grid
    shape : (int, int)
        Rows and columns.

    Raises
    ------
    AxisError, GridMismatchError
        If the grid has no spacing, or fewer cells.
    """
    if any(n < wanted for n, wanted in zip(grid.shape, shape, strict=True)):
        raise GridMismatchError(
            f"crops of {shape[0]} x {shape[1]} cells: expected data of at least as many, found "
            f"{grid.summary()}. Give the network a smaller input_shape."
        )
    spacing(grid)
    plane = grid.horizontal().template
    corner = {
        grid.axes.y: np.sort(grid.y_index[: shape[0]]),
        grid.axes.x: np.sort(grid.x_index[: shape[1]]),
    }
    rulers = {ruler_name(plane, grid.axes, dim) for dim in corner}
    part = plane.isel(corner).drop_vars([name for name in plane.coords if name not in rulers])
    frame = part.drop_attrs(deep=False).drop_encoding()
    return Grid.from_array(frame, horizontal_axes(discover(frame, require=("y", "x"))))


def spacing(grid: Grid) -> tuple[tuple[float, str], tuple[float, str]]:
    """Return distance and unit ("m" or "degrees") of the rows, and of the columns.

    Raises
    ------
    AxisError
        If rows or columns have no 1-D coordinate with units.
    GridMismatchError
        If they are not evenly spaced.

    Examples
    --------
    >>> import xearth
    >>> spacing(Grid.from_array(xearth.samples.open("knmi_radar")))
    ((2000.0, 'm'), (2000.0, 'm'))
    """
    return _spacing(grid, grid.axes.y), _spacing(grid, grid.axes.x)


def _spacing(grid: Grid, dim: Hashable) -> tuple[float, str]:
    """Return distance and unit along a dim."""
    name = ruler_name(grid.template, grid.axes, dim)
    units = "" if name is None else str(grid.template[name].attrs.get("units", ""))
    axis = "x" if dim == grid.axes.x else "y"
    angle = name is not None and name in (grid.axes.lat, grid.axes.lon)
    if name is None or not (angle or (units and compatible(units, "m"))):
        raise AxisError(
            f"dim {dim!r}: expected a 1-D coordinate in meters (or latitude and longitude), which "
            f"tells the spacing, found {'none' if name is None else f'units {units!r}'}. Assign "
            f"it, for example da.assign_coords({dim}=({dim!r}, values, {{'units': 'm', "
            f"'standard_name': 'projection_{axis}_coordinate'}}))."
        )
    steps = np.abs(np.diff(grid.template[name].values.astype(np.float64)))
    if steps.size == 0:
        raise GridMismatchError(f"dim {dim!r}: expected at least 2 cells, found 1")
    mean = float(steps.mean())
    if np.abs(steps - mean).max() > _REGULAR * mean:
        raise GridMismatchError(
            f"coordinate {name!r}: expected even steps, found {steps.min():g} to "
            f"{steps.max():g} {units}. Interpolate the data to evenly spaced cells."
        )
    return (mean, "degrees") if angle else (float(convert(mean, units, "m")), "m")


def _check_spacing(reads: Reads, grid: Grid) -> None:
    """Refuse a grid whose cells are not as wide as those of the forecaster."""
    for what, mine, its in zip(
        ("rows", "columns"), spacing(reads.grid), spacing(grid), strict=True
    ):
        if mine[1] != its[1] or abs(its[0] - mine[0]) > _TOLERANCE * mine[0]:
            remedy = "Interpolate the data to that spacing."
            ratio = mine[0] / its[0]
            if mine[1] == its[1] and round(ratio) > 1 and abs(ratio - round(ratio)) < _TOLERANCE:
                dim = grid.axes.y if what == "rows" else grid.axes.x
                remedy = f"Average the cells: .coarsen({dim}={round(ratio)}, boundary='trim')"
                remedy += ".mean(), likewise the other dim."
            raise GridMismatchError(
                f"grid of the data: {reads.name!r} was trained on {what} {mine[0]:g} {mine[1]} "
                f"apart, found {its[0]:g} {its[1]}. {remedy}"
            )
