r"""Constraints that contradict each other, found before anything is sampled.

With the linear numbers :math:`A y` of all constraints, the ranges :math:`l_i \le y_i \le u_i` of
cells and the pairs :math:`(i, j)` of cells in order (of one cell in two frames, of two variables),
a forecast that holds them all exists if and only if

.. math:: \exists\, y: \quad b \le A y \le c, \quad l \le y \le u, \quad y_i \le y_j ,

a linear program (:mod:`.program`), with the cells of a transformed mean as unknowns of their own
(:mod:`.claims`). A largest value, a quantile and a fraction of the area are not linear; what they
imply for the mean over the same place is: with the part :math:`f` of the area at or above
:math:`c`,

.. math:: f c + (1 - f)\, l \ \le\ \bar y\ \le\ f u + (1 - f)\, c .

So what is refused can certainly not hold; of what these kinds leave open, some may still not. Two
masks contradict each other where they differ, two slopes of a spectrum where their bounds do not
meet; neither is judged against other kinds, and Gaussian bounds refuse nothing here. Where each of
very many cells has a bound of its own only ranges are judged (:mod:`.program`): then the projection
may be the one that finds no field, later.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import ConstraintError
from .audit import flattened
from .claims import claim_of, lifted
from .constraint import Constraint, Forecast
from .geometry import Geometry
from .program import merged, possible

if TYPE_CHECKING:
    from ..models.conditions.protocol import Condition

__all__ = ["conflicts", "feasible_conditions", "require_feasible"]


def require_feasible(constraints: Constraint | Sequence[Constraint], template: Forecast) -> None:
    """Refuse constraints that no forecast can hold together.

    Parameters
    ----------
    constraints : Constraint or sequence of them
    template : DataArray or Dataset
        A forecast like those that will hold them; only its grid, units and missing cells count.

    Raises
    ------
    ConstraintError
        They contradict each other; the message names those that do.
    LeadError, RegionError
        The forecast lacks the leads or the place.

    Examples
    --------
    >>> import xearth
    >>> rain = xearth.samples.open("knmi_radar").isel(time=[0])
    >>> much = xearth.AreaMean() >= xearth.Q(8, "mm/h")
    >>> require_feasible([much, xearth.NonNegative()], rain)
    >>> weak = xearth.EachCell() <= xearth.Q(5, "mm/h")
    >>> require_feasible([much, xearth.NonNegative(), weak], rain)
    Traceback (most recent call last):
    ...
    xearth.errors.ConstraintError: no forecast can hold all of: (1) the area mean over the whole ...
    """
    feasible_conditions(constraints, template)


def feasible_conditions(
    constraints: Constraint | Sequence[Constraint], template: Forecast
) -> list[Condition]:
    """Return the conditions on the tensors of a forecast, one for each constraint.

    Parameters and errors are those of :func:`require_feasible`.
    """
    flat = flattened(constraints)
    conditions = [c.on(template) for c in flat]
    found = _conflicts(flat, conditions, Geometry(template).shape)
    if found:
        listed = "; ".join(f"({k}) {c}" for k, c in enumerate(found, start=1))
        alone = "the bounds cannot be reached" if len(found) == 1 else "any one of them could go"
        raise ConstraintError(
            f"no forecast can hold all of: {listed}. Widen a bound or leave one out; {alone}."
        )
    return conditions


def conflicts(
    constraints: Constraint | Sequence[Constraint], template: Forecast
) -> tuple[Constraint, ...]:
    """Return the fewest constraints that certainly cannot hold together, none if there are none.

    Leaving out any one of those that are returned resolves this contradiction (there may be
    another).

    Parameters
    ----------
    constraints, template
        As for :func:`require_feasible`.

    Examples
    --------
    >>> import xearth
    >>> rain = xearth.samples.open("knmi_radar").isel(time=[0])
    >>> asked = [xearth.AreaMean() == xearth.Q(1, "mm/h"), xearth.NonNegative(),
    ...          xearth.AreaMean() == xearth.Q(2, "mm/h")]
    >>> [str(c)[-11:] for c in xearth.conflicts(asked, rain)]
    ['is 1 mm h-1', 'is 2 mm h-1']
    """
    flat = flattened(constraints)
    return _conflicts(flat, [c.on(template) for c in flat], Geometry(template).shape)


def _conflicts(
    constraints: Sequence[Constraint], conditions: Sequence[Condition], shape: tuple[int, ...]
) -> tuple[Constraint, ...]:
    """Return the fewest constraints that cannot hold together on fields of a shape."""
    compiled = list(zip(constraints, conditions, strict=True))
    for (one, a), (other, b) in itertools.combinations(compiled, 2):
        if _apart(a, b):
            return one, other
    judged = [(c, claim_of(condition, shape)) for c, condition in compiled]
    claims = [claim for _, claim in judged if claim is not None]
    if not claims:
        return ()
    asked = [c for c, claim in judged if claim is not None]
    left = list(zip(asked, merged(lifted(claims)), strict=True))
    if possible([claim for _, claim in left]):
        return ()
    for pair in list(left):
        rest = [other for other in left if other is not pair]
        if not possible([claim for _, claim in rest]):
            left = rest
    return tuple(c for c, _ in left)


def _apart(a: Condition, b: Condition) -> bool:
    """Tell whether two masks or two slopes of a spectrum contradict each other."""
    import torch

    from ..models.conditions.persistent import Persistent
    from ..models.conditions.spectrum import SpectrumSlope

    if isinstance(a, Persistent) and isinstance(b, Persistent):
        return not a.valid.equal(b.valid)
    if isinstance(a, SpectrumSlope) and isinstance(b, SpectrumSlope) and a.band == b.band:
        (low, high), (lower, upper) = (c.bounds(torch.empty(0)) for c in (a, b))
        return bool(((low > upper) | (lower > high)).any())
    return False
