"""The commands about many starts: write a hindcast, and verify one."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ..cf.conventions import open_hindcast
from ..cf.nominal import decode_times
from ..cf.writer import to_cf
from ..errors import SourceError
from ..fields.climatology import climatology
from ..forecasting.hindcast import hindcast as lazy_hindcast
from ..forecasting.store import write_hindcast
from ..verification.one_pass.verify import verify as verify_in_one_pass
from ..verification.scores.indices import REGIONS
from .files import apart, open_dataset, open_field, picture, with_suffix, writable
from .panels import draw, drawable

if TYPE_CHECKING:
    import argparse

__all__ = ["hindcast", "score_table", "verify"]

#: Short names on the command line, by the name of the score they mean.
SHORT = {"crps": "crps_ensemble"}
_ROWS = 400  # a longer table is a file to write, not text to read


def hindcast(arguments: argparse.Namespace) -> None:
    """Write the forecasts from many starts of a file to a Zarr store."""
    output = with_suffix(writable(arguments.output), (".zarr",), "--output")
    working = output.with_name(f"{output.name}.incomplete")
    for written in (output, working):
        apart({"--output": written}, [arguments.file, arguments.model])
    field = open_field(arguments.file, arguments.variable)
    made = lazy_hindcast(
        field, arguments.model, init=arguments.init, members=arguments.members,
        seed=arguments.seed, starts_per_block=arguments.starts_per_block,
    )  # fmt: skip
    shown = arguments.progress
    write_hindcast(
        made,
        output,
        resume=arguments.resume,
        progress=sys.stderr.isatty() if shown is None else shown,
    )
    print(f"wrote {output}: {', '.join(f'{dim} {size}' for dim, size in made.sizes.items())}")


def verify(arguments: argparse.Namespace) -> None:
    """Score a hindcast against observations, print a table, write and draw it if asked to."""
    output, plot = arguments.output, arguments.plot
    if output is not None:
        output = with_suffix(writable(output), (".nc", ".zarr"), "--output")
    if plot is not None:
        picture(plot)
    apart({"--output": output, "--plot": plot}, [arguments.forecast, arguments.observations])
    names = [SHORT.get(name, name) for name in arguments.scores]
    forecast = _forecast(arguments)
    truth = _truth(arguments.observations, arguments.obs_variable, str(forecast.name))
    base = arguments.base
    scores = verify_in_one_pass(
        forecast, truth, names, by=arguments.by,
        weights="area" if arguments.weights == "area" else None,
        regions=None if arguments.region is None else REGIONS[arguments.region],
        climatology=None if base is None else climatology(truth, base=base),
        thresholds=arguments.threshold, op=arguments.op, levels=arguments.levels,
    )  # fmt: skip
    panels = [] if plot is None else drawable(scores)
    scores = scores.compute()
    print(score_table(scores))
    if output is not None:
        to_cf(scores, output, title=f"Scores of {arguments.forecast}")
        print(f"wrote {output}")
    if plot is not None:
        draw(scores, panels, plot)
        print(f"wrote {plot}")


def _forecast(arguments: argparse.Namespace) -> xr.DataArray:
    """Open the forecasts, whatever their convention."""
    path = arguments.forecast
    opened = open_hindcast(path, member=arguments.member, counting=arguments.counting, chunks={})
    return _one(opened, path, arguments.variable, "--variable", ("init", "lead"))


def _truth(path: str, variable: str | None, forecast: str) -> xr.DataArray:
    """Open the observations: the variable asked for, that of the forecast, or the only one."""
    ds = decode_times(open_dataset(path, decode_times=False))
    if variable is None and forecast in ds.data_vars:
        variable = forecast
    return _one(ds, path, variable, "--obs-variable", ())


def _one(
    ds: xr.Dataset, path: str, variable: str | None, option: str, dims: tuple[str, ...]
) -> xr.DataArray:
    names = sorted(str(n) for n, v in ds.data_vars.items() if v.ndim and {*dims} <= {*v.dims})
    if variable is None and len(names) != 1:
        raise SourceError(
            f"{path!r} holds {len(names)} variables: {', '.join(names) or 'none'}; choose one with "
            f"{option}"
        )
    chosen = names[0] if variable is None else variable
    if chosen not in names:
        raise SourceError(
            f"{path!r} holds no variable {chosen!r}; it holds: {', '.join(names) or 'none'}"
        )
    return ds[chosen]


def score_table(scores: xr.Dataset) -> str:
    """Return scores as lines of text, one for each lead (or group), with the number of pairs.

    Examples
    --------
    >>> scores = xr.Dataset(
    ...     {"rmse": ("lead", [0.25, 0.5], {"units": "K"}), "n": ("lead", [20, 19])},
    ...     {"lead": ("lead", [1, 2], {"units": "months"})},
    ... )
    >>> print(score_table(scores))
          lead    rmse (K)           n
             1      0.2500          20
             2      0.5000          19
    """
    dims = [str(dim) for dim in scores.sizes]
    columns = [str(name) for name in scores.data_vars]
    units = [str(scores[name].attrs.get("units", "1")) for name in columns]
    heads = [n if u == "1" else f"{n} ({u})" for n, u in zip(columns, units, strict=True)]
    widths = [max(12, len(head) + 2) for head in heads]
    heads = [f"{head:>{width}}" for head, width in zip(heads, widths, strict=True)]
    lines = ["".join([f"{dim:>10}" for dim in dims] + heads)]
    rows = int(np.prod([scores.sizes[dim] for dim in dims]))
    if rows > _ROWS:
        return f"{', '.join(columns)}: {', '.join(f'{d} {n}' for d, n in scores.sizes.items())}"
    for at in np.ndindex(*(scores.sizes[dim] for dim in dims)):
        one = scores.isel(dict(zip(dims, at, strict=True)))
        labels = [f"{_label(one, dim):>10}" for dim in dims]
        cells = [
            f"{_number(one[name].item()):>{width}}"
            for name, width in zip(columns, widths, strict=True)
        ]
        lines.append("".join(labels + cells))
    return "\n".join(lines)


def _label(row: xr.Dataset, dim: str) -> str:
    return str(row[dim].item())[:9] if dim in row.coords else ""


def _number(value: Any) -> str:
    return str(value) if isinstance(value, int) else f"{value:.4f}"
