r"""Marks of ensembles of rain, start by start: what the card of prediff-small is made of.

A start gives sums that add up (:func:`measured`), for an ensemble of any number of members:

- CRPS by lead in mm/h, by three estimators: of the empirical distribution of the m members
  (mean|x-y| - sum|xi-xj|/(2 m^2)), fair (the same with m (m-1): of independent members it does not
  depend on how many there are), and of the normal distribution with their mean and spread;
- squared error of the mean, variance of the members (m - 1 below), and the rank of the truth among
  them where it or a member is wet, ties (dry cells) broken at random;
- hits, and hits, misses and false alarms together, of the mean and of single members, for cells and
  for the maximum of squares of 4 and of 16 cells;
- power by wavelength at an hour, averaged over rings of the wave number and over members, of
  10 log10 of the rain (at least 0.1 mm/h) and of the rain itself: of the rectangle in which most
  cells are known, its mean removed, its edges tapered by a Hann window, cells that are not always
  known dry in all fields.

Cells and starts are those of ci/nowcast_marks.py.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nowcast_marks import LEVELS, Event, ranks

from xearth.verification.kernels.ensemble import crps_ensemble
from xearth.verification.scores.gaussian import gaussian_crps
from xearth.verification.scores.pooling import pool_values

Sums = dict[str, np.ndarray]

#: Names of the estimators, in the order of the rows of "crps".
ESTIMATORS = ("ensemble", "fair", "Gaussian")
#: Side of the squares in cells.
POOLS = (1, 4, 16)
#: Wavelengths in cells that bound the bands: thirds of octaves.
EDGES = 128 / 2 ** (np.arange(16) / 3)
#: Rain below it has the same logarithm, in mm/h.
LEAST = 0.1
#: Part of a row or column that has to be known, in the rectangle of the spectrum.
KNOWN = 0.6
#: Frames before the start that STEPS reads.
READ = 3
PYSTEPS = '''
import sys
import numpy as np
from pysteps import motion, nowcasts
from pysteps.utils import transformation

frames, members, leads, minutes = np.load(sys.argv[1]), *map(int, sys.argv[3:6])
dbr, _ = transformation.dB_transform(np.nan_to_num(frames), threshold=0.1, zerovalue=-15.0)
v = motion.get_method("LK")(dbr)
made = nowcasts.get_method("steps")(
    dbr, v, leads, n_ens_members=members, n_cascade_levels=6, precip_thr=-10.0, kmperpixel=2.0,
    timestep=minutes, noise_method="nonparametric", vel_pert_method="bps",
    mask_method="incremental", seed=24, num_workers=1,
)
rain, _ = transformation.dB_transform(made, threshold=-10.0, inverse=True)
np.save(sys.argv[2], np.moveaxis(rain, 0, 1).astype(np.float32))
'''  # fmt: skip


def steps(python: str, event: Event, position: int, members: int) -> np.ndarray:
    """Return members (L, m, H, W) of STEPS of a python that has pysteps."""
    frames = event.rain.values[position - READ + 1 : position + 1]
    told = [str(int(n)) for n in (members, event.leads, event.minutes)]
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "given.npy", Path(folder) / "made.npy"
        np.save(given, frames)
        done = subprocess.run(
            [python, "-c", PYSTEPS, str(given), str(made), *told],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            sys.exit(f"pysteps failed:\n{done.stderr[-2000:]}")
        found: np.ndarray = np.load(made)
    return found


def measured(event: Event, position: int, fields: np.ndarray) -> Sums:
    """Return the sums of an ensemble (L, m, H, W) in mm/h from the start at a position."""
    fields = np.nan_to_num(fields)
    after = event.rain.values[position + 1 : position + 1 + event.leads]
    members, truth = event.cells(fields), event.cells(after)
    mean = members.mean(axis=1, dtype=np.float64)
    wide = members.var(axis=1, ddof=1, dtype=np.float64) if fields.shape[1] > 1 else 0.0 * mean
    by_pool = [_counts(event, fields, after, pool) for pool in POOLS]
    power = spectra(event, fields[-1]), spectra(event, after[-1:])
    return {
        "members": np.array(fields.shape[1]),
        "crps": _crps(members, truth, mean, wide),
        "squared": ((mean - truth) ** 2).mean(axis=1),
        "variance": wide.mean(axis=1),
        "ranks": ranks(members, truth),
        "csi_mean": np.stack([counts[0] for counts in by_pool]),
        "csi_members": np.stack([counts[1] for counts in by_pool]),
        "power": power[0],
        "power_observed": power[1],
    }


def _crps(
    members: np.ndarray, truth: np.ndarray, mean: np.ndarray, variance: np.ndarray
) -> np.ndarray:
    """Return the score (estimator, L) of members (L, m, cell)."""
    names = ESTIMATORS[:2] if members.shape[1] > 1 else ("ensemble", "ensemble")
    found = [
        [crps_ensemble(x, y, axis=0, estimator=name).mean(dtype=np.float64)  # type: ignore[arg-type]
         for x, y in zip(members, truth, strict=True)]
        for name in names
    ]  # fmt: skip
    normal = gaussian_crps(truth - mean, np.sqrt(variance)).mean(axis=1)
    return np.array([*found, normal])


def _counts(
    event: Event, fields: np.ndarray, after: np.ndarray, pool: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return (both, either) as (2, level, L) of the mean and of single members, pooled."""
    mean, members = fields.mean(axis=1, keepdims=True), fields
    if pool == 1:
        some = [event.cells(x) for x in (mean, members, after[:, None])]
    else:
        some = [pooled(event, x, pool) for x in (mean, members, after[:, None])]
    yes = [[x >= level for level in LEVELS] for x in some]
    found = []
    for kind in yes[:2]:
        pairs = list(zip(kind, yes[2], strict=True))
        both = np.array([(a & b).sum(axis=(1, 2)) for a, b in pairs])
        either = np.array([(a | b).sum(axis=(1, 2)) for a, b in pairs])
        found.append(np.stack([both, either]))
    return found[0], found[1]


def pooled(event: Event, fields: np.ndarray, size: int) -> np.ndarray:
    """Return the maxima (..., square) of squares that hold cells which are scored."""
    inside = np.where(event.seen, np.nan_to_num(fields), 0.0)
    step: dict[str, Any] = {"size": size, "stride": size, "how": "max", "edge": "keep"}
    some = pool_values(event.seen.astype(np.float32), **step) > 0
    found: np.ndarray = pool_values(inside, **step)[..., some]
    return found


def spectra(event: Event, fields: np.ndarray) -> np.ndarray:
    """Return the power (2, band) of fields (m, H, W): of decibels, of rain; NaN: no such wave."""
    rows, columns = (
        slice(held[0], held[-1] + 1)
        for held in (np.flatnonzero(event.seen.mean(axis) > KNOWN) for axis in (1, 0))
    )
    rain = np.where(event.seen, np.nan_to_num(fields), 0.0)[:, rows, columns].astype(np.float64)
    shape = rain.shape[1:]
    window = np.outer(*(np.hanning(n + 2)[1:-1] for n in shape))
    k = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1]))
    found = []
    for field in (10 * np.log10(np.maximum(rain, LEAST)), rain):
        apart = (field - field.mean(axis=(1, 2), keepdims=True)) * window
        power = (np.abs(np.fft.fft2(apart)) ** 2).mean(axis=0) / (window**2).sum()
        bands = [(k >= 1 / a) & (k < 1 / b) for a, b in itertools.pairwise(EDGES)]
        found.append([power[band].mean() if band.any() else np.nan for band in bands])
    return np.array(found)


# -- marks of some starts -------------------------------------------------------------------------


def together(starts: Sequence[Mapping[str, np.ndarray]]) -> Sums:
    """Return the means of the sums of starts; counts are added."""
    added = ("ranks", "csi_mean", "csi_members")
    return {
        key: np.sum([one[key] for one in starts], axis=0)
        if key in added
        else np.mean([one[key] for one in starts], axis=0)
        for key in starts[0]
    }


def spread_over_skill(sums: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return by lead what is 1 where members and truth are draws of one law; NaN: one member."""
    m = int(sums["members"])
    if m == 1:
        return np.full_like(sums["squared"], np.nan)
    found: np.ndarray = np.sqrt(sums["variance"] * (m + 1) / m / sums["squared"])
    return found


def csi(counts: np.ndarray) -> np.ndarray:
    """Return the threat score (pool, level), the mean over leads, of counts (pool, 2, level, L)."""
    found: np.ndarray = (counts[:, 0] / np.maximum(counts[:, 1], 1)).mean(axis=-1)
    return found


def octaves(sums: Mapping[str, np.ndarray], kind: int) -> np.ndarray:
    """Return the power over that of the truth in dB, for wavelengths of 128-64, ... 8-4 cells."""
    by_band = [sums[key][kind].reshape(-1, 3) for key in ("power", "power_observed")]
    here = np.isfinite(by_band[0]) & np.isfinite(by_band[1])
    # waves of a band are so many as its area in the plane of wave numbers
    area = np.diff(EDGES**-2.0).reshape(-1, 3) * here
    model, truth = (np.where(here, power, 0.0) for power in by_band)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: np.ndarray = 10 * np.log10((model * area).sum(1) / (truth * area).sum(1))
    return found


def with_members(score: float, fair: float, given: int, wanted: int) -> float:
    """Return the expected CRPS of another number of independent members.

    Examples
    --------
    >>> round(with_members(0.1677, 0.1611, 20, 10), 4)
    0.1743
    """
    return fair + (score - fair) * given / wanted
