r"""What a protocol does to a score: tables of one protocol, and the steps between two.

Two papers report different numbers for one model because they count differently.
:func:`explain` scores the same forecasts by a chain of protocols that leads from one to the
other, turning one knob at a time in the order in which the knobs act (the ``KNOBS`` of the
protocol), so that the steps add up to the difference. The size of a step depends on what was
turned before it; the order is fixed so that two people get the same steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import dask
import numpy as np
import xarray as xr

from ...errors import GridMismatchError, ProtocolError
from .crps_protocols import CRPS_PROTOCOLS, CrpsProtocol
from .event_protocols import EVENT_PROTOCOLS, EventProtocol, words
from .index_protocols import INDEX_PROTOCOLS, IndexProtocol

__all__ = ["PROTOCOLS", "Protocol", "combine", "explain", "protocol"]

Protocol = EventProtocol | IndexProtocol | CrpsProtocol

#: Every protocol, by name.
PROTOCOLS: Mapping[str, Protocol] = {**EVENT_PROTOCOLS, **INDEX_PROTOCOLS, **CRPS_PROTOCOLS}


def protocol(name: str) -> Protocol:
    """Return a protocol by its name.

    Parameters
    ----------
    name : str

    Returns
    -------
    EventProtocol, IndexProtocol or CrpsProtocol
        Its ``score(forecast, obs)`` gives a Dataset.

    Raises
    ------
    ProtocolError
        No such protocol; the known ones are listed.

    Examples
    --------
    >>> protocol("sevir_pool16").knobs()["pooling"]
    'max of 16 x 16 cells, stride 16'
    """
    if name not in PROTOCOLS:
        raise ProtocolError(f"no protocol {name!r}; the known ones are {', '.join(PROTOCOLS)}.")
    return PROTOCOLS[name]


def combine(results: Mapping[str, xr.Dataset], *, dim: str = "forecast") -> xr.Dataset:
    """Put the results of several forecasts into one table.

    Parameters
    ----------
    results : mapping of str to Dataset
        Results of one protocol by the name of the forecast.
    dim : str
        Name of the new dimension.

    Returns
    -------
    Dataset
        With the protocol in its attributes.

    Raises
    ------
    ProtocolError
        Results of different protocols, or one that does not say its own.
    GridMismatchError
        Other leads, or other labels that the results keep.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> values = np.random.default_rng(0).random((2, 3, 8, 8)).astype(np.float32)
    >>> obs = xr.DataArray(values, dims=("init", "lead", "y", "x"))
    >>> late = obs.roll(y=1)
    >>> sevir = protocol("sevir")
    >>> table = combine({"perfect": sevir.score(obs, obs), "late": sevir.score(late, obs)})
    >>> table.csi_m.round(2).values.tolist()
    [1.0, 0.41]
    """
    if not results:
        raise ProtocolError("there are no results to combine; give a mapping of name to result.")
    keys = {}
    for name, result in results.items():
        if "protocol" not in result.attrs:
            raise ProtocolError(
                f"result {name!r} does not say its protocol (attrs['protocol']), so it cannot be "
                "put beside others. Keep the attributes of protocol.score(...), for example with "
                "xarray.set_options(keep_attrs=True)."
            )
        keys[name] = (result.attrs["protocol"], result.attrs.get("protocol_knobs"))
    first, *others = keys
    for name in others:
        if keys[name] != keys[first]:
            raise ProtocolError(
                f"{first!r} was scored by the protocol {keys[first][0]!r}, {name!r} by "
                f"{keys[name][0]!r} ({_differing(keys[first][1], keys[name][1])}): these numbers "
                "do not compare. Score both by one; xearth.verification.explain splits "
                "the difference."
            )
    label = xr.Variable(dim, list(results), {"long_name": "forecast"})
    try:
        table: xr.Dataset = xr.concat(
            list(results.values()), label, join="exact", combine_attrs="override"
        )
    except xr.AlignmentError as error:
        raise GridMismatchError(
            f"the results of {list(results)} have other labels, such as other leads: {error}. "
            "Select the common ones."
        ) from error
    return table


def _differing(a: str | None, b: str | None) -> str:
    mine, theirs = (dict.fromkeys(str(x).split("; ")) for x in (a, b))
    found = [f"{x} against {y}" for x, y in zip(mine, theirs, strict=False) if x != y]
    return "; ".join(found) or "other knobs"


def explain(
    a: Protocol | str, b: Protocol | str, forecast: xr.DataArray, obs: xr.DataArray
) -> xr.Dataset:
    """Split the difference between two protocols on one forecast into steps.

    Parameters
    ----------
    a, b : protocol, or its name
        Both of events, both of an index or both of the CRPS.
    forecast, obs : DataArray
        What both can score. Dask arrays are computed, once for all steps.

    Returns
    -------
    Dataset
        (step): ``step`` is the knob that was turned, ``old`` and ``new`` what it was turned from
        and to, ``score`` the headline score (the mean CSI, the mean correlation, the CRPS) after
        it, and ``change`` what the step did to it. The changes add up to
        ``attrs["score_b"] - attrs["score_a"]`` exactly: scores are rounded to 2**-48.

    Raises
    ------
    ProtocolError
        Protocols of different kinds, or data that one of the steps cannot score.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> rng = np.random.default_rng(0)
    >>> members = rng.random((4, 2, 3, 16, 16)).astype(np.float32)
    >>> dims = ("member", "init", "lead", "y", "x")
    >>> f = xr.DataArray(members, dims=dims)
    >>> o = f.isel(member=0).roll(x=1)
    >>> steps = explain("stldm", "flowcast", f, o)
    >>> steps.step.values.tolist()
    ['ensemble', 'op', 'table']
    >>> steps.change.sum().item() == steps.score_b - steps.score_a
    True
    """
    first, last = (protocol(p) if isinstance(p, str) else p for p in (a, b))
    if type(first) is not type(last):
        raise ProtocolError(
            f"protocols {first.name!r} and {last.name!r} score different things "
            f"({type(first).__name__}, {type(last).__name__}); no steps lead from one to the other."
        )
    turned = [knob for knob in first.KNOBS if getattr(first, knob) != getattr(last, knob)]
    chain = [first]
    for knob in turned:
        name = f"{first.name} with {knob} of {last.name}"
        chain.append(replace(chain[-1], name=name, **{knob: getattr(last, knob)}))
    lazy = [_headline(step, forecast, obs) for step in chain]
    # in steps of 2**-48 (4e-15) the differences of doubles, and their sums, are exact
    scores = np.rint(np.ldexp([float(v) for v in dask.compute(*lazy)], 48)) * 2.0**-48
    old, new = ([words(getattr(p, knob)) for knob in turned] for p in (first, last))
    steps = xr.Dataset(
        {
            "old": ("step", np.array(old, dtype=str)),
            "new": ("step", np.array(new, dtype=str)),
            "score": ("step", scores[1:], {"long_name": f"{first.headline} after the step"}),
            "change": ("step", np.diff(scores), {"long_name": f"change of {first.headline}"}),
        },
        coords={"step": ("step", np.array(turned, dtype=str), {"long_name": "knob turned"})},
    )
    steps.attrs = {
        "protocol_a": first.name,
        "protocol_b": last.name,
        "score_a": float(scores[0]),
        "score_b": float(scores[-1]),
    }
    return steps


def _headline(step: Protocol, forecast: xr.DataArray, obs: xr.DataArray) -> Any:
    """Return the one number of a protocol, averaged over what it leaves; lazy where data are."""
    return step.score(forecast, obs)[step.headline].mean().data
