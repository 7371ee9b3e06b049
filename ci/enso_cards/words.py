"""Numbers and texts as reStructuredText."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr


def listed(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a list-table of reStructuredText."""
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in [header, *rows]:
        lines += [f"   {'*' if k == 0 else ' '} - {cell}" for k, cell in enumerate(row)]
    return "\n".join(lines)


def interval(value: Any, low: Any, high: Any, sign: str = "") -> str:
    """Return "0.83 [0.70, 0.91]"."""
    value, low, high = (round(float(x), 2) + 0.0 for x in (value, low, high))  # no -0.00
    if np.isnan(value):
        return "-"
    if np.isnan(low):
        return f"{value:{sign}.2f}"
    return f"{value:{sign}.2f} [{low:{sign}.2f}, {high:{sign}.2f}]"


def told(verdict: str) -> str:
    """Return "yes, better", "yes, worse" or "no" of a verdict."""
    return str(verdict).partition(" (")[0]


def of(scores: xr.Dataset, name: str, sign: str = "") -> str:
    """Return a score of one lead with its interval."""
    return interval(scores[name], scores[f"{name}_lower"], scores[f"{name}_upper"], sign)


def paragraph(text: str) -> str:
    """Break a text into lines."""
    return textwrap.fill(" ".join(text.split()), 99, break_long_words=False, break_on_hyphens=False)


def bullet(text: str) -> str:
    """Break an item of a list into lines."""
    return textwrap.fill(
        " ".join(text.split()), 99, initial_indent="- ", subsequent_indent="  ",
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def leads_in_words(leads: Sequence[int], of_all: Sequence[int]) -> str:
    """Return "every lead 3-12" or "the leads 3, 4 and 7" or "no lead"."""
    if not leads:
        return f"none of the leads {of_all[0]}-{of_all[-1]}"
    if list(leads) == list(of_all):
        return f"every lead {of_all[0]}-{of_all[-1]}"
    *most, last = (str(lead) for lead in leads)
    return f"lead {last}" if not most else f"the leads {', '.join(most)} and {last}"


def heading(text: str, mark: str = "-") -> str:
    """Return a heading."""
    return f"{text}\n{mark * len(text)}"


def demoted(text: str, marks: str = "~^") -> str:
    """Return a fragment whose headings, of whatever levels, are those below a section.

    Comments at its top are left out.
    """
    lines = text.splitlines()
    while lines and (not lines[0].strip() or re.match(r"\.\. (?!_)[^:]*$", lines[0])):
        lines.pop(0)
    found: list[str] = []
    for k in range(1, len(lines)):
        rule = re.fullmatch(r"([=\-~^\"'`#*+])\1{2,}", lines[k])
        title = lines[k - 1]
        alone = k < 2 or not lines[k - 2].strip()
        if rule and alone and title[:1].strip() and len(lines[k]) >= len(title):
            if rule[1] not in found:
                found.append(rule[1])
            lines[k] = marks[min(found.index(rule[1]), len(marks) - 1)] * len(lines[k])
    return "\n".join(lines).strip()


def unheaded(rows: Iterable[Sequence[str]]) -> str:
    """Return a list-table of names and values, without a header."""
    lines = [".. list-table::", "   :widths: 18 82", ""]
    for name, value in rows:
        lines += [f"   * - {name}", f"     - {value}"]
    return "\n".join(lines)


def plain(value: Any) -> str:
    """Return a value of the provenance as text that reStructuredText leaves alone."""
    if isinstance(value, Mapping):
        value = ", ".join(f"{k}: {v}" for k, v in value.items())
    elif isinstance(value, list | tuple):
        value = ", ".join(str(v) for v in value)
    return textwrap.shorten(str(value).replace("`", "'"), 420, placeholder=" ...")
