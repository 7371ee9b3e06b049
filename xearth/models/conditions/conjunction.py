r"""All of several conditions at once.

*Closed forms.* Linear conditions together are one (:func:`.linear.nearest`); a range and sums that
share no cells are one (:func:`.ranges.nearest_in_box`). Exact.

*Dykstra's algorithm* for the rest: with the projections :math:`P_i` on convex sets and
corrections :math:`p_i`, 0 at first, cyclically

.. math:: z = x + p_i, \quad x \leftarrow P_i(z), \quad p_i \leftarrow z - x ,

which converges to the nearest field that holds all; without the corrections the limit would only
be *some* field. Iterated in float64 until every relative residual is below 1e-7 and the
corrections stand still to 1e-9 of the field (Birgin and Raydan 2005).

*Sets that are not convex* (quantiles, maxima from below ...) are projected on in turn, without
corrections: the field holds all, it need not be the nearest.

Conditions that cannot hold together are refused, with the names of the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import torch
from torch import Tensor

from ...errors import ConstraintError
from .linear import Linear, nearest
from .protocol import Condition, relative
from .ranges import Range, _clamp, box, nearest_in_box

__all__ = ["All"]

#: Largest relative residual, and change of the corrections in a sweep relative to the field.
TOLERANCE, STILL = 1e-7, 1e-9
_SWEEPS, _PAIR_SWEEPS, _MERGED = 3000, 400, 2000


@dataclass(frozen=True, eq=False)
class All:
    """All of several conditions.

    Parameters
    ----------
    parts : sequence of Condition

    Raises
    ------
    ConstraintError
        There are none.

    Examples
    --------
    >>> from xearth.models.conditions.rows import Rows
    >>> mean = Rows.over(torch.ones(1, 1, 3, 1), frames=True).mean()
    >>> both = All([Linear(mean, lower=1.0, upper=1.0), Range(lower=0.0)])
    >>> both.project(torch.tensor([-3.0, 2.0, 3.0]).reshape(1, 1, 1, 3, 1)).flatten().tolist()
    [0.0, 1.0, 2.0]
    """

    parts: Sequence[Condition]

    def __post_init__(self) -> None:
        flat: list[Condition] = []
        for part in self.parts:
            flat.extend(part.parts if isinstance(part, All) else [part])
        if not flat:
            raise ConstraintError("all of no conditions: give at least one.")
        object.__setattr__(self, "parts", tuple(flat))

    @property
    def name(self) -> str:
        """The names of the parts."""
        return " and ".join(part.name for part in self.parts)

    @property
    def exact(self) -> bool:
        """Whether all have a projection."""
        return all(part.exact for part in self.parts)

    @property
    def convex(self) -> bool:
        """Whether all are convex, and so the projection the nearest field."""
        return all(part.convex for part in self.parts)

    def measure(self, y: Tensor) -> Tensor:
        """Return what the parts measure, one after the other, (N, m)."""
        return torch.cat([part.measure(y) for part in self.parts], -1)

    def residual(self, y: Tensor) -> Tensor:
        """Return the residuals of the parts, one after the other, (N, m)."""
        return torch.cat([part.residual(y) for part in self.parts], -1)

    def magnitude(self, y: Tensor) -> Tensor:
        """Return the magnitudes of the parts, one after the other, (N, m)."""
        return torch.cat([part.magnitude(y) for part in self.parts], -1)

    def energy(self, y: Tensor) -> Tensor:
        """Return the sum of the energies, (N,)."""
        return torch.stack([part.energy(y) for part in self.parts]).sum(0)

    @cached_property
    def _sets(self) -> tuple[_Set, ...]:
        return tuple(_sets(self.parts))

    def project(self, y: Tensor) -> Tensor:
        """Return the nearest field that holds all (if they are convex, else some field near).

        Raises
        ------
        ConstraintError
            A part has no projection; two of them contradict each other; too slow to converge.
        MissingDataError
            A cell that has weight is NaN.
        """
        if len(self._sets) == 1:
            return self._sets[0].project(y)
        found, well = _in_turn(self._sets, y.double(), _SWEEPS)
        if not bool(well.all()):
            self._refuse(y[~well][:1].double(), found[~well][:1])
        ranges = [part for part in self.parts if isinstance(part, Range)]
        found = found.to(y.dtype)
        return _clamp(found, box(ranges, found)) if ranges else found

    def _refuse(self, y: Tensor, found: Tensor) -> None:
        worst = max(self.parts, key=lambda part: float(relative(part, found).max()))
        off = f"{worst.name} stays off by {float(worst.residual(found).abs().max()):.4g}"
        for pair in combinations(self.parts, 2):
            _, well = _in_turn(tuple(_sets(pair)), y, _PAIR_SWEEPS)
            if not bool(well.all()):
                raise ConstraintError(
                    f"{pair[0].name} and {pair[1].name} contradict each other: no field holds both "
                    f"({off}). Leave one out or widen its bounds."
                )
        raise ConstraintError(
            f"no field was found that holds {self.name}, though any two of them can hold: {off} "
            f"after {_SWEEPS} sweeps. Leave one out or widen its bounds."
        )


@dataclass(frozen=True, eq=False)
class _Set:
    """Parts whose common nearest field is known in closed form."""

    parts: tuple[Condition, ...]

    @cached_property
    def linear(self) -> tuple[Linear, ...]:
        return tuple(part for part in self.parts if isinstance(part, Linear))

    @cached_property
    def ranges(self) -> tuple[Range, ...]:
        return tuple(part for part in self.parts if isinstance(part, Range))

    @property
    def affine(self) -> bool:
        """Whether it needs no correction: on affine sets Dykstra's changes nothing."""
        bounds = [part.bounds(torch.empty(0)) for part in self.linear]
        return len(bounds) == len(self.parts) and all(torch.equal(*pair) for pair in bounds)

    @property
    def convex(self) -> bool:
        return all(part.convex for part in self.parts)

    def project(self, y: Tensor) -> Tensor:
        if self.linear and self.ranges:
            return nearest_in_box(self.linear[0], self.ranges, y)
        if self.linear:
            return nearest(self.linear, y)
        if self.ranges:
            return _clamp(y, box(self.ranges, y))
        return self.parts[0].project(y)


def _sets(parts: Sequence[Condition]) -> list[_Set]:
    """Return the parts in as few sets as have a closed form."""
    linear = [part for part in parts if isinstance(part, Linear)]
    ranges = [part for part in parts if isinstance(part, Range)]
    rest = [_Set((part,)) for part in parts if not isinstance(part, Linear | Range)]
    curved = [part for part in linear if part.covariance is not None]
    if curved and len(linear) < len(parts):
        other = next(part for part in parts if not isinstance(part, Linear))
        raise ConstraintError(
            f"{curved[0].name} spreads its correction by a covariance and {other.name} cannot: "
            "nearest would have two meanings. Leave the covariance out, or impose one by guidance."
        )
    if len(linear) == 1 and ranges and linear[0].rows.disjoint and linear[0].exact:
        return [_Set((linear[0], *ranges)), *rest]
    sets = [_Set(tuple(ranges))] if ranges else []
    if sum(len(part.rows) for part in linear) <= _MERGED:
        return sets + ([_Set(tuple(linear))] if linear else []) + rest
    return sets + [_Set((part,)) for part in linear] + rest


def _in_turn(sets: tuple[_Set, ...], y: Tensor, sweeps: int) -> tuple[Tensor, Tensor]:
    """Return fields that hold all sets and which of them do so to the tolerance."""
    x, well = y, torch.zeros(len(y), dtype=torch.bool, device=y.device)
    kept = [s.convex and not s.affine for s in sets]
    corrections = [torch.zeros_like(y) if keep else None for keep in kept]
    size = y.nan_to_num(0.0).flatten(1).norm(dim=1)
    for _ in range(sweeps):
        before, moved = x, torch.zeros_like(size)
        for i, (one, p) in enumerate(zip(sets, corrections, strict=True)):
            z = x if p is None else x + p
            x_next = one.project(z)
            if p is not None:
                corrections[i] = left = z - x_next
                moved = moved + (left - p).nan_to_num(0.0).flatten(1).square().sum(1)
            x = x_next
        x = torch.where(well[:, None, None, None, None], before, x)
        change = (x - before).nan_to_num(0.0).flatten(1).norm(dim=1)
        size = torch.maximum(size, x.nan_to_num(0.0).flatten(1).norm(dim=1))
        still = (moved.sqrt() <= STILL * size) & (change <= STILL * size)
        holds = torch.stack([relative(part, x) for s in sets for part in s.parts]).amax(0)
        well = well | (still & (holds <= TOLERANCE))
        if bool(well.all()):
            break
    return x, well
