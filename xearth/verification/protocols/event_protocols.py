r"""Published ways to score precipitation nowcasts, each a named object with every knob fixed.

The same forecasts score .06 or .12 in "CSI-M" by the way the tables are pooled alone, so a number
without its protocol says little. A protocol fixes, in this order: what is made of an ensemble,
the scale and precision of the values, pooling, thresholds, the operator of an event, what one
contingency table holds, whether its scores are averaged, and what becomes of 0 / 0. Its results
say all that in their attributes; results of different protocols do not combine
(:func:`~xearth.verification.combine`), and
:func:`~xearth.verification.explain` splits their difference.

With counts h, m, f of a table, :math:`\epsilon` of the protocol and a mean over the tables of a
threshold where there are several,

.. math:: \mathrm{csi} = \frac{h}{h + m + f + \epsilon}, \quad
          \mathrm{pod} = \frac{h}{h + m + \epsilon}, \quad
          \mathrm{sucr} = \frac{h}{h + f + \epsilon}

and ``csi_m``, ``pod_m``, ``sucr_m`` are the means over the thresholds. ``hss`` and ``hss_m`` are
the Heidke skill score of the same tables, without :math:`\epsilon`.

=======================  ======================================================================
sevir                    Earthformer (Gao et al. 2022), mode "0": one table for everything
sevir_leads              mode "1": a table for each lead
sevir_lead_mean          mode "2": the mean of those over the leads
sevir_pool4, _pool16     PreDiff (Gao et al. 2023): maxima of 4 x 4 or 16 x 16 pixels
cascast, _pool4, _pool16 CasCast (Gong et al. 2024): the ensemble mean, one table
flowcast                 FlowCast (2026): the ensemble mean, ``>``, a table for each lead
diffcast                 DiffCast (Yu et al. 2024): whole numbers, a table for each frame, 0/0 as 0
diffcast_skip            the same, frames with 0/0 left out
diffcast_leads           the same numbers, a table for each lead
stldm                    STLDM (2025): every member a forecast, one table
pgfmm                    PG-FMM (2026): the probability-matched mean, else as diffcast
=======================  ======================================================================

What the source of a variant does not state is as in ``sevir``. The evaluator of ``sevir`` prints
a column "bias" which is the square of the ratio of events over ln 2, by which a perfect forecast
scores 2.08; it is not reproduced. Use
:func:`~xearth.verification.frequency_bias`.

SEVIR stores vertically integrated liquid as pixel values 0..255. These protocols take floating
point data as fractions of 255, as networks are trained on, and integer data as pixel values.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import xarray as xr

from ...cf.discover import discover
from ...cf.packing import decoded
from ...errors import ProtocolError
from ...units import compatible
from ..align import observations_at
from ..pairs import Dims
from ..scores.categorical import categorical_scores
from ..scores.contingency import OUTCOMES, contingency
from ..scores.ensembles import Ensemble, combine_members
from ..scores.event_scores import CATEGORICAL
from ..scores.pooling import How, field_dims, pool
from ..thresholds import Op, check_op, read_thresholds

__all__ = ["EVENT_PROTOCOLS", "EventProtocol", "Pooling"]

Array = npt.NDArray[Any]
Table = Literal["all", "lead", "frame"]

_RATIOS: Mapping[str, tuple[str, ...]] = {
    "csi": ("hits", "misses", "false_alarms"),
    "pod": ("hits", "misses"),
    "sucr": ("hits", "false_alarms"),
}


@dataclass(frozen=True)
class Pooling:
    """Windows of ``size`` x ``size`` cells, ``stride`` apart.

    Parameters as those of :func:`~xearth.verification.pool`.

    Examples
    --------
    >>> str(Pooling(4))
    'max of 4 x 4 cells, stride 4'
    """

    size: int
    how: How = "max"
    stride: int | None = None

    def __str__(self) -> str:
        stride = self.size if self.stride is None else self.stride
        return f"{self.how} of {self.size} x {self.size} cells, stride {stride}"


@dataclass(frozen=True, kw_only=True)
class EventProtocol:
    """A way to score events, every knob fixed.

    Parameters
    ----------
    name : str
    source : str
        Whose evaluator it is.
    ensemble : {"mean", "matched mean", "members", "first"} or Vote, optional
        What is made of an ensemble; without it the protocol is one of single forecasts. A
        single forecast is its own mean.
    scale : float, optional
        Floating point data are fractions of this, in single precision. Without it the
        thresholds carry units and the data are taken as they are.
    rescale : {"divide", "multiply"}
        Whether a fraction is divided by the rounded 1/scale or multiplied by the scale. It
        matters: 219 / 255 divided by 1/255 is less than 219 in single precision, so a pixel of
        219 that was stored that way is no event of the threshold 219.
    whole : bool
        Whether values are clipped to the scale and cut to whole numbers.
    pooling : Pooling, optional
        Before the thresholds.
    thresholds : tuple
        Of the scaled values, or with units.
    op : {">=", ">"}
    table : {"all", "lead", "frame"}
        What one contingency table holds: everything, one lead, or one field.
    average : bool
        Whether scores of several tables are averaged.
    epsilon : float
        Added to denominators.
    undefined : {"zero", "skip"}
        What 0 / 0 counts as in averages where epsilon is 0.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> truth = np.random.default_rng(0).random((2, 3, 8, 8)).astype(np.float32)
    >>> obs = xr.DataArray(truth, dims=("init", "lead", "y", "x"), attrs={"units": "1"})
    >>> result = EVENT_PROTOCOLS["sevir"].score(obs, obs)
    >>> result.csi_m.round(4).item(), result.attrs["protocol"]
    (1.0, 'sevir')
    """

    name: str
    source: str
    ensemble: Ensemble | None = None
    scale: float | None = 255.0
    rescale: Literal["divide", "multiply"] = "divide"
    whole: bool = False
    pooling: Pooling | None = None
    thresholds: tuple[float | str, ...] = (16.0, 74.0, 133.0, 160.0, 181.0, 219.0)
    op: Op = ">="
    table: Table = "all"
    average: bool = True
    epsilon: float = 1e-4
    undefined: Literal["zero", "skip"] = "zero"

    #: The knobs, in the order in which they act.
    KNOBS = (
        "ensemble",
        "scale",
        "rescale",
        "whole",
        "pooling",
        "thresholds",
        "op",
        "table",
        "average",
        "epsilon",
        "undefined",
    )
    headline = "csi_m"

    def __post_init__(self) -> None:
        check_op(self.op)
        if self.table not in ("all", "lead", "frame"):
            raise ProtocolError(
                f"protocol {self.name!r}: table must be 'all', 'lead' or 'frame'; found "
                f"{self.table!r}."
            )
        if self.undefined not in ("zero", "skip") or self.epsilon < 0:
            raise ProtocolError(
                f"protocol {self.name!r}: expected epsilon >= 0 and undefined 'zero' or 'skip'; "
                f"found {self.epsilon!r} and {self.undefined!r}."
            )

    def knobs(self) -> dict[str, str]:
        """Return every knob in words.

        Examples
        --------
        >>> EVENT_PROTOCOLS["flowcast"].knobs()["op"]
        '>'
        """
        return {name: words(getattr(self, name)) for name in self.KNOBS} | _FIXED

    def at(self, *thresholds: str) -> EventProtocol:
        """Return the same protocol for data with units, at other thresholds.

        What concerns pixel values, their scale and whole numbers, does not apply any more.

        Examples
        --------
        >>> EVENT_PROTOCOLS["cascast"].at("1 mm/h", "5 mm/h").name
        'cascast at 1 mm/h, 5 mm/h'
        """
        name = f"{self.name} at {', '.join(thresholds)}"
        return replace(
            self, name=name, thresholds=thresholds, scale=None, whole=False, rescale="divide"
        )

    def score(self, forecast: xr.DataArray, obs: xr.DataArray) -> xr.Dataset:
        """Score a forecast.

        Parameters
        ----------
        forecast, obs : DataArray
            (..., lead, y, x), for an ensemble with ``member``; the truth may be a record
            (time, y, x) instead. Dask arrays stay lazy.

        Returns
        -------
        Dataset
            ``csi``, ``pod``, ``sucr``, ``hss`` (threshold[, lead]), their means over the
            thresholds, the counts in all tables, and ``undefined``, the number of tables without
            any event.

        Raises
        ------
        ProtocolError
            The data are not what the protocol is for: another unit, an ensemble for a protocol
            of single forecasts, no leads where they are told apart, fractions above 1.
        UnitsError, GridMismatchError
            As :func:`~xearth.verification.contingency`.
        """
        f, o = self._fields(forecast, obs)
        leads = [] if self.table == "all" else _lead(f, needed=self.table == "lead")
        member = "member" if "member" in f.dims else None
        dims: Dims = [name for name in f.dims if name not in leads and name != member]
        if self.table == "frame":
            dims = list(field_dims(f))
        counts = contingency(
            f,
            o,
            thresholds=self._limits(f),
            op=self.op,
            dim=dims,
            ensemble="members" if member else None,
        )
        return self._finish(counts, leads)

    def _limits(self, f: xr.DataArray) -> Any:
        return read_thresholds(list(self.thresholds), f)

    def _fields(
        self, forecast: xr.DataArray, obs: xr.DataArray
    ) -> tuple[xr.DataArray, xr.DataArray]:
        forecast, obs = decoded(forecast), decoded(obs)
        member = member_of(forecast)
        if member is not None:
            if self.ensemble is None:
                raise ProtocolError(
                    f"protocol {self.name!r} scores single forecasts; {forecast.name!r} has "
                    f"{forecast.sizes[member]} members. Use one that says what is made of them, "
                    "such as 'cascast' (mean) or 'stldm' (all members), or select a member."
                )
            forecast = combine_members(forecast.rename({member: "member"}), self.ensemble)
        f, o = self._scaled(forecast, observed=False), self._scaled(obs, observed=True)
        o = at_valid_times(f, o)
        if self.pooling is not None:
            p, names = self.pooling, field_dims(f)
            f, o = (pool(v, p.size, how=p.how, stride=p.stride, field=names) for v in (f, o))
        return f, o

    def _scaled(self, field: xr.DataArray, *, observed: bool) -> xr.DataArray:
        if self.scale is None and not self.whole:
            return field
        units = field.attrs.get("units")
        if self.scale is not None and units is not None and not compatible(units, "1"):
            raise ProtocolError(
                f"protocol {self.name!r} has thresholds of pixel values 0..{self.scale:g}; "
                f"{field.name!r} has the units {units!r}. Use protocol.at('1 mm/h', ...) for "
                "thresholds in the units of the data."
            )
        dtype = field.dtype if field.dtype.kind in "iu" else np.dtype(np.float32)
        scaled: xr.DataArray = xr.apply_ufunc(
            _scale,
            field,
            kwargs={"protocol": self, "observed": observed},
            dask="parallelized",
            output_dtypes=[dtype],
            keep_attrs=True,
        )
        if self.scale is not None:
            scaled.attrs = {**field.attrs, "units": "1"}
        return scaled

    def _finish(self, counts: xr.Dataset, leads: list[Hashable]) -> xr.Dataset:
        frames = [name for name in counts.hits.dims if name not in ("threshold", *leads)]
        over = [*frames, *leads] if self.average else frames
        found = xr.Dataset()
        for name, ratio in self._scores(counts).items():
            found[name] = ratio.mean(over, skipna=True) if over else ratio
            found[name].attrs = {"long_name": CATEGORICAL[name].long_name, "units": "1"}
        empty = counts.hits + counts.misses + counts.false_alarms == 0
        found["undefined"] = empty.astype(np.int64).sum(over)
        found["undefined"].attrs = {"long_name": "tables without an event", "units": "1"}
        for name in (*OUTCOMES, "missing"):
            found[name] = counts[name].sum([d for d in over if d in counts[name].dims])
            found[name].attrs = counts[name].attrs
        for name in (*_RATIOS, "hss"):
            label = f"{CATEGORICAL[name].long_name}, mean of the thresholds"
            found[f"{name}_m"] = found[name].mean("threshold", skipna=self.undefined == "skip")
            found[f"{name}_m"].attrs = {"long_name": label, "units": "1"}
        found.attrs = protocol_attrs(self.name, self.source, self.knobs())
        return found

    def _scores(self, counts: xr.Dataset) -> dict[str, xr.DataArray]:
        """Return the scores of every table, and for 0 / 0 what the protocol says."""
        ratios = {"hss": categorical_scores(counts, ["hss"]).hss}
        for name, parts in _RATIOS.items():
            total = counts[list(parts)].to_dataarray("part").sum("part") + self.epsilon
            ratios[name] = counts.hits / total.where(total > 0)
        if self.undefined == "skip":
            return ratios
        return {name: ratio.fillna(0.0) for name, ratio in ratios.items()}


#: What is the same in all of them.
_FIXED = {
    "missing pixels": "in no table",
    "samples": "together in a table, but for tables of frames",
    "thresholds of a mean": "equal weights",
}


def _scale(values: Array, *, protocol: EventProtocol, observed: bool) -> Array:
    """Bring fractions to the scale of the thresholds; integers are on it already."""
    if values.dtype.kind in "iu":
        return values
    values, scale = values.astype(np.float32, copy=False), protocol.scale
    if scale is not None:
        with np.errstate(invalid="ignore"):
            if observed and (values > 1.0).any():
                raise ProtocolError(
                    f"truth in floating point is taken as fractions of {scale:g}, but the largest "
                    f"is {np.nanmax(values):g}. Divide pixel values by {scale:g}, or pass them as "
                    "integers."
                )
        values = np.clip(values, 0, 1) if protocol.whole else values
        divide = protocol.rescale == "divide"
        values = values / np.float32(1 / scale) if divide else values * np.float32(scale)
    return np.trunc(values) if protocol.whole else values


def at_valid_times(forecast: xr.DataArray, obs: xr.DataArray) -> xr.DataArray:
    """Return the truth at starts and leads: as it is, or picked from a record in time."""
    axes = discover(forecast, require=())
    starts = {axes.init, axes.lead} & set(forecast.dims)
    if len(starts) < 2 or starts & set(obs.dims):
        return obs
    return observations_at(forecast, obs).drop_vars("valid_time")


def member_of(forecast: xr.DataArray) -> str | None:
    """Return the member dimension of a forecast, None without one."""
    found = "member" if "member" in forecast.dims else discover(forecast, require=()).member
    return found if found in forecast.dims else None


def _lead(forecast: xr.DataArray, *, needed: bool) -> list[Hashable]:
    found = "lead" if "lead" in forecast.dims else discover(forecast, require=()).lead
    if found in forecast.dims:
        return [found]
    if needed:
        raise ProtocolError(
            f"the protocol tells leads apart, but {forecast.name!r} has none; its dims are "
            f"{forecast.dims}. Name the frames of a forecast 'lead'."
        )
    return []


def words(value: Any) -> str:
    """Return the value of a knob as text."""
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return ", ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def protocol_attrs(name: str, source: str, knobs: Mapping[str, str]) -> dict[str, str]:
    """Return the attributes by which a result says how it was made."""
    words = "; ".join(f"{knob} = {value}" for knob, value in knobs.items())
    return {"protocol": name, "protocol_source": source, "protocol_knobs": words}


_SEVIR = EventProtocol(name="sevir", source="Earthformer (Gao et al. 2022), SEVIRSkillScore")
_CASCAST = replace(_SEVIR, name="cascast", source="CasCast (Gong et al. 2024)", ensemble="mean")
_DIFFCAST = EventProtocol(
    name="diffcast",
    source="DiffCast (Yu et al. 2024)",
    ensemble="first",
    rescale="multiply",
    whole=True,
    table="frame",
    epsilon=0.0,
)
_PREDIFF = "PreDiff (Gao et al. 2023), SEVIRSkillScore"

#: The protocols of this module, by name.
EVENT_PROTOCOLS: Mapping[str, EventProtocol] = {
    protocol.name: protocol
    for protocol in (
        _SEVIR,
        replace(_SEVIR, name="sevir_leads", table="lead", average=False),
        replace(_SEVIR, name="sevir_lead_mean", table="lead"),
        replace(_SEVIR, name="sevir_pool4", source=_PREDIFF, pooling=Pooling(4)),
        replace(_SEVIR, name="sevir_pool16", source=_PREDIFF, pooling=Pooling(16)),
        _CASCAST,
        replace(_CASCAST, name="cascast_pool4", pooling=Pooling(4)),
        replace(_CASCAST, name="cascast_pool16", pooling=Pooling(16)),
        replace(_CASCAST, name="flowcast", source="FlowCast (2026)", op=">", table="lead"),
        _DIFFCAST,
        replace(_DIFFCAST, name="diffcast_skip", undefined="skip"),
        replace(_DIFFCAST, name="diffcast_leads", table="lead"),
        replace(_CASCAST, name="stldm", source="STLDM (2025)", ensemble="members"),
        replace(_DIFFCAST, name="pgfmm", source="PG-FMM (2026)", ensemble="matched mean"),
    )
}
