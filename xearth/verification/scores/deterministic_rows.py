"""The scores of single-valued forecasts as rows; formulas in :mod:`.deterministic`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..block import Array
from ..facts import ScoreFacts
from ..score import Score
from ..statistics import Mean, Moments

__all__ = ["ANOMALIES", "ROWS", "SQUARED_ERROR"]

ERROR = Mean("error", lambda block: block.mean_error)
ABSOLUTE_ERROR = Mean("absolute_error", lambda block: np.abs(block.mean_error))
SQUARED_ERROR = Mean("squared_error", lambda block: block.mean_error**2)
ANOMALIES = Moments(
    "anomalies", lambda block: block.forecast_anomaly, lambda block: block.truth_anomaly
)
VALUES = Moments(
    "values",
    lambda block: np.where(block.valid, block.truth, 0) + block.mean_error,
    lambda block: np.where(block.valid, block.truth, 0),
)


def _varies(variance: Array, moments: Any) -> Array:
    """Tell where a variance is more than what rounding makes out of a constant."""
    size = moments.var_x + moments.var_y + moments.mean_x**2 + moments.mean_y**2
    return np.asarray(variance > size * (8 * np.finfo(np.float64).eps) ** 2)


def _ratio(above: Array, below: Array, defined: Array) -> Array:
    return np.where(defined, above / np.where(defined, below, 1.0), np.nan)


def _centered(found: Mapping[str, Any]) -> Array:
    """Pearson's correlation of the moments."""
    m = found["anomalies"]
    both = _varies(m.var_x, m) & _varies(m.var_y, m)
    return np.clip(_ratio(m.cov, np.sqrt(m.var_x * m.var_y), both), -1.0, 1.0)


def _uncentered(found: Mapping[str, Any]) -> Array:
    """Correlation of the anomalies about zero."""
    m = found["anomalies"]
    xx, yy = m.var_x + m.mean_x**2, m.var_y + m.mean_y**2
    both = (xx > 0) & (yy > 0)
    return np.clip(_ratio(m.cov + m.mean_x * m.mean_y, np.sqrt(xx * yy), both), -1.0, 1.0)


def _msess(found: Mapping[str, Any]) -> Array:
    m = found["anomalies"]
    return 1.0 - _ratio(found["squared_error"], m.var_y, _varies(m.var_y, m))


def _msess_climatology(found: Mapping[str, Any]) -> Array:
    m = found["anomalies"]
    yy = m.var_y + m.mean_y**2
    return 1.0 - _ratio(found["squared_error"], yy, yy > 0)


def _slope(found: Mapping[str, Any]) -> Array:
    m = found["anomalies"]
    return _ratio(m.cov, m.var_x, _varies(m.var_x, m) & _varies(m.var_y, m))


def _kge(found: Mapping[str, Any]) -> Array:
    m = found["values"]
    both = _varies(m.var_x, m) & _varies(m.var_y, m)
    r = _ratio(m.cov, np.sqrt(m.var_x * m.var_y), both)
    spread = _ratio(np.sqrt(m.var_x), np.sqrt(m.var_y), both)
    level = _ratio(m.mean_x, m.mean_y, m.mean_y != 0)
    return 1.0 - np.sqrt((r - 1) ** 2 + (spread - 1) ** 2 + (level - 1) ** 2)


_WILKS = "Wilks (2019), Statistical Methods in the Atmospheric Sciences, 4th ed., section 9.3"
_JOLLIFFE = "Jolliffe and Stephenson (2012), Forecast Verification, 2nd ed., chapter 6"


def _error(name: str, long_name: str, power: int) -> ScoreFacts:
    return ScoreFacts(
        name=name,
        long_name=long_name,
        lower=0.0,
        perfect=0.0,
        better="lower",
        unit_power=power,
        reference=_WILKS,
    )


def _association(
    name: str, long_name: str, *, lower: float = -1.0, climatology: bool = True
) -> ScoreFacts:
    return ScoreFacts(
        name=name,
        long_name=long_name,
        lower=lower,
        upper=1.0,
        perfect=1.0,
        better="higher",
        climatology=climatology,
        reference=_JOLLIFFE,
    )


BIAS = Score(
    ScoreFacts(
        name="bias",
        long_name="bias",
        perfect=0.0,
        better="nearest",
        unit_power=1,
        reference=_WILKS,
    ),
    (ERROR,),
    lambda found: found["error"],
)
MAE = Score(
    _error("mae", "mean absolute error", 1),
    (ABSOLUTE_ERROR,),
    lambda found: found["absolute_error"],
)
MSE = Score(
    _error("mse", "mean square error", 2), (SQUARED_ERROR,), lambda found: found["squared_error"]
)
RMSE = Score(
    _error("rmse", "root mean square error", 1),
    (SQUARED_ERROR,),
    lambda found: np.sqrt(found["squared_error"]),
)
MSESS = Score(
    _association(
        "msess", "mean square error skill score against the mean of the truth", lower=-np.inf
    ),
    (SQUARED_ERROR, ANOMALIES),
    _msess,
)
MSESS_CLIMATOLOGY = Score(
    _association(
        "msess_climatology", "mean square error skill score against climatology", lower=-np.inf
    ),
    (SQUARED_ERROR, ANOMALIES),
    _msess_climatology,
)
CORRELATION = Score(
    _association("correlation", "Pearson correlation", climatology=False), (ANOMALIES,), _centered
)
ACC = Score(
    _association("acc", "anomaly correlation over the area"), (ANOMALIES,), _uncentered, over="case"
)
ACC_CENTERED = Score(
    _association("acc_centered", "centered anomaly correlation over the area"),
    (ANOMALIES,),
    _centered,
    over="case",
)
ACC_TEMPORAL = Score(
    _association("acc_temporal", "anomaly correlation over the starts"),
    (ANOMALIES,),
    _uncentered,
    over="cell",
)
ACC_TEMPORAL_CENTERED = Score(
    _association("acc_temporal_centered", "centered anomaly correlation over the starts"),
    (ANOMALIES,),
    _centered,
    over="cell",
)
SLOPE = Score(
    ScoreFacts(
        name="slope",
        long_name="slope of the regression of the truth on the forecast",
        perfect=1.0,
        better="nearest",
        reference="Murphy and Epstein (1989), Mon. Wea. Rev. 117, 572-581",
    ),
    (ANOMALIES,),
    _slope,
)
KGE = Score(
    ScoreFacts(
        name="kge",
        long_name="Kling-Gupta efficiency",
        upper=1.0,
        perfect=1.0,
        better="higher",
        reference="Gupta et al. (2009), J. Hydrol. 377, 80-91",
    ),
    (VALUES,),
    _kge,
)

#: The scores of single-valued forecasts.
ROWS: tuple[Score, ...] = (
    BIAS,
    MAE,
    MSE,
    RMSE,
    MSESS,
    MSESS_CLIMATOLOGY,
    CORRELATION,
    ACC,
    ACC_CENTERED,
    ACC_TEMPORAL,
    ACC_TEMPORAL_CENTERED,
    SLOPE,
    KGE,
)
