r"""Is a forecast better than another, or is it luck? Intervals and verdicts over starts.

A score is a formula :math:`f` of sums over starts (:mod:`xearth.verification.statistics`), so an
interval needs the sums of each start alone, not the forecasts: with 40 starts and 12 leads that
is a table, however large the archive. :func:`bootstrap` resamples it in blocks
(:mod:`xearth.verification.significance.resampling` holds the equations and why they cover),
:func:`compare` does so for the difference of two forecasts' losses at the same starts, and
:func:`distinguishable` puts it in words. The tests that need no resampling are in
:mod:`xearth.verification.significance.accuracy_tests`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import xarray as xr

from ...cf.attrs import score_attrs
from ...cf.packing import decoded
from ...errors import (
    AxisError,
    ConfigError,
    GridMismatchError,
    MissingDataError,
    TimeAxisError,
    UnitsError,
)
from ...units import cf_format, convert_array
from .resampling import MINIMUM, STATISTICS, Bootstrap

__all__ = ["bootstrap", "compare", "distinguishable", "paired_losses", "verdicts"]

Array = npt.NDArray[Any]
Kind = Literal["mean", "root", "skill"]

#: What a difference of two forecasts is made of: its formula of the two mean losses, and what it
#: is called.
_DIFFERENCES: Mapping[str, tuple[Callable[[Array, Array], Array], str]] = {
    "mean": (lambda a, b: a - b, "difference of the mean losses"),
    "root": (lambda a, b: np.sqrt(a) - np.sqrt(b), "difference of the root mean losses"),
    "skill": (lambda a, b: 1 - a / b, "skill score"),
}


def bootstrap(
    sums: Mapping[str, xr.DataArray],
    finish: Callable[[Mapping[str, Array]], Array],
    *,
    dim: str = "init",
    own: Sequence[Hashable] = (),
    n: int = 1000,
    block: int | Literal["auto"] = "auto",
    confidence: float = 0.95,
    seed: int = 0,
) -> xr.Dataset:
    """Return a score with its interval, from the sums of each start.

    Blocks of neighboring starts are resampled and the score is studentized in each, so that the
    interval covers what it claims for serially dependent errors as well.

    Parameters
    ----------
    sums : mapping of str to DataArray
        (..., init, own...): what adds over starts, such as a sum of losses and the number of
        pairs. A start that is NaN in one of them is left out. Dask arrays stay lazy.
    finish : callable
        From the totals over starts, by name, arrays (..., own...), to the score (...); it must
        broadcast over leading axes.
    dim : str
        The starts, sorted in time.
    own : sequence of str
        Dimensions that ``finish`` needs whole, such as bins.
    n : int
        Resamples.
    block : int or "auto"
        Length of the blocks in starts; by default from the data.
    confidence : float
        Nominal coverage.
    seed : int
        Of the draws.

    Returns
    -------
    Dataset
        ``value``, ``lower``, ``upper``, ``standard_error``, ``p_value`` (of the hypothesis that
        the score is 0), ``n`` (known starts), ``block_length`` and ``studentized``: 1, or 0 where
        the score has no spread in too many resamples to be studentized, so that the interval is
        the expanded percentile one. NaN with fewer than 5 known starts, or where the score does
        not exist in too many resamples.

    Raises
    ------
    AxisError
        A sum without the dimension of starts, or no sums.
    TimeAxisError
        Starts that are not sorted or occur twice.
    ConfigError
        A number of resamples or a confidence out of range.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> error = xr.DataArray(rng.standard_normal((60, 3)), dims=("init", "lead"))
    >>> sums = {"loss": error**2, "pairs": xr.ones_like(error)}
    >>> rmse = bootstrap(sums, lambda total: np.sqrt(total["loss"] / total["pairs"]))
    >>> bool(((rmse.lower < 1) & (1 < rmse.upper)).all())
    True
    """
    options = Bootstrap(n=n, block=block, confidence=confidence, seed=seed)
    names, arrays = list(sums), list(sums.values())
    _check_starts(sums, dim)
    cores = [[dim, *(name for name in own if name in array.dims)] for array in arrays]
    found = xr.apply_ufunc(
        _run,
        *(array.astype(np.float64) for array in arrays),
        input_core_dims=cores,
        output_core_dims=[["statistic"]],
        kwargs={
            "names": names,
            "owns": [len(core) - 1 for core in cores],
            "finish": finish,
            "options": options,
        },
        dask="parallelized",
        output_dtypes=[np.float64],
        dask_gufunc_kwargs={
            "allow_rechunk": True,
            "output_sizes": {"statistic": len(STATISTICS)},
        },
        keep_attrs=False,
    )
    return _labeled(found, options)


def compare(
    losses: xr.DataArray,
    reference: xr.DataArray,
    *,
    score: Kind = "mean",
    dim: str = "init",
    n: int = 1000,
    block: int | Literal["auto"] = "auto",
    confidence: float = 0.95,
    seed: int = 0,
) -> xr.Dataset:
    r"""Return how the losses of a forecast differ from those of a reference, with its interval.

    Both are compared at the starts where both are known, so a hard year is hard for both.

    Parameters
    ----------
    losses, reference : DataArray
        (init, ...) losses of each start, such as squared errors or CRPS; starts that only one
        has are left out and counted, all other labels must be the same.
    score : {"mean", "root", "skill"}
        With :math:`a` and :math:`b` the mean losses: :math:`a - b`; :math:`\sqrt a - \sqrt b`, the
        difference of the RMSE if the losses are squared errors; or :math:`1 - a / b`.
    dim, n, block, confidence, seed : optional
        As :func:`bootstrap`.

    Returns
    -------
    Dataset
        As :func:`bootstrap`. Negative differences and positive skill are in favor of ``losses``.
        The attribute ``starts_left_out`` counts the starts of which only one had a label.

    Raises
    ------
    ConfigError
        An unknown score.
    GridMismatchError, UnitsError, TimeAxisError
        The two cannot be paired, or "root" of losses whose units are no square.
    MissingDataError
        Fewer than 5 starts have both.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> easy = xr.DataArray(rng.standard_normal(120), dims="init") ** 2
    >>> found = compare(easy, 2 * easy, score="skill")
    >>> round(float(found.value), 2), bool(found.lower > 0)
    (0.5, True)
    """
    if score not in _DIFFERENCES:
        raise ConfigError(f"score={score!r}: expected one of {list(_DIFFERENCES)}.")
    formula, long_name = _DIFFERENCES[score]
    attrs = _difference_attrs(long_name, losses.attrs.get("units"), score)
    a, b, left_out = paired_losses(losses, reference, dim)
    found = bootstrap(
        {"a": a, "b": b, "pairs": xr.ones_like(a.drop_attrs())},
        lambda total: formula(total["a"] / total["pairs"], total["b"] / total["pairs"]),
        dim=dim,
        n=n,
        block=block,
        confidence=confidence,
        seed=seed,
    )
    for name in ("value", "lower", "upper", "standard_error"):
        found[name].attrs = {**attrs, "long_name": f"{long_name}{_SUFFIXES[name]}"}
    found.attrs["starts_left_out"] = left_out
    return found


def distinguishable(
    losses: xr.DataArray,
    references: Mapping[str, xr.DataArray],
    *,
    score: Kind = "mean",
    dim: str = "init",
    n: int = 1000,
    block: int | Literal["auto"] = "auto",
    confidence: float = 0.95,
    seed: int = 0,
) -> xr.Dataset:
    """Say whether a forecast can be told from references: persistence, climatology, a LIM.

    Parameters
    ----------
    losses : DataArray (init, ...)
        Of the forecast.
    references : mapping of str to DataArray (init, ...)
        Losses of each reference.
    score, dim, n, block, confidence, seed : optional
        As :func:`compare`.

    Returns
    -------
    Dataset
        As :func:`compare`, with a dimension ``reference`` and the text ``verdict``: "yes, better
        (p = 0.004, n = 264)", "yes, worse (...)", "no (...)" or "unknown (n = 3)". Each verdict
        stands alone; for many at once see
        :func:`~xearth.verification.field_significance`.

    Raises
    ------
    ConfigError
        No reference.
    GridMismatchError, UnitsError, TimeAxisError, MissingDataError
        As :func:`compare`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> loss = xr.DataArray(rng.standard_normal(120), dims="init") ** 2
    >>> found = distinguishable(loss, {"persistence": loss + 1, "twin": loss[::-1]})
    >>> found.verdict.values.tolist()
    ['yes, better (p = 0.001, n = 120)', 'no (p = 1.000, n = 120)']
    """
    if not references:
        raise ConfigError("distinguishable: expected at least one reference, found none.")
    options: dict[str, Any] = {"score": score, "dim": dim, "n": n, "block": block, "seed": seed}
    each = [
        compare(losses, reference, confidence=confidence, **options)
        for reference in references.values()
    ]
    names = xr.Variable("reference", list(references), {"long_name": "forecast compared with"})
    left_out = [int(found.attrs["starts_left_out"]) for found in each]
    table = xr.concat(each, names, combine_attrs="override")
    table.attrs["starts_left_out"] = left_out
    sign = -1.0 if score == "skill" else 1.0
    table["verdict"] = xr.apply_ufunc(
        verdicts,
        sign * table.value,
        table.p_value,
        table.n,
        kwargs={"level": 1 - confidence},
        dask="parallelized",
        output_dtypes=[np.dtype("U40")],
        keep_attrs=False,
    )
    table["verdict"].attrs = {
        "long_name": f"whether the forecast differs from the reference at the {1 - confidence:.3g} "
        "level"
    }
    return table


def paired_losses(
    losses: xr.DataArray, reference: xr.DataArray, dim: str = "init"
) -> tuple[xr.DataArray, xr.DataArray, int]:
    """Return the losses of two forecasts at the same starts, and how many labels were left out.

    Where one is NaN both become NaN.

    Raises
    ------
    AxisError
        One has no dimension of starts.
    TimeAxisError
        Starts that are not sorted or occur twice.
    GridMismatchError
        Other labels differ.
    UnitsError
        The units do not convert.
    MissingDataError
        Fewer than 5 starts are common (of Dask arrays: have a common label).

    Examples
    --------
    >>> a = xr.DataArray(np.arange(8.0), {"init": np.arange(8)})
    >>> b = xr.DataArray(np.arange(8.0), {"init": np.arange(1, 9)})
    >>> left, right, count = paired_losses(a, b)
    >>> left.init.values.tolist() == right.init.values.tolist(), count
    (True, 2)
    """
    a, b = decoded(losses), decoded(reference)
    _check_starts({"losses": a, "reference": b}, dim)
    if ("units" in a.attrs) != ("units" in b.attrs):
        raise UnitsError(
            f"losses have units {a.attrs.get('units')!r}, the reference {b.attrs.get('units')!r}; "
            "expected both or neither. Set attrs['units']."
        )
    if "units" in a.attrs:
        b = convert_array(b, a.attrs["units"])
    before = a.sizes[dim] + b.sizes[dim]
    try:
        a, b = _same_starts(a, b, dim)
        a, b = xr.align(a, b, join="exact")
    except ValueError as error:
        raise GridMismatchError(
            f"losses (dims {losses.dims}) and reference (dims {reference.dims}) have different "
            f"labels: {error}. Bring both to the same leads, members and cells."
        ) from error
    known = a.notnull() & b.notnull()
    count = int(known.sum(dim).max()) if known.chunks is None else a.sizes[dim]
    if count < MINIMUM:
        raise MissingDataError(
            f"losses and reference have {count} starts in common at most, of {losses.sizes[dim]} "
            f"and {reference.sizes[dim]}; expected at least {MINIMUM} to say anything. Forecast "
            "the same starts with both, inside the record of the truth."
        )
    return a.where(known), b.where(known), before - 2 * a.sizes[dim]


def _same_starts(a: xr.DataArray, b: xr.DataArray, dim: str) -> tuple[xr.DataArray, xr.DataArray]:
    """Select the starts that both have; without labels they must be equally many."""
    if dim not in a.indexes or dim not in b.indexes:
        return a, b
    common = a.indexes[dim].intersection(b.indexes[dim])
    return a.sel({dim: common}), b.sel({dim: common})


def _check_starts(sums: Mapping[str, xr.DataArray], dim: str) -> None:
    """Refuse sums without starts, and starts that are not in order."""
    if not sums:
        raise AxisError("expected at least one array of sums per start, found none")
    for name, array in sums.items():
        if dim not in array.dims:
            raise AxisError(
                f"{name!r} has no dimension of starts {dim!r}: dims are {array.dims}. Name it with "
                "dim=..., and do not average over starts before."
            )
        index = array.indexes.get(dim)
        if index is not None and not (index.is_monotonic_increasing and index.is_unique):
            raise TimeAxisError(
                f"{dim!r} of {name!r} is not sorted or has repeated starts; blocks of neighbors "
                f"need both. Use obj.sortby({dim!r}) and obj.drop_duplicates({dim!r})."
            )


def _run(
    *arrays: Array,
    names: Sequence[str],
    owns: Sequence[int],
    finish: Callable[[Mapping[str, Array]], Array],
    options: Bootstrap,
) -> Array:
    """Return the statistics (..., 8) of sums (..., n, own...)."""
    leads = [a.shape[: a.ndim - 1 - o] for a, o in zip(arrays, owns, strict=True)]
    lead = np.broadcast_shapes(*leads)
    columns, shapes = [], []
    for array, own in zip(arrays, owns, strict=True):
        core = array.shape[array.ndim - 1 - own :]
        whole = np.broadcast_to(array, (*lead, *core))
        columns.append(whole.reshape(int(np.prod(lead)), core[0], -1))
        shapes.append(core[1:])
    ends = np.cumsum([column.shape[-1] for column in columns])

    def of_totals(totals: Array) -> Array:
        parts = np.split(totals, ends[:-1], axis=-1)
        return finish(
            {
                name: part.reshape(*totals.shape[:-1], *shape)
                for name, part, shape in zip(names, parts, shapes, strict=True)
            }
        )

    found = options.run(np.concatenate(columns, axis=-1), of_totals)
    return found.reshape(*lead, len(STATISTICS))


_SUFFIXES = {
    "value": "",
    "lower": ", lower end of its interval",
    "upper": ", upper end of its interval",
    "standard_error": ", standard error",
}


def _labeled(found: xr.DataArray, options: Bootstrap) -> xr.Dataset:
    """Return the statistics as a Dataset that says how they were made."""
    table = xr.Dataset({name: found.isel(statistic=i) for i, name in enumerate(STATISTICS)})
    for name, suffix in _SUFFIXES.items():
        table[name].attrs = {"long_name": f"score{suffix}"}
    table.p_value.attrs = {"long_name": "p-value of a score of 0, two-sided", "units": "1"}
    table.n.attrs = {"long_name": "number of starts", "units": "1"}
    table.block_length.attrs = {"long_name": "length of the resampled blocks", "units": "1"}
    table.studentized.attrs = {
        "long_name": "whether the interval is studentized (1) or an expanded percentile one (0)",
        "units": "1",
    }
    table.attrs = options.attrs
    return table


def _difference_attrs(long_name: str, units: str | None, kind: str) -> dict[str, Any]:
    """Return the attributes of a difference of losses in some units."""
    if kind == "skill":
        return {"long_name": long_name, "units": "1"}
    if units is None:
        return {"long_name": long_name}
    if kind == "root":
        try:
            units = cf_format(f"({units}) ** 0.5")
        except UnitsError as error:
            raise UnitsError(
                f"score='root' compares roots of squared errors, but the losses have units "
                f"{units!r}, which are no square. xarray keeps the units of the error when it is "
                "squared: set attrs['units'], for example to 'K2'."
            ) from error
    return score_attrs(long_name, units=units, unit_power=1)


def verdicts(difference: Array, p: Array, n: Array, level: float) -> Array:
    """Put differences, of which the negative are better, into words.

    Parameters
    ----------
    difference, p, n : ndarray (...)
        Difference (NaN if neither side is better), p-value (NaN if unknown), number of starts.
    level : float
        The p-value up to which a difference counts.

    Returns
    -------
    ndarray of str (...)

    Examples
    --------
    >>> verdicts(np.array([-1.0, 1.0]), np.array([0.01, 0.2]), np.array([30, 30]), 0.05).tolist()
    ['yes, better (p = 0.010, n = 30)', 'no (p = 0.200, n = 30)']
    """
    out = np.empty(np.shape(p), dtype="U40")
    for i in np.ndindex(*out.shape):
        if np.isnan(p[i]):
            out[i] = f"unknown (n = {n[i]:.0f})"
            continue
        side = "differs" if np.isnan(difference[i]) else "better" if difference[i] < 0 else "worse"
        verdict = f"yes, {side}" if p[i] <= level else "no"
        out[i] = f"{verdict} (p = {p[i]:.3f}, n = {n[i]:.0f})"
    return out
