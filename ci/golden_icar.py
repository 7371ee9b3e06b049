"""Golden vectors of ICAR-ENSO's data module: rows folded to series, windows, numbers of samples.

All are whole numbers and have to be equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import xarray as xr
from golden_result import Result, relative_error

from xearth.cf.timeaxis import TimeAxis
from xearth.data.sources.icar_enso import MONTHS, RUNS, SPLITS, Run, starts
from xearth.data.windows import Window

KEYS = ("fold_7x36", "data_transform_6x36_3yearsPerModel", "sample_counts", "windows")


def icar(index: Mapping[str, Any]) -> Iterator[Result]:
    """Run the cases that an index holds."""
    for name in KEYS:
        if name not in index:
            continue
        try:
            yield from _CASES[name](index[name])
        except Exception as error:  # one broken case must not hide the others
            yield Result(name, note=f"{type(error).__name__}: {error}", failed=True)


def _equal(case: str, found: Any, expected: Any) -> Result:
    error = relative_error(found, expected)
    note = f"{np.size(expected)} numbers" if error == 0 else "not equal"
    return Result(case, output=error, note=note, failed=error != 0)


def _flat(run: Run) -> np.ndarray:
    row, month = run.places()
    return np.asarray(row * MONTHS + month)


def _fold(expected: Mapping[str, Any]) -> Iterator[Result]:
    yield _equal("fold_7x36", _flat(Run("one", 0, 7, 1)), expected["rows"])


def _transform(expected: Any) -> Iterator[Result]:
    runs = [_flat(Run("one", first, 3, 1)) for first in (0, 3)]
    yield _equal("data_transform", np.stack(runs, 1), expected)


def _windows(expected: Mapping[str, Any]) -> Iterator[Result]:
    for key, table in expected.items():
        months, step, history, shift, horizon, stride = (int(n) for n in key.strip("()").split(","))
        name = f"windows/{key}"
        if step != 1 or shift != horizon:
            yield Result(name, skipped=True, note="windows that leave months out are not offered")
            continue
        time = xr.date_range("2000-01", periods=months, freq="MS", use_cftime=False)
        axis = TimeAxis.from_array(xr.DataArray(time, dims="time", name="time"))
        init = Window(history, horizon, stride).starts(axis)
        yield _equal(name, init[:, None] + np.arange(1 - history, horizon + 1), table)


def _counts(expected: Mapping[str, Mapping[str, int]]) -> Iterator[Result]:
    runs = {"cmip6_per_model": RUNS[:1], "cmip5_per_model": RUNS[-1:], "train": SPLITS["train"]}
    for key, numbers in expected.items():
        gap, horizon = (int(part.strip("gapout")) for part in key.split("_"))
        window = Window(12, horizon, gap)
        found = {name: starts(_axis(runs[name]), window).size for name in numbers}
        yield _equal(f"sample_counts/{key}", list(found.values()), list(numbers.values()))


def _axis(runs: tuple[Run, ...]) -> xr.DataArray:
    time = np.concatenate([run.stamps() for run in runs])
    names = np.repeat([run.name for run in runs], [run.months for run in runs])
    return xr.DataArray(np.zeros(time.size), {"time": time, "run": ("time", names)}, ("time",))


_CASES: Mapping[str, Callable[[Any], Iterator[Result]]] = {
    "fold_7x36": _fold,
    "data_transform_6x36_3yearsPerModel": _transform,
    "sample_counts": _counts,
    "windows": _windows,
}
