r"""When a constraint looks: all frames, chosen leads, or the months of a season.

Frames are the steps of ``lead`` of a forecast, or of ``time`` of a sequence. A season is found by
the valid time :math:`t_0 + n\Delta`, so it has other leads for each start.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt
import xarray as xr

from ..cf.discover import discover
from ..cf.forecast_coords import valid_time
from ..errors import ConstraintError, LeadError

__all__ = ["Frames", "Per", "frame_dim", "months_of"]

Per = Literal["frame", "horizon"]

_INITIALS = "JFMAMJJASOND"
_NAMES = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]


def months_of(season: str | tuple[int, ...]) -> tuple[int, ...]:
    """Return the months of a season, in order.

    Parameters
    ----------
    season : str or tuple of int
        Initials of months that follow each other, such as ``"DJF"``, or their numbers.

    Raises
    ------
    ConstraintError
        Not the initials of one run of months.

    Examples
    --------
    >>> months_of("DJF"), months_of((12,))
    ((12, 1, 2), (12,))
    """
    if isinstance(season, str):
        text, twice = season.upper(), 2 * _INITIALS
        starts = [i for i in range(12) if twice[i : i + len(text)] == text]
        if len(starts) == 1 and 2 <= len(text) <= 12:
            return tuple((starts[0] + k) % 12 + 1 for k in range(len(text)))
    else:
        months = tuple(int(m) for m in np.atleast_1d(season))
        follow = all((b - a) % 12 == 1 for a, b in pairwise(months))
        if months and len(months) <= 12 and follow and set(months) <= set(range(1, 13)):
            return months
    raise ConstraintError(
        f"season={season!r}: expected initials of months that follow each other, such as 'DJF', or "
        "their numbers, such as (12, 1, 2)."
    )


def season_text(months: tuple[int, ...]) -> str:
    """Return a season in letters, a single month by its name."""
    if len(months) == 1:
        return _NAMES[months[0] - 1]
    return "".join(_INITIALS[m - 1] for m in months)


def frame_dim(field: xr.DataArray | xr.Dataset) -> str | None:
    """Return the dim of the frames: the lead of a forecast, else the time; None for one frame."""
    axes = discover(field, require=())
    return axes.lead or axes.time


@dataclass(frozen=True)
class Frames:
    """Chosen frames.

    Parameters
    ----------
    leads : tuple of int
        In the units of the forecast's ``lead``; all when empty.
    months : tuple of int
        The first whole run of these months in the forecast, by valid time.
    """

    leads: tuple[int, ...] = ()
    months: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.leads and self.months:
            raise ConstraintError(
                f"leads={self.leads} and season={season_text(self.months)!r}: expected one of them."
            )
        whole = all(isinstance(n, int | np.integer) and n >= 1 for n in self.leads)
        if not whole or len(set(self.leads)) != len(self.leads):
            raise ConstraintError(
                f"leads={self.leads}: expected different whole numbers of at least 1, in the units "
                "of the forecast's lead."
            )

    def __str__(self) -> str:
        if self.months:
            return season_text(self.months)
        if not self.leads:
            return ""
        return f"lead{'s' if len(self.leads) > 1 else ''} {', '.join(map(str, self.leads))}"

    def positions(self, field: xr.DataArray) -> npt.NDArray[np.intp]:
        """Return the positions (m,) of the frames, the same for all starts.

        Raises
        ------
        LeadError
            The forecast does not have them, or starts differ in which they are.
        """
        each = self.by_start(field)
        if (each != each[0]).any():
            raise LeadError(
                f"{self}: expected one set of leads, found others for each start. Select one start "
                "with .isel(init=[0]), or bound the mean over the season."
            )
        return each[0]

    def by_start(self, field: xr.DataArray) -> npt.NDArray[np.intp]:
        """Return the positions (inits, m) of the frames for each start."""
        dim = frame_dim(field)
        if dim is None:
            if self.leads or self.months:
                raise LeadError(
                    f"{self}: expected a forecast with leads, found the dims {field.dims}."
                )
            return np.zeros((1, 1), dtype=np.intp)
        if self.months:
            return self._season(field, dim)
        if not self.leads:
            return np.arange(field.sizes[dim])[None]
        if discover(field, require=()).lead is None:
            raise LeadError(f"{self}: expected a forecast with leads, found the dims {field.dims}.")
        has = np.atleast_1d(field[dim].values)
        found = [np.flatnonzero(has == lead) for lead in self.leads]
        if any(f.size != 1 for f in found):
            raise LeadError(
                f"{self}: expected leads of the forecast, found {has.tolist()} "
                f"{field[dim].attrs.get('units', '')}. Choose among them."
            )
        return np.concatenate(found)[None]

    def _season(self, field: xr.DataArray, dim: str) -> npt.NDArray[np.intp]:
        """Return the positions of the first whole season, for each start."""
        axes = discover(field, require=())
        if axes.lead is None:
            stamps = field[dim]
        else:
            stamps = valid_time(field)
            other = [d for d in stamps.dims if d != dim]
            stamps = stamps.transpose(*other, dim)
        numbers = np.atleast_2d((12 * stamps.dt.year + stamps.dt.month - 1).values)
        length = len(self.months)
        short = max(length - numbers.shape[1], 0)
        runs = np.lib.stride_tricks.sliding_window_view(
            np.pad(numbers, ((0, 0), (0, short))), length, axis=1
        )
        first = runs[..., :1]
        whole = (runs == first + np.arange(length)).all(-1) & (
            first[..., 0] % 12 + 1 == self.months[0]
        )
        if not whole.any(1).all():
            row = int(np.flatnonzero(~whole.any(1))[0])
            valid = np.atleast_2d(stamps.values)[row]
            raise LeadError(
                f"{self}: expected the whole season in the forecast, found "
                f"{str(valid[0])[:10]} to {str(valid[-1])[:10]} in {len(valid)} frames. A season "
                "is a run of monthly frames without a gap: start the forecast at another month, "
                "choose other months, or take means of months first."
            )
        return whole.argmax(1)[:, None] + np.arange(length)
