"""Is the truth like one more member: rank histograms, and spread against error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from ..errors import AxisError, ConfigError, MissingDataError
from .style import COLORS, axes_or_new, axis_label
from .tables import drawn, lead_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["rank_histogram", "spread_skill", "spread_skill_bins"]

#: Name of a spread that a calibrated ensemble of any size has in common with its error.
CORRECTED = r"ensemble spread $\cdot\sqrt{(M + 1) / M}$"


def rank_histogram(
    histogram: xr.DataArray | xr.Dataset,
    *,
    n: int | None = None,
    confidence: float = 0.95,
    ax: Axes | None = None,
) -> Axes:
    """Draw how often the truth has each rank, with the band that chance alone explains.

    Parameters
    ----------
    histogram : xarray.DataArray or xarray.Dataset
        Relative frequency by ``rank``, of :func:`~xearth.verification.rank_histogram`; or
        scores of ``verify`` with ``rank_histogram`` and ``n``.
    n : int, optional
        Number of independent pairs, for the band; by default ``n`` of the Dataset. Pairs that are
        neighbors in space or time are not independent: give fewer, or the band is too narrow.
    confidence : float
        Share of the bars that the band of a flat histogram holds.
    ax : matplotlib.axes.Axes, optional
        Where to draw. Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        What was drawn on.

    Raises
    ------
    AxisError
        If it has other dimensions than ``rank``.
    ConfigError
        If ``n`` or ``confidence`` is out of range.
    MissingDataError
        If no pair counts.
    MissingDependencyError
        If matplotlib is not installed.

    Examples
    --------
    >>> import xarray as xr
    >>> from xearth.plotting.ensembles import rank_histogram
    >>> histogram = xr.DataArray([0.4, 0.2, 0.4], {"rank": [1, 2, 3]}, name="rank_histogram")
    >>> rank_histogram(histogram, n=50).get_xlabel()
    'rank of the truth among 2 members'
    """
    if isinstance(histogram, xr.DataArray):
        table = histogram.to_dataset(name="rank_histogram")
    else:
        table = histogram
    bars = drawn(table, "rank_histogram", ("rank",))
    if n is None and "n" in table:
        n = int(table["n"].values)
    if not 0 < confidence < 1 or (n is not None and n < 1):
        raise ConfigError(
            f"n={n}, confidence={confidence}: expected 1 pair or more and 0 < confidence < 1"
        )
    ax = axes_or_new(ax, (5.6, 3.6))
    ranks = bars["rank"].values
    flat = 1 / ranks.size
    top = max(float(bars.max()), flat)
    ax.bar(ranks, bars.values, width=0.9, color=COLORS[4])
    if n is not None:
        from scipy.stats import binom

        low, high = binom.ppf([(1 - confidence) / 2, (1 + confidence) / 2], n, flat) / n
        label = f"{confidence:.0%} of flat histograms, n = {n}"
        ax.axhspan(low, high, facecolor="0.75", alpha=0.35, edgecolor="none", label=label, zorder=3)
        for end in (low, high):
            ax.axhline(end, color="0.35", linewidth=0.9, zorder=3.5, label="_band")
        top = max(top, high)
    ax.axhline(flat, color="black", linewidth=1.0, linestyle="--", zorder=4, label="_flat")
    ax.set_xlabel(f"rank of the truth among {ranks.size - 1} members")
    ax.set_ylabel("relative frequency")
    ax.set_xlim(ranks[0] - 0.6, ranks[-1] + 0.6)
    if ranks.size <= 16:
        ax.set_xticks(ranks)
    ax.set_ylim(0, 1.2 * top)
    ax.spines[["top", "right"]].set_visible(False)
    if n is not None:
        ax.legend(frameon=False, fontsize=8, loc="upper center")
    return ax


def spread_skill(scores: xr.Dataset, *, ax: Axes | None = None) -> Axes:
    r"""Draw the spread of an ensemble and the error of its mean against lead.

    In a calibrated ensemble of M members both are equal once the spread is multiplied by
    :math:`\sqrt{(M + 1) / M}`; that is drawn if ``scores`` holds ``spread_skill_ratio``, from
    which the factor follows, else the spread as it is.

    Parameters
    ----------
    scores : xarray.Dataset
        ``spread`` and ``skill`` (or ``rmse``) by ``lead``, and perhaps ``spread_skill_ratio``, of
        ``verify``.
    ax : matplotlib.axes.Axes, optional
        Where to draw. Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        What was drawn on.

    Raises
    ------
    AxisError
        If a score is missing, or has other dimensions than ``lead``.
    MissingDataError
        If a score holds no value.
    MissingDependencyError
        If matplotlib is not installed.

    Examples
    --------
    >>> import xarray as xr
    >>> from xearth.plotting.ensembles import spread_skill
    >>> K = {"units": "K"}
    >>> scores = xr.Dataset(
    ...     {"spread": ("lead", [0.2, 0.3], K), "skill": ("lead", [0.3, 0.5], K)},
    ...     {"lead": ("lead", [1, 2], {"units": "months"})},
    ... )
    >>> spread_skill(scores).get_ylabel()
    'spread and error (K)'
    """
    error, spread, corrected = _pair(scores, ("lead",))
    ax = axes_or_new(ax, (5.6, 3.8))
    lead = error["lead"].values
    ax.plot(lead, error.values, color=COLORS[0], marker="o", markersize=4, linewidth=2.2,
            label="error of the ensemble mean (RMSE)")  # fmt: skip
    label = CORRECTED if corrected else "ensemble spread"
    ax.plot(lead, spread.values, color=COLORS[1], marker="s", markersize=4, linewidth=1.6,
            linestyle="--", label=label)  # fmt: skip
    lead_axis(ax, error["lead"])
    ax.set_ylabel(_label(error))
    ax.set_ylim(0, None)
    ax.grid(color="0.92", linewidth=0.8)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=8)
    return ax


def spread_skill_bins(scores: xr.Dataset, *, bins: int = 8, ax: Axes | None = None) -> Axes:
    """Draw the error of the ensemble mean where the spread is small, and where it is large.

    Cases are sorted by spread into classes of equal number. If the spread tells which forecasts
    to trust, the points follow the diagonal; a flat row says that it does not.

    Parameters
    ----------
    scores : xarray.Dataset
        ``spread`` and ``skill`` (or ``rmse``) of single cases, with a dimension ``init``:
        ``verify(..., ["spread", "skill"], by=["init", "lead"])``; all cases are taken together.
        With ``spread_skill_ratio`` the spread is corrected for the number of members.
    bins : int
        Number of classes; each needs 3 cases or more.
    ax : matplotlib.axes.Axes, optional
        Where to draw. Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        What was drawn on.

    Raises
    ------
    AxisError
        If a score is missing, or has no dimension ``init``.
    ConfigError
        If there are fewer than 2 bins.
    MissingDataError
        If there are too few cases for the bins.
    MissingDependencyError
        If matplotlib is not installed.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from xearth.plotting.ensembles import spread_skill_bins
    >>> spread = np.linspace(0.2, 1.0, 40)
    >>> error = spread * np.random.default_rng(0).standard_normal(40)
    >>> K = {"units": "K"}
    >>> scores = xr.Dataset({"spread": ("init", spread, K), "skill": ("init", abs(error), K)})
    >>> spread_skill_bins(scores, bins=4).get_xlabel()
    'ensemble spread (K)'
    """
    if bins < 2:
        raise ConfigError(f"bins={bins}: expected 2 classes of spread or more")
    extra = [dim for dim in scores.dims if dim != "init"]
    error, spread, corrected = _pair(scores, ("init",), tuple(map(str, extra)))
    x, y = spread.values.ravel(), error.values.ravel()
    known = np.isfinite(x) & np.isfinite(y)
    if known.sum() < 3 * bins:
        raise MissingDataError(
            f"{int(known.sum())} cases with spread and error, {bins} classes; expected at least "
            f"{3 * bins} cases. Take fewer classes, or more starts."
        )
    order = np.argsort(x[known], kind="stable")
    classes = np.array_split(order, bins)
    roots = [np.array([np.sqrt((v[known][part] ** 2).mean()) for part in classes]) for v in (x, y)]
    ax = axes_or_new(ax, (4.8, 4.6))
    top = 1.08 * max(part.max() for part in roots)
    ax.plot([0, top], [0, top], color="0.4", linewidth=0.9, linestyle="--", label="_reliable")
    ax.plot(*roots, color=COLORS[0], marker="o", markersize=5, linewidth=1.4,
            label=f"{int(known.sum())} cases in {bins} classes")  # fmt: skip
    units = _label(error).partition("(")[2]
    name = CORRECTED if corrected else "ensemble spread"
    ax.set_xlabel(f"{name} ({units}" if units else name)
    ax.set_ylabel(f"error of the ensemble mean, RMSE ({units}" if units else "RMSE")
    ax.set(xlim=(0, top), ylim=(0, top))
    ax.set_aspect("equal")
    ax.grid(color="0.92", linewidth=0.8)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=8, loc="upper left")
    return ax


def _pair(
    scores: xr.Dataset, dims: tuple[str, ...], optional: tuple[str, ...] = ()
) -> tuple[xr.DataArray, xr.DataArray, bool]:
    """Return error and spread, and whether the spread was corrected for the number of members."""
    name = "skill" if "skill" in scores else "rmse"
    error, spread = (drawn(scores, n, dims, optional=optional) for n in (name, "spread"))
    units = [str(array.attrs.get("units", "1")) for array in (error, spread)]
    if units[0] != units[1]:
        raise AxisError(f"{name!r} has units {units[0]!r}, 'spread' {units[1]!r}; convert one")
    if "spread_skill_ratio" not in scores:
        return error, spread, False
    ratio = drawn(scores, "spread_skill_ratio", dims, optional=optional)
    return error, (ratio * error).assign_attrs(spread.attrs), True


def _label(error: xr.DataArray) -> str:
    return axis_label(error.rename("x").assign_attrs(long_name="spread and error"))
