"""What the figures of verification draw is what they were given."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from matplotlib.collections import PatchCollection, PathCollection, QuadMesh
from scipy import stats

from xearth.errors import AxisError, ConfigError, GridMismatchError, MissingDataError
from xearth.plotting.ensembles import rank_histogram, spread_skill, spread_skill_bins
from xearth.plotting.maps import maps
from xearth.plotting.performance import performance
from xearth.plotting.probabilities import reliability, roc
from xearth.plotting.skill import skill
from xearth.plotting.start_months import start_months, start_months_each
from xearth.plotting.tables import facts_of
from xearth.verification.one_pass.verify import verify
from xearth.verification.scores.ranks import rank_histogram as ranks_of
from xearth.verification.scores.reliability import reliability as reliability_of
from xearth.verification.scores.reliability import roc as roc_of
from xearth.verification.scores.reliability import roc_area

LEAD = ("lead", np.arange(1, 5), {"units": "months"})


def lines(ax, label):
    return [line for line in ax.lines if line.get_label() == label]


def by_lead(**scores):
    units = {"rmse": "K", "spread": "K", "skill": "K"}
    return xr.Dataset(
        {k: ("lead", np.asarray(v), {"units": units.get(k, "1")}) for k, v in scores.items()},
        {"lead": LEAD},
    )


def unreadable(dims, shape):
    """A Dask array that fails when it is computed."""

    def refuse(block):
        raise AssertionError("computed what is not drawn")

    values = da.zeros(shape, chunks=-1).map_blocks(refuse, dtype=float, meta=np.empty(0))
    return xr.Variable(dims, values)


@pytest.fixture
def pairs():
    """An ensemble (init, lead, member) and its truth, calibrated."""
    rng = np.random.default_rng(0)
    init = xr.date_range("1990-01-01", periods=120, freq="MS", use_cftime=False)
    signal = rng.normal(size=(120, 4))
    members = 0.8 * signal[..., None] + 0.6 * rng.normal(size=(120, 4, 9))
    coords = {
        "init": ("init", init, {"standard_name": "forecast_reference_time"}),
        "lead": ("lead", np.arange(1, 5), {"units": "months", "standard_name": "forecast_period"}),
        "member": ("member", np.arange(9), {"standard_name": "realization"}),
    }
    attrs = {"units": "K", "units_metadata": "temperature: difference"}
    forecast = xr.DataArray(members, coords, ("init", "lead", "member"), "index", attrs)
    truth = forecast.isel(member=0, drop=True).copy(
        data=0.8 * signal + 0.6 * rng.normal(size=(120, 4))
    )
    return forecast, truth


# skill by lead


def test_skill_shades_the_interval_of_each_forecast():
    model = by_lead(
        correlation=[0.9, 0.7, 0.5, 0.2],
        correlation_lower=[0.8, 0.6, 0.3, -0.1],
        correlation_upper=[0.95, 0.8, 0.6, 0.4],
    )
    other = by_lead(correlation=[0.8, 0.5, 0.3, 0.1])
    ax = skill({"model": model, "persistence": other})
    np.testing.assert_array_equal(lines(ax, "model")[0].get_ydata(), model.correlation)
    np.testing.assert_array_equal(lines(ax, "persistence")[0].get_ydata(), other.correlation)
    low, high = lines(ax, "_interval")
    np.testing.assert_array_equal(low.get_ydata(), model.correlation_lower)
    np.testing.assert_array_equal(high.get_ydata(), model.correlation_upper)
    (band,) = ax.collections
    corners = band.get_paths()[0].vertices
    for x, bottom, top in zip(LEAD[1], low.get_ydata(), high.get_ydata(), strict=True):
        column = corners[corners[:, 0] == x, 1]
        assert bottom in column
        assert top in column


@pytest.mark.parametrize(
    ("score", "perfect", "zero"),
    [("correlation", 1.0, True), ("rmse", 0.0, False), ("nino34_correlation", 1.0, True)],
)
def test_skill_draws_what_is_perfect_and_where_zero_means_something(score, perfect, zero):
    ax = skill(by_lead(**{score: [0.9, 0.7, 0.5, 0.2]}), score)
    assert lines(ax, "_perfect")[0].get_ydata()[0] == perfect == facts_of(score).perfect
    assert bool(lines(ax, "_zero")) is zero


def test_skill_of_an_unknown_score_has_no_references():
    ax = skill(by_lead(mine=[0.9, 0.7, 0.5, 0.2]), "mine")
    assert len(ax.lines) == 1


def test_skill_computes_only_what_it_draws():
    table = by_lead(rmse=[0.1, 0.2, 0.3, 0.4]).chunk()
    table["crps"] = unreadable(("lead",), (4,))
    ax = skill(table, "rmse")
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [0.1, 0.2, 0.3, 0.4])
    assert table.rmse.chunks is not None


def test_skill_says_what_it_cannot_draw():
    meters = by_lead(rmse=[1, 2, 3, 4])
    meters.rmse.attrs["units"] = "m"
    with pytest.raises(AxisError, match="different units"):
        skill({"a": by_lead(rmse=[1, 2, 3, 4]), "b": meters}, "rmse")
    with pytest.raises(AxisError, match="mapping"):
        skill({"a": by_lead(rmse=[1, 2, 3, 4]).rmse}, "rmse")
    with pytest.raises(MissingDataError):
        skill(by_lead(rmse=[np.nan] * 4), "rmse")


# month of the start


def monthly():
    values = np.linspace(1, -0.2, 48).reshape(12, 4)
    table = xr.Dataset(
        {"correlation": (("month", "lead"), values, {"long_name": "correlation", "units": "1"})},
        {"month": np.arange(1, 13), "lead": LEAD},
    )
    table["correlation_lower"] = table.correlation - 0.3
    table["correlation_upper"] = table.correlation + 0.3
    return table


def hatched(ax):
    """Row and left edge of each hatched cell."""
    patches = [c for c in ax.collections if isinstance(c, PatchCollection)]
    boxes = [path.get_extents() for c in patches for path in c.get_paths()]
    return {(round((box.y0 + box.y1) / 2), box.x0) for box in boxes}


def test_months_are_rows_from_january_down_and_values_are_drawn():
    table = monthly().isel(month=np.random.default_rng(0).permutation(12))
    ax = start_months(table)
    (mesh,) = [c for c in ax.collections if isinstance(c, QuadMesh)]
    np.testing.assert_array_equal(mesh.get_array(), monthly().correlation)
    assert [t.get_text() for t in ax.get_yticklabels()][:2] == ["Jan", "Feb"]
    assert ax.yaxis_inverted()
    assert ax.get_xlabel() == "lead (months)"


def test_months_hatch_where_the_interval_holds_zero():
    table = monthly()
    ax = start_months(table)
    found = hatched(ax)
    expected = (table.correlation_lower <= 0) & (table.correlation_upper >= 0)
    assert len(found) == int(expected.sum()) > 0
    for row, left in found:
        assert bool(expected.isel(month=row, lead=round(left - 0.5)))


def test_months_hatch_what_was_given_and_not_what_is_missing():
    table = monthly()[["correlation"]]
    table.correlation[3, 2] = np.nan
    known = xr.ones_like(table.correlation, dtype=bool)
    known[3, 2] = known[5, 1] = False
    assert hatched(start_months(table, distinguishable=known.T)) == {(5, 1.5)}
    with pytest.raises(AxisError, match="distinguishable"):
        start_months(table, distinguishable=known.isel(lead=slice(2)))


def test_months_need_months_and_leads():
    with pytest.raises(AxisError, match="by="):
        start_months(by_lead(correlation=[1, 1, 1, 1]))


def test_months_of_several_forecasts_share_one_scale_and_keep_their_hatches():
    table = monthly()
    low = table[["correlation"]] - 0.5
    figure = start_months_each({"model": table, "other": low, "third": low}, columns=2)
    panels = [ax for ax in figure.axes if ax.get_visible() and ax.get_title()]
    assert [ax.get_title() for ax in panels] == ["model", "other", "third"]
    meshes = [next(c for c in ax.collections if isinstance(c, QuadMesh)) for ax in panels]
    for mesh, one in zip(meshes, (table, low, low), strict=True):
        np.testing.assert_array_equal(mesh.get_array(), one.correlation)
        assert mesh.norm is meshes[0].norm
    bounds = meshes[0].norm.boundaries
    assert bounds[0] <= low.correlation.min()
    assert bounds[-1] >= table.correlation.max()
    assert hatched(panels[0]) == hatched(start_months(table))
    assert not hatched(panels[1])  # no interval, nothing known
    assert all(ax.yaxis_inverted() for ax in panels)
    assert [ax.get_ylabel() for ax in panels] == ["month of the start", "", "month of the start"]


def test_months_of_several_forecasts_need_the_score_in_each():
    with pytest.raises(AxisError, match="no score 'correlation'"):
        start_months_each({"model": monthly(), "other": monthly().rename(correlation="r")})


# probabilities


def test_reliability_draws_classes_share_and_frequency_of_the_event(pairs):
    table = reliability_of(*pairs, thresholds="0.5 K", bins=5)
    upper, lower = reliability(table).axes
    (points,) = [c for c in upper.collections if isinstance(c, PathCollection)]
    expected = np.stack([table.probability.values[0], table.frequency.values[0]], axis=-1)
    np.testing.assert_allclose(points.get_offsets(), expected)
    np.testing.assert_allclose(lower.lines[0].get_ydata(), table.share.values[0])
    np.testing.assert_allclose(lower.lines[0].get_xdata(), table.probability_class)
    base = lines(upper, "_climatology")[0].get_ydata()[0]
    assert base == pytest.approx(float((pairs[1] >= 0.5).mean()))


def test_reliability_leaves_empty_classes_out_and_labels_thresholds(pairs):
    table = reliability_of(*pairs, thresholds=["0.5 K", "9 K"], bins=5)
    upper, _ = reliability(table).axes
    assert [t.get_text() for t in upper.get_legend().get_texts()] == ["0.5 K", "9 K"]
    assert lines(upper, "9 K")[0].get_xdata().size == 1
    assert not lines(upper, "_climatology")


def test_reliability_takes_the_score_as_it_is_in_one_array(pairs):
    table = reliability_of(*pairs, thresholds="0.5 K", bins=5)
    row = xr.concat(
        [table[name] for name in table], xr.Variable("quantity", list(table)), coords="minimal"
    ).to_dataset(name="reliability")
    one, two = (reliability(t).axes[0].lines[-1].get_ydata() for t in (table, row))
    np.testing.assert_array_equal(one, two)


def test_reliability_needs_its_parts(pairs):
    table = reliability_of(*pairs, thresholds="0.5 K", bins=5)
    with pytest.raises(AxisError, match="'share'"):
        reliability(table.drop_vars("share"))
    with pytest.raises(AxisError, match="has dims"):
        reliability(table.expand_dims(lead=2))


def test_roc_draws_the_curve_and_the_area_of_the_verification(pairs):
    thresholds = ["0 K", "1 K"]
    curve = roc_of(*pairs, thresholds=thresholds)
    ax = roc(curve.chunk())
    area = roc_area(*pairs, thresholds=thresholds)
    words = [t.get_text() for t in ax.get_legend().get_texts()]
    assert words == [f"{k:g} K: area {float(a):.2f}" for k, a in zip((0, 1), area, strict=True)]
    np.testing.assert_array_equal(lines(ax, words[1])[0].get_ydata(), curve.hit_rate[1])
    np.testing.assert_array_equal(lines(ax, words[1])[0].get_xdata(), curve.false_alarm_rate[1])


# ensembles


def test_rank_histogram_draws_frequencies_and_the_band_of_chance(pairs):
    histogram = ranks_of(*pairs)
    ax = rank_histogram(histogram, n=480, confidence=0.9)
    np.testing.assert_allclose([bar.get_height() for bar in ax.patches[:10]], histogram)
    assert lines(ax, "_flat")[0].get_ydata()[0] == pytest.approx(0.1)
    band = [line.get_ydata()[0] for line in lines(ax, "_band")]
    np.testing.assert_allclose(band, stats.binom.ppf([0.05, 0.95], 480, 0.1) / 480)
    share = np.mean([(band[0] <= h <= band[1]) for h in histogram.values])
    assert share >= 0.7


def test_rank_histogram_without_a_number_has_no_band(pairs):
    ax = rank_histogram(ranks_of(*pairs))
    assert not lines(ax, "_band")
    assert ax.get_legend() is None


def test_rank_histogram_reads_the_number_of_a_table_and_checks_it(pairs):
    histogram = ranks_of(*pairs)
    table = xr.Dataset({"rank_histogram": histogram, "n": 480})
    (text,) = rank_histogram(table).get_legend().get_texts()
    assert text.get_text() == "95% of flat histograms, n = 480"
    with pytest.raises(ConfigError, match="n=0"):
        rank_histogram(histogram, n=0)
    with pytest.raises(AxisError, match="has dims"):
        rank_histogram(ranks_of(*pairs, dim="init"))


def test_spread_and_error_by_lead(pairs):
    scores = verify(*pairs, ["spread", "skill", "spread_skill_ratio"])
    ax = spread_skill(scores)
    error, spread = ax.lines
    np.testing.assert_allclose(error.get_ydata(), scores.skill)
    np.testing.assert_allclose(spread.get_ydata(), scores.spread * np.sqrt(10 / 9))
    assert ax.get_ylabel() == "spread and error (K)"
    plain = spread_skill(scores[["spread", "skill"]]).lines[1]
    np.testing.assert_allclose(plain.get_ydata(), scores.spread)
    assert plain.get_label() == "ensemble spread"


def test_spread_and_error_need_the_same_units():
    scores = by_lead(spread=[1, 1, 1, 1], skill=[1, 1, 1, 1])
    scores.spread.attrs["units"] = "degC"
    with pytest.raises(AxisError, match="units"):
        spread_skill(scores)
    with pytest.raises(AxisError, match="no score 'rmse'"):
        spread_skill(by_lead(spread=[1, 1, 1, 1]))


def test_classes_of_spread_hold_equal_numbers_of_cases():
    rng = np.random.default_rng(3)
    spread = rng.uniform(0.2, 1, (40, 3))
    error = np.abs(spread * rng.normal(size=spread.shape))
    K = {"units": "K"}
    scores = xr.Dataset(
        {"spread": (("init", "lead"), spread, K), "skill": (("init", "lead"), error, K)}
    )
    ax = spread_skill_bins(scores.chunk({"init": 7}), bins=5)
    x, y = ax.lines[1].get_data()
    order = np.argsort(spread.ravel()).reshape(5, -1)
    np.testing.assert_allclose(x, [np.sqrt((spread.ravel()[k] ** 2).mean()) for k in order])
    np.testing.assert_allclose(y, [np.sqrt((error.ravel()[k] ** 2).mean()) for k in order])
    assert ax.get_ylabel().endswith("(K)")
    with pytest.raises(MissingDataError, match="120 cases"):
        spread_skill_bins(scores, bins=50)
    with pytest.raises(ConfigError, match="bins=1"):
        spread_skill_bins(scores, bins=1)
    with pytest.raises(AxisError):
        spread_skill_bins(scores.mean("init"))


# events


def test_performance_draws_points_labels_csi_and_bias():
    table = xr.Dataset(
        {"pod": ("threshold", [0.8, 0.5, np.nan]), "sucr": ("threshold", [0.6, 0.6, np.nan])},
        {"threshold": ("threshold", [1.0, 5.0, 10.0], {"units": "mm h-1"})},
    )
    ax = performance({"nowcast": table, "persistence": table * 0.5})
    (line,) = lines(ax, "nowcast")
    np.testing.assert_array_equal(line.get_xdata(), table.sucr)
    np.testing.assert_array_equal(line.get_ydata(), table.pod)
    texts = [t for t in ax.texts if "mm h-1" in t.get_text()]
    assert [t.get_text() for t in texts] == ["1 mm h-1", "5 mm h-1"] * 2
    assert texts[0].xy == (0.6, 0.8)
    for csi, curve in zip(np.arange(0.1, 1, 0.1), lines(ax, "_csi"), strict=True):
        # on the curve hits / (hits + misses + false alarms) is the label
        ratio, detection = curve.get_data()
        hits = 1.0
        np.testing.assert_allclose(hits / (hits / detection + hits / ratio - hits), csi)
    for line in lines(ax, "_bias"):
        (x0, x1), (y0, y1) = line.get_data()
        assert (x0, y0, x1) == (0, 0, 1)
        assert y1 > 0
    with pytest.raises(AxisError, match="'sucr'"):
        performance(table.drop_vars("sucr"))


# maps


def test_significant_cells_are_dotted_and_no_others(forecast):
    field = forecast.isel(init=0, drop=True).mean("member").drop_vars("valid_time")
    field.attrs = forecast.attrs
    significant = (field > 0.3).sel(lead=[1, 3]).assign_attrs(long_name="significant at 5 %")
    figure = maps(field, leads=[1, 3], significant=significant.transpose("lon", "lead", "lat"))
    for ax, lead in zip(figure.axes[:2], (1, 3), strict=True):
        (dots,) = [c for c in ax.collections if isinstance(c, PathCollection)]
        rows, columns = np.nonzero(significant.sel(lead=lead).values)
        expected = np.stack([field.lon.values[columns], field.lat.values[rows]], axis=-1)
        np.testing.assert_array_equal(dots.get_offsets(), expected)
    assert figure.get_supxlabel() == "dots: significant at 5 %"
    with pytest.raises(GridMismatchError, match="leads"):
        maps(field, leads=[2], significant=significant)
    with pytest.raises(GridMismatchError, match="same cells"):
        maps(field, leads=[1], significant=significant.isel(lat=slice(2)))


def test_dots_of_a_fine_grid_are_thinned():
    lat = ("lat", np.arange(-44.5, 45, 1.0), {"units": "degrees_north"})
    lon = ("lon", np.arange(0.5, 180, 1.0), {"units": "degrees_east"})
    field = xr.DataArray(np.ones((90, 180)), {"lat": lat, "lon": lon}, ("lat", "lon"), "score")
    ax = maps(field, significant=field > 0).axes[0]
    (dots,) = [c for c in ax.collections if isinstance(c, PathCollection)]
    assert len(dots.get_offsets()) == 30 * 60


def test_differences_from_references_are_lines_around_zero(pairs):
    forecast, truth = pairs
    others = {"worse": forecast + 1.0, "same": forecast}
    for other in others.values():
        other.attrs = forecast.attrs
    scores = verify(forecast, truth, ["rmse"], reference=others)
    ax = skill(scores, "rmse_difference")
    for name in others:
        expected = scores.rmse_difference.sel(reference=name)
        np.testing.assert_array_equal(lines(ax, name)[0].get_ydata(), expected)
    assert lines(ax, "_zero")
    assert not lines(ax, "_perfect")
    assert len(lines(ax, "_interval")) == 4
    assert ax.get_legend().get_title().get_text() == "compared with"


def test_months_hatch_differences_whose_interval_holds_zero():
    table = monthly().rename(
        {f"correlation{end}": f"rmse_difference{end}" for end in ("", "_lower", "_upper")}
    )
    expected = (table.rmse_difference_lower <= 0) & (table.rmse_difference_upper >= 0)
    assert len(hatched(start_months(table, "rmse_difference"))) == int(expected.sum())
