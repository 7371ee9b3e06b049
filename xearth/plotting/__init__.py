"""Figures: maps by lead, the plume of an index, skill by lead, and a page with all three.

Each function returns what it drew on, so that it can be changed and saved with matplotlib,
which is loaded on the first call (extra ``plot``).
"""

from __future__ import annotations

from .maps import maps
from .plume import plume
from .skill import skill
from .summary import summary

__all__ = ["maps", "plume", "skill", "summary"]
