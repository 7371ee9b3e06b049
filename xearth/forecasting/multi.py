r"""A combination of index forecasters with calibrated members, in one file.

``enso-multi`` forecasts Nino3.4 and the other indices that the recharge oscillator uses from
their values of one month: sea-surface temperatures of the three oceans and the warm water volume.
Its mean is that of two bags (:class:`~xearth.reference.bagging.BaggedOscillator`) of extended
recharge oscillators with an annual cycle, one with the published nonlinear terms and one without
(:class:`~xearth.reference.combination.Combination`).

Members carry the errors of cross-validation inside the training period
(:class:`~xearth.reference.dressed.Dressed`), by lead and season of the start.

The file holds the training series, from which labels and limits come, the coefficients of the
parts, the errors, and everything else as JSON. Nothing in it is executed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ..cf.discover import discover
from ..errors import CheckpointError
from ..reference.bagging import BaggedOscillator
from ..reference.combination import Combination
from ..reference.dressed import Dressed
from ..reference.indices import IndexSet
from ..reference.lagged import LaggedRegression
from ..reference.protocol import Forecaster
from ..reference.recharge import RechargeOscillator
from ..reference.training import Training
from .kept import arguments_of, facts_of

if TYPE_CHECKING:
    import torch

__all__ = ["MultiForecaster", "oscillators"]

KIND = "MultiForecaster"
_PERIODS = ("training_period", "validation_period", "calibration_period")
# what a part is made of, beside its indices: arrays, and plain values
_ARRAYS: Mapping[str, tuple[str, ...]] = {
    "BaggedOscillator": ("coefficients",),
    "LaggedRegression": ("scale", "coefficients"),
    "RechargeOscillator": ("coefficients", "autocorrelation", "spread", "limits"),
}
_PLAIN: Mapping[str, tuple[str, ...]] = {
    "BaggedOscillator": (),
    "LaggedRegression": ("horizon", "lags"),
    "RechargeOscillator": ("horizon", "substeps", "products"),
}
_CLASSES: Mapping[str, Callable[..., Forecaster]] = {
    "BaggedOscillator": BaggedOscillator,
    "LaggedRegression": LaggedRegression,
    "RechargeOscillator": RechargeOscillator,
}


def oscillators(train: xr.Dataset, *, horizon: int = 18, replicates: int = 60) -> Combination:
    """Fit the two bags of ``enso-multi`` to a training period.

    Parameters
    ----------
    train : Dataset
        Monthly anomalies, among them ``Nino34``, ``WWV`` and ``IOD``.
    horizon : int
        Number of leads in months.
    replicates : int
        Oscillators in each bag.

    Raises
    ------
    ConfigError, MissingDataError
        As :meth:`~xearth.reference.bagging.BaggedOscillator.fit`.

    Examples
    --------
    >>> from xearth.data.sources import samples
    >>> indices = samples.open("xro_indices").load()
    >>> train = indices.sel(time=slice("1979", "2001"))
    >>> list(oscillators(train, horizon=3, replicates=2).parts)
    ['nonlinear', 'linear']
    """
    fit = partial(BaggedOscillator.fit, train, horizon=horizon, replicates=replicates)
    return Combination({"nonlinear": fit(), "linear": fit(nonlinear={}, seed=1)})


@dataclass(frozen=True, kw_only=True, eq=False)
class MultiForecaster:
    """A dressed combination of index forecasters.

    Made by :meth:`fit` and :func:`xearth.load`; kept by :meth:`save`.

    Parameters
    ----------
    model : Dressed
        Of a Combination.
    name : str
    provenance : mapping
        Training period, cross-validation, data: plain values.
    metrics : mapping
        What was measured: plain values.

    Examples
    --------
    >>> import xearth
    >>> indices = xearth.samples.open("xro_indices").load()
    >>> fc = xearth.forecast(indices, "enso-multi", init="2015-05", members=20)
    >>> fc.Nino34.dims, fc.Nino34.attrs["units"], fc.Nino34.attrs["training_period"]
    (('init', 'lead', 'member'), 'K', '1979-01/2001-12')
    """

    model: Dressed
    name: str
    provenance: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        combination: Any = self.model.forecaster
        return (
            f"<MultiForecaster {self.name!r}: {' + '.join(combination.parts)}, {self.history} -> "
            f"{self.horizon} months of {', '.join(self.model.trainings)}; trained on "
            f"{self.provenance.get('training_period', 'unknown period')}>"
        )

    @property
    def history(self) -> int:
        """Number of months needed up to and including the start."""
        return self.model.history

    @property
    def horizon(self) -> int:
        """Number of leads."""
        return self.model.horizon

    @classmethod
    def fit(
        cls,
        make: Callable[[xr.Dataset], Combination],
        train: xr.Dataset,
        *,
        name: str = "multi",
        block: int = 24,
        gap: int = 6,
        season: int = 1,
    ) -> MultiForecaster:
        """Cross-validate inside the training period, then fit to all of it.

        Parameters
        ----------
        make : callable
            Fits a combination: :func:`oscillators`, or one of your own of the same kinds of parts.
        train : Dataset
            Index series.
        name : str
        block, gap, season : int
            Of :meth:`~xearth.reference.dressed.Dressed.fit`.

        Raises
        ------
        ConfigError, MissingDataError
            As ``make`` and :meth:`~xearth.reference.dressed.Dressed.fit`.

        Examples
        --------
        >>> from xearth.data.sources import samples
        >>> indices = samples.open("xro_indices")[["Nino34", "WWV", "IOD"]].load()
        >>> train = indices.sel(time=slice("1979", "2001"))
        >>> model = MultiForecaster.fit(
        ...     lambda years: oscillators(years, horizon=3, replicates=2), train
        ... )
        >>> model.provenance["training_period"]
        '1979-01/2001-12'
        """
        model = Dressed.fit(make, train, block=block, gap=gap, season=season)
        period = next(iter(model.trainings.values())).period
        provenance = {
            "training_period": period,
            "calibration_period": period,
            "cross_validation": f"blocks of {block} months, {gap} left out before each and the "
            f"{model.horizon} that its forecasts reach; members from starts within {season} "
            "months of the year",
        }
        return cls(model=model, name=name, provenance=provenance)

    def forecast(
        self,
        history: xr.DataArray | xr.Dataset,
        *,
        init: Any = None,
        members: int | None = None,
        seed: int = 0,
    ) -> Any:
        """Forecast all indices as described in :class:`~xearth.reference.protocol.Forecaster`.

        Parameters
        ----------
        history : Dataset (time,)
            The indices of the training data, in any units that convert; more variables are not
            looked at. No DataArray: each index has units of its own.
        init, members, seed
            As there. Member k of a seed is the same for any number of members.

        Raises
        ------
        GridMismatchError
            An index of the training data is not there, or the history is no Dataset.
        MissingDataError, TimeAxisError
            A start misses a value or a month of its history.
        """
        given: Any = history
        found: Any = self.model.forecast(given, init=init, members=members, seed=seed)
        for da in found.data_vars.values():
            old = self.model.name.replace("_", " ")
            da.attrs["forecaster"] = self.name
            da.attrs |= {key: self.provenance[key] for key in _PERIODS if key in self.provenance}
            da.attrs["long_name"] = str(da.attrs["long_name"]).replace(old, self.name)
        return found

    def save(self, path: str | Path) -> Path:
        """Write one safetensors file, whole or not at all.

        Raises
        ------
        CheckpointError
            The folder does not exist, the time axis is not of numpy's calendar, or a part is of
            a kind that this file cannot hold.
        """
        import torch

        from ..models.checkpoints import save_tensors

        combination: Any = self.model.forecaster
        arrays, facts = _series(self.model.trainings)
        arrays["months"] = self.model.months
        for name in self.model.trainings:
            arrays[f"shrinkage.{name}"] = self.model.shrinkage[name]
            arrays[f"errors.{name}"] = self.model.errors[name]
        parts = {}
        for label, part in combination.parts.items():
            own, parts[label] = _packed(part)
            arrays |= {f"part.{label}.{key}": value for key, value in own.items()}
        facts |= facts_of(self, KIND) | {
            "combination": combination.name,
            "horizon": self.horizon,
            "season": self.model.season,
            "parts": parts,
        }
        tensors = {key: torch.from_numpy(np.array(value)) for key, value in arrays.items()}
        return save_tensors(path, tensors, facts)

    @classmethod
    def restore(
        cls, tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any]
    ) -> MultiForecaster:
        """Return the forecaster of a file's content; :func:`xearth.load` reads the file."""
        arrays = {key: tensor.numpy() for key, tensor in tensors.items()}
        train = _dataset(arrays, facts)
        parts: dict[str, Forecaster] = {}
        for label, told in facts["parts"].items():
            head = f"part.{label}."
            own = {key[len(head) :]: arrays[key] for key in arrays if key.startswith(head)}
            parts[label] = _unpacked(own, told, train)
        horizon = facts["horizon"]
        model = Dressed(
            forecaster=Combination(parts, facts["combination"]),
            trainings={
                str(name): Training.of(da, horizon=horizon) for name, da in train.data_vars.items()
            },
            shrinkage={str(name): arrays[f"shrinkage.{name}"] for name in train.data_vars},
            errors={str(name): arrays[f"errors.{name}"] for name in train.data_vars},
            months=arrays["months"],
            season=facts["season"],
        )
        return cls(
            model=model,
            **arguments_of(facts),
        )


def _packed(part: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the arrays of a part, and what else it is made of as plain values."""
    kind = type(part).__name__
    if kind not in _CLASSES:
        raise CheckpointError(
            f"a part of the combination is a {kind}; a file holds {sorted(_CLASSES)}. Keep the "
            "script that fits it instead."
        )
    arrays = {key: getattr(part, key) for key in _ARRAYS[kind]}
    told = {"kind": kind, **{key: getattr(part, key) for key in _PLAIN[kind]}}
    if isinstance(part, BaggedOscillator):
        inner, told["oscillator"] = _packed(part.oscillator)
        return arrays | {f"oscillator.{key}": value for key, value in inner.items()}, told
    return arrays, {**told, "indices": list(part.indices.names)}


def _unpacked(arrays: Mapping[str, Any], told: Mapping[str, Any], train: xr.Dataset) -> Forecaster:
    """Return the part that was packed."""
    kind = told["kind"]
    own = {key: arrays[key] for key in _ARRAYS[kind]}
    own |= {key: _tuples(told[key]) for key in _PLAIN[kind]}
    if kind == "BaggedOscillator":
        head = "oscillator."
        inner = {key[len(head) :]: arrays[key] for key in arrays if key.startswith(head)}
        own["oscillator"] = _unpacked(inner, told["oscillator"], train)
    else:
        own["indices"] = IndexSet.of(train[told["indices"]], horizon=told["horizon"])
    return _CLASSES[kind](**own)


def _series(trainings: Mapping[str, Training]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Training series as arrays, and their labels as plain values."""
    arrays: dict[str, Any] = {}
    variables = {}
    for name, training in trainings.items():
        stamps = training.axis.values
        if stamps.dtype.kind != "M":
            raise CheckpointError(
                f"the training data have times of the kind {stamps.dtype}; a file holds those of "
                "numpy's calendar. Convert them: obj.convert_calendar('standard')."
            )
        normal = training.normal[training.months % len(training.normal)]
        whole = (training.values + normal)[training.axis.ordinals]
        arrays[f"series.{name}"] = whole[:, 0].astype(training.template.dtype)
        arrays["time"] = stamps.astype("datetime64[ns]").astype(np.int64)
        variables[name] = _plain(training.template.attrs)
    return arrays, {"time": next(iter(trainings.values())).time, "variables": variables}


def _dataset(arrays: Mapping[str, Any], facts: Mapping[str, Any]) -> xr.Dataset:
    """Return the training series with their labels."""
    time, stamps = facts["time"], arrays["time"].astype("datetime64[ns]")
    found = {
        name: xr.DataArray(arrays[f"series.{name}"], {time: stamps}, (time,), attrs=attrs)
        for name, attrs in facts["variables"].items()
    }
    train = xr.Dataset(found)
    train[time].attrs["standard_name"] = "time"
    discover(train, require=("time",))
    return train


def _plain(attrs: Mapping[Any, Any]) -> dict[str, Any]:
    """Attributes that JSON can hold."""
    return {str(key): value for key, value in attrs.items() if isinstance(value, str | int | float)}


def _tuples(value: Any) -> Any:
    """Turn lists of a JSON text into the tuples they were."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
