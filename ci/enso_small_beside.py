"""Train enso-small with the warm water volume beside the field, and hold it against what ships.

Learned from 1856-1981 as what ships, so the volume is known in three of 126 years: the months of
1979-1981. Share and width are chosen for each stretch of starts on the others, as in
``ci/train_enso_small.py``; Nino3.4 of starts 1981-12 to 2002-06 is judged, all targets in 1982-2003.

    python ci/enso_small_beside.py --threads 1      # six minutes on one core
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
import train_enso_small as small
import xarray as xr
from scipy.special import ndtr

from xearth.data.sources import samples
from xearth.forecasting.fit import fit
from xearth.forecasting.forecaster import NetworkForecaster
from xearth.forecasting.indices import with_indices
from xearth.forecasting.io import load
from xearth.verification import compare

JUDGED = small.JUDGED


def trained(data: xr.Dataset) -> NetworkForecaster:
    """Return the forecaster of the recipe that ships, with the series of ``data``."""
    past = data.sel(time=small.TRAIN)
    return fit(small.sized(past.sst), past, window=small.WINDOW, recipe=small.RECIPE)


def nested(parts: small.Parts, season: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """Return mean and deviation (I, L) of Nino3.4, each stretch with the choice of the others."""
    center, sigma, shares = np.empty_like(parts.guess), np.empty_like(parts.guess), []
    count = len(parts.month)
    for own in np.array_split(np.arange(count), small.STRETCHES):
        reach = small.WINDOW.horizon
        far = np.r_[0 : max(own[0] - reach, 0), own[-1] + reach + 1 : count]
        choice = small.choose(parts.rows(far), season)
        mine = parts.rows(own)
        center[own], spread = mine.normal(choice.share)
        sigma[own] = choice.widths(season)[mine.month] * spread
        shares.append(choice.share)
    return center, sigma, shares


def losses(parts: small.Parts, center: np.ndarray, sigma: np.ndarray) -> dict[str, np.ndarray]:
    """Return squared error and CRPS of normal distributions, (I, L)."""
    z = (parts.truth - center) / sigma
    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    crps = sigma * (z * (2 * ndtr(z) - 1) + 2 * density - 1 / np.sqrt(np.pi))
    return {"squared error (K2)": np.square(parts.truth - center), "CRPS (K)": crps}


def main() -> None:
    """Train, and print both beside each other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    torch.set_num_threads(parser.parse_args().threads)
    sst = samples.open("kaplan_sst").load().rename("sst")
    data = with_indices(sst, samples.open("xro_indices").WWV.load())
    fed = trained(data)
    print(fed.provenance["indices"])
    shipped, season = small.unchosen(load(small.ARTIFACT))
    found = {}
    season_fed = small.seasonal_width(small.parts_of(fed, data, slice("1900-01", "1980-06")))
    for name, model, given, widths in (
        ("with WWV", fed, data, season_fed), ("as shipped", shipped, sst, season)
    ):  # fmt: skip
        parts = small.parts_of(model, given, small.STARTS)
        center, sigma, shares = nested(parts, widths)
        found[name] = losses(parts, center, sigma)
        r = [np.corrcoef(center[:, n], parts.truth[:, n])[0, 1] for n in range(JUDGED)]
        inside = (np.abs(parts.truth - center) <= 1.6449 * sigma)[:, :JUDGED].mean()
        rmse = np.sqrt(found[name]["squared error (K2)"].mean(0))[1:JUDGED].mean()
        crps = found[name]["CRPS (K)"][:, :JUDGED].mean()
        print(f"{name}: shares {shares}; r of leads 2-12 {np.mean(r[1:]):.3f}, RMSE {rmse:.3f} K, "
              f"CRPS of leads 1-12 {crps:.4f} K, coverage {inside:.3f}")  # fmt: skip
        print("   r by lead " + " ".join(f"{v:.2f}" for v in r))
    starts = sst.sel(time=small.STARTS).time.values
    for score in found["with WWV"]:
        one, other = (labeled(found[name][score], starts, score) for name in found)
        told = compare(one, other, confidence=0.95)
        whole = compare(one.mean("lead"), other.mean("lead"), confidence=0.95)
        print(f"{score}, with less without, leads 1-{JUDGED}, then their mean:")
        for table in (told, whole):
            rows = (np.atleast_1d(table[key].values) for key in ("value", "lower", "upper"))
            for value, low, high in zip(*rows, strict=True):
                print(f"   {value:+.4f} [{low:+.4f}, {high:+.4f}]")


def labeled(values: np.ndarray, starts: np.ndarray, name: str) -> xr.DataArray:
    """Return losses (I, L) of the judged leads with their labels."""
    coords = {"init": starts, "lead": np.arange(1, JUDGED + 1)}
    return xr.DataArray(values[:, :JUDGED], coords, ("init", "lead"), name)


if __name__ == "__main__":
    main()
