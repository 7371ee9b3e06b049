"""Scores of yes/no forecasts: one function for each, and all of them from one table.

Formulas, the rule for 0 / 0 and a warning about "bias":
:mod:`xearth.verification.scores.event_scores`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from ...cf.attrs import score_attrs
from ...errors import ConfigError
from ..pairs import Dims
from ..thresholds import Op
from .contingency import OUTCOMES, contingency
from .ensembles import Ensemble
from .event_scores import CATEGORICAL, finish

__all__ = [
    "CATEGORICAL",
    "accuracy",
    "categorical_scores",
    "csi",
    "ets",
    "f1",
    "far",
    "frequency_bias",
    "hss",
    "odds_ratio",
    "orss",
    "pod",
    "pofd",
    "pss",
    "sedi",
    "sucr",
]


def categorical_scores(
    table: xr.Dataset, scores: Sequence[str] = ("csi", "pod", "sucr")
) -> xr.Dataset:
    """Return scores of a contingency table, or of a sum of tables.

    Parameters
    ----------
    table : Dataset
        Of :func:`~xearth.verification.contingency`; stays lazy.
    scores : sequence of str
        Names of :data:`CATEGORICAL`.

    Returns
    -------
    Dataset
        One variable for each score, NaN where it is 0 / 0.

    Raises
    ------
    ConfigError
        An unknown score, or no table.

    Examples
    --------
    >>> import xarray as xr
    >>> f, o = xr.DataArray([0.0, 2.0, 6.0, 7.0]), xr.DataArray([0.0, 5.0, 0.0, 9.0])
    >>> table = contingency(f, o, thresholds=5)
    >>> categorical_scores(table + table, ["csi", "hss"]).csi.values.round(3).tolist()
    [0.333]
    """
    unknown = [name for name in scores if name not in CATEGORICAL]
    if unknown:
        raise ConfigError(f"unknown scores {unknown}; the known ones are {list(CATEGORICAL)}.")
    absent = [name for name in OUTCOMES if name not in table]
    if absent:
        raise ConfigError(
            f"the table has no {absent}; expected the counts {list(OUTCOMES)}, as "
            "xearth.verification.contingency returns them."
        )
    found = xr.Dataset({name: _score(table, name) for name in scores})
    found.attrs = dict(table.attrs)
    return found


def _score(table: xr.Dataset, name: str) -> xr.DataArray:
    score: xr.DataArray = xr.apply_ufunc(
        lambda *counts: finish(name, counts),
        *(table[outcome] for outcome in OUTCOMES),
        dask="parallelized",
        output_dtypes=[np.float64],
    )
    score.attrs = score_attrs(CATEGORICAL[name].long_name)
    return score.rename(name)


def _single(name: str, table: xr.Dataset) -> xr.DataArray:
    return _score(table, name).assign_attrs(event=table.attrs["event"])


def csi(
    forecast: xr.DataArray,
    obs: xr.DataArray,
    *,
    thresholds: Any,
    op: Op = ">=",
    dim: Dims = None,
    ensemble: Ensemble | None = None,
    member: str = "member",
) -> xr.DataArray:
    """Return the critical success index, hits over hits, misses and false alarms.

    Parameters
    ----------
    forecast, obs : DataArray
        Forecast and truth; the truth is converted to the units of the forecast. Dask arrays
        stay lazy, chunked as they are.
    thresholds : str, quantity, number, or a sequence of them
        With units, such as ``["1 mm/h", "5 mm/h"]``.
    op : {">=", ">"}
        Whether a value equal to the threshold is an event.
    dim : name or names, optional
        What to count over; by default all dimensions, ``()`` for none.
    ensemble : {"mean", "matched mean", "members", "first"} or Vote, optional
        How an ensemble is judged; has to be named for one. See
        :mod:`xearth.verification.scores.ensembles`.
    member : str
        Name of the member dimension.

    Returns
    -------
    DataArray
        (threshold, kept dimensions); NaN where it is 0 / 0.

    Examples
    --------
    >>> import xarray as xr
    >>> f, o = xr.DataArray([0.0, 2.0, 6.0, 7.0]), xr.DataArray([0.0, 5.0, 0.0, 9.0])
    >>> csi(f, o, thresholds=5).values.round(3).tolist()
    [0.333]
    """
    return _single(
        "csi",
        contingency(
            forecast, obs, thresholds=thresholds, op=op, dim=dim, ensemble=ensemble, member=member
        ),
    )


def pod(
    forecast: xr.DataArray,
    obs: xr.DataArray,
    *,
    thresholds: Any,
    op: Op = ">=",
    dim: Dims = None,
    ensemble: Ensemble | None = None,
    member: str = "member",
) -> xr.DataArray:
    """Return the probability of detection, hits over events observed; see :func:`csi`.

    Examples
    --------
    >>> import xarray as xr
    >>> f, o = xr.DataArray([0.0, 2.0, 6.0, 7.0]), xr.DataArray([0.0, 5.0, 0.0, 9.0])
    >>> pod(f, o, thresholds=5).values.round(3).tolist()
    [0.5]
    """
    return _single(
        "pod",
        contingency(
            forecast, obs, thresholds=thresholds, op=op, dim=dim, ensemble=ensemble, member=member
        ),
    )


def far(
    forecast: xr.DataArray,
    obs: xr.DataArray,
    *,
    thresholds: Any,
    op: Op = ">=",
    dim: Dims = None,
    ensemble: Ensemble | None = None,
    member: str = "member",
) -> xr.DataArray:
    """Return the false alarm ratio, false alarms over events forecast; see :func:`csi`.

    Examples
    --------
    >>> import xarray as xr
    >>> f, o = xr.DataArray([0.0, 2.0, 6.0, 7.0]), xr.DataArray([0.0, 5.0, 0.0, 9.0])
    >>> far(f, o, thresholds=5).values.round(3).tolist()
    [0.5]
    """
    return _single(
        "far",
        contingency(
            forecast, obs, thresholds=thresholds, op=op, dim=dim, ensemble=ensemble, member=member
        ),
    )


def sucr(
    forecast: xr.DataArray,
    obs: xr.DataArray,
    *,
    thresholds: Any,
    op: Op = ">=",
    dim: Dims = None,
    ensemble: Ensemble | None = None,
    member: str = "member",
) -> xr.DataArray:
    """Return the success ratio, hits over events forecast; see :func:`csi`.

    Examples
    --------
    >>> import xarray as xr
    >>> f, o = xr.DataArray([0.0, 2.0, 6.0, 7.0]), xr.DataArray([0.0, 5.0, 0.0, 9.0])
    >>> sucr(f, o, thresholds=5).values.round(3).tolist()
    [0.5]
    """
    return _single(
        "sucr",
        contingency(
            forecast, obs, thresholds=thresholds, op=op, dim=dim, ensemble=ensemble, member=member
        ),
    )


def pofd(
    forecast: xr.DataArray,
    obs: xr.DataArray,
    *,
    thresholds: Any,
    op: Op = ">=",
    dim: Dims = None,
    ensemble: Ensemble | None = None,
    member: str = "member",
) -> xr.DataArray:
    """Return false alarms over observed non-events; see :func:`csi`.

    Examples
    --------
    >>> import xarray as xr
    >>> f, o = xr.DataArray([0.0, 2.0, 6.0, 7.0]), xr.DataArray([0.0, 5.0, 0.0, 9.0])
    >>> pofd(f, o, thresholds=5).values.round(3).tolist()
    [0.5]
    """
    return _single(
        "pofd",
        contingency(
            forecast, obs, thresholds=thresholds, op=op, dim=dim, ensemble=ensemble, member=member
        ),
    )


def frequency_bias(
    forecast: xr.DataArray,
    obs: xr.DataArray,
    *,
    thresholds: Any,
    op: Op = ">=",
    dim: Dims = None,
    ensemble: Ensemble | None = None,
    member: str = "member",
) -> xr.DataArray:
    """Return events forecast over events observed; see :func:`csi`.

    Examples
    --------
    >>> import xarray as xr
    >>> f, o = xr.DataArray([0.0, 2.0, 6.0, 7.0]), xr.DataArray([0.0, 5.0, 0.0, 9.0])
    >>> frequency_bias(f, o, thresholds=5).values.round(3).tolist()
    [1.0]
    """
    return _single(
        "frequency_bias",
        contingency(
            forecast, obs, thresholds=thresholds, op=op, dim=dim, ensemble=ensemble, member=member
        ),
    )


def accuracy(
    forecast: xr.DataArray,
    obs: xr.DataArray,
    *,
    thresholds: Any,
    op: Op = ">=",
    dim: Dims = None,
    ensemble: Ensemble | None = None,
    member: str = "member",
) -> xr.DataArray:
    """Return the fraction of pairs that are hits or correct negatives; see :func:`csi`.

    Examples
    --------
    >>> import xarray as xr
    >>> f, o = xr.DataArray([0.0, 2.0, 6.0, 7.0]), xr.DataArray([0.0, 5.0, 0.0, 9.0])
    >>> accuracy(f, o, thresholds=5).values.round(3).tolist()
    [0.5]
    """
    return _single(
        "accuracy",
        contingency(
            forecast, obs, thresholds=thresholds, op=op, dim=dim, ensemble=ensemble, member=member
        ),
    )


def ets(
    forecast: xr.DataArray,
    obs: xr.DataArray,
    *,
    thresholds: Any,
    op: Op = ">=",
    dim: Dims = None,
    ensemble: Ensemble | None = None,
    member: str = "member",
) -> xr.DataArray:
    """Return the equitable threat score: CSI without the hits of chance; see :func:`csi`.

    Examples
    --------
    >>> import xarray as xr
    >>> f, o = xr.DataArray([0.0, 2.0, 6.0, 7.0]), xr.DataArray([0.0, 5.0, 0.0, 9.0])
    >>> ets(f, o, thresholds=5).values.round(3).tolist()
    [0.0]
    """
    return _single(
        "ets",
        contingency(
            forecast, obs, thresholds=thresholds, op=op, dim=dim, ensemble=ensemble, member=member
        ),
    )


def hss(
    forecast: xr.DataArray,
    obs: xr.DataArray,
    *,
    thresholds: Any,
    op: Op = ">=",
    dim: Dims = None,
    ensemble: Ensemble | None = None,
    member: str = "member",
) -> xr.DataArray:
    """Return the Heidke skill score: accuracy without that of chance; see :func:`csi`.

    Examples
    --------
    >>> import xarray as xr
    >>> f, o = xr.DataArray([0.0, 2.0, 6.0, 7.0]), xr.DataArray([0.0, 5.0, 0.0, 9.0])
    >>> hss(f, o, thresholds=5).values.round(3).tolist()
    [0.0]
    """
    return _single(
        "hss",
        contingency(
            forecast, obs, thresholds=thresholds, op=op, dim=dim, ensemble=ensemble, member=member
        ),
    )


def pss(
    forecast: xr.DataArray,
    obs: xr.DataArray,
    *,
    thresholds: Any,
    op: Op = ">=",
    dim: Dims = None,
    ensemble: Ensemble | None = None,
    member: str = "member",
) -> xr.DataArray:
    """Return the Peirce skill score, POD minus POFD; see :func:`csi`.

    Examples
    --------
    >>> import xarray as xr
    >>> f, o = xr.DataArray([0.0, 2.0, 6.0, 7.0]), xr.DataArray([0.0, 5.0, 0.0, 9.0])
    >>> pss(f, o, thresholds=5).values.round(3).tolist()
    [0.0]
    """
    return _single(
        "pss",
        contingency(
            forecast, obs, thresholds=thresholds, op=op, dim=dim, ensemble=ensemble, member=member
        ),
    )


def odds_ratio(
    forecast: xr.DataArray,
    obs: xr.DataArray,
    *,
    thresholds: Any,
    op: Op = ">=",
    dim: Dims = None,
    ensemble: Ensemble | None = None,
    member: str = "member",
) -> xr.DataArray:
    """Return the odds ratio of hit and false alarm; see :func:`csi`.

    Examples
    --------
    >>> import xarray as xr
    >>> f, o = xr.DataArray([0.0, 2.0, 6.0, 7.0]), xr.DataArray([0.0, 5.0, 0.0, 9.0])
    >>> odds_ratio(f, o, thresholds=5).values.round(3).tolist()
    [1.0]
    """
    return _single(
        "odds_ratio",
        contingency(
            forecast, obs, thresholds=thresholds, op=op, dim=dim, ensemble=ensemble, member=member
        ),
    )


def orss(
    forecast: xr.DataArray,
    obs: xr.DataArray,
    *,
    thresholds: Any,
    op: Op = ">=",
    dim: Dims = None,
    ensemble: Ensemble | None = None,
    member: str = "member",
) -> xr.DataArray:
    """Return the odds ratio skill score (Yule's Q); see :func:`csi`.

    Examples
    --------
    >>> import xarray as xr
    >>> f, o = xr.DataArray([0.0, 2.0, 6.0, 7.0]), xr.DataArray([0.0, 5.0, 0.0, 9.0])
    >>> orss(f, o, thresholds=5).values.round(3).tolist()
    [0.0]
    """
    return _single(
        "orss",
        contingency(
            forecast, obs, thresholds=thresholds, op=op, dim=dim, ensemble=ensemble, member=member
        ),
    )


def f1(
    forecast: xr.DataArray,
    obs: xr.DataArray,
    *,
    thresholds: Any,
    op: Op = ">=",
    dim: Dims = None,
    ensemble: Ensemble | None = None,
    member: str = "member",
) -> xr.DataArray:
    """Return the F1 score, the harmonic mean of POD and success ratio; see :func:`csi`.

    Examples
    --------
    >>> import xarray as xr
    >>> f, o = xr.DataArray([0.0, 2.0, 6.0, 7.0]), xr.DataArray([0.0, 5.0, 0.0, 9.0])
    >>> f1(f, o, thresholds=5).values.round(3).tolist()
    [0.5]
    """
    return _single(
        "f1",
        contingency(
            forecast, obs, thresholds=thresholds, op=op, dim=dim, ensemble=ensemble, member=member
        ),
    )


def sedi(
    forecast: xr.DataArray,
    obs: xr.DataArray,
    *,
    thresholds: Any,
    op: Op = ">=",
    dim: Dims = None,
    ensemble: Ensemble | None = None,
    member: str = "member",
) -> xr.DataArray:
    """Return the symmetric extremal dependence index; see :func:`csi`.

    Examples
    --------
    >>> import xarray as xr
    >>> f, o = xr.DataArray([0.0, 2.0, 6.0, 7.0]), xr.DataArray([0.0, 5.0, 0.0, 9.0])
    >>> abs(sedi(f, o, thresholds=5)).values.round(3).tolist()
    [0.0]
    """
    return _single(
        "sedi",
        contingency(
            forecast, obs, thresholds=thresholds, op=op, dim=dim, ensemble=ensemble, member=member
        ),
    )
