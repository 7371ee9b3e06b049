"""What the card of enso-small judges: forecasts of the model and its opponents on the same starts."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd
import xarray as xr

from xearth.errors import LeakageWarning
from xearth.forecasting.hindcast import hindcast
from xearth.reference.climatology import Climatology
from xearth.reference.cslim import CSLIM
from xearth.reference.lim import LIM
from xearth.reference.persistence import DampedPersistence, Persistence
from xearth.verification import verify
from xearth.verification.scores.indices import nino_index, running_mean

NAME = "enso-small"
LEARN = slice(None, "1981-12")
FIRST, LAST = "1981-12", "2003-12"  # start and end of what is judged
MEMBERS = 40
CONFIDENCE = 0.95
LEVEL = 0.9
FEW = (3, 6, 9, 12)
OPPONENTS = ("LIM-15", "CSLIM-15", "damped persistence", "persistence", "climatology")
CHECK = "1997-06"  # start of the forecast that tests compare with the card


@dataclass
class Case:
    """What is judged: index forecasts of the model and of its opponents, and the truth.

    ``months``, ``ensembles``: (init, lead[, member]) of single months; ``means``: trailing 3-month
    means, from the third lead on; ``seconds`` what the model took.
    """

    model: Any
    sst: xr.DataArray
    months: dict[str, xr.DataArray] = field(default_factory=dict)
    ensembles: dict[str, xr.DataArray] = field(default_factory=dict)
    means: dict[str, xr.DataArray] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    @cached_property
    def truth(self) -> xr.DataArray:
        """Nino3.4 of the months."""
        return nino_index(self.sst)

    @cached_property
    def truth_means(self) -> xr.DataArray:
        """Trailing 3-month means of Nino3.4."""
        return running_mean(self.truth, 3)

    @property
    def starts(self) -> slice:
        """Starts whose every lead is judged within 1982-2003."""
        last = pd.Period(LAST, "M") - int(self.model.horizon)
        return slice(FIRST, str(last))

    @property
    def n(self) -> int:
        """Number of starts."""
        return int(self.months[NAME].sizes["init"])

    def scores(self, forecast: xr.DataArray, truth: xr.DataArray, *names: str, **more: Any) -> Any:
        """Verify with intervals, and keep what the leak guard says."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", LeakageWarning)
            found = verify(forecast, truth, list(names), confidence=CONFIDENCE, **more)
        self.said += [str(one.message) for one in caught if one.category is LeakageWarning]
        return found


def forecasts(model: Any, sst: xr.DataArray) -> Case:
    """Run the model and its opponents, fit to 1856-1981, on the same starts."""
    case = Case(model, sst)
    past, horizon = sst.sel(time=LEARN), int(model.horizon)
    made = {
        NAME: model,
        "LIM-15": LIM.fit(past, horizon=horizon, modes=15),
        "CSLIM-15": CSLIM.fit(past, horizon=horizon, modes=15),
        "damped persistence": DampedPersistence.fit(past, horizon=horizon),
        "persistence": Persistence.fit(past, horizon=horizon),
        "climatology": Climatology.fit(past, horizon=horizon),
    }
    # the linear models of the literature forecast 3-month means themselves
    of_means = {
        "LIM-15": LIM.fit(past, horizon=horizon, modes=15, smoothing=3),
        "CSLIM-15": CSLIM.fit(past, horizon=horizon, modes=15, smoothing=3),
    }

    def index_of(one: Any, members: int | None = None) -> xr.DataArray:
        # a hindcast says what its model has seen, which the leak guard reads
        return nino_index(hindcast(sst, one, init=case.starts, members=members)).compute()

    for name, one in made.items():
        begin = time.perf_counter()
        case.ensembles[name] = index_of(one, MEMBERS)
        case.seconds[name] = time.perf_counter() - begin
        case.months[name] = index_of(one)
        if name in of_means:
            means = index_of(of_means[name])
        else:
            means = running_mean(case.months[name], 3, history=case.truth)
        case.means[name] = means.isel(lead=slice(2, None))
    return case


def verify_quietly(index: xr.DataArray, truth: xr.DataArray, scores: Sequence[str]) -> xr.Dataset:
    """Verify without repeating what the leak guard has said."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LeakageWarning)
        return verify(index, truth, list(scores))
