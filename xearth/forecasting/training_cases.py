"""Training cases of a calibration: forecasts and their truth, grouped.

A *case* is a start and a lead. It is a training case if both the start and the valid time lie in
the training period, so that no truth beyond the period is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dask
import dask.array as da
import numpy as np
import numpy.typing as npt
import xarray as xr

from ..cf.packing import decoded
from ..errors import ConfigError, GridMismatchError, MissingDataError
from ..verification.align import observations_at
from ..verification.leaks.provenance import Judged, Period, show
from ..verification.pairs import same_terms
from .calibration import MINIMUM, Coefficients, Names

__all__ = ["Training"]

Array = npt.NDArray[Any]

_GROUPS = ("lead", "season", "month", "valid_season", "valid_month")
_KEPT = ("units", "units_metadata")


@dataclass(frozen=True, eq=False)
class Training:
    """Training cases on plain arrays.

    Attributes
    ----------
    mean, variance, truth : ndarray (I * L, P)
        Of the members (variance with ddof 1) and of what came; NaN where not known.
    codes : ndarray (I * L,)
        The group of each case, -1 for those outside of the training period.
    groups, cells : dict of str to Variable or int
        Labels of the groups; labels of the cells, or how many there are.
    facts : dict
        ``by``, ``members``, ``period`` and ``attrs`` of :class:`Coefficients`.
    """

    mean: Array
    variance: Array
    truth: Array
    codes: npt.NDArray[np.int64]
    groups: Mapping[str, xr.Variable]
    cells: Mapping[str, xr.Variable | int]
    facts: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        forecast: xr.DataArray,
        truth: xr.DataArray,
        by: str | Sequence[str],
        training: slice | str | None,
    ) -> Training:
        """Read training cases; Dask arrays are computed once, a mean and a variance per case.

        Raises
        ------
        AxisError, UnitsError, GridMismatchError, TimeAxisError
            Forecast and truth cannot be paired.
        ConfigError
            Groups that no future start can belong to, a period that cannot be read, or one member.
        MissingDataError
            No case in the training period.
        """
        forecast = decoded(forecast)
        names, kinds = Names.of(forecast), _read_groups(by)
        inside, period = _inside(forecast, training)
        at = truth if {names.init, names.lead} <= set(truth.dims) else None
        at = observations_at(forecast, truth) if at is None else at
        if set(at.dims) != set(names.order) - {names.member}:
            raise GridMismatchError(
                f"truth {truth.name!r} has the dims {truth.dims}; expected (time, ...) or "
                f"(init, lead, ...) with the cells {names.cells} of the forecast."
            )
        forecast, at = same_terms(forecast.transpose(*names.order), at)
        groups = names.groups(forecast, kinds)
        cells = {
            name: forecast[name].variable if name in forecast.coords else forecast.sizes[name]
            for name in names.cells
        }
        at = at.transpose(names.init, names.lead, *names.cells)
        return cls(
            *_moments(forecast.data, at.data),
            np.where(inside.ravel(), groups.codes.ravel(), -1),
            groups.coords,
            cells,
            {
                "by": kinds,
                "members": forecast.sizes[names.member],
                "period": period,
                "attrs": {k: forecast.attrs[k] for k in _KEPT if k in forecast.attrs},
            },
        )

    def fit(
        self, fit: Callable[[Array, Array, Array], Array], parameters: Mapping[str, dict[str, str]]
    ) -> Coefficients:
        """Fit each group of cases.

        Parameters
        ----------
        fit : callable
            Mean, variance and truth (n, P) to parameters (K, P).
        parameters : mapping of str to dict
            Names of the K parameters, and their attributes.

        Raises
        ------
        MissingDataError
            A group in which no cell has :data:`MINIMUM` training cases.
        """
        shape = tuple(label.size for label in self.groups.values())
        found = np.full((len(parameters), int(np.prod(shape)), self.mean.shape[1]), np.nan)
        n = np.zeros(found.shape[1:], dtype=np.int64)
        for code in range(found.shape[1]):
            parts = [v[self.codes == code] for v in (self.mean, self.variance, self.truth)]
            n[code] = np.all([np.isfinite(part) for part in parts], axis=0).sum(axis=0)
            enough = n[code] >= MINIMUM
            if not enough.any():
                raise MissingDataError(self._too_few(np.unravel_index(code, shape), n[code]))
            found[:, code, enough] = fit(*(part[:, enough] for part in parts))
        cells = {k: v if isinstance(v, int) else v.size for k, v in self.cells.items()}
        shape = (*shape, *cells.values())
        dims = (*self.groups, *cells)
        attrs = {**parameters, "n": {"long_name": "number of training cases", "units": "1"}}
        table = xr.Dataset(
            {
                name: (dims, values.reshape(shape), attrs[name])
                for name, values in zip(attrs, (*found, n), strict=True)
            },
            {**self.groups, **{k: v for k, v in self.cells.items() if not isinstance(v, int)}},
        )
        return Coefficients(table, **self.facts)

    def _too_few(self, place: Any, n: npt.NDArray[np.int64]) -> str:
        labels = zip(self.groups.items(), place, strict=True)
        where = ", ".join(f"{name} {label.values[i]}" for (name, label), i in labels)
        return (
            f"calibration: {n.max(initial=0)} training cases of {self.facts['period']} with "
            f"forecast and truth{f' for {where}' if where else ''}; expected at least {MINIMUM}. "
            "Train on more years, or pool more starts: by=('lead', 'season') instead of "
            "('lead', 'month'), or by='lead'."
        )


def _read_groups(by: str | Sequence[str]) -> tuple[str, ...]:
    kinds = (by,) if isinstance(by, str) else tuple(by)
    unknown = [kind for kind in kinds if kind not in _GROUPS]
    if unknown or len(set(kinds)) < len(kinds):
        raise ConfigError(
            f"by={list(kinds)}: expected some of {list(_GROUPS)}, each once: what a start to come "
            "has in common with those of the training."
        )
    return kinds


def _inside(
    forecast: xr.DataArray, training: slice | str | None
) -> tuple[npt.NDArray[np.bool_], str]:
    """Tell which cases (I, L) are in the training, and the period of their valid times."""
    judged = Judged.of(forecast)
    if isinstance(training, slice):
        if training.step is not None:
            raise ConfigError(f"training={training}: expected a slice without a step.")
        first = show(judged.inits.min()) if training.start is None else training.start
        last = show(judged.valid.max()) if training.stop is None else training.stop
        training = f"{first}/{last}"
    period = None if training is None else Period.parse(training)
    inside = np.ones(judged.valid.shape, dtype=bool)
    if period is not None:
        inside = period.contains(judged.inits)[:, None] & period.contains(judged.valid)
    if not inside.any():
        raise MissingDataError(
            f"no start and valid time of {forecast.name!r} lies in the training period {training}; "
            f"it holds valid times from {judged.window}."
        )
    spans = (None,) if period is None else tuple(Period((span,)) for span in period.spans)
    found = []
    for span in spans:
        of_span = inside if span is None else inside & span.contains(judged.valid)
        if of_span.any():
            valid = judged.valid[of_span]
            found.append(f"{show(valid.min())}/{show(valid.max())}")
    return inside, ", ".join(found)


def _moments(members: Any, truth: Any) -> tuple[Array, Array, Array]:
    """Return mean and variance of the members that are known, and the truth, (I * L, P)."""
    parts = [members, truth]
    if isinstance(members, da.Array):
        whole = members.rechunk({2: -1})
        pair = da.map_blocks(
            _mean_and_variance,
            whole,
            dtype=np.float64,
            chunks=(*whole.chunks[:2], (2,), *whole.chunks[3:]),
        )
        parts = [pair, truth]
    else:
        parts = [_mean_and_variance(np.asarray(members)), truth]
    pair, at = dask.compute(*parts)
    cases = pair.shape[0] * pair.shape[1]
    mean, variance = (pair[:, :, k].reshape(cases, -1) for k in (0, 1))
    return mean, variance, np.asarray(at, dtype=np.float64).reshape(cases, -1)


def _mean_and_variance(members: Array) -> Array:
    """Return both on axis 2; NaN with fewer than 2 known members."""
    known = np.isfinite(members)
    n = known.sum(axis=2, keepdims=True)
    enough = n > 1
    values = np.where(known, members, 0.0).astype(np.float64)
    mean = values.sum(axis=2, keepdims=True) / np.maximum(n, 1)
    squares = (np.where(known, values - mean, 0.0) ** 2).sum(axis=2, keepdims=True)
    variance = squares / np.maximum(n - 1, 1)
    return np.where(enough, np.concatenate([mean, variance], axis=2), np.nan)
