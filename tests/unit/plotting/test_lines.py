from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from xearth.errors import AxisError, MissingDataError
from xearth.plotting.plume import plume
from xearth.plotting.skill import skill
from xearth.plotting.summary import summary
from xearth.verification.scores.indices import nino_index


def labeled(ax) -> dict:
    """The lines of `ax` by the label they have in the legend."""
    return {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}


def test_plume_draws_each_member_and_their_mean(forecast):
    index = nino_index(forecast)
    ax = plume(index)
    assert ax.get_legend() is not None
    mean = labeled(ax)["mean of the members"]
    np.testing.assert_allclose(mean.get_ydata(), index.mean("member").values[0])
    thin = [line for line in ax.lines if line.get_linewidth() < 0.7]
    assert len(thin) == forecast.sizes["member"]


def test_plume_takes_the_index_of_an_observed_field(forecast, obs):
    by_field = plume(nino_index(forecast), obs)
    by_index = plume(nino_index(forecast), nino_index(obs))
    for name in ("observed", "observed later"):
        one, two = labeled(by_field)[name], labeled(by_index)[name]
        np.testing.assert_array_equal(one.get_ydata(), two.get_ydata())
    known = labeled(by_field)["observed"].get_xdata()
    assert known[-1] == np.datetime64("1997-06-01")
    assert known.size == 12
    later = labeled(by_field)["observed later"].get_xdata()
    assert later[-1] == np.datetime64("1997-12-01")


def test_plume_of_unsorted_observations_draws_them_in_order(forecast, obs):
    index = nino_index(obs)
    shuffled = index.isel(time=np.random.default_rng(2).permutation(index.size))
    one, two = (
        labeled(plume(nino_index(forecast), x))["observed later"] for x in (index, shuffled)
    )
    np.testing.assert_array_equal(one.get_xdata(), two.get_xdata())
    np.testing.assert_array_equal(one.get_ydata(), two.get_ydata())


def test_plume_of_one_deterministic_start(forecast):
    ax = plume(nino_index(forecast).mean("member").isel(init=0))
    assert set(labeled(ax)) == {"forecast"}


def test_plume_says_what_to_do_with_a_field(forecast):
    with pytest.raises(AxisError, match="take an index first"):
        plume(forecast)


def test_skill_draws_one_line_for_each_forecaster(scores):
    ax = skill(scores, "rmse")
    lines = labeled(ax)
    assert list(lines) == ["model", "persistence"]
    np.testing.assert_allclose(lines["persistence"].get_ydata(), np.arange(1, 7) / 7)
    assert ax.get_ylabel() == "root mean square error (K)"
    assert ax.get_xlabel() == "lead (months)"


def test_skill_of_one_forecaster_needs_no_legend(scores):
    ax = skill(scores.isel(forecaster=0, drop=True))
    assert ax.get_legend() is None
    # the forecast, zero and the perfect value
    assert [line.get_label() for line in ax.lines[1:]] == ["_zero", "_perfect"]


def test_skill_refuses_what_it_cannot_draw(scores):
    with pytest.raises(AxisError, match=r"no score 'crps'.*\['correlation', 'rmse'\]"):
        skill(scores, "crps")
    with pytest.raises(AxisError, match="has dims"):
        skill(scores.expand_dims(season=2))


def test_summary_holds_plume_maps_and_both_scores(forecast, obs, scores, tmp_path):
    figure = summary(forecast, obs, scores, leads=[1, 2, 3])
    ylabels = [ax.get_ylabel() for ax in figure.get_axes()]
    assert "RMSE (K)" in ylabels
    assert "correlation" in ylabels
    titles = [ax.get_title() for ax in figure.get_axes()]
    assert "lead 3 months, Sep 1997" in titles
    assert figure._suptitle.get_text().endswith("made with data to June 1997")
    figure.savefig(tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 10_000


def test_summary_without_scores_or_observations(forecast):
    figure = summary(forecast.isel(init=0, drop=True), leads=[1])
    assert not any("RMSE" in ax.get_ylabel() for ax in figure.get_axes())


def test_a_forecast_without_the_score_is_left_out_beside_others():
    """The correlation of a climatology is undefined; its RMSE is not."""
    lead = xr.Variable("lead", [1, 2], {"units": "months"})
    values = [[0.9, 0.8], [np.nan, np.nan]]
    scores = xr.Dataset(
        {"correlation": (("forecaster", "lead"), values)},
        {"forecaster": ["model", "climatology"], "lead": lead},
    )
    ax = skill(scores, "correlation")
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["model"]
    with pytest.raises(MissingDataError, match="no value"):
        skill(scores.isel(forecaster=[1]), "correlation")


def test_a_forecast_keeps_its_color_where_another_is_left_out():
    lead = xr.Variable("lead", [1, 2], {"units": "months"})
    names = ["model", "climatology", "persistence"]
    r = [[0.9, 0.8], [np.nan, np.nan], [0.7, 0.5]]
    scores = xr.Dataset(
        {
            "correlation": (("forecaster", "lead"), r),
            "rmse": (("forecaster", "lead"), [[0.2, 0.3], [0.9, 0.9], [0.4, 0.6]], {"units": "K"}),
        },
        {"forecaster": names, "lead": lead},
    )
    colors = []
    for score in ("correlation", "rmse"):
        legend = skill(scores, score).get_legend()
        colors.append(
            dict(zip([t.get_text() for t in legend.get_texts()], legend.get_lines(), strict=True))
        )
    assert list(colors[0]) == ["model", "persistence"]
    for name in colors[0]:
        assert colors[0][name].get_color() == colors[1][name].get_color()
