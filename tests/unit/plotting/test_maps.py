from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from xearth.errors import AxisError, GridMismatchError, LeadError, UnitsError
from xearth.plotting.maps import maps


def visible(figure):
    """The panels that are shown, without the color bar."""
    return [ax for ax in figure.axes if ax.get_visible() and ax.get_title()]


def test_one_panel_for_each_lead_with_lead_and_month_in_the_title(forecast):
    figure = maps(forecast, leads=[1, 3])
    titles = [ax.get_title() for ax in visible(figure)]
    assert titles == ["lead 1 month, Jul 1997", "lead 3 months, Sep 1997"]


def test_default_is_six_leads_spread_from_first_to_last(forecast):
    long = xr.concat(
        [forecast.assign_coords(lead=forecast.lead + shift) for shift in (0, 6)], "lead"
    )
    long["lead"].attrs = forecast["lead"].attrs
    titles = [ax.get_title().split(",")[0] for ax in visible(maps(long))]
    assert titles[0] == "lead 1 month"
    assert titles[-1] == "lead 12 months"
    assert len(titles) == 6


def test_the_map_shows_the_mean_over_members_and_masks_land(forecast):
    figure = maps(forecast, leads=[2])
    drawn = visible(figure)[0].collections[0].get_array()
    expected = forecast.isel(init=0).sel(lead=2).mean("member").values
    np.testing.assert_allclose(drawn.filled(np.nan), expected)


def test_the_coast_is_the_border_between_cells_with_and_without_data(forecast):
    figure = maps(forecast, leads=[2])
    segments = visible(figure)[0].collections[1].get_segments()
    # Two land cells, one above the other, in the south-eastern corner: one edge on top, two west.
    edges = {tuple(map(tuple, segment)) for segment in segments}
    assert edges == {
        ((285.0, -15.0), (285.0, -10.0)),
        ((285.0, -10.0), (285.0, -5.0)),
        ((285.0, -5.0), (290.0, -5.0)),
    }


def test_descending_latitude_draws_the_same_cells(forecast):
    flipped = forecast.isel(lat=slice(None, None, -1))
    one, two = (visible(maps(field, leads=[2]))[0] for field in (forecast, flipped))
    north, south = (ax.collections[0].get_array().filled(np.nan) for ax in (one, two))
    np.testing.assert_array_equal(north, south[::-1])
    assert one.get_ylim() == two.get_ylim() or one.get_ylim() == two.get_ylim()[::-1]


def test_a_difference_gets_a_scale_around_zero_and_units_on_the_bar(forecast):
    figure = maps(forecast + 5.0, leads=[1], limit=2.0)
    mesh = visible(figure)[0].collections[0]
    boundaries = mesh.norm.boundaries
    np.testing.assert_allclose(boundaries, -boundaries[::-1])
    assert boundaries[-1] >= 2.0
    labels = {ax.get_xlabel() or ax.get_ylabel() for ax in figure.axes if not ax.get_title()}
    assert "sea surface temperature anomaly (K)" in labels


def test_projected_grid_is_labeled_by_its_own_axes():
    field = xr.DataArray(
        np.arange(12.0).reshape(3, 4),
        {
            "y": (
                "y",
                [0.0, 1.0, 2.0],
                {"standard_name": "projection_y_coordinate", "units": "km"},
            ),
            "x": (
                "x",
                [0.0, 1.0, 2.0, 3.0],
                {"standard_name": "projection_x_coordinate", "units": "km"},
            ),
        },
        ("y", "x"),
        "rain",
        {"units": "mm h-1"},
    )
    ax = next(ax for ax in maps(field).axes if ax.collections)
    assert ax.get_xlabel() == "x (km)"


def test_unknown_lead_lists_those_there_are(forecast):
    with pytest.raises(LeadError, match=r"holds the leads \[1, 2, 3, 4, 5, 6\], not \[9\]"):
        maps(forecast, leads=[9])


def test_several_starts_are_refused_with_the_remedy(forecast):
    two = xr.concat([forecast, forecast.assign_coords(init=forecast.init + 1)], "init")
    two["init"].attrs = forecast["init"].attrs
    with pytest.raises(AxisError, match=r"holds 2 of them; choose one with \.isel\(init=0\)"):
        maps(two)


def test_an_extra_dimension_is_refused(forecast):
    with pytest.raises(AxisError, match=r"also has \['model'\]"):
        maps(forecast.expand_dims(model=2))


def test_a_map_for_each_title_with_one_color_scale(forecast):
    field = forecast.isel(init=0).sel(lead=2)
    figure = maps({"forecast": field, "half of it": field.mean("member") / 2})
    panels = visible(figure)
    assert [ax.get_title() for ax in panels] == ["forecast", "half of it"]
    whole, half = (ax.collections[0] for ax in panels)
    np.testing.assert_allclose(whole.get_array(), 2 * half.get_array())
    assert whole.norm is half.norm


def test_maps_by_title_must_share_cells_and_units_and_have_one_lead(forecast):
    field = forecast.isel(init=0).sel(lead=2)
    with pytest.raises(AxisError, match=r"'b' holds 6 leads.*sel\(lead="):
        maps({"a": field, "b": forecast})
    with pytest.raises(UnitsError, match="'b' has units 'degC'"):
        maps({"a": field, "b": field.assign_attrs(units="degC")})
    for other in (field.isel(lat=slice(1, None)), field.isel(lat=slice(None, None, -1))):
        with pytest.raises(GridMismatchError, match=r"'b'.*same cells"):
            maps({"a": field, "b": other})
    with pytest.raises(AxisError, match="empty"):
        maps({})
