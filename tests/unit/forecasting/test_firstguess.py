from __future__ import annotations

import numpy as np
import pytest

from xearth.errors import CheckpointError, ConfigError
from xearth.forecasting.firstguess import PENALTIES, FittedGuess, LinearGuess
from xearth.forecasting.stepwise import Stepwise

H, W, T, L = 3, 4, 4, 3


def oscillation(steps=400, noise=0.2, seed=0):
    """Two patterns that turn into each other: a linear system with a known propagator."""
    rng = np.random.default_rng(seed)
    patterns = np.linalg.qr(rng.standard_normal((H * W, 2)))[0]
    turn = 0.95 * np.array([[np.cos(0.5), -np.sin(0.5)], [np.sin(0.5), np.cos(0.5)]])
    state, states = rng.standard_normal(2), []
    for _ in range(steps):
        state = turn @ state + noise * rng.standard_normal(2)
        states.append(state)
    return np.array(states) @ patterns.T, patterns, turn


def windows(series):
    fields = series.reshape(-1, H, W, 1)
    inits = range(T - 1, len(series) - L)
    x = np.stack([fields[i - T + 1 : i + 1] for i in inits])
    y = np.stack([fields[i + 1 : i + 1 + L] for i in inits])
    return x, y, (np.arange(T - 1, len(series) - L) % 12) / 12


AREA = np.repeat(np.cos(np.deg2rad([-20.0, 0.0, 20.0]))[:, None], W, 1)


def test_it_finds_the_propagator():
    series, patterns, turn = oscillation()
    x, y, season = windows(series)
    guess, held = LinearGuess(components=2, lags=(0,), blocks=4).fit(
        x, y, season=season, area=np.ones((H, W))
    )
    state = x[:, -1].reshape(len(x), -1) @ patterns
    for lead in range(L):
        exact = state @ np.linalg.matrix_power(turn, lead + 1).T @ patterns.T
        for found in (guess(x, season), held):
            error = found[:, lead].reshape(len(x), -1) - exact
            assert error.std() < 0.2 * exact.std()


def test_held_out_guesses_do_not_see_their_own_truth():
    x, y, season = windows(oscillation()[0])
    spec = LinearGuess(components=3, lags=(0, 2), blocks=4)
    _, held = spec.fit(x, y, season=season, area=AREA)
    spoiled = y.copy()
    quarter = slice(0, len(y) // 4)
    # the spoiled truth of the first stretch may change every guess but that stretch's own,
    # apart from the EOFs (made of x), the damping and the penalty, which are kept here
    spoiled[quarter] *= 1.001
    _, again = spec.fit(x, spoiled, season=season, area=AREA)
    own = np.abs(again - held)[quarter].max()
    others = np.abs(again - held)[len(y) // 4 + T + L :].max()
    assert own < 1e-4 < others


def test_fitted_error_is_smaller_than_held_out_error():
    rng = np.random.default_rng(0)
    x, y, season = windows(rng.standard_normal((120, H * W)))
    guess, held = LinearGuess(components=8, blocks=4, lags=(0, 1, 2)).fit(
        x, y, season=season, area=AREA
    )
    assert np.square(guess(x, season) - y).mean() < np.square(held - y).mean()
    # noise cannot be forecast: the penalty must shrink the held-out guess to almost nothing
    assert np.square(held).mean() < 0.2 * np.square(y).mean()


def test_the_season_matters():
    rng = np.random.default_rng(1)
    x, _, season = windows(oscillation(noise=0.5)[0])
    sign = np.cos(2 * np.pi * season)[:, None, None, None, None]
    y = np.repeat(sign * x[:, -1:], L, 1) + 0.01 * rng.standard_normal((len(x), L, H, W, 1))
    guess, _ = LinearGuess(components=2, lags=(0,)).fit(x, y, season=season, area=AREA)
    assert np.square(guess(x, season) - y).mean() < 0.01 * np.square(y).mean()


def test_what_the_eofs_leave_out_is_damped():
    rng = np.random.default_rng(2)
    series = np.zeros((600, H * W))
    for t in range(1, 600):  # every cell by itself remembers 0.8 of its last value
        series[t] = 0.8 * series[t - 1] + rng.standard_normal(H * W)
    x, y, season = windows(series)
    guess, _ = LinearGuess(components=1, lags=(0,)).fit(x, y, season=season, area=np.ones((H, W)))
    expected = 0.8 ** np.arange(1, L + 1)
    np.testing.assert_allclose(guess.damping.mean(1), expected, atol=0.1)


def test_factors_are_the_covariance_of_held_out_errors():
    rng = np.random.default_rng(3)
    x, y, season = windows(rng.standard_normal((200, H * W)))
    guess, held = LinearGuess(components=2, lags=(0,)).fit(x, y, season=season, area=AREA, rank=36)
    assert guess.factors.shape == (36, L, H * W)
    error = (held - y).reshape(len(x), L * H * W).astype("float64")
    flat = guess.factors.reshape(36, -1)
    np.testing.assert_allclose(flat.T @ flat, error.T @ error / len(x), atol=1e-4)
    np.testing.assert_allclose(guess.unit.ravel(), np.sqrt((error**2).mean(0)) / 4, rtol=1e-4)
    with pytest.raises(ConfigError, match="at least as many samples"):
        LinearGuess(blocks=2, lags=(0,)).fit(x[:30], y[:30], season=season[:30], area=AREA, rank=40)


def test_cells_without_values_stay_zero():
    x, y, season = windows(oscillation()[0])
    area = AREA.copy()
    area[1, 1] = 0
    x[..., 1, 1, :] = y[..., 1, 1, :] = 0
    guess, held = LinearGuess(components=2, lags=(0, 1)).fit(x, y, season=season, area=area)
    assert not guess(x, season)[..., 1, 1, :].any()
    assert not held[..., 1, 1, :].any()


def test_round_trip_is_exact():
    x, y, season = windows(oscillation()[0])
    guess, _ = LinearGuess(components=2, lags=(0, 1)).fit(x, y, season=season, area=AREA)
    arrays = {name: array.astype("float32") for name, array in guess.arrays().items()}
    back = FittedGuess.restore(arrays, guess.facts())
    np.testing.assert_array_equal(back(x, season), guess(x, season))


def test_penalties_cover_four_decades():
    assert PENALTIES[0] == 1
    assert PENALTIES[-1] == pytest.approx(1e4)


@pytest.mark.parametrize(
    "values",
    [
        {"components": 0},
        {"components": ()},
        {"blocks": 1},
        {"lags": ()},
        {"lags": (-1,)},
        {"products": 16},
        {"half_life": 0.0},
        {"annual": -1.0},
        {"penalties": ()},
        {"stepwise": Stepwise(components=16)},
    ],
)
def test_impossible_values(values):
    with pytest.raises(ConfigError, match="expected"):
        LinearGuess(**values)


def test_data_that_cannot_be_used():
    x, y, season = windows(oscillation(steps=30)[0])
    with pytest.raises(ConfigError, match=r"lag of 9.*found 4"):
        LinearGuess().fit(x, y, season=season, area=AREA)
    with pytest.raises(ConfigError, match="at least 40 samples"):
        LinearGuess(lags=(0,), blocks=20).fit(x, y, season=season, area=AREA)


def test_arrays_that_do_not_belong_together():
    x, y, season = windows(oscillation()[0])
    guess, _ = LinearGuess(components=2, lags=(0, 1)).fit(x, y, season=season, area=AREA)
    arrays = guess.arrays()
    arrays["damping"] = arrays["damping"][:, :-1]
    with pytest.raises(CheckpointError, match="damping"):
        FittedGuess.restore(arrays, guess.facts())


def test_windows_that_all_overlap_are_refused_before_training():
    """Windows as long as the record leave nothing to learn from once a stretch is held out."""
    x, y, season = windows(oscillation(steps=16)[0])
    with pytest.raises(ConfigError, match="overlap"):
        LinearGuess(components=1, lags=(0,), blocks=2).fit(x, y, season=season, area=AREA)


def test_the_guess_is_as_exact_as_the_history():
    x, y, season = windows(oscillation()[0])
    guess, _ = LinearGuess(components=2, lags=(0, 2)).fit(x, y, season=season, area=AREA)
    exact = guess(x.astype(np.float64), season)
    assert exact.dtype == np.float64
    assert guess(x.astype(np.float32), season).dtype == np.float32
    np.testing.assert_allclose(guess(x.astype(np.float32), season), exact, atol=1e-5)


def test_products_make_what_is_quadratic_foreseeable():
    rng = np.random.default_rng(5)
    series, patterns, _ = oscillation(steps=900, noise=0.5)
    x, _, season = windows(series + 0.01 * rng.standard_normal(series.shape))
    p = x[:, -1].reshape(len(x), -1) @ patterns
    fields = (p[:, :1] * p[:, 1:]) @ patterns.T[:1]
    y = np.repeat(fields.reshape(len(x), 1, H, W, 1), L, 1)
    errors = {}
    for products in (0, 2):
        spec = LinearGuess(components=2, lags=(0, 1), products=products)
        guess, held = spec.fit(x, y, season=season, area=np.ones((H, W)))
        errors[products] = np.square(held - y).mean() / np.square(y - y.mean(0)).mean()
    assert errors[2] < 0.01 < 0.5 < errors[0]
    assert guess.coefficients.shape[1] == 3 * (1 + 2 * 2 + 10)


def test_several_numbers_of_components_are_the_mean_of_each():
    x, y, season = windows(oscillation()[0])
    how = {"season": season, "area": AREA}
    each = [LinearGuess(components=k, lags=(0, 2)).fit(x, y, **how) for k in (1, 3)]
    both, held = LinearGuess(components=(1, 3), lags=(0, 2)).fit(x, y, **how)
    # the components that a regression does not read are still forecast by it
    wide = LinearGuess(components=3, lags=(0, 2)).fit(x, y, **how)[0]
    assert both.eofs.shape == wide.eofs.shape
    p = [guess(x, season).reshape(len(x), L, -1) * both.weight for guess, _ in each]
    mean = np.mean([part @ both.eofs[:1].T for part in p], 0)
    found = (both(x, season).reshape(len(x), L, -1) * both.weight) @ both.eofs[:1].T
    np.testing.assert_allclose(found, mean, atol=0.02)
    assert np.square(held - y).mean() <= max(np.square(h - y).mean() for _, h in each)


def test_samples_of_long_ago_count_less():
    x, y, season = windows(oscillation()[0])
    changed = y.copy()
    changed[: len(y) // 2] *= -1  # another world in the first half
    how = {"season": season, "area": AREA}
    late = slice(3 * len(y) // 4, None)
    errors = {}
    for half_life in (None, 40.0):
        spec = LinearGuess(components=2, lags=(0,), half_life=half_life)
        guess, _ = spec.fit(x, changed, **how)
        errors[half_life] = np.square(guess(x, season) - y)[late].mean()
    assert errors[40.0] < 0.5 * errors[None]


def test_the_stepwise_part_is_the_product_of_the_operators():
    series, patterns, turn = oscillation(noise=0.0, steps=150)
    x, y, season = windows(series)
    steps = Stepwise(share=1.0, leads=10**9, components=2)
    spec = LinearGuess(components=2, lags=(0,), blocks=2, stepwise=steps)
    guess, held = spec.fit(x, y, season=season, area=np.ones((H, W)))
    assert guess.cycle.shape == (12, L, 3, 2)
    state = x[:, -1].reshape(len(x), -1) @ patterns
    for lead in range(L):
        exact = state @ np.linalg.matrix_power(turn, lead + 1).T @ patterns.T
        for found in (guess(x, season), held):
            np.testing.assert_allclose(found[:, lead].reshape(len(x), -1), exact, atol=1e-6)


def test_each_time_of_year_has_its_operator():
    rng = np.random.default_rng(6)
    season = rng.integers(0, 12, 300) / 12
    before = rng.standard_normal((300, 2))
    single = rng.standard_normal((4, 2, 2))
    after = np.einsum("nk,nkj->nj", before, single[(season > 0.5).astype(int)])[:, None]
    steps = Stepwise(components=2)
    with pytest.raises(ConfigError, match="0 samples around phase"):
        steps.fit(before, after, 0 * season, [])
    held, operators = steps.fit(before, after, season, [(slice(0, 9), np.arange(9, 300))])
    far = np.isin(np.rint(season * 12), (2, 3, 4, 9, 10))[:9]
    np.testing.assert_allclose(held[:9][far], after[:9][far], atol=1e-8)
    np.testing.assert_allclose(operators[3, 0, 1:], single[0], atol=1e-8)
    np.testing.assert_allclose(operators[9, 0, 1:], single[1], atol=1e-8)


def test_a_small_annual_size_shrinks_the_annual_cycle():
    rng = np.random.default_rng(1)
    x, _, season = windows(oscillation(noise=0.5)[0])
    sign = np.cos(2 * np.pi * season)[:, None, None, None, None]
    y = np.repeat(sign * x[:, -1:], L, 1) + 0.01 * rng.standard_normal((len(x), L, H, W, 1))
    power = {}
    for annual in (0.0, 0.1, 1.0):
        spec = LinearGuess(components=2, lags=(0,), annual=annual, penalties=(10.0,))
        guess, _ = spec.fit(x, y, season=season, area=AREA)
        power[annual] = np.square(guess(x, season)).mean() / np.square(y).mean()
    assert power[0.0] < power[0.1] < 0.1 < 0.9 < power[1.0]


def test_files_of_before_are_read():
    x, y, season = windows(oscillation()[0])
    guess, _ = LinearGuess(components=2, lags=(0, 1)).fit(x, y, season=season, area=AREA)
    arrays, facts = guess.arrays(), guess.facts()
    del arrays["cycle"], facts["products"], facts["annual"]
    np.testing.assert_array_equal(FittedGuess.restore(arrays, facts)(x, season), guess(x, season))


@pytest.mark.parametrize("values", [{"share": 1.5}, {"leads": 0}, {"components": 0}, {"phases": 0}])
def test_impossible_stepwise_parts(values):
    with pytest.raises(ConfigError, match="expected a share"):
        Stepwise(**values)
