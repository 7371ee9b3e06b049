"""Where to say yes when all that is known are probabilities."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import xarray as xr

from xearth.errors import ConfigError
from xearth.testing.assertions import raise_if_dask_computes
from xearth.verification import expected_yes
from xearth.verification.scores.decisions import yes_of_chances


def best_by_trying(chance: np.ndarray) -> float:
    """Return the best expected threat score of all sets of cells."""
    cells, total, best = range(chance.size), chance.sum(), 0.0
    for k in range(1, chance.size + 1):
        for some in combinations(cells, k):
            hits = chance[list(some)].sum()
            best = max(best, hits / (k + total - hits))
    return best


@pytest.mark.parametrize("seed", range(8))
def test_no_other_set_of_cells_expects_more(seed: int) -> None:
    chance = np.random.default_rng(seed).beta(0.4, 1.0, size=9)
    yes = yes_of_chances(chance)
    hits = chance[yes].sum()
    found = hits / (yes.sum() + chance.sum() - hits)
    assert found == pytest.approx(best_by_trying(chance), rel=1e-12)
    limit = found / (1 + found)
    assert chance[yes].min() >= limit - 1e-12
    assert (chance[~yes] <= limit + 1e-12).all()


def test_where_nothing_is_possible_nothing_is_said() -> None:
    assert not yes_of_chances(np.zeros((2, 5))).any()


def test_missing_cells_stay_missing_and_change_nothing() -> None:
    rng = np.random.default_rng(1)
    chance = xr.DataArray(rng.random((3, 4, 5)), dims=("lead", "y", "x"), name="chance")
    wide = chance.pad(x=(0, 2))
    yes = expected_yes(wide)
    assert yes.isel(x=slice(5, None)).isnull().all()
    assert yes.isel(x=slice(0, 5)).equals(expected_yes(chance))
    assert yes.dims == chance.dims


def test_dask_stays_lazy_with_the_same_numbers() -> None:
    rng = np.random.default_rng(2)
    chance = xr.DataArray(rng.random((3, 8, 6)).astype(np.float32), dims=("lead", "y", "x"))
    with raise_if_dask_computes():
        lazy = expected_yes(chance.chunk(lead=1, x=3))
    assert lazy.equals(expected_yes(chance))
    assert lazy.dtype == np.float32


def test_what_is_no_probability_is_refused() -> None:
    with pytest.raises(ConfigError, match="probabilities from 0 to 1"):
        expected_yes(xr.DataArray([[0.0, 20.0]], dims=("y", "x")))
