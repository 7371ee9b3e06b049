"""Golden vectors of published evaluators: nowcast scores by SEVIR's, an ENSO index by ICAR's.

Counts have to be equal. Ratios were computed in single precision by the originals and have to
agree to ``RATIO``; numbers made by the recipes of this file in double precision to ``DOUBLE``.
The originals' column "bias" is the square of a ratio over ln 2 and is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from golden_icar import KEYS, icar
from golden_result import Result, relative_error
from golden_sevir import KEYS as SEVIR_KEYS
from golden_sevir import facts

from xearth.verification.frechet import frechet_distance
from xearth.verification.protocols.crps_protocols import CRPS_PROTOCOLS
from xearth.verification.protocols.event_protocols import EVENT_PROTOCOLS, EventProtocol
from xearth.verification.protocols.index_protocols import (
    INDEX_PROTOCOLS,
    IndexProtocol,
    icar_weights,
)
from xearth.verification.scores.deterministic import mae, rmse

RATIO = 1e-6
DOUBLE = 1e-12

# what the modes of the original evaluator make of one table, tables by lead, and their mean
MODES: Mapping[str, Mapping[str, Any]] = {
    "0": {"table": "all", "average": True},
    "1": {"table": "lead", "average": False},
    "2": {"table": "lead", "average": True},
}
# error and tolerance of each number of a case
Errors = Mapping[str, tuple[float, float]]

COUNTS = {"hits": "hits", "misses": "misses", "fas": "false_alarms"}
RATIOS = ("csi", "pod", "sucr")


def judged(case: str, errors: Mapping[str, tuple[float, float]]) -> Result:
    """Return the verdict on a case from its errors and what each may be."""
    bad = [
        f"{name}: {error:.1e} > {limit:g}"
        for name, (error, limit) in errors.items()
        if not error <= limit
    ]
    worst = max(error for error, _ in errors.values())
    note = "; ".join(bad) or f"{len(errors)} numbers"
    return Result(case, output=worst, note=note, failed=bool(bad))


def guarded(case: str, run: Callable[[], Mapping[str, tuple[float, float]]]) -> Result:
    """Run one case; what it raises is its verdict."""
    try:
        return judged(case, run())
    except Exception as error:  # one broken case must not hide the others
        return Result(case, note=f"{type(error).__name__}: {error}".splitlines()[0], failed=True)


def _frames(values: np.ndarray) -> xr.DataArray:
    """Label (..., T, H, W, 1) as (init, lead, y, x); updates and samples together are the starts."""
    frames = values.reshape(-1, *values.shape[-4:-1])
    return xr.DataArray(frames, dims=("init", "lead", "y", "x"), attrs={"units": "1"})


def _gap(a: Any, b: Any) -> float:
    """Return the largest absolute difference, infinite for another shape or another NaN."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape or (np.isnan(a) != np.isnan(b)).any():
        return float("inf")
    return float(np.nanmax(np.abs(a - b), initial=0.0))


# --- metrics/sevir_skill ----------------------------------------------------------------------


def sevir(folder: Path, index: Mapping[str, Any]) -> Iterator[Result]:
    """Run every mode, layout and NaN variant, and the scores of single batches."""
    path = folder / "sevir_skill.npz"
    if not path.is_file():
        yield Result("sevir_skill", note="no file sevir_skill.npz", failed=True)
        return
    with np.load(path, allow_pickle=False) as stored:
        pred, target = stored["pred"], stored["target"]
    for name, expected in index["results"].items():
        yield guarded(
            f"sevir_skill/{name}",
            lambda n=name, e=expected: _sevir_case(n, e, pred, target, index),
        )
    batch = {key: index[key] for key in ("mse_01", "mae_01", _BATCH) if key in index}
    yield guarded("sevir_skill/one batch", lambda: _one_batch(batch, pred, target))


_BATCH = "single_batch_functions_eps1e6_on_0_255"


def _one_batch(index: Mapping[str, Any], pred: np.ndarray, target: np.ndarray) -> Errors:
    """Check the functions of single batches (the first update), and the errors of fractions."""
    f, o = _frames(pred), _frames(target)
    found: dict[str, tuple[float, float]] = {}
    if "mse_01" in index:
        found["mse"] = relative_error(rmse(f, o) ** 2, index["mse_01"]), RATIO
        found["mae"] = relative_error(mae(f, o), index["mae_01"]), RATIO
    scores = index.get(_BATCH, {})
    limits = tuple(float(t) for t in scores)
    f, o = _frames(pred[0]), _frames(target[0])
    protocol = replace(EVENT_PROTOCOLS["sevir"], epsilon=1e-6, thresholds=limits)
    for key in RATIOS if scores else ():
        ours = protocol.score(f, o)[key]
        found[key] = _gap(ours, [scores[t][key] for t in scores]), RATIO
    if scores:
        counts = protocol.score(f, o)
        ratio = (counts.hits + counts.false_alarms) / (counts.hits + counts.misses)
        found["frequency bias"] = _gap(ratio, [scores[t]["bias"] for t in scores]), RATIO
    return found


def _sevir_case(
    name: str,
    expected: Mapping[str, Any],
    pred: np.ndarray,
    target: np.ndarray,
    index: Mapping[str, Any],
) -> Mapping[str, tuple[float, float]]:
    if not name.startswith("mode"):
        raise LookupError("not a kind of case this version knows")
    mode, _, missing = name.removeprefix("mode").split("_")
    if missing == "nanTrue":
        pred, target = pred.copy(), target.copy()
        pred[1, 0, 1, 2:5, 2:9, 0] = np.nan
        target[2, 1, 3, 0, :, 0] = np.nan
    protocol = replace(
        EVENT_PROTOCOLS["sevir"],
        thresholds=tuple(float(t) for t in index["thresholds"]),
        epsilon=index["eps"],
        **MODES[mode],
    )
    found = protocol.score(_frames(pred), _frames(target))
    ours = [[expected["scores"][f"{t}"][key] for t in index["thresholds"]] for key in RATIOS]
    errors = {
        key: (_gap(found[key], values), RATIO) for key, values in zip(RATIOS, ours, strict=True)
    }
    for key in RATIOS:
        errors[f"mean {key}"] = (_gap(found[f"{key}_m"], expected["scores"]["avg"][key]), RATIO)
    by_lead = replace(protocol, **MODES["0" if mode == "0" else "1"])
    counted = by_lead.score(_frames(pred), _frames(target))
    for theirs, mine in COUNTS.items():
        errors[theirs] = (_gap(counted[mine], expected[theirs]), 0.0)
    return errors


# --- metrics/enso -----------------------------------------------------------------------------


# What other runners read, or what says how something is read.
ELSEWHERE = ("enso_score", "sevir_skill", "sevir_preprocess", "nbody", "windows_args")


def enso(folder: Path, index: Mapping[str, Any]) -> Iterator[Result]:
    """Run the ENSO scores, and its series, windows and numbers of samples."""
    path = folder / "enso_score.npz"
    if "enso" not in index or not path.is_file():
        yield Result("enso_score", note="no scores: no file enso_score.npz", failed=True)
        return
    with np.load(path, allow_pickle=False) as stored:
        arrays = {key: stored[key] for key in stored.files}
    for name, run in _ENSO.items():
        yield guarded(f"enso/{name}", lambda r=run: r(arrays, index["enso"]))
    yield from icar(index)
    yield from facts(index)
    for name in [*index.keys() - {"enso"}, *(path.stem for path in folder.glob("*.npz"))]:
        if name not in (*ELSEWHERE, *KEYS, *SEVIR_KEYS):
            yield Result(name, skipped=True, note="data sets and their windows")


def _index(values: np.ndarray) -> xr.DataArray:
    coords = {"lead": ("lead", np.arange(1, values.shape[1] + 1), {"units": "months"})}
    return xr.DataArray(values, coords, ("init", "lead"), attrs={"units": "degC"})


def _box(values: np.ndarray, facts: Mapping[str, Any]) -> xr.DataArray:
    low, high = facts["SST_MIN"], facts["SST_MAX"]
    coords = {
        "lead": ("lead", np.arange(1, values.shape[1] + 1), {"units": "months"}),
        "lat": ("lat", np.array([-5.0, 0.0, 5.0]), {"units": "degrees_north"}),
        "lon": ("lon", np.arange(190.0, 241.0, 5.0), {"units": "degrees_east"}),
    }
    kelvin = values.astype(np.float64) * (high - low) + low
    return xr.DataArray(kelvin, coords, ("init", "lead", "lat", "lon"), attrs={"units": "degC"})


ICAR: IndexProtocol = INDEX_PROTOCOLS["icar_enso"]
SMOOTHED = replace(ICAR, smoothing="given")


def _twelve(arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> Errors:
    found = SMOOTHED.score(_index(arrays["nino_pred"]), _index(arrays["nino_true"]))
    number = found.sizes["lead"]
    own = (arrays["custom_w"][:number] * found.correlation.values).sum()
    pairs = {
        "C-Nino3.4-M": (found.correlation_m, facts["corr_mean"]),
        "sum": (found.correlation.sum(), facts["corr_sum"]),
        "C-Nino3.4-WM": (found.correlation_wm, facts["weighted_mean_default"]),
        "weighted sum": (found.correlation_wm * number, facts["weighted_sum_default"]),
        "own weights": (own, facts["weighted_sum_custom"]),
        "rmse": (found.rmse_m, facts["rmse_mean"]),
        "rmse sum": (found.rmse.sum(), facts["rmse_sum"]),
    }
    return {name: (relative_error(a, b), RATIO) for name, (a, b) in pairs.items()}


def _twenty_four(arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> Errors:
    found = SMOOTHED.score(_index(arrays["p24"]), _index(arrays["t24"]))
    plain, weighted = facts["n24_corr_rmse"], facts["n24_weighted_default_rmse"]
    return {
        "sum": (relative_error(found.correlation.sum(), plain[0]), RATIO),
        "rmse sum": (relative_error(found.rmse.sum(), plain[1]), RATIO),
        "weighted sum": (relative_error(found.correlation_wm * 24, weighted[0]), RATIO),
    }


def _weights(_: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> Errors:
    return {
        f"{n} leads": (relative_error(icar_weights(n), facts[f"weights{n}"]), RATIO)
        for n in (12, 24)
    }


def _smoothing(arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> Errors:
    index = ICAR._index(_box(arrays["box_pred"], facts))
    smooth = ICAR._smooth(index, "lead")
    return {"index": (relative_error(smooth, arrays["nino_pred"]), 1e-5)}


def _from_fields(arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> Errors:
    found = ICAR.score(_box(arrays["box_pred"], facts), _box(arrays["box_true"], facts))
    return {"C-Nino3.4-M": (relative_error(found.correlation_m, facts["corr_mean"]), RATIO)}


def _twenty_six(arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> Errors:
    found = ICAR.score(_box(arrays["box_pred26"], facts), _box(arrays["box_true26"], facts))
    expected = facts["ENSOScore_out26"]["weighted_corr_sum"]
    return {"weighted sum": (relative_error(found.correlation_wm * 24, expected), RATIO)}


_ENSO: Mapping[str, Callable[[Mapping[str, np.ndarray], Mapping[str, Any]], Errors]] = {
    "12 leads": _twelve,
    "24 leads": _twenty_four,
    "weights": _weights,
    "box and smoothing": _smoothing,
    "fields of 14 months": _from_fields,
    "fields of 26 months": _twenty_six,
}


# --- prediff: its evaluation -------------------------------------------------------------------


def _skill(folder: Path, file: str) -> Errors:
    with np.load(folder / file, allow_pickle=False) as stored:
        arrays = {key: stored[key] for key in stored.files}
    pred = _frames(arrays["pred"])
    target = _frames(arrays["target_u8"].astype(np.float32) / np.float32(255))
    errors: dict[str, tuple[float, float]] = {}
    for name in ("sevir", "sevir_pool4", "sevir_pool16"):
        for mode, knobs in MODES.items():
            protocol: EventProtocol = replace(EVENT_PROTOCOLS[name], **knobs)
            found = protocol.score(pred, target)
            head = f"{name}.mode{mode}"
            for key in RATIOS:
                errors[f"{head}.{key}"] = _gap(found[key], arrays[f"{head}.{key}"]), RATIO
                mean = _gap(found[f"{key}_m"], arrays[f"{head}.{key}.avg"])
                errors[f"{head}.{key}.avg"] = mean, RATIO
            if mode == "1":
                for theirs, mine in COUNTS.items():
                    errors[f"{name}.{theirs}"] = _gap(found[mine], arrays[f"{name}.{theirs}"]), 0.0
    return errors


def _ensemble(folder: Path) -> tuple[xr.DataArray, xr.DataArray]:
    with np.load(folder / "eval_crps.npz", allow_pickle=False) as stored:
        dims = ("member", "init", "y", "x")
        return xr.DataArray(stored["ens"], dims=dims), xr.DataArray(stored["obs"], dims=dims[1:])


def _crps(folder: Path, file: str) -> Errors:
    with np.load(folder / file, allow_pickle=False) as stored:
        expected = {key: float(stored[f"{key}_mean"]) for key in ("crps", "fair")}
    f, o = _ensemble(folder)
    return {
        key: (relative_error(CRPS_PROTOCOLS[name].score(f, o).crps, expected[key]), DOUBLE)
        for key, name in (("crps", "ensemble_crps"), ("fair", "fair_crps"))
    }


def _gaussian(folder: Path, file: str) -> Errors:
    with np.load(folder / file, allow_pickle=False) as stored:
        expected = float(stored["mean"])
    found = CRPS_PROTOCOLS["cascast_crps"].score(*_ensemble(folder)).crps
    return {"gaussian crps": (relative_error(found, expected), DOUBLE)}


def _frechet(folder: Path, file: str) -> Errors:
    with np.load(folder / file, allow_pickle=False) as stored:
        found = frechet_distance(stored["real"], stored["fake"])
        names = [name for name in stored.files if name.startswith("fd_")]
        return {name: (relative_error(found, stored[name]), RATIO) for name in names}


PREDIFF: Mapping[str, Callable[[Path, str], Errors]] = {
    "eval_sevir_skill": _skill,
    "eval_crps": _crps,
    "eval_crps_gaussian": _gaussian,
    "eval_frechet": _frechet,
}
