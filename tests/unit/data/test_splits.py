"""Splits: admitted windows against a plain search, refusals, and what the leak guard reads."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from xearth.cf.timeaxis import TimeAxis
from xearth.data.sources import samples
from xearth.data.splits import PARTS, Split
from xearth.data.windows import Window
from xearth.errors import ConfigError, TimeAxisError
from xearth.forecasting.hindcast import hindcast
from xearth.reference.persistence import Persistence
from xearth.verification.leaks.leakage import find_leaks
from xearth.verification.leaks.provenance import Judged, Provenance

SPLIT = Split(train="1856-01/1981-12", choose="1982-01/1992-12", judge="1993-01/2003-12", gap=12)


def record(months: int, *, start: str = "2000-01", calendar: str = "standard") -> xr.DataArray:
    time = xr.date_range(
        start, periods=months, freq="MS", calendar=calendar, use_cftime=calendar != "standard"
    )
    return xr.DataArray(np.arange(float(months)), {"time": time}, ("time",), name="index")


def month(k: int) -> str:
    return f"{2000 + k // 12}-{k % 12 + 1:02d}"


def search(split: Split, owner: list[str | None], window: Window, part: str) -> list[int]:
    """Return admitted inits by walking through the steps of every window."""
    kept = list(owner)
    for i, own in enumerate(owner):
        if own and any(o and o != own for o in owner[max(i - split.gap, 0) : i]):
            kept[i] = None
    found = []
    for init in range(window.history - 1, len(owner) - window.reach):
        read = kept[init - window.history + 1 : init + 1]
        asked = kept[init + window.gap + 1 : init + window.reach + 1]
        fits = all(o == part for o in asked)
        if part == "train":
            fits &= all(o == "train" for o in read)
        elif split.histories == "apart":
            fits &= all(o in (part, None) for o in read)
        if fits:
            found.append(init)
    return found[:: window.stride]


@settings(max_examples=150, deadline=None)
@given(
    edges=st.lists(st.integers(0, 59), min_size=6, max_size=6, unique=True).map(sorted),
    order=st.permutations(PARTS),
    window=st.builds(
        Window, st.integers(1, 5), st.integers(1, 5), st.integers(1, 3), st.integers(0, 2)
    ),
    gap=st.integers(0, 6),
    histories=st.sampled_from(["apart", "past"]),
)
def test_admitted_windows_equal_the_search(edges, order, window, gap, histories):
    periods = {
        part: f"{month(a)}/{month(b)}"
        for part, a, b in zip(order, edges[::2], edges[1::2], strict=True)
    }
    split = Split(**periods, gap=gap, histories=histories)
    assert Split.from_json(split.to_json()) == split
    owner: list[str | None] = [None] * 60
    for part, a, b in zip(order, edges[::2], edges[1::2], strict=True):
        owner[a : b + 1] = [part] * (b + 1 - a)
    data = record(60)
    for part in PARTS:
        expected = search(split, owner, window, part)
        if expected:
            np.testing.assert_array_equal(split.inits(data, window, part), expected)
        else:
            with pytest.raises(TimeAxisError, match="admitted to"):
                split.inits(data, window, part)


def test_no_window_straddles_two_parts():
    sst = samples.open("kaplan_sst")
    window = Window(history=12, horizon=18)
    steps = {}
    for part in PARTS:
        init = SPLIT.inits(sst, window, part)
        steps[part] = {int(i) + k for i in init for k in range(-11, 19)}
    assert not steps["train"] & (steps["choose"] | steps["judge"])
    assert not steps["choose"] & steps["judge"]
    # as fit cuts it: all of 1856-1981
    assert SPLIT.inits(sst, window, "train").size == 126 * 12 - 29


def test_histories_of_a_forecaster_in_use_reach_back():
    sst = samples.open("kaplan_sst")
    split = Split(train="1856/1981", judge="1982/2003", histories="past")
    init = split.inits(sst, Window(history=12, horizon=18), "judge")
    stamps = pd.DatetimeIndex(sst.time.values[init])
    assert (str(stamps[0])[:7], str(stamps[-1])[:7], init.size) == ("1981-12", "2002-06", 247)


def test_the_gap_counts_steps_in_any_calendar_and_order():
    split = Split(train="2001-01/2001-12", judge="2000-01/2000-12", gap=3)
    for calendar in ("standard", "360_day", "noleap"):
        data = record(24, calendar=calendar)
        assert split.positions(data, "judge").tolist() == list(range(12))
        assert split.positions(data, "train").tolist() == list(range(15, 24))
        assert split.select(data.chunk(time=5), "train").chunks is not None
    turned = record(24).isel(time=slice(None, None, -1))
    chosen = split.select(turned, "train")
    np.testing.assert_array_equal(np.sort(chosen), np.arange(15.0, 24.0))
    assert chosen.time.values[0] > chosen.time.values[-1]  # stays as the data are


def test_several_spans_surround_what_is_judged():
    split = Split(train="2000-01/2000-12, 2003-01/2004-12", judge="2001-06/2002-06", gap=2)
    data = record(60)
    assert split.slices("train") == (slice("2000-01", "2000-12"), slice("2003-01", "2004-12"))
    own = split.inits(data, Window(2, 2), "train")
    assert own.tolist() == [*range(1, 10), *range(37, 58)]
    # training records without the years of others will do
    early = data.sel(time=slice("2000-01", "2000-12"))
    assert split.positions(early, "train").size == 12
    with pytest.raises(TimeAxisError, match=r"no step of judge 2001-06/2002-06 is left"):
        split.positions(early, "judge")


@pytest.mark.parametrize(
    ("how", "match"),
    [
        ({"train": "1856/1982", "judge": "1982-12/2003"}, "train 1856/1982 and judge .* overlap"),
        ({"train": "1856/1900, 1899/1950"}, "train 1856/1900 and train 1899/1950 overlap"),
        ({"train": "the old years"}, "expected 'first/last'"),
        ({"train": "1981/1856"}, "first stamp first"),
        ({"train": "1981", "gap": -1}, "whole number of steps >= 0"),
        ({"train": "1981", "gap": 1.5}, "whole number"),
        ({"train": "1981", "histories": "all"}, "expected one of"),
    ],
)
def test_refusals(how, match):
    with pytest.raises(ConfigError, match=match):
        Split(**how)


def test_reading_refuses_what_it_does_not_know():
    with pytest.raises(ConfigError, match="expected JSON"):
        Split.from_json("train: 1981")
    with pytest.raises(ConfigError, match="'train', 'choose', 'judge', 'gap', 'histories'"):
        Split.from_json(json.dumps({"train": "1981", "test": "1982"}))
    with pytest.raises(ConfigError, match="with 'train'"):
        Split.from_json("[]")


def test_a_part_that_is_not_there():
    split = Split(train="2000/2001")
    assert split.parts == ("train",)
    with pytest.raises(ConfigError, match="this split has train"):
        split.inits(record(60), Window(1, 1), "judge")
    axis = TimeAxis.from_array(record(60).time)
    with pytest.raises(TimeAxisError, match="longer period or a shorter window"):
        split.inits(axis, Window(20, 20), "train")


def test_the_leak_guard_reads_the_provenance_of_a_split():
    sst = samples.open("kaplan_sst").sel(lat=slice(-5, 5), lon=slice(190, 240))
    window = Window(history=1, horizon=6)
    model = Persistence.fit(SPLIT.select(sst, "train"), horizon=6)
    seen = Provenance.from_attrs(json.loads(json.dumps(SPLIT.provenance())))
    assert seen.normalization_period == seen.training_period == SPLIT.train
    assert seen.validation_period == SPLIT.choose
    kinds = {}
    for part in PARTS:
        init = sst.time.values[SPLIT.inits(sst, window, part)]
        judged = Judged.of(hindcast(sst, model, init=init), sst)
        kinds[part] = [leak.kind for leak in find_leaks(seen, judged)]
    assert kinds == {
        "train": ["overlap", "normalization"],
        "choose": ["validation"],
        "judge": [],
    }
