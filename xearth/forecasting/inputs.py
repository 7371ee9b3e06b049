"""From windows of labeled data to what a network reads: tensors, time of year, weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from ..cf.timeaxis import TimeAxis
from ..data.loader import Windows
from .derivative import guess_mean
from .firstguess import FittedGuess
from .indices import Beside

if TYPE_CHECKING:
    from torch import Tensor

    from ..models.heads import Guess
    from ..training.examples import TrainingBatch

__all__ = ["Reader", "WindowExamples", "first_guess", "ranks", "year_fraction"]


def year_fraction(axis: TimeAxis) -> np.ndarray:
    """Return the time of year of each stamp, in [0, 1).

    Calendar months count from January whatever day they are stamped with, so that data stamped
    at the start and in the middle of a month mean the same season.

    Examples
    --------
    >>> time = xr.date_range("2000-01", periods=3, freq="MS", use_cftime=False)
    >>> year_fraction(TimeAxis.from_array(xr.DataArray(time, dims="time", name="time")))
    array([0.        , 0.08333333, 0.16666667])
    """
    stamps = xr.DataArray(axis.values, dims="stamp").dt
    if axis.step is not None and axis.step.months is not None:
        return (stamps.month.values - 1) / 12
    return (stamps.dayofyear.values - 1 + stamps.hour.values / 24) / 366


def ranks(axis: TimeAxis) -> np.ndarray:
    """Return the chronological rank of each stored position that ``axis.order`` holds."""
    rank = np.full(len(axis.values), -1, dtype=np.int64)
    rank[axis.order] = np.arange(len(axis.order))
    return rank


def first_guess(fitted: FittedGuess | None, x: Tensor, season: np.ndarray, *, rank: int) -> Guess:
    """Return the first guess of histories x (N, T, H, W, C); without one, the neutral guess.

    It can be differentiated by ``x`` if that asks for a gradient.
    """
    import torch

    from ..models.heads import Guess

    if fitted is None:
        return Guess.none(rank, x)
    spread = (torch.from_numpy(part) for part in fitted.spread((x.shape[2], *x.shape[3:])))
    if x.requires_grad:
        return Guess(guess_mean(fitted, x, season), *spread)
    return Guess(torch.from_numpy(fitted(x.cpu().numpy(), season)), *spread)


class Reader:
    """Reads windows as network input.

    Parameters
    ----------
    windows : Windows
        Normalized.
    season : bool
        Whether cosine and sine of the time of year of each step follow the variables.
    known : array of bool (H, W) or None
        Cells the model knows; other cells are 0 whatever the data hold there.
    beside : Beside, optional
        Index series that follow the season.
    """

    def __init__(
        self,
        windows: Windows,
        *,
        season: bool,
        known: np.ndarray | None = None,
        beside: Beside | None = None,
    ) -> None:
        axis = windows.axis
        self.windows, self.season, self.known, self.beside = windows, season, known, beside
        self._rank = ranks(axis)
        self._fraction = year_fraction(axis)[axis.order]

    def season_of(self, init_positions: np.ndarray) -> np.ndarray:
        """Return the time of year of inits, (N,)."""
        return self._fraction[self._rank[init_positions]]

    def fields(self, x: Tensor) -> Tensor:
        """Return x (N, T, H, W, C) with 0 in the cells the model does not know."""
        import torch

        if self.known is None or bool(self.known.all()):
            return x
        return x * torch.as_tensor(self.known, dtype=x.dtype)[:, :, None]

    def network_input(self, x: Tensor, init_positions: np.ndarray) -> Tensor:
        """Return x (N, T, H, W, C) with the channels of the season and of the indices."""
        import torch

        N, T, H, W, _ = x.shape
        steps = self._rank[init_positions][:, None] + np.arange(1 - T, 1)
        parts = []
        if self.season:
            angle = torch.as_tensor(2 * np.pi * self._fraction[steps], dtype=x.dtype)
            parts.append(torch.stack([angle.cos(), angle.sin()], -1))
        if self.beside is not None:
            parts.append(torch.as_tensor(self.beside.table[steps], dtype=x.dtype))
        spread = [part[:, :, None, None].expand(N, T, H, W, part.shape[-1]) for part in parts]
        return torch.cat([x, *spread], -1) if parts else x


class WindowExamples:
    """Windows as training samples (see :class:`xearth.training.examples.Examples`).

    Parameters
    ----------
    reader : Reader
    numbers : array of int (n,)
        Which windows, in the order of time.
    cell_weights : array (H, W)
        Relative areas.
    rank : int
        Of the head.
    guess : FittedGuess, optional
        First guess.
    means : array (n, L, H, W, C), optional
        Means of the first guess of each window, if not what ``guess`` gives.
    """

    def __init__(
        self,
        reader: Reader,
        numbers: np.ndarray,
        *,
        cell_weights: np.ndarray,
        rank: int = 0,
        guess: FittedGuess | None = None,
        means: np.ndarray | None = None,
    ) -> None:
        self.reader, self.numbers, self.rank = reader, numbers, rank
        self.guess, self.means = guess, means
        self.cell_weights = cell_weights / cell_weights.mean()

    def __len__(self) -> int:
        return len(self.numbers)

    def batch(self, indices: Sequence[int]) -> TrainingBatch:
        """Return the samples of ``indices``."""
        import torch

        from ..training.examples import TrainingBatch

        at = np.asarray(indices, dtype=np.int64)
        batch = self.reader.windows.batch(self.numbers[at])
        x = self.reader.network_input(self.reader.fields(batch.x), batch.init_positions)
        weight = torch.as_tensor(self.cell_weights, dtype=x.dtype)[:, :, None] * batch.mask_y
        guess = first_guess(
            self.guess, batch.x, self.reader.season_of(batch.init_positions), rank=self.rank
        )
        if self.means is not None:
            guess = guess._replace(mean=torch.from_numpy(self.means[at]))
        return TrainingBatch(x, batch.y, weight, guess, tuple(at.tolist()))

    def describe(self, indices: Sequence[int]) -> str:
        """Return the inits of ``indices``."""
        windows = self.reader.windows
        at = self.numbers[np.asarray(indices)] % len(windows.init_positions)
        stamps = windows.axis.values[windows.init_positions[at]]
        return "with init " + ", ".join(str(stamp)[:16] for stamp in stamps)

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return all samples: x (n, T, H, W, C), y (n, L, H, W, C), time of year (n,)."""
        batch = self.reader.windows.batch(self.numbers)
        x = self.reader.fields(batch.x).numpy()
        return x, batch.y.numpy(), self.reader.season_of(batch.init_positions)
