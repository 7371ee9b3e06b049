"""What is found for a diffusion model of rain after its training: the gains of its equalizer.

Scores that have the spectrum of observed scores need not become rain that has the spectrum of
observed rain: showers are smoother inside than the peaks of a Gaussian field. So the gains are
chosen where it counts, by forecasts of events that trained the model.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from ..errors import TimeAxisError
from .prediff import PreDiffForecaster

if TYPE_CHECKING:
    import torch

__all__ = ["equalized"]

logger = logging.getLogger(__name__)

DRIEST = 0.1  # mm/h, the least that decibels are taken of


def equalized(
    forecaster: PreDiffForecaster,
    events: Sequence[xr.DataArray],
    scores: torch.Tensor,
    *,
    starts: int = 3,
    members: int = 2,
    rounds: int = 3,
) -> PreDiffForecaster:
    """Return a forecaster whose members have the power spectrum of observed rain.

    In each round members are drawn and the gains changed by the ratio of the power of decibels of
    rain, in the mean of the logarithm over events and along a straight line over leads; then the
    scores get unit variance again.

    Parameters
    ----------
    forecaster : PreDiffForecaster
    events : sequence of DataArray (time, y, x)
        Rain rates in mm/h, of events that trained it.
    scores : Tensor (N, L, H, W)
        Scores it draws with gains of 1, where rain is likely.
    starts : int
        Of each event, evenly spread.
    members, rounds : int

    Raises
    ------
    TimeAxisError
        An event is too short.
    """
    import torch

    from ..models.prediff.equalizer import Equalizer

    equalizer = Equalizer(forecaster.horizon)
    for turn in range(rounds):
        lacks = np.mean([_lacking(forecaster, e, starts, members, turn) for e in events], axis=0)
        logger.info("round %d: dB at the last lead %s", turn, (4.34 * lacks[-1]).round(1))
        lead = np.arange(len(lacks))
        line = np.stack([np.polyval(np.polyfit(lead, band, 1), lead) for band in lacks.T], 1)
        equalizer.change(torch.from_numpy(0.5 * line).exp())
        equalizer.normalize(scores)
        state = {**forecaster.state, "equalizer.gain": equalizer.gain.clone()}
        forecaster = dataclasses.replace(forecaster, state=state)
    return forecaster


def _lacking(
    forecaster: PreDiffForecaster, event: xr.DataArray, starts: int, members: int, seed: int
) -> np.ndarray:
    """Return the logarithm (L, bands) of the power observed over that of members."""
    import torch

    from ..models.prediff.equalizer import band_power

    leads, first = forecaster.horizon, forecaster.history - 1
    last = len(event) - 1 - leads
    if last < first:
        raise TimeAxisError(
            f"{event.name!r} has {len(event)} times: expected at least {first + 1 + leads}, to "
            "look back on and to compare with"
        )
    at = np.unique(np.linspace(first, last, starts).round().astype(int))
    inits = event[event.dims[0]].values[at]
    drawn = forecaster.forecast(event, init=inits, members=members, seed=seed)
    fields = drawn.transpose("init", "member", "lead", ...).values
    observed = event.values[at[:, None] + np.arange(1, leads + 1)]
    seen = np.isfinite(observed).all((0, 1)) & np.isfinite(fields).all((0, 1, 2))
    powers = [
        band_power(torch.from_numpy(_decibels(x, seen).reshape(-1, leads, *seen.shape))).numpy()
        for x in (observed, fields)
    ]
    return np.asarray(np.log(powers[0] / powers[1]))


def _decibels(rate: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Return decibels of rain rates (..., H, W), the least where there are none."""
    found = np.where(seen, np.maximum(np.nan_to_num(rate), DRIEST), DRIEST)
    return np.asarray(10 * np.log10(found), dtype=np.float32)
