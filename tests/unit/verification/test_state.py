"""States add only what was accumulated alike and of other cases; a file alone restores them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from xearth.errors import ConfigError, ProtocolError
from xearth.testing.assertions import raise_if_dask_computes
from xearth.verification.one_pass.observe import Rows, Work, add_cases, observe
from xearth.verification.one_pass.results import finish
from xearth.verification.one_pass.state import State
from xearth.verification.one_pass.verify import accumulate, verify
from xearth.verification.protocols.explain import combine
from xearth.verification.scores.table import SCORES

KELVIN = {"units": "K", "units_metadata": "temperature: difference"}
LAT = xr.Variable("lat", [-45.0, 0.0, 45.0, 60.0], {"units": "degrees_north"})
LON = xr.Variable("lon", [0.0, 90.0, 180.0, 270.0], {"units": "degrees_east"})
SIZE = 12


@pytest.fixture
def pair() -> tuple[xr.DataArray, xr.DataArray]:
    rng = np.random.default_rng(3)
    time = xr.date_range("2000-01", periods=SIZE + 2, freq="MS")
    coords = {"time": time, "lat": LAT, "lon": LON}
    o = xr.DataArray(rng.standard_normal((SIZE + 2, 4, 4)), coords, ("time", "lat", "lon"), "t",
                     KELVIN)  # fmt: skip
    lead = xr.Variable("lead", [1, 2], {"units": "months"})
    coords = {"init": time[:SIZE], "lead": lead, "lat": LAT, "lon": LON}
    dims = ("init", "lead", "member", "lat", "lon")
    f = xr.DataArray(rng.standard_normal((SIZE, 2, 5, 4, 4)), coords, dims, "t", KELVIN)
    return f, o


def halves(pair: tuple[xr.DataArray, xr.DataArray], scores=("rmse",), **options):
    f, o = pair
    cut = slice(None, 5), slice(5, None)
    return [accumulate(f.isel(init=part), o, list(scores), **options) for part in cut]


def test_sum_of_many(pair) -> None:
    total = sum(halves(pair))
    xr.testing.assert_allclose(finish(total), verify(*pair, ["rmse"]))


@pytest.mark.parametrize("lazy", [False, True])
def test_a_case_is_added_once(pair, lazy: bool) -> None:
    f, o = pair
    f = f.chunk(init=3) if lazy else f
    early, late = (accumulate(f.isel(init=i), o, ["rmse"]) for i in (slice(7), slice(5, None)))
    with raise_if_dask_computes(), pytest.raises(ConfigError, match="both"):
        early + late
    first, second = (accumulate(f.isel(lead=[k]), o, ["rmse"]) for k in (0, 1))
    xr.testing.assert_allclose(finish(first + second).compute(), verify(*pair, ["rmse"]))
    diagonal = accumulate(f.isel(init=[0], lead=[0]), o) + accumulate(f.isel(init=[1], lead=[1]), o)
    rest = accumulate(f.isel(init=[1], lead=[0]), o)
    if lazy:  # what the holes of a lazy state hold is not known
        diagonal, rest = diagonal.compute(), rest.compute()
    assert finish(diagonal + rest).n.values.tolist() == [32, 16]


def test_parts_of_a_grid_do_not_add(pair) -> None:
    f, o = pair
    south, north = (accumulate(f.isel(lat=s), o.isel(lat=s)) for s in (slice(2), slice(2, None)))
    with pytest.raises(ConfigError, match="cells"):
        south + north


def test_other_operators_levels_and_rates(pair) -> None:
    scores, limits = ["csi", "interval_width", "brier_skill"], ["0 K", "1 K"]
    given = {"thresholds": limits, "op": ">", "levels": [0.2, 0.6], "base_rates": [0.5, 0.25]}
    first, second = halves(pair, scores, **given)
    expected = verify(*pair, scores, **given)
    xr.testing.assert_allclose(finish(first + second), expected)
    back = State.from_dataset(first.to_dataset())
    xr.testing.assert_allclose(finish(back + second), expected)
    for name, other in {"op": ">=", "levels": [0.2, 0.5], "base_rates": [0.5, 0.5]}.items():
        with pytest.raises(ConfigError, match=name):
            first + halves(pair, scores, **(given | {name: other}))[1]


def test_other_weights_regions_and_leads(pair) -> None:
    f, o = pair
    mask = xr.DataArray([1.0, 1.0, 0.0, 0.0], dims="lat")
    a, b = f.isel(init=slice(5)), f.isel(init=slice(5, None))
    for mine, theirs in (
        ({"weights": mask}, {"weights": 1 + mask}),
        ({"regions": mask}, {}),
        ({"regions": mask}, {"regions": 1 - mask}),
        ({"by": ["lead", "region"], "regions": {"a": mask}}, {"by": ["lead", "region"],
                                                              "regions": {"a": 1 - mask}}),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match="do not add"):
            accumulate(a, o, **mine) + accumulate(b, o, **theirs)
    years = b.assign_coords(lead=xr.Variable("lead", [1, 2], {"units": "years"}))
    at = o.isel(time=0, drop=True).expand_dims(init=years.init, lead=years.lead)
    with pytest.raises(ConfigError, match="lead_units"):
        accumulate(a, o) + accumulate(years, at)
    limits = [accumulate(x, o, ["csi"], thresholds=t) for x, t in ((a, "0 K"), (b, "1 K"))]
    with pytest.raises(ConfigError, match="thresholds"):
        limits[0] + limits[1]


def test_other_regions_of_the_same_starts(pair) -> None:
    f, o = pair
    masks = {"south": o.lat.drop_attrs() < 0, "north": o.lat.drop_attrs() >= 0}
    by = ["lead", "region"]
    one = [accumulate(f, o, by=by, regions={k: m}) for k, m in masks.items()]
    expected = verify(f, o, by=by, regions=masks)
    found = finish(one[0] + one[1]).sel(region=expected.region)
    xr.testing.assert_allclose(found, expected)
    cells = [accumulate(f, o, ["acc_temporal"], by=by, regions={k: m}) for k, m in masks.items()]
    with pytest.raises(ConfigError, match="regions"):
        cells[0] + cells[1]


NAMES = ["rmse", "csi", "brier", "rank_histogram", "reliability", "interval_coverage", "roc_area",
         "brier_decomposition", "nino34_rmse", "crps_upper_tail", "acc_temporal"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_file_alone_restores_a_state(pair, name: str, tmp_path: Path) -> None:
    limits = None if name in SCORES else ["0.1 K", "1 K"]
    early, late = halves(pair, [name], thresholds=limits)
    early.to_dataset().to_netcdf(tmp_path / "early.nc")
    with xr.open_dataset(tmp_path / "early.nc") as parts:
        again = State.from_dataset(parts.load())
    xr.testing.assert_identical(finish(again), finish(early))
    expected = verify(*pair, [name], thresholds=limits)
    xr.testing.assert_allclose(finish(again + late), expected)
    xr.testing.assert_allclose(finish(late + again), expected)


def test_leads_in_days_and_maps_survive_a_file(pair, tmp_path: Path) -> None:
    f, o = pair
    days = xr.date_range("2000-01-01", periods=SIZE + 2, freq="D")
    lead = xr.Variable("lead", [1, 2], {"units": "days"})
    f, o = f.assign_coords(init=days[:SIZE], lead=lead), o.assign_coords(time=days)
    for by in ("lead", ["lead", "lat", "lon"]):
        early, late = halves((f, o), ["rmse", "crps_fair"], by=by)
        early.to_dataset().to_netcdf(tmp_path / "early.nc")
        with xr.open_dataset(tmp_path / "early.nc", decode_timedelta=True) as parts:
            again = State.from_dataset(parts.load())
        xr.testing.assert_identical(finish(again), finish(early))
        xr.testing.assert_allclose(finish(again + late), verify(f, o, ["rmse", "crps_fair"], by=by))


def test_rows_of_one_s_own_are_given_again(pair) -> None:
    own = accumulate(*pair, [SCORES["rmse"]])
    with pytest.raises(ConfigError, match="scores="):
        State.from_dataset(own.to_dataset())
    xr.testing.assert_identical(
        finish(State.from_dataset(own.to_dataset(), [SCORES["rmse"]])), finish(own)
    )
    some = accumulate(*pair, ["rmse", "bias"])
    assert set(finish(State.from_dataset(some.parts, ["bias"])).data_vars) == {"bias", "n"}


def test_results_of_one_protocol_combine(pair) -> None:
    f, o = pair
    options = {"scores": ["csi"], "thresholds": ["0 K", "1 K"]}
    first = verify(f, o, **options)
    assert first.attrs["protocol"] == "xearth.verify"
    table = combine({"a": first, "b": verify((f * 0.5).assign_attrs(f.attrs), o, **options)})
    assert table.csi.dims == ("forecast", "lead", "threshold")
    knobs = dict(k.split(" = ") for k in first.attrs["protocol_knobs"].split("; "))
    assert knobs == {
        "by": "lead",
        "weighting": "area of the cell",
        "regions": "none",
        "thresholds": "0 K, 1 K",
        "op": ">=",
        "levels": "0.5",
        "base_rates": "none",
        "climatology": "none",
    }
    base = xr.zeros_like(o.isel(time=0, drop=True)).expand_dims(month=range(1, 13))
    base = base.assign_attrs(KELVIN)
    others = {
        "thresholds": {"thresholds": "0 K"},
        "op": {"op": ">"},
        "by": {"by": ["lead", "season"]},
        "weighting": {"weights": None},
        "given weights": {"weights": xr.DataArray([1.0, 1.0, 0.0, 0.0], dims="lat")},
        "regions": {"regions": o.lat.drop_attrs() > 0},
        "climatology": {"climatology": base.assign_attrs(base_period="1951/1980")},
    }
    for knob, change in others.items():
        with pytest.raises(ProtocolError, match=knob):
            combine({"a": first, "b": verify(f, o, **(options | change))})
    two = [
        verify(f, o, ["acc"], climatology=base.assign_attrs(base_period=p))
        for p in ("1951/1980", "1961/1990")
    ]
    with pytest.raises(ProtocolError, match="1961/1990"):
        combine({"a": two[0], "b": two[1]})
    finished = finish(accumulate(f, o), by=["lead", "season"])
    assert finished.attrs["protocol_knobs"].startswith("by = lead, season")
    joined = verify(f, o, reference=(f * 0.5).assign_attrs(f.attrs), confidence=0.9)
    assert joined.attrs["protocol"] == "xearth.verify"


@pytest.mark.parametrize("shape", [(0, 2, 3, 4), (2, 0, 3, 4), (2, 3, 0, 4), (2, 3, 2, 0)])
def test_states_of_nothing_add_nothing(shape):
    """Blocks without cases have no rows; those without cells change no state that they join."""
    of_cases = (*SCORES["rmse"].statistics, *SCORES["crps_fair"].statistics)
    work = Work({"": of_cases}, SCORES["correlation"].statistics)

    def observed(N, L, Y, X):
        rng, rows = np.random.default_rng(0), np.zeros((N, L), int)
        fields = Rows([rng.random((1, Y, X))], rows), None
        return observe(work, [rng.random((N, L, 3, Y, X))], fields, {"": np.ones((2, Y, X))}, rows)

    nothing = observed(*shape)
    for parts in nothing.cases[""].values():
        assert all(values.shape == (*shape[:2], 2) for values in parts.values())
        assert not any(values.any() for values in parts.values())
    for states in nothing.cells.values():
        assert all(v.shape == shape[2:] for parts in states.values() for v in parts.values())
    if 0 in shape[2:]:
        whole = observed(*shape[:2], 3, 4)
        joined = add_cases(work, [whole, nothing])[""]
        for name, parts in whole.cases[""].items():
            for part, values in parts.items():
                np.testing.assert_array_equal(joined[name][part], values)
