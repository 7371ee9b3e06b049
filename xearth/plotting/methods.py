"""Figures as methods of what is drawn: ``.earthformer.plot`` of arrays and of scores.

Each method is one call of a function of :mod:`xearth.plotting`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import xarray as xr

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes as MatplotlibAxes
    from matplotlib.figure import Figure

    from .scales import Scale

__all__ = ["Plots", "ScorePlots"]


class Plots:
    """``DataArray.earthformer.plot``: needs matplotlib (extra ``plot``)."""

    def __init__(self, obj: xr.DataArray) -> None:
        self._obj = obj

    def __repr__(self) -> str:
        return (
            "figures: .maps(leads=...), .plume(obs=...), .strip(obs=..., init=...), "
            ".animate(path, obs=...), .by_scale()"
        )

    def maps(
        self,
        *,
        leads: Sequence[int] | None = None,
        title: str | None = None,
        significant: xr.DataArray | None = None,
    ) -> Figure:
        """Draw a map for each lead; see :func:`xearth.plotting.maps.maps`."""
        from .maps import maps

        return maps(self._obj, leads=leads, title=title, significant=significant)

    def plume(
        self,
        obs: xr.DataArray | None = None,
        *,
        region: str = "nino34",
        ax: MatplotlibAxes | None = None,
    ) -> MatplotlibAxes:
        """Draw an index forecast with its members; see :func:`xearth.plotting.plume.plume`."""
        from .plume import plume

        return plume(self._obj, obs, region=region, ax=ax)

    def strip(
        self,
        obs: xr.DataArray | None = None,
        *,
        init: Any = None,
        leads: Sequence[int] | None = None,
        members: int = 2,
        exceeding: Any = None,
        scale: Scale | None = None,
        title: str | None = None,
    ) -> Figure:
        """Draw what was observed and forecast by lead; see :func:`xearth.plotting.strip`.

        Examples
        --------
        >>> import xearth
        >>> rain = xearth.samples.open("knmi_radar")
        >>> fc = xearth.Persistence.fit(rain, horizon=2).forecast(rain, init="2010-08-26T04:30")
        >>> figure = fc.earthformer.plot.strip(obs=rain, leads=[10])
        >>> [ax.get_ylabel() for ax in figure.axes[:2]]
        ['observed', 'persistence']
        """
        from .strip import strip

        return strip(
            self._obj,
            obs,
            init=init,
            leads=leads,
            members=members,
            exceeding=exceeding,
            scale=scale,
            title=title,
        )

    def animate(
        self,
        path: str | Path,
        *,
        obs: xr.DataArray | None = None,
        init: Any = None,
        scale: Scale | None = None,
        fps: int = 4,
        title: str | None = None,
    ) -> Path:
        """Write frames as a GIF or MP4; see :func:`xearth.plotting.animate`."""
        from .animation import animate

        return animate(self._obj, path, obs=obs, init=init, scale=scale, fps=fps, title=title)

    def by_scale(self, *, leads: Sequence[int] | None = None, cell: str | None = None) -> Figure:
        """Draw a score of neighborhoods by their size; see :func:`xearth.plotting.by_scale`."""
        from .events import by_scale

        return by_scale(self._obj, leads=leads, cell=cell)


class ScorePlots:
    """``Dataset.earthformer.plot``: figures of scores; needs matplotlib (extra ``plot``)."""

    def __init__(self, scores: xr.Dataset) -> None:
        self._scores = scores

    def __repr__(self) -> str:
        return (
            "figures: .skill(score), .start_months(score), .reliability(), .roc(), "
            ".rank_histogram(), .spread_skill(), .spread_skill_bins(), .performance(), "
            ".by_threshold(score), .by_scale()"
        )

    def skill(
        self, score: str = "correlation", *, ax: MatplotlibAxes | None = None
    ) -> MatplotlibAxes:
        """Draw a score by lead; see :func:`xearth.plotting.skill.skill`."""
        from .skill import skill

        return skill(self._scores, score, ax=ax)

    def start_months(
        self,
        score: str = "correlation",
        *,
        distinguishable: xr.DataArray | None = None,
        ax: MatplotlibAxes | None = None,
    ) -> MatplotlibAxes:
        """Draw a score by start month and lead; see :func:`~xearth.plotting.start_months`."""
        from .start_months import start_months

        return start_months(self._scores, score, distinguishable=distinguishable, ax=ax)

    def reliability(self, *, title: str | None = None) -> Figure:
        """Draw a reliability diagram; see :func:`xearth.plotting.reliability`."""
        from .probabilities import reliability

        return reliability(self._scores, title=title)

    def roc(self, *, ax: MatplotlibAxes | None = None) -> MatplotlibAxes:
        """Draw hit rate against false alarm rate; see :func:`xearth.plotting.roc`."""
        from .probabilities import roc

        return roc(self._scores, ax=ax)

    def rank_histogram(
        self, *, n: Any = None, confidence: float = 0.95, ax: MatplotlibAxes | None = None
    ) -> MatplotlibAxes:
        """Draw the ranks of the truth; see :func:`xearth.plotting.rank_histogram`."""
        from .ensembles import rank_histogram

        return rank_histogram(self._scores, n=n, confidence=confidence, ax=ax)

    def spread_skill(self, *, ax: MatplotlibAxes | None = None) -> MatplotlibAxes:
        """Draw spread and error by lead; see :func:`xearth.plotting.spread_skill`."""
        from .ensembles import spread_skill

        return spread_skill(self._scores, ax=ax)

    def spread_skill_bins(
        self, *, bins: int = 8, ax: MatplotlibAxes | None = None
    ) -> MatplotlibAxes:
        """Draw the error by size of the spread; see :func:`xearth.plotting.spread_skill_bins`."""
        from .ensembles import spread_skill_bins

        return spread_skill_bins(self._scores, bins=bins, ax=ax)

    def performance(self, *, ax: MatplotlibAxes | None = None) -> MatplotlibAxes:
        """Draw detection against success ratio; see :func:`xearth.plotting.performance`."""
        from .performance import performance

        return performance(self._scores, ax=ax)

    def by_threshold(self, score: str = "csi", *, title: str | None = None) -> Figure:
        """Draw a score of events by lead; see :func:`xearth.plotting.by_threshold`."""
        from .events import by_threshold

        return by_threshold(self._scores, score, title=title)

    def by_scale(self, *, leads: Sequence[int] | None = None, cell: str | None = None) -> Figure:
        """Draw a score of neighborhoods by their size; see :func:`xearth.plotting.by_scale`."""
        from .events import by_scale

        return by_scale(self._scores, leads=leads, cell=cell)
