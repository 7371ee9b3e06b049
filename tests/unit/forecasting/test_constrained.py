"""Forecasts that hold constraints: the conditional law, projections, audits, refusals."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr

import xearth
from xearth import Q
from xearth.errors import ConstraintError, LeadError, RegionError, UnitsError
from xearth.models.heads import LowRankGaussian
from xearth.reference.climatology import Climatology
from xearth.reference.persistence import Persistence
from xearth.testing.assertions import raise_if_dask_computes

from .conftest import make_forecaster

overall = xearth.AreaMean(per="horizon")
eastern = xearth.AreaMean(xearth.Box(-10, 10, 175, 205, "east"), leads=(2,))


@pytest.fixture(scope="module")
def model(field):
    """Two networks far enough apart that their weights matter."""
    return make_forecaster(field, LowRankGaussian(6))


def measured(constraint, fc):
    return constraint.of.measure(fc)


def moments(fc):
    """Return mean and covariance of all ocean cells over members."""
    y = fc.isel(init=0).stack(cell=("lead", "lat", "lon")).dropna("cell").values
    return y.mean(0), np.cov(y.T), len(y)


def test_the_law_is_that_of_rejection(field, model):
    """Two routes: draws of the conditional law, and members that happen to hold the constraints."""
    free = model.forecast(field, init="2002-01", members=6000)
    level = float(measured(overall >= Q(0, "K"), free).quantile(0.7))
    asked = [overall >= Q(level, "K"), eastern.between(Q(level - 1, "K"), Q(level + 0.5, "K"))]
    keep = asked[0].check(free) & asked[1].check(free)
    kept = free.isel(member=np.flatnonzero(keep.values.ravel()))
    held = model.forecast(field, init="2002-01", members=3000, constraints=asked)
    (m1, c1, n1), (m2, c2, n2) = moments(kept), moments(held)
    error = np.sqrt(1 / n1 + 1 / n2)
    spread = np.sqrt(np.diag(c1))
    assert n1 > 300
    assert (abs(m1 - m2) / spread).max() < 4.5 * error
    assert abs((c1 - c2) / np.outer(spread, spread)).max() < 8 * error
    entry = json.loads(held.attrs["xearth_audit"])[0]
    assert entry["probability"][0] == pytest.approx(0.3, abs=0.02)
    assert asked[0].check(held).all()
    assert asked[1].check(held).all()


LAYOUTS = {
    "plain": lambda da: da,
    "north first": lambda da: da.isel(lat=slice(None, None, -1)),
    "transposed": lambda da: da.transpose("lon", "time", "lat"),
    "sorted": lambda da: da.assign_coords(lon=(da.lon + 180) % 360 - 180).sortby("lon"),
    "dask": lambda da: da.chunk(time=5),
    "double": lambda da: da.astype("float64"),
    "hundredths": lambda da: (da * 100).assign_attrs(da.attrs | {"units": "cK"}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("way", ["conditional", "projected"])
def test_equalities_hold_in_any_layout(field, model, layout, way):
    data = LAYOUTS[layout](field)
    data = data.assign_attrs(field.attrs | {"units": data.attrs["units"]})
    both = [overall == Q(0.4, "K"), eastern == Q(0.9, "K")]
    fc = model.forecast(data, init=["2002-05", "2002-06"], members=3, constraints=both, impose=way)
    for constraint in both:
        worst = float(constraint.violation(fc).max())
        size = float(constraint.of.measure(abs(fc).assign_attrs(fc.attrs)).max())
        assert worst <= 1e-6 * size
    assert fc.attrs["xearth_imposed"] == way
    assert fc.dtype == data.dtype
    free = model.forecast(data, init=["2002-05", "2002-06"], members=3)
    assert fc.dims == free.dims
    assert set(fc.coords) == set(free.coords)
    np.testing.assert_array_equal(np.isnan(fc.values), np.isnan(free.values))
    for name in ("units", "standard_name", "long_name"):
        assert fc.attrs[name] == free.attrs[name]


def test_layouts_give_the_same_members(field, model):
    asked = {"init": "2002-05", "members": 3, "constraints": [eastern >= Q(1.0, "K")]}
    plain = model.forecast(field, **asked)
    turned = model.forecast(LAYOUTS["north first"](field), **asked)
    np.testing.assert_allclose(turned.sortby("lat").values, plain.values, rtol=1e-5, atol=1e-5)


def test_members_do_not_depend_on_company(field, model):
    warm = [overall >= Q(0.5, "K")]
    many = model.forecast(field, init=slice("2001-01", "2002-12"), members=70, constraints=warm)
    few = model.forecast(field, init=["2002-03"], members=2, constraints=warm)
    same = many.sel(init=few["init"]).isel(member=[0, 1])
    np.testing.assert_allclose(few.values, same.values, rtol=1e-5, atol=1e-5)


def test_leads_are_cut_after_the_constraint(field, model):
    late = [eastern == Q(0.7, "K")]
    whole = model.forecast(field, members=2, constraints=late)
    cut = model.forecast(field, members=2, constraints=late, leads=1)
    np.testing.assert_array_equal(cut.values, whole.isel(lead=[0]).values)


def test_projection_by_hand(field, model):
    """The additive correction of an area mean; members that hold it stay as they are."""
    free = model.forecast(field, init="2002-01", members=8)
    value = measured(overall >= Q(0, "K"), free)
    level = float(value.median())
    held = xearth.impose(free, overall >= Q(level, "K"))
    weights = np.cos(np.deg2rad(field.lat)) * xr.ones_like(field.lon) * field[0].notnull()
    lifted = (held - free).isel(init=0)
    stays = (value >= level).isel(init=0)
    assert float(abs(lifted.where(stays)).max()) == 0.0
    assert float(abs(measured(overall >= Q(0, "K"), held).where(~stays) - level).max()) < 1e-6
    ratio = lifted.where(~stays, drop=True) / weights.where(weights > 0)
    spread = ratio.std(("lead", "lat", "lon")) / ratio.mean(("lead", "lat", "lon"))
    assert float(spread.max()) < 2e-3  # cells rise by their area, within a cell's sphere


def test_audit_before_and_after(field, model):
    warm = overall >= Q(0.5, "K")
    fc = xearth.forecast(field, model, init="2002-01", members=40, constraints=warm)
    free = xearth.forecast(field, model, init="2002-01", members=40)
    (entry,) = json.loads(fc.attrs["xearth_audit"])
    assert entry["held"] == entry["of"] == 40
    assert entry["before"]["held"] == int(warm.check(free).sum()) < 40
    assert entry["before"]["worst"] == pytest.approx(float(warm.violation(free).max()))
    assert entry["units"] == "K"
    assert 0 < entry["probability"][0] < 1
    assert "before: held by" in fc.attrs["xearth_constraints"]
    assert "probability without it" in fc.attrs["xearth_constraints"]
    assert xearth.Constraint.from_json(json.dumps(entry["constraint"])) == warm
    assert "constraints imposed, conditional" in fc.attrs["history"]


def test_accessor_is_the_function(field, model):
    asked = {"init": "2002-01", "members": 3, "constraints": overall >= Q(1, "K")}
    there = field.earthformer.forecast(model, **asked)
    np.testing.assert_array_equal(there, xearth.forecast(field, model, **asked))


def test_two_variables_at_once(field, model):
    fc = model.forecast(field, init=["2002-01", "2002-02"], members=3)
    both = xr.Dataset({"a": fc, "b": (fc + 1).assign_attrs(fc.attrs)})
    ordered = xearth.Ordered(("b", "a"))
    held = xearth.impose(both, [ordered, xearth.AreaMean(variable="a") == Q(0.2, "K")])
    assert bool(ordered.check(held).all())
    assert float(abs(xearth.AreaMean(variable="a").measure(held) - 0.2).max()) < 1e-6
    assert held["b"].attrs["xearth_imposed"] == "projected"


@pytest.mark.parametrize("reference", [Persistence, Climatology])
def test_reference_forecasters_are_projected(field, reference):
    fitted = reference.fit(field, horizon=3)
    warm = overall >= Q(0.5, "K")
    fc = xearth.forecast(field, fitted, init="2003-01", members=4, constraints=warm)
    assert bool(warm.check(fc).all())
    free = fitted.forecast(field, init="2003-01", members=4)
    assert fc.dims == free.dims
    held = warm.check(free).isel(init=0)
    np.testing.assert_array_equal(fc.isel(member=held.values), free.isel(member=held.values))


def test_networks_without_width_are_projected(field, point_forecaster):
    warm = overall >= Q(5, "K")
    fc = point_forecaster.forecast(field, members=2, constraints=warm)
    assert fc.attrs["xearth_imposed"] == "projected"
    assert bool(warm.check(fc).all())


def test_a_forecaster_with_ways_of_its_own_is_asked(field):
    class Guided:
        name, history, horizon, ways = "guided one", 1, 2, ("guided",)

        def forecast(self, history, **asked):
            return xr.DataArray([1.0], dims="lead", attrs={"asked": asked})

    warm = overall >= Q(1, "K")
    fc = xearth.forecast(field, Guided(), members=3, constraints=[warm])
    assert fc.attrs["asked"]["impose"] == "guided"
    assert fc.attrs["asked"]["constraints"] == (warm,)
    with pytest.raises(ConstraintError, match="'guided', 'projected'"):
        xearth.forecast(field, Guided(), members=3, constraints=[warm], impose="exact")


def test_hindcasts_are_lazy(field, model):
    warm, cold = overall >= Q(0.5, "K"), overall <= Q(0, "K")
    asked = {"init": slice("2001-01", "2001-03"), "members": 3, "constraints": [warm]}
    hc = xearth.hindcast(field, model, **asked, starts_per_block=2)
    assert hc.chunks is not None
    whole = model.forecast(field, **asked)
    np.testing.assert_allclose(hc.values, whole.values, rtol=1e-5, atol=1e-5)
    assert hc.attrs["xearth_imposed"] == "conditional"
    free = xearth.hindcast(field, model, **asked | {"constraints": None}, starts_per_block=2)
    assert free.data.name != hc.data.name
    # residuals are those of the forecasts, and lazy; attributes say where they are
    assert hc.attrs["xearth_constraints"].endswith("not computed yet, see xearth.audit(forecast)")
    with raise_if_dask_computes():
        lazy, other = xearth.audit(hc), xearth.audit(hc, cold)
    assert all(variable.chunks is not None for variable in lazy.data_vars.values())
    assert not {"lead", "valid_time"} & set(lazy.coords)  # those of one constraint
    xr.testing.assert_allclose(lazy.compute(), xearth.audit(whole, warm), atol=1e-6)
    xr.testing.assert_allclose(other.compute(), xearth.audit(whole, cold), atol=1e-6)
    assert (other["violation_1"] >= 0.5).all()
    assert other["violation_1"].attrs["units"] == "K"
    computed = xearth.audit_attrs(hc.compute())  # what was asked is in the attributes
    assert computed["xearth_constraints"].startswith(f"{warm}: held by 9 of 9; measured ")
    with pytest.raises(ConstraintError, match="names no constraints"):
        xearth.audit(free)
    with pytest.raises(ConstraintError, match="no forecast can hold"):
        xearth.hindcast(field, model, **asked | {"constraints": [warm, cold]})


class Silent:
    """A forecaster that must not be asked for its ensemble."""

    def __init__(self, model):
        self.name, self.history, self.horizon, self._model = "silent", 3, 2, model

    def forecast(self, history, *, init=None, members=None, seed=0):
        assert members in (None, 1), "sampled before the constraints were checked"
        return self._model.forecast(history, init=init, members=members, seed=seed)


BAD = {
    "no members": ({"members": None}, ConstraintError, "Say how many"),
    "none": ({"constraints": []}, ConstraintError, "found none"),
    "no constraint": ({"constraints": [3]}, ConstraintError, "comparisons"),
    "way without constraints": (
        {"constraints": None, "impose": "projected"}, ConstraintError, "constraints to impose"
    ),
    "unknown way": ({"impose": "guided"}, ConstraintError, "'projected'"),
    "members": ({"members": 0}, xearth.errors.XearthError, "at least 1"),
    "off the grid": (
        {"constraints": xearth.AreaMean(xearth.Box(40, 50, 0, 20, "far")) >= Q(1, "K")},
        RegionError, "far",
    ),
    "lead": ({"constraints": xearth.AreaMean(leads=(9,)) >= Q(1, "K")}, LeadError, "9"),
    "units": (
        {"constraints": xearth.AreaMean() >= Q(1, "mm/h")}, (ConstraintError, UnitsError), "K"
    ),
    "contradiction": (
        {"constraints": [overall == Q(1, "K"), overall >= Q(2, "K")]},
        ConstraintError, "at least 2 K",
    ),
    "infeasible": (
        {"constraints": [overall == Q(9, "K"), xearth.EachCell() <= Q(5, "K")]},
        ConstraintError, "at most 5 K",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("which", ["network", "reference"])
def test_bad_input_before_sampling(field, model, case, which, monkeypatch):
    change, error, words = BAD[case]
    chosen = model if which == "network" else Silent(model)
    if which == "network":

        def silent(*_, **__):
            raise AssertionError("a network ran before the constraints were checked")

        monkeypatch.setattr(type(model), "predictions", silent)
    asked = {"members": 4, "constraints": overall >= Q(1, "K")} | change
    with pytest.raises(error, match=words):
        xearth.forecast(field, chosen, **asked)


def test_nonlinear_is_refused_with_the_way_that_works(field, model):
    strongest = xearth.AreaMaximum(per="horizon") >= Q(3, "K")
    with pytest.raises(ConstraintError, match="impose='projected'"):
        model.forecast(field, members=2, constraints=strongest)
    fc = model.forecast(field, members=2, constraints=strongest, impose="projected")
    assert bool(strongest.check(fc).all())


def test_an_observation_has_no_projection(field, model):
    seen = overall.near(Q(0.5, "K"), sd=Q(0.1, "K"))
    with pytest.raises(ConstraintError, match="impose='conditional'"):
        model.forecast(field, members=2, constraints=seen, impose="projected")
    free = model.forecast(field, members=400)
    fc = model.forecast(field, members=400, constraints=seen)
    near, wide = (float(abs(measured(seen, one) - 0.5).mean()) for one in (fc, free))
    assert near < 0.5 * wide


def test_enso_small_against_rejection():
    """The shipped model, its first guess and calibration: 2000 free members, 2000 conditional."""
    sst = xearth.samples.open("kaplan_sst").load()
    warm = xearth.Nino34(season="DJF") >= Q(0.5, "K")
    model = xearth.load("enso-small")
    free = model.forecast(sst, init="1986-06", members=2000)
    held = model.forecast(sst, init="1986-06", members=2000, constraints=[warm])
    keep = np.flatnonzero(warm.check(free).values.ravel())
    a = free.isel(member=keep).earthformer.nino34().isel(init=0)
    b = held.earthformer.nino34().isel(init=0)
    error = np.sqrt(1 / len(keep) + 1 / 2000)
    assert 300 < len(keep) < 1700
    assert (abs(a.mean("member") - b.mean("member")) / a.std("member")).max() < 4.5 * error
    assert (abs(a.std("member") / b.std("member") - 1)).max() < 4.5 * error
    (entry,) = json.loads(held.attrs["xearth_audit"])
    assert entry["probability"][0] == pytest.approx(len(keep) / 2000, abs=0.045)
    assert bool(warm.check(held).all())
