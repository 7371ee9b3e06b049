"""Published protocols, and the steps between two of them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import dask
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import stats

from xearth.errors import GridMismatchError, ProtocolError, RegionError, UnitsError
from xearth.verification.protocols.crps_protocols import CRPS_PROTOCOLS
from xearth.verification.protocols.event_protocols import EVENT_PROTOCOLS, Pooling
from xearth.verification.protocols.explain import PROTOCOLS, combine, explain, protocol
from xearth.verification.protocols.index_protocols import INDEX_PROTOCOLS, icar_weights
from xearth.verification.scores.categorical import hss
from xearth.verification.scores.ensembles import Vote
from xearth.verification.scores.indices import running_mean

GOLDEN = np.load(Path(__file__).parents[2] / "data" / "events.npz")
LIMITS = (16, 74, 133, 160, 181, 219)
DIMS = ("init", "lead", "y", "x")


def _fail(*_, **__):
    raise AssertionError("computed")


def pixels(seed: int, shape: tuple[int, ...], dims: tuple[str, ...] = DIMS) -> xr.DataArray:
    """Draw whole pixel values 0..255, stored as fractions."""
    values = np.random.default_rng(seed).gamma(0.8, 60.0, shape).clip(0, 255).astype(np.uint8)
    fractions = values.astype(np.float32) * np.float32(1 / 255)
    return xr.DataArray(fractions, dims=dims, attrs={"units": "1"})


@pytest.fixture(scope="module")
def pair() -> tuple[xr.DataArray, xr.DataArray]:
    return pixels(0, (3, 4, 32, 32)), pixels(1, (3, 4, 32, 32))


@pytest.fixture(scope="module")
def ensemble() -> xr.DataArray:
    return pixels(2, (5, 3, 4, 32, 32), ("member", *DIMS))


def brute(f, o, *, per, eps, op=np.greater_equal, undefined="zero") -> float:
    """Return CSI-M of arrays (start, lead, H, W) of pixel values; tables by ``per`` axes."""
    axes = {"all": (0, 1, 2, 3), "lead": (0, 2, 3), "frame": (2, 3)}[per]
    means = []
    for limit in LIMITS:
        told, seen = op(f, np.float32(limit)), op(o, np.float32(limit))
        h, either = (told & seen).sum(axes), (told | seen).sum(axes)
        with np.errstate(invalid="ignore"):
            csi = h / (either + eps)
        csi = np.nan_to_num(csi) if undefined == "zero" else csi
        means.append(np.nanmean(csi))
    return float(np.mean(means))


# --- events -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("sevir", {"per": "all", "eps": 1e-4}),
        ("sevir_lead_mean", {"per": "lead", "eps": 1e-4}),
        ("diffcast", {"per": "frame", "eps": 0.0}),
        ("diffcast_skip", {"per": "frame", "eps": 0.0, "undefined": "skip"}),
        ("diffcast_leads", {"per": "lead", "eps": 0.0}),
        ("flowcast", {"per": "lead", "eps": 1e-4, "op": np.greater}),
    ],
)
def test_single_forecasts_by_brute_force(pair, name, settings):
    f, o = pair
    values = [np.rint(x.values * 255) for x in (f, o)]
    values[0][2, 3], values[1][2, 3] = 0, 0  # a frame without events
    f, o = (
        x.where(~((np.arange(3) == 2)[:, None] & (np.arange(4) == 3))[..., None, None], 0.0)
        for x in (f, o)
    )
    found = protocol(name).score(f, o)
    assert found.csi_m.item() == pytest.approx(brute(*values, **settings), rel=1e-12)
    assert found.attrs["protocol"] == name
    if settings["per"] == "frame":
        assert (found.undefined >= 1).all()


def test_heidke_of_the_same_tables(pair):
    f, o = pair
    found = protocol("sevir").score(f, o)
    fields = [x.copy(data=np.rint(x.values * 255)) for x in pair]
    np.testing.assert_allclose(found.hss, hss(*fields, thresholds=LIMITS), rtol=1e-14)
    frames = hss(*fields, thresholds=LIMITS, dim=("y", "x"))
    mean = protocol("diffcast_skip").score(f, o)
    np.testing.assert_allclose(mean.hss, frames.mean(("init", "lead")), rtol=1e-13)
    assert mean.hss_m.item() == pytest.approx(frames.mean().item(), rel=1e-13)


def test_sevir_counts_equal_those_stored():
    names = {"event": "init", "time": "lead"}
    f, o = (
        xr.DataArray(GOLDEN[name], dims=("event", "time", "y", "x")).rename(names)
        for name in ("cat_fc", "cat_obs")
    )
    found = protocol("sevir_leads").score(f, o)
    for peer in ("earthformer", "brute"):
        counts = GOLDEN[f"sevir_counts::{peer}"]
        for name, expected in zip(("hits", "misses", "false_alarms"), counts, strict=True):
            np.testing.assert_array_equal(found[name], expected)
        np.testing.assert_allclose(found.csi, GOLDEN[f"sevir_csi_eps_mode1::{peer}"], rtol=1e-6)
        whole = protocol("sevir").score(f, o)
        np.testing.assert_allclose(whole.csi_m, GOLDEN[f"sevir_csi_m_mode0::{peer}"], rtol=1e-6)


def test_pooled_protocols_pool_both_before_thresholds(pair):
    f, o = pair
    for size in (4, 16):
        tops = [
            np.rint(x.values * 255).reshape(3, 4, 32 // size, size, 32 // size, size).max((3, 5))
            for x in (f, o)
        ]
        found = protocol(f"sevir_pool{size}").score(f, o)
        assert found.csi_m.item() == pytest.approx(brute(*tops, per="all", eps=1e-4), rel=1e-12)


def test_ensembles_by_brute_force(ensemble, pair):
    o = pair[1]
    truth = np.rint(o.values * 255)
    mean = ensemble.values.mean(0, dtype=np.float64).astype(np.float32)
    scaled = mean / np.float32(1 / 255)
    expected = brute(scaled, truth, per="all", eps=1e-4)
    assert protocol("cascast").score(ensemble, o).csi_m.item() == pytest.approx(expected, rel=1e-12)
    strict = brute(scaled, truth, per="lead", eps=1e-4, op=np.greater)
    assert protocol("flowcast").score(ensemble, o).csi_m.item() == pytest.approx(strict, rel=1e-12)
    members = np.rint(ensemble.values * 255).reshape(15, 4, 32, 32)
    pooled = brute(members, np.tile(truth, (5, 1, 1, 1)), per="all", eps=1e-4)
    assert protocol("stldm").score(ensemble, o).csi_m.item() == pytest.approx(pooled, rel=1e-12)
    first = brute(np.rint(ensemble.values[0] * 255), truth, per="frame", eps=0.0)
    assert protocol("diffcast").score(ensemble, o).csi_m.item() == pytest.approx(first, rel=1e-12)
    voted = replace(EVENT_PROTOCOLS["cascast"], ensemble=Vote(0.6))
    third = np.sort(np.rint(ensemble.values * 255), 0)[2]
    assert voted.score(ensemble, o).csi_m.item() == pytest.approx(
        brute(third, truth, per="all", eps=1e-4), rel=1e-12
    )


def test_whole_numbers_cut_and_clip(pair):
    o = pair[1]
    above = o.copy(data=np.full(o.shape, 1.2, np.float32))
    kept = protocol("diffcast").score(above, o)
    assert (kept.hits + kept.false_alarms == o.size).all()
    almost = o.copy(data=np.full(o.shape, 218.99 / 255, np.float32))
    assert protocol("diffcast").score(almost, o).hits[-1] == 0
    rounded = replace(EVENT_PROTOCOLS["diffcast"], whole=False, thresholds=(218.9,))
    assert rounded.score(almost, o).hits[-1] > 0


def test_a_pixel_stored_by_division_is_lost_as_in_the_original():
    """219 / 255 divided by the rounded 1 / 255 is less than 219."""
    stored = np.full((1, 1, 2, 2), 219, np.float32) / np.float32(255)
    o = xr.DataArray(stored, dims=DIMS)
    assert protocol("sevir").score(o, o).hits[-1] == 0
    multiplied = replace(EVENT_PROTOCOLS["sevir"], rescale="multiply")
    assert multiplied.score(o, o).hits[-1] == 4
    integers = xr.DataArray(np.full((1, 1, 2, 2), 219, np.uint8), dims=DIMS)
    assert protocol("sevir").score(integers, integers).hits[-1] == 4


def test_every_event_protocol_is_lazy_and_any_chunking_is_the_whole(ensemble, pair):
    f, o = pair
    for name, one in EVENT_PROTOCOLS.items():
        forecast = f if one.ensemble is None else ensemble
        whole = one.score(forecast, o)
        with dask.config.set(scheduler=_fail):
            lazy = one.score(forecast.chunk(init=2, y=16), o.chunk(lead=2))
        assert lazy.csi.chunks is not None, name
        found = lazy.compute(scheduler="synchronous")
        xr.testing.assert_allclose(found, whole, rtol=1e-13)
        for count in ("hits", "misses", "false_alarms", "undefined"):
            xr.testing.assert_equal(found[count], whole[count])


def test_a_perfect_forecast(pair):
    o = pair[1]
    for name, one in EVENT_PROTOCOLS.items():
        found = one.score(o, o)
        bound = 1e-3 if one.epsilon else 1e-15
        assert abs(found.csi_m - 1.0).max() < bound, name
        assert (found.misses == 0).all()


def test_protocols_for_data_with_units():
    values = np.random.default_rng(3).gamma(0.5, 4.0, (2, 3, 8, 8))
    f = xr.DataArray(values, dims=DIMS, attrs={"units": "mm h-1"})
    one = protocol("cascast").at("1 mm/h", "5 mm/h")
    found = one.score(f, f.copy(data=values[::-1]))
    assert found.threshold.values.tolist() == [1.0, 5.0]
    assert found.attrs["protocol"] == "cascast at 1 mm/h, 5 mm/h"
    told, seen = values >= 5, values[::-1] >= 5
    assert found.hits[1] == (told & seen).sum()
    with pytest.raises(ProtocolError, match=r"protocol\.at"):
        protocol("sevir").score(f, f)


def test_the_truth_may_be_a_record_in_time():
    times = pd.date_range("2019-06-01", periods=12, freq="5min")
    record = pixels(7, (12, 8, 8), ("time", "y", "x")).assign_coords(time=times)
    lead = ("lead", 5 * np.arange(1, 4), {"units": "minutes"})
    coords = {"init": times[[1, 4, 9]], "lead": lead}
    f = pixels(8, (3, 3, 8, 8)).assign_coords(coords)
    found = protocol("sevir_leads").score(f, record)
    places = np.array([1, 4, 9])[:, None] + np.arange(1, 4)
    o = record.values[places.clip(max=11)]
    o[2, 2] = np.nan  # beyond the record
    expected = protocol("sevir_leads").score(f, f.copy(data=o))
    xr.testing.assert_equal(found, expected)
    assert found.missing.values.tolist() == [0, 0, 64]
    whole = record.copy(data=np.rint(record.values * 255).astype(np.uint8))
    xr.testing.assert_equal(protocol("sevir_leads").score(f, whole), expected)


def test_what_a_protocol_is_not_for(pair, ensemble):
    f, o = pair
    with pytest.raises(ProtocolError, match="single forecasts"):
        protocol("sevir").score(ensemble, o)
    with pytest.raises(ProtocolError, match="tells leads apart"):
        protocol("sevir_leads").score(f.rename(lead="step_"), o.rename(lead="step_"))
    with pytest.raises(ProtocolError, match="fractions of 255"):
        protocol("sevir").score(f, o * 255)
    with pytest.raises(GridMismatchError):
        protocol("sevir").score(f.assign_coords(x=range(32)), o.assign_coords(x=range(1, 33)))
    with pytest.raises(ProtocolError, match="table must be"):
        replace(EVENT_PROTOCOLS["sevir"], table="pixel")  # type: ignore[arg-type]
    with pytest.raises(ProtocolError, match="epsilon >= 0"):
        replace(EVENT_PROTOCOLS["sevir"], epsilon=-1.0)
    with pytest.raises(ProtocolError, match="the known ones are"):
        protocol("csi")


# --- an index -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sst() -> tuple[xr.DataArray, xr.DataArray]:
    """Forecast and truth (init, lead, lat, lon) on the grid of ICAR-ENSO."""
    rng = np.random.default_rng(4)
    lat, lon = np.arange(-55.0, 61.0, 5.0), np.arange(95.0, 331.0, 5.0)
    coords = {
        "init": pd.date_range("1980-01", periods=48, freq="MS"),
        "lead": ("lead", np.arange(1, 15), {"units": "months"}),
        "lat": ("lat", lat, {"units": "degrees_north"}),
        "lon": ("lon", lon, {"units": "degrees_east"}),
    }
    truth = rng.standard_normal((48, 14, lat.size, lon.size)).astype(np.float32)
    noise = rng.standard_normal(truth.shape).astype(np.float32)
    dims = ("init", "lead", "lat", "lon")
    made = [xr.DataArray(v, coords, dims, attrs={"units": "K"}) for v in (truth + noise, truth)]
    return made[0], made[1]


def test_icar_by_brute_force(sst):
    found = protocol("icar_enso").score(*sst)
    series = [x.values[:, :, 10:13, 19:30].astype(float).mean((2, 3)) for x in sst]
    p, t = (np.stack([x[:, k : k + 3].mean(1) for k in range(12)], 1) for x in series)
    r = [stats.pearsonr(p[:, k], t[:, k])[0] for k in range(12)]
    a = [1.5] * 4 + [2] * 7 + [3]
    weighted = sum(a[k] * math.log(k + 1) * r[k] for k in range(12)) / 12
    assert found.lead.values.tolist() == list(range(1, 13))
    np.testing.assert_allclose(found.correlation, r, rtol=1e-5)
    assert found.correlation_m.item() == pytest.approx(np.mean(r), rel=1e-5)
    assert found.correlation_wm.item() == pytest.approx(weighted, rel=1e-5)
    np.testing.assert_allclose(found.rmse, np.sqrt(((p - t) ** 2).mean(0)), rtol=1e-12)
    assert found.rmse.attrs["units"] == "K"
    assert (found.n == 48).all()


def test_mse_of_fields_is_that_of_the_scaled_cells(sst):
    f, o = (x.copy() for x in sst)
    o[3, 2, :4] = np.nan
    found = protocol("icar_enso").score(f, o)
    low, high = -16.549121856689453, 10.198975563049316
    p, t = ((x.values.astype(float) - low) / (high - low) for x in (f, o))
    assert found.mse.item() == pytest.approx(np.nanmean((p - t) ** 2), rel=1e-12)
    assert found.mse.attrs["units"] == "1"
    fahrenheit = [(x * 1.8).assign_attrs(x.attrs | {"units": "degF"}) for x in (f, o)]
    for x in fahrenheit:
        x.attrs["units_metadata"] = "temperature: difference"
    assert protocol("icar_enso").score(*fahrenheit).mse.item() == pytest.approx(found.mse.item())
    index = [x.isel(lat=11, lon=24, drop=True) for x in (f, o)]
    assert "mse" not in protocol("icar_enso").score(*index)  # no fields
    assert "mse" not in protocol("nino34").score(*(x.isel(lat=slice(10, 13)) for x in (f, o)))
    with pytest.raises(ProtocolError, match="span must be a positive"):
        replace(INDEX_PROTOCOLS["icar_enso"], span=0.0)


def test_labels_of_the_archive_are_the_truth_as_they_are(sst):
    """A truth of forward means, in time, scores as the months it was made of."""
    months = pd.date_range("1980-01", periods=80, freq="MS")
    record = np.random.default_rng(7).standard_normal(80).cumsum()
    attrs = {"units": "K"}
    truth = xr.DataArray(record, {"time": months}, "time", name="nino34", attrs=attrs)
    mean = np.convolve(record, np.ones(3) / 3, "valid")
    label = xr.DataArray(np.append(mean, [np.nan, np.nan]), {"time": months}, "time", name="nino")
    label.attrs = attrs | {"target": "forward mean over 3 steps"}
    f, own = sst[0], protocol("icar_enso")
    a, b = own.score(f, truth), own.score(f, label)
    np.testing.assert_allclose(a.correlation, b.correlation, rtol=1e-12)
    np.testing.assert_allclose(a.rmse, b.rmse, rtol=1e-12)
    assert a.n.values.tolist() == b.n.values.tolist()
    with pytest.raises(ProtocolError, match="holds means already"):
        protocol("nino34").score(f.isel(lat=slice(10, 13), lon=slice(18, 31)), label)


def test_epsilon_is_in_the_denominator(sst):
    small = [x * 1e-3 for x in sst]
    for x in small:
        x.attrs["units"] = "K"
    plain = replace(INDEX_PROTOCOLS["icar_enso"], epsilon=0.0).score(*small)
    own = protocol("icar_enso").score(*small)
    assert (own.correlation < plain.correlation).all()


def test_weights_of_24_leads():
    a = [1.5] * 4 + [2] * 7 + [3] * 7 + [4] * 6
    np.testing.assert_allclose(icar_weights(24), a * np.log(np.arange(1, 25)), rtol=1e-15)


def test_climate_practice_and_target_seasons(sst):
    f, o = (x.isel(lat=slice(10, 13), lon=slice(18, 31)) for x in sst)
    whole, seasons = (protocol(name).score(f, o) for name in ("nino34", "seasons"))
    assert whole.lead.values.tolist() == list(range(2, 14))
    from xearth.fields.regions import NINO34, box_mean

    p, t = (box_mean(x, NINO34).values for x in (f, o))
    p, t = ((x[:, :-2] + x[:, 1:-1] + x[:, 2:]) / 3 for x in (p, t))
    r = [stats.pearsonr(p[:, k], t[:, k])[0] for k in range(12)]
    np.testing.assert_allclose(whole.correlation, r, rtol=1e-5)
    month = np.arange(48) % 12
    by = [
        np.mean([stats.pearsonr(p[month == m, k], t[month == m, k])[0] for m in range(12)])
        for k in range(12)
    ]
    np.testing.assert_allclose(seasons.correlation, by, rtol=1e-5)
    with pytest.raises(ProtocolError, match="holds no dates"):
        protocol("seasons").score(*(x.assign_coords(init=np.arange(48)) for x in (f, o)))


def test_iri_seasons_against_a_monthly_record():
    """Lead l of an issue month is the season centered l months later."""
    months = pd.date_range("2000-01", periods=120, freq="MS")
    record = xr.DataArray(
        np.random.default_rng(5).standard_normal(120).cumsum() * 0.3,
        {"time": months},
        "time",
        name="nino34",
        attrs={"units": "degC"},
    )
    season = running_mean(record, align="centered")
    issues = np.arange(12, 100)
    exact = np.stack([season.values[issues + lead] for lead in range(1, 10)], 1)
    noise = np.random.default_rng(6).standard_normal((5, *exact.shape))
    coords = {"init": months[issues], "lead": ("lead", np.arange(1, 10), {"units": "months"})}
    plume = xr.DataArray(exact + noise, coords, ("member", "init", "lead"), attrs={"units": "degC"})
    plume[0, :3] = np.nan  # a model that came later
    found = protocol("iri").score(plume, record)
    mean = np.nanmean(plume.values, 0)
    r = [stats.pearsonr(mean[:, k], exact[:, k])[0] for k in range(9)]
    np.testing.assert_allclose(found.correlation, r, rtol=1e-12)
    assert found.rmse.attrs["units"] == "degC"
    late = protocol("iri").score(plume, record.isel(time=slice(0, 90)))
    assert late.n.values.tolist() == [76 - k for k in range(9)]


@pytest.mark.parametrize("kind", ["dynamical", "statistical"])
def test_iri_marks_of_the_archive(kind):
    """Correlations of the plume 2004-2021, measured before by other code."""
    marks = {
        "dynamical": [0.967, 0.937, 0.901, 0.858, 0.811, 0.751, 0.702, 0.628, 0.524],
        "statistical": [0.933, 0.885, 0.827, 0.760, 0.681, 0.592, 0.503, 0.421, 0.340],
    }
    with np.load(Path(__file__).parents[2] / "data" / "iri_plume.npz") as stored:
        months = pd.date_range("1982-01", periods=stored["nino34"].size, freq="MS")
        issues = pd.date_range("2004-01", periods=len(stored[kind]), freq="MS")
        coords = {"init": issues, "lead": ("lead", np.arange(1, 10), {"units": "months"})}
        kelvin = {"units": "K", "units_metadata": "temperature: difference"}
        plume = xr.DataArray(stored[kind], coords, ("init", "lead"), attrs=kelvin)
        record = xr.DataArray(stored["nino34"], {"time": months}, "time", attrs=kelvin)
    found = protocol("iri").score(plume, record)
    np.testing.assert_allclose(found.correlation, marks[kind], atol=6e-4)
    assert found.n.values.tolist() == [206 - k for k in range(9)]
    if kind == "dynamical":
        rmse = [0.230, 0.317, 0.399, 0.481, 0.551, 0.613, 0.654, 0.706, 0.767]
        np.testing.assert_allclose(found.rmse, rmse, atol=6e-4)


def test_indices_that_cannot_be_scored(sst):
    f, o = sst
    with pytest.raises(RegionError):
        protocol("icar_enso").score(*(x.isel(lat=slice(0, 5)) for x in (f, o)))
    with pytest.raises(ProtocolError, match="3 leads or more"):
        protocol("icar_enso").score(*(x.isel(lead=slice(0, 2)) for x in (f, o)))
    with pytest.raises(ProtocolError, match="by lead over starts"):
        protocol("icar_enso").score(f.isel(lead=0, drop=True), o.isel(lead=0, drop=True))
    with pytest.raises(UnitsError):
        protocol("icar_enso").score(f, o.assign_attrs(units="m"))
    with pytest.raises(ProtocolError, match="smoothing must be one of"):
        replace(INDEX_PROTOCOLS["iri"], smoothing="backward")  # type: ignore[arg-type]


def test_an_index_is_lazy(sst):
    f, o = sst
    with dask.config.set(scheduler=_fail):
        lazy = protocol("icar_enso").score(f.chunk(init=7), o.chunk(lead=5))
    xr.testing.assert_allclose(lazy.compute(), protocol("icar_enso").score(f, o), rtol=1e-12)


# --- CRPS ---------------------------------------------------------------------------------


def test_three_estimators(ensemble, pair):
    o = pair[1]
    x, y = ensemble.values.astype(float), o.values.astype(float)
    absolute = np.abs(x - y).mean()
    between = np.mean([np.abs(a - b).mean() for a in x for b in x]) / 2
    expected = {
        "ensemble_crps": absolute - between,
        "fair_crps": absolute - between * 5 / 4,
    }
    s = x.std(0, ddof=1)
    z = (y - x.mean(0)) / np.where(s > 0, s, 1.0)
    phi = stats.norm
    gauss = s * (z * (2 * phi.cdf(z) - 1) + 2 * phi.pdf(z) - 1 / np.sqrt(np.pi))
    expected["cascast_crps"] = np.where(s > 0, gauss, np.abs(y - x.mean(0))).mean()
    for name, value in expected.items():
        assert protocol(name).score(ensemble, o).crps.item() == pytest.approx(value, rel=1e-10)
    with pytest.raises(ProtocolError, match="two members or more"):
        protocol("fair_crps").score(o, o)


# --- tables and steps ----------------------------------------------------------------------


def test_one_table_has_one_protocol(pair):
    f, o = pair
    sevir = protocol("sevir")
    table = combine({"a": sevir.score(f, o), "b": sevir.score(o, o)})
    assert table.csi.dims[0] == "forecast"
    assert table.attrs["protocol"] == "sevir"
    with pytest.raises(ProtocolError, match=r"'sevir'.*'diffcast'.*epsilon"):
        combine({"a": sevir.score(f, o), "b": protocol("diffcast").score(f, o)})
    renamed = replace(EVENT_PROTOCOLS["sevir"], epsilon=1e-6)
    with pytest.raises(ProtocolError, match=r"epsilon = 0\.0001 against epsilon = 1e-06"):
        combine({"a": sevir.score(f, o), "b": renamed.score(f, o)})
    with pytest.raises(ProtocolError, match="does not say its protocol"):
        combine({"a": sevir.score(f, o), "b": sevir.score(f, o).drop_attrs()})
    with pytest.raises(ProtocolError, match="no results"):
        combine({})
    leads = [protocol("sevir_leads").score(x, x).assign_coords(lead=range(4)) for x in (f, o)]
    with pytest.raises(GridMismatchError, match="other leads"):
        combine({"a": leads[0], "b": leads[1].isel(lead=slice(3))})


def test_results_survive_a_file(pair, tmp_path):
    found = protocol("sevir").score(*pair)
    found.to_netcdf(tmp_path / "score.nc")
    with xr.open_dataset(tmp_path / "score.nc") as again:
        xr.testing.assert_identical(again, found)
        combine({"a": found, "b": again})
    assert all(name in found.attrs["protocol_knobs"] for name in EVENT_PROTOCOLS["sevir"].KNOBS)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("cascast", "flowcast"),
        ("stldm", "pgfmm"),
        ("cascast_pool16", "diffcast_skip"),
        ("diffcast", "cascast"),
        ("cascast_crps", "fair_crps"),
    ],
)
def test_steps_add_to_the_difference(ensemble, pair, a, b):
    o = pair[1]
    steps = explain(a, b, ensemble.chunk(init=1), o)
    first, last = (protocol(name) for name in (a, b))
    ends = [float(p.score(ensemble, o)[p.headline]) for p in (first, last)]
    np.testing.assert_allclose([steps.score_a, steps.score_b], ends, rtol=1e-12)
    assert math.fsum(steps.change.values) == steps.score_b - steps.score_a
    assert steps.change.values[::-1].sum() == steps.score_b - steps.score_a
    np.testing.assert_array_equal(steps.score_a + steps.change[0], steps.score[0])
    turned = [k for k in first.KNOBS if getattr(first, k) != getattr(last, k)]
    assert steps.step.values.tolist() == turned
    assert [first.knobs()[k] for k in turned] == steps.old.values.tolist()
    assert [last.knobs()[k] for k in turned] == steps.new.values.tolist()


def test_a_step_turns_one_knob(pair):
    f, o = pair
    mine = EVENT_PROTOCOLS["sevir"]
    yours = replace(mine, name="mine", pooling=Pooling(4), op=">")
    steps = explain(mine, yours, f, o)
    middle = replace(mine, pooling=Pooling(4)).score(f, o).csi_m.item()
    assert steps.score.sel(step="pooling").item() == pytest.approx(middle, abs=1e-14)
    assert explain(mine, mine, f, o).sizes["step"] == 0


def test_steps_between_index_protocols(sst):
    steps = explain("icar_enso", "seasons", *(x.isel(lat=slice(9, 14)) for x in sst))
    assert steps.step.values.tolist() == ["box", "smoothing", "pooling", "epsilon"]
    assert steps.change.sum().item() == steps.score_b - steps.score_a
    # the same windows under other labels
    assert steps.change.sel(step="smoothing").item() == pytest.approx(0.0, abs=1e-12)
    with pytest.raises(ProtocolError, match="different things"):
        explain("icar_enso", "sevir", *sst)


def test_names_are_unique_and_sources_given():
    assert len(PROTOCOLS) == len(EVENT_PROTOCOLS) + len(INDEX_PROTOCOLS) + len(CRPS_PROTOCOLS)
    for name, one in PROTOCOLS.items():
        assert one.name == name
        assert one.source
        assert json.dumps(one.knobs())
