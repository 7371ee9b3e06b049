"""Figures of forecasts and of how good they are.

================================  ================================================================
:func:`maps`, :func:`plume`       a forecast: maps by lead, an index with its members
:func:`summary`                   both and the skill to expect on one page
:func:`skill`                     a score by lead, of one forecast or several, with intervals
:func:`start_months`              a score by month of the start and lead (spring barrier)
:func:`start_months_each`         the same for several forecasts, with one color scale
:func:`reliability`, :func:`roc`  probabilities of events
:func:`rank_histogram`            ranks of the truth, with the band that chance explains
:func:`spread_skill`              spread and error by lead
:func:`spread_skill_bins`         error where the spread is small, and where it is large
:func:`performance`               yes/no forecasts: detection, success ratio, bias, CSI
:func:`strip`, :func:`animate`    a nowcast: frames by lead, observed, forecasts, probabilities
:func:`by_threshold`              a score of events (CSI) by lead, a panel for each threshold
:func:`by_scale`                  the fractions skill score by size of the neighborhood
:class:`Scale`                    classes and colors of rain, reflectivity, liquid
================================  ================================================================

Each function returns what it drew on, so that it can be changed and saved with matplotlib,
which is loaded on the first call (extra ``plot``).
"""

from __future__ import annotations

from .animation import animate
from .ensembles import rank_histogram, spread_skill, spread_skill_bins
from .events import by_scale, by_threshold
from .maps import maps
from .performance import performance
from .plume import plume
from .probabilities import reliability, roc
from .scales import PROBABILITY, RAIN_RATE, REFLECTIVITY, VIL, VIL_PIXELS, Scale
from .skill import skill
from .start_months import start_months, start_months_each
from .strip import strip
from .summary import summary

__all__ = [
    "PROBABILITY",
    "RAIN_RATE",
    "REFLECTIVITY",
    "VIL",
    "VIL_PIXELS",
    "Scale",
    "animate",
    "by_scale",
    "by_threshold",
    "maps",
    "performance",
    "plume",
    "rank_histogram",
    "reliability",
    "roc",
    "skill",
    "spread_skill",
    "spread_skill_bins",
    "start_months",
    "start_months_each",
    "strip",
    "summary",
]
