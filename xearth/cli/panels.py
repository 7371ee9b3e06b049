"""The figure of a verification: a panel for each score that lines or a map of months can show."""

from __future__ import annotations

from typing import TYPE_CHECKING

import xarray as xr

from ..errors import ConfigError, MissingDataError
from ..plotting.skill import skill
from ..plotting.start_months import start_months
from ..plotting.tables import thresholds

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

__all__ = ["draw", "drawable"]

LINES = ("threshold", "component")  # dimensions that make a line for each label
MOST = 7  # lines in a panel
ELSEWHERE = {
    "rank_histogram": "xearth.plotting.rank_histogram",
    "reliability": "xearth.plotting.reliability",
    "roc": "xearth.plotting.roc",
}


def drawable(scores: xr.Dataset) -> list[str]:
    """Return the scores that can be drawn, by their dimensions; nothing is computed.

    Raises
    ------
    ConfigError
        If there is none.

    Examples
    --------
    >>> drawable(xr.Dataset({"rmse": ("lead", [0.1]), "n": ("lead", [3])}))
    ['rmse']
    """
    names = [str(name) for name in scores.data_vars if name != "n" and not str(name).endswith("_n")]
    found = [name for name in names if _lines(scores[name]) or _months(scores[name])]
    if not found:
        dims = {name: ", ".join(map(str, scores[name].dims)) or "nothing" for name in names}
        others = [ELSEWHERE[name] for name in names if name in ELSEWHERE]
        remedy = f"; for the others see {', '.join(others)} in Python" if others else ""
        raise ConfigError(
            f"--plot draws scores by lead, or by month and lead (--by month,lead), with up to "
            f"{MOST} thresholds; found "
            f"{'; '.join(f'{name} by {dim}' for name, dim in dims.items())}{remedy}"
        )
    return found


def _lines(score: xr.DataArray) -> bool:
    further = [dim for dim in score.dims if dim != "lead"]
    few = all(dim in LINES and score.sizes[dim] <= MOST for dim in further)
    return "lead" in score.dims and len(further) <= 1 and few


def _months(score: xr.DataArray) -> bool:
    return set(score.dims) == {"month", "lead"}


def draw(scores: xr.Dataset, names: list[str], path: Path) -> None:
    """Draw scores one below the other into a file; those without any value are left out.

    Raises
    ------
    MissingDataError
        If no score holds a value.
    """
    import matplotlib.pyplot as plt

    some = [name for name in names if bool(scores[name].notnull().any())]
    if not some:
        raise MissingDataError(f"{', '.join(names)}: all values are missing, nothing to draw")
    figure, axes = plt.subplots(
        len(some), 1, figsize=(5.6, 3.4 * len(some)), squeeze=False, layout="constrained"
    )
    for ax, name in zip(axes[:, 0], some, strict=True):
        _panel(scores, name, ax)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _panel(scores: xr.Dataset, name: str, ax: Axes) -> None:
    if _months(scores[name]):
        start_months(scores, name, ax=ax)
        return
    lines = {
        label: part.to_dataset(name=name)
        for label, part in _labeled(scores[name])
        if bool(part.notnull().any())
    }
    skill(lines, name, ax=ax)


def _labeled(score: xr.DataArray) -> list[tuple[str, xr.DataArray]]:
    """Return the lines of a score with their labels; that of a single one is empty."""
    if "component" in score.dims:
        return [(str(c), score.sel(component=c)) for c in score["component"].values]
    return thresholds(score)
