r"""Where to say yes, when all that is known are probabilities.

Of N cells with the probabilities :math:`p_{(1)} \ge p_{(2)} \ge \dots` of an event, yes in the k
likeliest has the expected hits :math:`h_k = \sum_{i \le k} p_{(i)}`, and the threat score

.. math:: T_k = \frac{h_k}{k + h_N - h_k}

of expected counts. It rises while the next cell is likelier than :math:`T_k / (1 + T_k)`, so the
best k says yes above that: from a fraction of the members that depends on how certain the forecast
is. Nothing but the forecast is needed for it.

Source: Lipton, Z. C., C. Elkan and B. Naryanaswamy (2014): Optimal thresholding of classifiers to
maximize F1 measure. *ECML PKDD*, 225-239 (F1 is a rising function of the threat score).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from ...errors import ConfigError
from .ensembles import apply_to_fields
from .pooling import field_dims

__all__ = ["expected_yes", "yes_of_chances"]


def yes_of_chances(chance: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Return where to say yes (..., n) for the best expected threat score; NaN is no.

    Examples
    --------
    >>> yes_of_chances(np.array([0.9, 0.8, 0.1])).tolist()
    [True, True, False]
    """
    flat = chance.reshape(-1, chance.shape[-1]).astype(np.float64)
    yes = np.zeros(flat.shape, dtype=bool)
    for row, chances in zip(yes, np.nan_to_num(flat, nan=0.0), strict=True):
        order = np.argsort(-chances, kind="stable")
        hits = np.cumsum(chances[order])
        if hits.size and hits[-1] > 0.0:
            taken = np.arange(1, hits.size + 1)
            best = int(np.argmax(hits / (taken + hits[-1] - hits)))
            row[order[: best + 1]] = True
    return yes.reshape(chance.shape)


def expected_yes(chance: xr.DataArray) -> xr.DataArray:
    """Return where to forecast an event for the best threat score that its probabilities expect.

    Parameters
    ----------
    chance : DataArray (..., y, x)
        Probabilities of the event, in 1; NaN where not known. Dask arrays stay lazy.

    Returns
    -------
    DataArray
        1 for yes, 0 for no, NaN where not known: field by field. Compare it with the observed event
        by :func:`xearth.verification.csi` and the like.

    Raises
    ------
    ConfigError
        Values that are no probabilities; not looked for in Dask arrays.
    AxisError
        No horizontal dimensions.

    Examples
    --------
    >>> import xarray as xr
    >>> chance = xr.DataArray([[0.9, 0.8, 0.1]], dims=("y", "x"))
    >>> expected_yes(chance).values.tolist()
    [[1.0, 1.0, 0.0]]
    """
    known = chance.chunks is None
    if known and not bool(((chance >= 0) & (chance <= 1) | chance.isnull()).all()):
        raise ConfigError(
            f"expected probabilities from 0 to 1; {chance.name!r} holds {float(chance.min()):g} to "
            f"{float(chance.max()):g}. Take the share of members first: (fc >= threshold).mean()."
        )
    field = [str(name) for name in field_dims(chance)]
    yes = apply_to_fields(_yes, chance, field, field)
    return yes.assign_attrs(long_name="forecast of the event", units="1")


def _yes(chance: npt.NDArray[Any]) -> npt.NDArray[Any]:
    yes = yes_of_chances(chance.reshape(*chance.shape[:-2], -1)).reshape(chance.shape)
    dtype = np.result_type(chance.dtype, np.float32)
    return np.where(np.isnan(chance), np.nan, yes).astype(dtype)
