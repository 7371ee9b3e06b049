"""Golden vectors of scores: every entry of an index of metrics against all of its peers.

An entry names its inputs, its parameters and the values of other libraries. It is computed here
with the functions that users call and held against each peer: where the value is not smaller
than a thousandth of the largest one, the relative error has to be below ``LIMIT``. Peers that
the index itself records as further apart (single precision, quadrature, another epsilon) are
judged by the distance it records.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from golden_result import Result

from xearth.verification.align import observations_at
from xearth.verification.protocols.event_protocols import EVENT_PROTOCOLS
from xearth.verification.protocols.index_protocols import INDEX_PROTOCOLS
from xearth.verification.scores import (
    categorical,
    deterministic,
    distributions,
    multivariate,
    probabilistic,
    ranks,
    spatial,
)
from xearth.verification.scores.brier import brier, brier_decomposition
from xearth.verification.scores.pooling import pool
from xearth.verification.scores.reliability import reliability, roc_area
from xearth.verification.significance import accuracy_tests

LIMIT = 1e-6

Array = np.ndarray


@dataclass(frozen=True)
class Entry:
    """One entry of the index: what it is called, its parameters, its inputs."""

    name: str
    params: Mapping[str, Any]
    arrays: Mapping[str, Array]
    match: re.Match[str]
    definition: str
    expected: Array

    def get(self, *endings: str) -> Array:
        """Return the input whose name has one of these endings."""
        for ending in endings:
            for key, value in self.arrays.items():
                if key.endswith(ending):
                    return value
        raise KeyError(f"no input named *{' or *'.join(endings)} among {list(self.arrays)}")


Found = Any  # an array, or one for each peer that has a convention of its own


# --- what the inputs are ------------------------------------------------------------------


def _ensemble(e: Entry) -> tuple[xr.DataArray, xr.DataArray]:
    """Return the (point, member) ensemble and its truth."""
    f, o = e.get("_fc"), e.get("_obs")
    return xr.DataArray(f, dims=("point", "member")), xr.DataArray(o, dims="point")


def _hindcast(e: Entry) -> tuple[xr.DataArray, xr.DataArray]:
    """Return the (init, lead, member, lat, lon) hindcast and its truth."""
    dims = ("init", "lead", "member", "lat", "lon")
    f = xr.DataArray(e.get("_fc"), dims=dims)
    return f, xr.DataArray(e.get("_obs", "_obs_nan"), dims=("init", "lead", "lat", "lon"))


def _cosine(e: Entry) -> xr.DataArray:
    return xr.DataArray(np.cos(np.deg2rad(e.get("_lat"))), dims="lat")


def _decadal(e: Entry) -> tuple[xr.DataArray, xr.DataArray]:
    """Return the yearly hindcast and its truth at the valid times."""
    f, o = e.get("_fc"), e.get("_obs")
    coords = {
        "init": pd.date_range("1990", periods=f.shape[0], freq="YS"),
        "lead": ("lead", np.arange(1, f.shape[1] + 1), {"units": "years"}),
        "member": np.arange(f.shape[2]),
    }
    forecast = xr.DataArray(f, coords, ("init", "lead", "member", "y", "x"))
    for name, standard in {
        "init": "forecast_reference_time",
        "lead": "forecast_period",
        "member": "realization",
    }.items():
        forecast[name].attrs["standard_name"] = standard
    time = pd.date_range("1990", periods=o.shape[0], freq="YS")
    truth = xr.DataArray(o, {"time": ("time", time, {"standard_name": "time"})}, ("time", "y", "x"))
    return forecast, observations_at(forecast, truth)


def _frames(e: Entry) -> tuple[xr.DataArray, xr.DataArray]:
    """Return the (init, lead, y, x) fields of events."""
    dims = ("init", "lead", "y", "x")
    return xr.DataArray(e.get("_fc"), dims=dims), xr.DataArray(e.get("_obs"), dims=dims)


def _sst(e: Entry) -> tuple[xr.DataArray, xr.DataArray]:
    """Return forecast and truth on the 5-degree grid around Nino3.4."""
    found = []
    for key in ("_pred_sst", "_true_sst"):
        values = e.get(key).astype(np.float64)
        coords = {
            "lead": ("lead", np.arange(1, values.shape[1] + 1), {"units": "months"}),
            "lat": ("lat", np.arange(-15.0, 16.0, 5.0), {"units": "degrees_north"}),
            "lon": ("lon", np.arange(180.0, 251.0, 5.0), {"units": "degrees_east"}),
        }
        found.append(xr.DataArray(values, coords, ("init", "lead", "lat", "lon")))
    return found[0], found[1]


# --- how each kind of entry is computed -----------------------------------------------------


def _crps(e: Entry) -> Found:
    estimator = "ensemble" if e.match["kind"] == "ecdf" else e.match["kind"]
    return probabilistic.crps_ensemble(*_ensemble(e), estimator=estimator, dim=())


def _components(e: Entry) -> Found:
    parts = probabilistic.crps_components(
        *_ensemble(e), estimator="fair" if "fair" in e.name else "ensemble", dim=()
    )
    names = {"under": "underforecast", "over": "overforecast"}
    order = [names.get(part, part) for part in e.params["order"]]
    return parts.sel(component=order).transpose("component", ...)


def _tail(e: Entry) -> Found:
    kind, params = e.match["kind"], e.params
    bounds = {
        "upper_tail": {"lower": params.get("threshold")},
        "lower_tail": {"upper": params.get("threshold")},
        "interval": {"lower": params.get("lower"), "upper": params.get("upper")},
    }[kind]
    estimator = "fair" if "fair" in e.name else "ensemble"
    return probabilistic.threshold_weighted_crps(
        *_ensemble(e), estimator=estimator, dim=(), **bounds
    )


def _brier_threshold(e: Entry) -> Found:
    op = e.params.get("op", ">" if "_gt" in e.name else ">=")
    score = brier(
        *_ensemble(e),
        thresholds=e.params["thresholds"],
        op=op,
        estimator="fair" if "fair" in e.name else "ensemble",
        dim=(),
    )
    return score.transpose("point", "threshold")


def _probabilities(e: Entry) -> tuple[xr.DataArray, xr.DataArray]:
    return xr.DataArray(e.get("_fc"), dims="point"), xr.DataArray(e.get("_obs"), dims="point")


def _decomposition(e: Entry) -> Found:
    names = {"REL": "reliability", "RES": "resolution", "UNC": "uncertainty"}
    bins = _edges(e) if "edges" in e.params else None
    parts = brier_decomposition(*_probabilities(e), bins=bins)
    return parts.sel(brier_component=[names[name] for name in e.params["order"]])


def _edges(e: Entry) -> Any:
    """Read the edges of an entry: numbers, or ``linspace(0,1,n)``."""
    edges = e.params.get("edges", "linspace(0,1,11)")
    if not isinstance(edges, str):
        return edges
    return np.linspace(0, 1, int(re.fullmatch(r"linspace\(0,\s*1,\s*(\d+)\)", edges)[1]))


def _reliability(e: Entry) -> Found:
    return reliability(*_probabilities(e), bins=_edges(e)).frequency


def _spread_skill(e: Entry) -> Found:
    f, o = _ensemble(e)
    if "unbiased" in e.name:
        return probabilistic.unbiased_spread_skill(f, o)
    if "M+1" in (e.definition + str(e.params)).replace(" ", ""):
        return probabilistic.spread_skill_ratio(f, o)
    return probabilistic.spread(f) / probabilistic.skill(f, o)


def _normal(e: Entry) -> Found:
    function = distributions.crps_gaussian if e.name.startswith("crps") else None
    function = function or distributions.log_score_gaussian
    arrays = (xr.DataArray(e.get(key), dims="point") for key in ("_mu", "_sig", "_obs"))
    return function(*arrays, dim=())


def _numbers(e: Entry) -> dict[str, float]:
    return {key: value for key, value in e.params.items() if isinstance(value, int | float)}


# the parameters of a family from the inputs mu, sig and shape, and the numbers of the entry
FAMILIES: Mapping[str, Callable[[Mapping[str, Any], Mapping[str, float]], Mapping[str, Any]]] = {
    "logistic": lambda a, _: {"mu": a["mu"], "sigma": a["sig"]},
    "laplace": lambda a, _: {"location": a["mu"], "scale": a["sig"]},
    "t": lambda a, p: {"df": p["df"], "location": a["mu"], "scale": a["sig"]},
    "gamma": lambda a, _: {"shape": a["shape"], "scale": a["sig"]},
    "lognormal": lambda a, _: {"mulog": 0.3 * a["mu"], "sigmalog": 0.3 * a["sig"]},
    "loglogistic": lambda a, _: {"mulog": 0.3 * a["mu"], "sigmalog": 0.3 * a["sig"]},
    "loglaplace": lambda a, _: {"locationlog": 0.3 * a["mu"], "scalelog": 0.3 * a["sig"]},
    "exponential": lambda a, _: {"rate": 1 / a["sig"]},
    "gev": lambda a, p: {"shape": p["shape"], "location": a["mu"], "scale": a["sig"]},
    "gpd": lambda a, p: {"shape": p["shape"], "location": a.get("mu", 0.0), "scale": a["sig"]},
    "tnormal": lambda a, p: {"location": a["mu"], "scale": a["sig"], **_limits(p)},
    "cnormal": lambda a, p: {"location": a["mu"], "scale": a["sig"], **_limits(p)},
    "tlogistic": lambda a, p: {"location": a["mu"], "scale": a["sig"], **_limits(p)},
    "clogistic": lambda a, p: {"location": a["mu"], "scale": a["sig"], **_limits(p)},
    "uniform": lambda a, _: {"min": a["mu"] - a["sig"], "max": a["mu"] + a["sig"]},
    "beta": lambda a, p: {"a": p.get("a", a.get("shape")), "b": p.get("b", a.get("shape"))},
    "poisson": lambda a, _: {"mean": a["sig"]},
}
OTHER_NAMES = {"truncnormal": "tnormal", "truncnormal0": "tnormal", "censnormal0": "cnormal"}


def _limits(params: Mapping[str, float]) -> dict[str, float]:
    return {key: params[key] for key in ("lower", "upper") if key in params}


def _family(e: Entry) -> Found:
    name = OTHER_NAMES.get(e.match["family"], e.match["family"])
    if name not in FAMILIES and re.fullmatch(r"t\d+", name):
        name = "t"
    if name in ("normal", "gaussian"):
        return _normal(e)
    arrays = {
        key.removeprefix("par_"): xr.DataArray(value, dims="point")
        for key, value in e.arrays.items()
    }
    obs = arrays["obspos"] if "obspos" in arrays else arrays["obs"]
    function = distributions.crps_distribution if e.match["kind"] == "crps" else None
    function = function or distributions.log_score
    return function(name, obs, dim=(), **FAMILIES[name](arrays, _numbers(e)))


def _vectors(e: Entry) -> tuple[xr.DataArray, xr.DataArray]:
    f = xr.DataArray(e.get("_fc"), dims=("point", "member", "variable"))
    return f, xr.DataArray(e.get("_obs"), dims=("point", "variable"))


def _energy(e: Entry) -> Found:
    estimator = "fair" if "fair" in e.name else "ensemble"
    return multivariate.energy_score(*_vectors(e), over="variable", estimator=estimator, dim=())


def _variogram(e: Entry) -> Found:
    named = re.search(r"p\s*=?\s*(\d+(\.\d+)?)", e.name)
    order = float(e.params.get("p", e.params.get("order", named[1] if named else 0.5)))
    return multivariate.variogram_score(*_vectors(e), over="variable", order=order, dim=())


OF_THE_MEAN = {
    "me": "bias",
    "bias": "bias",
    "mae": "mae",
    "mse": "mse",
    "rmse": "rmse",
    "msess": "msess",
    "pearson": "correlation",
    "spearman": "rank_correlation",
    "kge": "kge",
}


def _mean_score(e: Entry) -> Found:
    f, o = _hindcast(e)
    score = getattr(deterministic, OF_THE_MEAN[e.match["score"]])
    if e.match["where"] == "map":
        return score(f.mean("member"), o, dim="init")
    return score(f, o, dim=["init", "lat", "lon"], weights=_cosine(e), member="member")


def _pattern(e: Entry) -> Found:
    f, o = _hindcast(e)
    anomalies = (
        {}
        if "centred_area" in e.name and "uncentred" not in e.name
        else {"climatology": o.mean("init").broadcast_like(o)}
    )
    centered = not anomalies
    return deterministic.acc(
        f, o, weights=_cosine(e), centered=centered, member="member", **anomalies
    )


def _crps_hindcast(e: Entry) -> Found:
    f, o = _hindcast(e)
    dim = ["init", "lat", "lon"]
    estimator = "fair" if "fair" in e.name else "ensemble"
    return probabilistic.crps_ensemble(f, o, estimator=estimator, dim=dim, weights=_cosine(e))


def _climpred(e: Entry) -> Found:
    f, o = _decadal(e)
    name = e.match["score"]
    if name == "crps":
        return probabilistic.crps_ensemble(f, o, estimator="ensemble", dim="init")
    names = OF_THE_MEAN | {"acc": "correlation", "pearson_r": "correlation"}
    return getattr(deterministic, names[name])(f, o, dim="init", member="member")


CATEGORICAL = {
    "success_ratio": "sucr",
    "freq_bias": "frequency_bias",
    "bias": "frequency_bias",
    "peirce": "pss",
    "gss": "ets",
    "pofd": "pofd",
    "false_alarm_rate": "pofd",
    "heidke": "hss",
    "gilbert": "ets",
    "yule": "orss",
    "fraction_correct": "accuracy",
    "equitable_threat_score": "ets",
}


def _categorical(e: Entry) -> Found:
    score = getattr(categorical, CATEGORICAL.get(e.match["score"], e.match["score"]))
    found = score(
        *_frames(e),
        thresholds=e.params["thresholds"],
        op=e.params.get("op", ">="),
        dim=["init", "y", "x"],
    )
    return found.transpose("threshold", "lead")


def _sevir(e: Entry) -> Found:
    counts = e.match["kind"] == "counts"
    base = EVENT_PROTOCOLS["sevir"]
    knobs = {"table": "lead", "average": False} if counts or "mode1" in e.name else {}
    if "mode2" in e.name:
        knobs = {"table": "lead", "average": True}
    # the fields are pixel values already
    protocol = replace(base, scale=None, epsilon=e.params.get("eps", base.epsilon), **knobs)
    found = protocol.score(*(field.drop_attrs() for field in _frames(e)))
    if counts:
        order = e.params["order"]
        return np.stack([found[name].transpose("threshold", "lead") for name in order])
    score = e.match["kind"]
    mean = re.search(rf"{score}_(\w+_)?m(_|$)", e.name) is not None
    return found[f"{score}_m"] if mean else found[score].transpose("threshold", ...)


def _sevir_bias(e: Entry) -> Found:
    """Return the column the original calls bias, from our counts; the library has no such score."""
    knobs = {"table": "lead"} if e.expected.ndim == 2 else {"table": "all"}
    base = EVENT_PROTOCOLS["sevir"]
    epsilon = e.params.get("eps", base.epsilon)
    found = replace(base, scale=None, average=False, **knobs).score(*_frames(e))
    hits, misses, alarms = (
        found[name].transpose("threshold", ...) for name in ("hits", "misses", "false_alarms")
    )
    column = ((hits + alarms) / (hits + misses + epsilon) / np.log(2.0)) ** 2
    return column if e.expected.ndim else column.mean()


def _maxpool(e: Entry) -> Found:
    fields = [
        pool(field, e.params["pool"], stride=e.params.get("stride"), how="max")
        for field in _frames(e)
    ]
    thresholds = e.params.get("thresholds", [16, 74, 133, 160, 181, 219])
    found = categorical.csi(*fields, thresholds=thresholds, dim=["init", "y", "x"])
    return found.transpose("threshold", "lead")


def _fss(e: Entry) -> Found:
    fields = [xr.DataArray(e.get(key), dims=("init", "y", "x")) for key in ("_fc", "_obs")]

    def score(border: Any) -> Array:
        return spatial.fss(
            *fields,
            thresholds=e.params["threshold"],
            window=e.params["window"],
            border=border,
            op=e.params.get("op", ">="),
        ).squeeze()

    if e.match["border"] == "scores_zeropad":
        return {"scores": score("overhang"), "pysteps": score("zero")}
    return score("zero" if e.match["border"] == "zeropad" else "valid")


def _nino(e: Entry) -> Found:
    protocol = INDEX_PROTOCOLS["icar_enso"]
    found = {}
    for peer, epsilon in (("scipy", 0.0), ("brute", 0.0), ("earthformer", protocol.epsilon)):
        table = replace(protocol, epsilon=epsilon).score(*_sst(e))
        weighted = "WM" in e.name
        value = table.correlation_wm if weighted else table.correlation_m
        leads = table.sizes["lead"]
        if e.name.endswith("_sum"):
            value = value * leads
        found[peer] = value.item()
    return found


def _nino_index(e: Entry) -> Found:
    protocol = INDEX_PROTOCOLS["icar_enso"]
    forecast, truth = _sst(e) if len(e.arrays) == 2 else (_one_sst(e), None)
    index = protocol._index(forecast if truth is None or "pred" in e.name else truth)
    smooth = e.expected.shape != index.shape
    return protocol._smooth(index, "lead") if smooth else index


def _one_sst(e: Entry) -> xr.DataArray:
    (values,) = e.arrays.values()
    both = replace(e, arrays={"nino_pred_sst": values, "nino_true_sst": values})
    return _sst(both)[0]


def _sign_test(e: Entry) -> Found:
    if e.match["kind"] == "confidence":
        number = len(e.get("_f1"))
        first, second = np.zeros(number), np.ones(number)
    else:
        first, second = (np.abs(e.get(key) - e.get("_obs")) for key in ("_f1", "_f2"))
    table = accuracy_tests.sign_test(
        *(xr.DataArray(losses, dims="init") for losses in (first, second)),
        confidence=1 - e.params["alpha"],
    )
    return table["bound" if e.match["kind"] == "confidence" else "walk"]


def _fdr(e: Entry) -> Found:
    """Return what is significant, how many are, or the adjusted p-values."""
    p = xr.DataArray(e.get("pvals"), dims="cell")

    def significant(rate: float) -> Array:
        return accuracy_tests.field_significance(p, rate=rate).significant.values

    if np.isin(e.expected, (0, 1)).all() or e.expected.ndim == 0:
        mask = significant(float(e.params.get("alpha", e.params.get("rate", 0.05))))
        return mask.sum() if e.expected.ndim == 0 else mask.astype(float)
    # the adjusted p-value of a test is the smallest rate at which it is significant
    number = p.size
    rates = np.sort(np.unique(np.sort(p.values) * number / np.arange(1, number + 1)))
    adjusted = np.ones(number)
    for rate in rates[rates < 1][::-1]:
        adjusted[significant(float(rate) * (1 + 1e-12))] = rate
    return adjusted


#: What an entry is called, and how it is computed; the first that fits.
RUN: tuple[tuple[str, Callable[[Entry], Found]], ...] = (
    (r"crps_(?:ensemble_)?(?P<kind>ecdf|fair|pwm)(\[.*\])?", _crps),
    (r"crps_components.*", _components),
    (r"(?:fair_)?twcrps_(?:fair_)?(?P<kind>upper_tail|lower_tail|interval).*", _tail),
    (r"rank_histogram.*", lambda e: ranks.rank_histogram(*_ensemble(e))),
    (r"brier_threshold.*", _brier_threshold),
    (r".*spread_skill.*|ssr.*", _spread_skill),
    (r"spread(\[.*\])?", lambda e: probabilistic.spread(_ensemble(e)[0])),
    (r"crps_hindcast.*", _crps_hindcast),
    (r"(?P<kind>crps|log_score|logscore|logs|logs?_?score)_(?P<family>\w+)", _family),
    (r"log_?s(core)?s?(\[.*\])?", _normal),
    (r"(fair_)?energy.*|es(_ensemble|_fair)?(\[.*\])?", _energy),
    (r"variogram.*|vs(_ensemble)?(\[.*\])?", _variogram),
    (
        r"(?P<score>me|bias|mae|mse|rmse|msess|pearson|spearman|kge)_(?P<where>map|area)(_nan)?",
        _mean_score,
    ),
    (r"(pattern_corr|acc)_.*", _pattern),
    (r"climpred_(?P<score>\w+)_(e2o|m2o)", _climpred),
    (r"cat_(?P<score>\w+)", _categorical),
    (r"sevir_.*bias.*", _sevir_bias),
    (r"sevir_(?P<kind>counts|csi|pod|sucr).*", _sevir),
    (r"csi_maxpool\d+", _maxpool),
    (r"fss_(?P<border>zeropad|interior|scores_zeropad).*", _fss),
    (r"brier_decomposition.*", _decomposition),
    (r"reliability.*", _reliability),
    (r"roc.*|auc.*", lambda e: roc_area(*_probabilities(e))),
    (r"brier(_score)?", lambda e: brier(*_probabilities(e))),
    (r"[Cc]_nino34_.*", _nino),
    (r"[Nn]ino.*", _nino_index),
    (r"sign_test_(?P<kind>walk|confidence)", _sign_test),
    (r"fdr.*|multipletests.*|benjamini.*", _fdr),
)


# --- judgment -------------------------------------------------------------------------------


def error_of(found: Any, expected: Array) -> float:
    """Return the largest relative error; infinite for another shape or another NaN."""
    a, b = np.asarray(found, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    if a.shape != b.shape or (np.isnan(a) != np.isnan(b)).any():
        return float("inf")
    known = np.isfinite(b)
    if (a[~known & ~np.isnan(b)] != b[~known & ~np.isnan(b)]).any():
        return float("inf")
    a, b = a[known], b[known]
    if not b.size or not (a - b).any():
        return 0.0
    return float((np.abs(a - b) / np.maximum(np.abs(b), np.abs(b).max() * 1e-3)).max())


def run_entry(record: Mapping[str, Any], inputs: Any, values: Any) -> Result:
    """Compute one entry and hold it against its peers."""
    name = record["metric"]
    run, match = next(
        (
            (run, match)
            for pattern, run in RUN
            if (match := re.fullmatch(pattern, name)) is not None
        ),
        (None, None),
    )
    if run is None or match is None:
        return Result(name, note="not a kind of entry this version knows", failed=True)
    arrays = {key: inputs[key] for key in record["inputs"]}
    first = values[next(iter(record["peers"].values()))]
    definition = record.get("definition", "")
    found = run(Entry(name, record.get("params") or {}, arrays, match, definition, first))
    if not isinstance(found, dict) and found.shape != first.shape == found.shape[::-1]:
        found = found.T  # the order of axes is the peer's
    errors, bad = {}, []
    for peer, key in record["peers"].items():
        own = found.get(peer, next(iter(found.values()))) if isinstance(found, dict) else found
        expected = values[key]
        errors[peer] = error_of(own, expected)
        apart = [
            pair["maxabs"] for pair in record.get("agreement", {}).values() if pair["maxabs"] > 0
        ]
        scale = np.nanmax(np.abs(expected), initial=0.0)
        allowed = max(LIMIT, 2 * max(apart, default=0.0) / scale if scale else 0.0)
        # conventions that differ are computed each in its own way
        if not errors[peer] <= (LIMIT if isinstance(found, dict) else allowed):
            bad.append(f"{peer} {errors[peer]:.1e}")
    note = f"against {', '.join(errors)}" if not bad else "differs from " + ", ".join(bad)
    return Result(name, output=max(errors.values()), note=note, failed=bool(bad))


def verification(folder: Path, index: Mapping[str, Any]) -> Iterator[Result]:
    """Run every entry of a folder with inputs.npz and values.npz."""
    with (
        np.load(folder / "inputs.npz", allow_pickle=False) as inputs,
        np.load(folder / "values.npz", allow_pickle=False) as values,
    ):
        for record in index["metrics"]:
            try:
                yield run_entry(record, inputs, values)
            except Exception as error:  # one broken entry must not hide the others
                text = f"{type(error).__name__}: {error}".splitlines()[0]
                yield Result(record["metric"], note=text, failed=True)
