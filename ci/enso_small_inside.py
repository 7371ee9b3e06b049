"""Compare first guesses of enso-small inside 1856-1981: learn up to a year, judge the ten after it.

Seven times, with data up to 1910, 1920 ... 1970; the starts are pooled. Prints the correlation and
the RMSE of monthly Nino3.4, mean over leads 2-12 and by lead, next to LIM-15 and CS-LIM-15 that
learned from the same years. This is where the settings of the first guess were chosen.

    python ci/enso_small_inside.py          # ten minutes on one idle core
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from xearth.data.sources import samples
from xearth.fields.regions import NINO34
from xearth.forecasting.firstguess import LinearGuess
from xearth.forecasting.stepwise import Stepwise
from xearth.reference.cslim import CSLIM
from xearth.reference.lim import LIM
from xearth.verification.scores.indices import nino_index

HISTORY, HORIZON, LAGS = 12, 18, (0, 1, 3, 6, 11)
SEVERAL = (5, 10, 20)
STEPS = Stepwise(share=0.5, leads=6, components=15)
GUESSES = {
    "linear, 10 EOFs": LinearGuess(components=10, lags=LAGS),
    "linear, no memory": LinearGuess(components=10, lags=(0,)),
    "linear, mean of 5, 10, 20": LinearGuess(components=SEVERAL, lags=LAGS),
    "... and products": LinearGuess(components=SEVERAL, lags=LAGS, products=2),
    "... and recent years": LinearGuess(components=SEVERAL, lags=LAGS, products=2, half_life=480.0),
    "... and steps": LinearGuess(
        components=SEVERAL, lags=LAGS, products=2, half_life=480.0, stepwise=STEPS
    ),
    "... less annual (shipped)": LinearGuess(
        components=SEVERAL,
        lags=LAGS,
        products=2,
        half_life=480.0,
        stepwise=STEPS,
        annual=0.7,
        penalties=(1.0, 3.0, 10.0, 30.0, 100.0),
    ),
}


def guessed(spec: LinearGuess, sst: xr.DataArray, last: int, starts: np.ndarray) -> np.ndarray:
    """Return Nino3.4 (I, L) by a first guess that learned from the months before ``last``."""
    known = sst.notnull().all("time").values
    values = sst.values[..., None].astype(np.float64)
    center, scale = values[:last, known].mean(), values[:last, known].std()
    fields = np.where(known[..., None], (values - center) / scale, 0.0)
    area = np.cos(np.deg2rad(sst.lat.values))[:, None] * known

    def histories(at: np.ndarray) -> np.ndarray:
        return np.stack([fields[i - HISTORY + 1 : i + 1] for i in at])

    learned = np.arange(HISTORY - 1, last - HORIZON)
    targets = np.stack([fields[i + 1 : i + 1 + HORIZON] for i in learned])
    how = {"season": learned % 12 / 12, "area": area / area.max()}
    found = spec.fit(histories(learned), targets, **how)[0](histories(starts), starts % 12 / 12)
    box = NINO34.weights(sst).transpose("lat", "lon").values * area
    return np.einsum("nlhwc,hw->nl", found, box / box.sum()) * scale + center


def main() -> None:
    """Print the table."""
    sst = samples.open("kaplan_sst").load()
    truth = nino_index(sst).values
    end = (1982 - 1856) * 12
    found: dict[str, list[np.ndarray]] = {}
    observed = []
    for year in range(1911, 1972, 10):
        last = (year - 1856) * 12
        starts = np.arange(last - 1, min(last - 1 + 120, end - HORIZON))
        observed.append(truth[starts[:, None] + np.arange(1, HORIZON + 1)])
        past, at = sst.isel(time=slice(last)), sst.time.values[starts]
        for name, kind in {"LIM-15": LIM, "CS-LIM-15": CSLIM}.items():
            one = kind.fit(past, horizon=HORIZON, modes=15).forecast(sst, init=at)
            found.setdefault(name, []).append(nino_index(one).values)
        for name, spec in GUESSES.items():
            found.setdefault(name, []).append(guessed(spec, sst, last, starts))
    y = np.concatenate(observed)
    print(f"{len(y)} starts; r and RMSE (K), mean over leads 2-12; r at leads 1-12")
    for name, several in found.items():
        f = np.concatenate(several)
        r = [np.corrcoef(f[:, n], y[:, n])[0, 1] for n in range(HORIZON)]
        e = np.sqrt(np.square(f - y).mean(0))
        by_lead = " ".join(f"{v:.2f}" for v in r[:12])
        print(f"{name:28} {np.mean(r[1:12]):.3f} {e[1:12].mean():.3f}   {by_lead}")


if __name__ == "__main__":
    main()
