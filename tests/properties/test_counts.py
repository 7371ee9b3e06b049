"""Laws of counted scores, on random data, shapes and chunks."""

from __future__ import annotations

import numpy as np
import xarray as xr
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from xearth.verification.scores.categorical import categorical_scores
from xearth.verification.scores.contingency import OUTCOMES, contingency
from xearth.verification.scores.spatial import fss_of, fss_sums

DIMS = ("init", "y", "x")
VALUES = st.one_of(st.sampled_from([0.0, 1.0, 2.0, np.nan]), st.floats(-3, 3, width=32))


@st.composite
def pairs(draw: st.DrawFn) -> tuple[xr.DataArray, xr.DataArray]:
    shape = draw(st.tuples(*[st.integers(1, 5)] * 3))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    f, o = (draw(arrays(dtype, shape, elements=VALUES)) for _ in range(2))
    return xr.DataArray(f, dims=DIMS), xr.DataArray(o, dims=DIMS)


def chunked(draw: st.DrawFn, field: xr.DataArray) -> xr.DataArray:
    return field.chunk({d: draw(st.integers(1, n)) for d, n in field.sizes.items()})


@given(st.data(), pairs(), st.sampled_from([">=", ">"]), st.sets(st.sampled_from(DIMS)))
@settings(max_examples=25, deadline=None)
def test_any_chunks_count_as_the_whole(data, pair, op, dims):
    how = {"thresholds": [0, 1, 1.5], "op": op, "dim": sorted(dims)}
    whole = contingency(*pair, **how)
    lazy = contingency(*(chunked(data.draw, field) for field in pair), **how)
    xr.testing.assert_identical(lazy.compute(scheduler="synchronous"), whole)


@given(pairs(), st.sampled_from([">=", ">"]))
@settings(max_examples=60, deadline=None)
def test_every_pair_is_counted_once(pair, op):
    f, o = pair
    table = contingency(f, o, thresholds=[0, 1, 1.5], op=op)
    for k in range(3):
        assert sum(int(table[name][k]) for name in OUTCOMES) + int(table.missing) == f.size
    turned = contingency(o, f, thresholds=[0, 1, 1.5], op=op)
    xr.testing.assert_equal(turned.misses, table.false_alarms.rename("misses"))
    # fewer events at higher thresholds
    for first, second in (("hits", "misses"), ("hits", "false_alarms")):
        assert (np.diff(table[first] + table[second]) <= 0).all()


@given(pairs())
@settings(max_examples=60, deadline=None)
def test_scores_of_one_table_agree(pair):
    f, o = pair
    names = ["csi", "pod", "sucr", "far", "frequency_bias", "f1", "pss", "pofd", "orss"]
    table = contingency(f, o, thresholds=[1])
    s = {name: score.item() for name, score in categorical_scores(table, names).items()}
    assume(table.hits.item() > 0)
    np.testing.assert_allclose(1 / s["csi"], 1 / s["pod"] + 1 / s["sucr"] - 1, rtol=1e-12)
    np.testing.assert_allclose(s["frequency_bias"], s["pod"] / s["sucr"], rtol=1e-12)
    np.testing.assert_allclose(s["f1"], 2 * s["csi"] / (1 + s["csi"]), rtol=1e-12)
    np.testing.assert_allclose(s["far"], 1 - s["sucr"], atol=1e-15)
    np.testing.assert_allclose(s["pss"], s["pod"] - s["pofd"], atol=1e-15)


@given(st.data(), pairs(), st.sampled_from(["valid", "zero", "overhang"]), st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_fractions_skill_is_bounded_and_the_same_for_any_chunks(data, pair, border, window):
    f, o = pair
    assume(border != "valid" or window <= min(f.sizes["y"], f.sizes["x"]))
    how = {"thresholds": [0, 1], "window": window, "border": border}
    sums = fss_sums(f, o, **how)
    lazy = fss_sums(*(chunked(data.draw, field) for field in pair), **how)
    xr.testing.assert_identical(lazy.compute(scheduler="synchronous"), sums)
    score = fss_of(sums).values
    assert ((score >= 0) & (score <= 1) | np.isnan(score)).all()
    xr.testing.assert_equal(fss_of(fss_sums(o, f, **how)), fss_of(sums))
