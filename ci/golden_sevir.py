"""Golden vectors of SEVIR's data module: normalizations of stored numbers, windows of an event."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from golden_result import Result, relative_error

from xearth.cf.timeaxis import TimeAxis
from xearth.data.sources import sevir
from xearth.data.windows import Window

SCALINGS = ("01", "sevir")
KEYS = ("sevir_sequences", "sevir_scale")


def preprocess(path: Path) -> Iterator[Result]:
    """Run both normalizations of every type in one file."""
    with np.load(path, allow_pickle=False) as archive:
        stored = {key: archive[key] for key in archive.files}
    for name, kind in sevir.TYPES.items():
        for scaling in SCALINGS:
            case = f"sevir_preprocess/{scaling}/{name}"
            raw, expected = stored.get(f"raw_{name}"), stored.get(f"{scaling}_NHWT_{name}")
            if raw is None or expected is None:
                continue
            scale = sevir.normalizer(name, scaling=scaling)
            attrs = {"units": scale.units[0], "scale_factor": kind.factor}
            a, b = scale.affine(xr.DataArray(raw[:1], dims=list("nhwt"), name=name, attrs=attrs))
            error = relative_error(a[0] * raw + b[0], expected)
            frames = stored.get(f"{scaling}_NTHWC_{name}")
            if frames is not None:
                moved = np.moveaxis(a[0] * raw + b[0], 3, 1)[..., None]
                error = max(error, relative_error(moved, frames))
            yield Result(case, output=error)
    for key in stored:
        if not key.startswith(("raw_", *(f"{s}_" for s in SCALINGS))):
            note = "means of pixels: SEVIR-LR as published has maxima"
            yield Result(f"sevir_preprocess/{key}", skipped=True, note=note)


def facts(index: Mapping[str, Any]) -> Iterator[Result]:
    """Run the windows and constants that an index holds."""
    for name, facts_ in index.get("sevir_sequences", {}).items():
        length, stride = facts_["seq_len"], facts_["stride"]
        minutes = np.arange(facts_["raw_seq_len"]) * np.timedelta64(5, "m")
        time = xr.DataArray(np.datetime64("2018-01-01", "ns") + minutes, dims="time", name="time")
        ours = {25: sevir.WINDOW, 13: sevir.WINDOW_LR}.get(length)
        window = ours if ours and ours.stride == stride else Window(length, 0, stride)
        first = window.starts(TimeAxis.from_array(time)) - window.history + 1
        starts = list(facts_["starts"])
        error = 0.0 if first.tolist() == starts else float("inf")
        note = f"{len(starts)} windows an event"
        yield Result(f"sevir_sequences/{name}", output=error, failed=error > 0, note=note)
    constants = index.get("sevir_scale", {})
    for name in constants.get("scale", {}):
        found = sevir.TYPES[name].published
        expected = (constants["scale"][name], constants["offset"][name])
        yield Result(f"sevir_scale/{name}", output=relative_error(found, expected))
