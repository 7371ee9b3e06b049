r"""All of several conditions at once.

*Closed forms.* Linear conditions together are one (:func:`.linear.nearest`); a range and sums that
share no cells are one (:func:`.ranges.nearest_in_box`). Exact.

*Dykstra's algorithm* for the rest: with the projections :math:`P_1, P_2` on two convex sets and
corrections :math:`p, q`, 0 at first,

.. math:: p = (y - \bar q) - P_1(y - \bar q), \quad q' = (y - p) - P_2(y - p), \quad
   \bar q = q' + \beta (q' - q) ,

until both projections agree: that is the nearest field that holds both; without corrections the
limit would only be *some* field. With :math:`\beta = 0` it is Dykstra's own; here :math:`\beta`
is that of Chambolle, Tan and Vaiter (2017), with restarts, which needs far fewer sweeps. More than
two sets are two in the product space: all of them side by side, and equal copies. Iterated in
float64 until the projections agree to 1e-8 of the field and every relative residual is below 1e-7.

*Sets that are not convex* (quantiles, transformed means ...) are projected on in turn, without
corrections. Where that does not end soon, each is replaced by a convex set that is like it near
the field :math:`y^k` (:class:`.protocol.Curved`): a transformed mean by its linearization, with
dry cells that stay dry; an order statistic by the ranges of cells that stay on their side. The
next field is the nearest to :math:`y^k` that holds these, Newton's method for the curved sums. What
is found holds all and need not be the nearest; none may be found though there is one, with more
wet cells or with others beyond a threshold.

Conditions that cannot hold together are refused, with the names of the two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import torch
from torch import Tensor

from ...errors import ConstraintError
from .carried import carried, restored
from .linear import Linear, gram, nearest
from .ordered import Monotone, Ordering
from .protocol import Condition, Curved, relative
from .ranges import Range, _clamp, box, nearest_in_box
from .sides import sided

__all__ = ["All"]

#: Largest relative residual, and distance of the projections relative to the field.
TOLERANCE, STILL = 1e-7, 1e-8
#: Largest relative residual of a field in single precision.
SINGLE = 1e-6
_SWEEPS, _PATIENCE, _MERGED = 4000, 250, 2000
#: Convex problems in place of a curved one, those that bring nothing, sweeps of each, sweeps in
#: turn before them, and how closely they are solved as a part of what is still off.
_OUTER, _STUCK, _INNER, _BRIEF, _ROUGH = 30, 3, 200, 20, 1e-2
#: Corrections so many times the field, which no longer brings it closer, come of sets apart.
_GROWN = 50.0
#: Cells as many times larger than those given, or than the bounds, are no solution.
_FAR = 1e4


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
        found, well = _agree(self._sets, y.double())
        if not bool(well.all()):
            self._refuse(y[~well][:1].double(), found[~well][:1])
        if self.convex or found.dtype == y.dtype:
            return self._compared(found.to(y.dtype))
        # rounding may bring cells to the other side of a threshold
        found, well = _in_turn(self._sets, found.to(y.dtype), SINGLE)
        if not bool(well.all()):
            self._refuse(y[~well][:1], found[~well][:1])
        return found

    def _compared(self, found: Tensor) -> Tensor:
        """Return the field with what is compared cell by cell held to the last digit."""
        if self.convex:
            for part in self.parts:  # an order may be that of some cells
                inner = getattr(part, "condition", part)
                found = part.project(found) if isinstance(inner, Monotone | Ordering) else found
        ranges = [part for part in self.parts if isinstance(part, Range)]
        return _clamp(found, box(ranges, found)) if ranges else found

    def _refuse(self, y: Tensor, found: Tensor) -> None:
        worst = max(self.parts, key=lambda part: float(relative(part, found).nan_to_num(1).max()))
        off = f"{worst.name} stays off by {float(worst.residual(found).abs().max()):.4g}"
        for pair in combinations(self.parts, 2):
            sets = tuple(_sets(pair))
            apart = len(self.parts) == 2  # which is known by now
            if not apart and (len(sets) == 1 or bool(_agree(sets, y)[1].all())):
                continue
            if pair[0].convex and pair[1].convex:
                raise ConstraintError(
                    f"{pair[0].name} and {pair[1].name} contradict each other: no field holds both "
                    f"({off}). Leave one out or widen its bounds."
                )
            raise ConstraintError(
                f"{pair[0].name} and {pair[1].name}: no field that holds both was found near this "
                f"one ({off}). They contradict each other, or hold only with dry cells made wet or "
                "with other cells beyond a threshold. Impose one by guidance, or widen a bound."
            )
        raise ConstraintError(
            f"no field was found that holds {self.name}, though any two of them can hold: {off}. "
            "Leave one out or widen its bounds."
        )


@dataclass(frozen=True, eq=False)
class _Set:
    """Parts whose common nearest field is known in closed form."""

    parts: tuple[Condition, ...]

    @cached_property
    def linear(self) -> tuple[Linear, ...]:
        return tuple(part for part in self.parts if isinstance(part, Linear))

    @cached_property
    def _gram(self) -> Tensor:
        return self.linear[0].gram if len(self.linear) == 1 else gram(self.linear)

    @cached_property
    def ranges(self) -> tuple[Range, ...]:
        return tuple(part for part in self.parts if isinstance(part, Range))

    @property
    def convex(self) -> bool:
        return all(part.convex for part in self.parts)

    def project(self, y: Tensor) -> Tensor:
        if self.linear and self.ranges:
            return nearest_in_box(self.linear[0], self.ranges, y)
        if self.linear:
            return nearest(self.linear, y, together=lambda: self._gram)
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


def _agree(sets: tuple[_Set, ...], y: Tensor) -> tuple[Tensor, Tensor]:
    """Return fields that hold all sets and which of them do so to the tolerance."""
    if all(one.convex for one in sets):
        return _dykstra(sets, y)
    parts = [part for one in sets for part in one.parts]
    if not all(part.convex or isinstance(part, Curved) for part in parts) or _apart(parts):
        return _in_turn(sets, y)
    try:
        x, well = _in_turn(sets, y, sweeps=_BRIEF)
    except ConstraintError:  # one of them has left nothing to the other
        x, well = y, torch.zeros(len(y), dtype=torch.bool, device=y.device)
    x, well = x.clone(), well.clone()
    for n in torch.nonzero(~well).flatten().tolist():
        found = _in_transform(sets, y[n : n + 1])
        found = _near(sets, y[n : n + 1]) if found is None else found
        found = _by_sides(sets, y[n : n + 1]) if found is None else found
        if found is not None:
            x[n], well[n] = found[0], True
    if bool(well.all()):
        return x, well
    try:  # slow, but it ends for some that the other way does not
        late, holds = _in_turn(sets, y)
    except ConstraintError:
        return x, well
    # sums of cells that grow without end are close to anything, relative to these cells
    holds = holds & (_largest(late) <= _FAR * _largest(y).clamp(min=_bound(parts)))
    return torch.where((holds & ~well)[:, None, None, None, None], late, x), well | holds


def _largest(x: Tensor) -> Tensor:
    """Return the largest cell of each field, (N,)."""
    return x.nan_to_num(0.0).abs().flatten(1).amax(-1)


def _bound(parts: Sequence[Condition]) -> float:
    """Return the largest finite bound."""
    ends = [getattr(part, side, None) for part in parts for side in ("lower", "upper")]
    finite = [end[end.isfinite()].abs() for end in ends if isinstance(end, Tensor)]
    return max((float(end.max()) for end in finite if end.numel()), default=0.0)


def _apart(parts: Sequence[Condition]) -> bool:
    """Tell whether some condition has bounds of its own for each field (N, m)."""
    bounds = (getattr(part, side, None) for part in parts for side in ("lower", "upper"))
    return any(
        isinstance(bound, Tensor) and bound.ndim == 2 and len(bound) > 1
        for part, bound in zip([p for p in parts for _ in range(2)], bounds, strict=True)
        if not isinstance(part, Range)
    )


def _in_transform(sets: tuple[_Set, ...], y: Tensor) -> Tensor | None:
    """Return one field that holds all, found where transformed means are plain ones, or None.

    Cells that are dry once the other conditions hold stay dry.
    """
    parts = [part for one in sets for part in one.parts]
    others = [one for one in sets if one.convex]
    if carried(parts, y) is None:
        return None
    try:
        for one in others:
            y = one.project(y)
        there = carried(parts, y)
        if there is None:
            return None
        transform, like = there
        z, _ = _dykstra(tuple(_sets(like)), transform.forward(y))
        x = restored(transform, z, y)
        for one in others:  # orders among dry cells
            x = one.project(x)
    except ConstraintError:
        return None
    return x if bool(_holds(sets, x)) else None


def _by_sides(sets: tuple[_Set, ...], y: Tensor) -> Tensor | None:
    """Return one field that holds all, with cells chosen for the sides of thresholds, or None."""
    held = y
    try:
        for one in sets:
            held = one.project(held) if one.convex else held
        like = sided([part for one in sets for part in one.parts], held)
        if like is None:
            return None
        x, _ = _dykstra(tuple(_sets(like)), y)
        x, well = _in_turn(sets, x)
    except ConstraintError:
        return None
    return x if bool(well) else None


def _near(sets: tuple[_Set, ...], y: Tensor) -> Tensor | None:
    """Return one field that holds all, by convex sets in place of the curved ones, or None."""
    x, best, since = y, torch.inf, 0
    for step in range(_OUTER):
        like: list[Condition] = []
        for one in sets:
            for part in one.parts:
                curved = isinstance(part, Curved) and not part.convex
                like.extend(part.linearized(x) if curved else [part])  # type: ignore[attr-defined]
        try:
            found = tuple(_sets(like))
            if len(found) == 1:
                x = found[0].project(x)
            else:  # as closely as the curved ones are known by now
                still = max(min(_ROUGH, _ROUGH * best), 2 * STILL)
                x = _dykstra(found, x, _INNER, still=still)[0]
        except ConstraintError:
            return None
        worst = _worst(sets, x)
        if float(worst) <= TOLERANCE:
            return x
        best, since = (float(worst), step) if float(worst) < 0.9 * best else (best, since)
        if step - since > _STUCK:
            return None
    return None


def _norm(x: Tensor) -> Tensor:
    """Return the norm of the fields (K, N, T, H, W, C), missing cells left out, (N,)."""
    return x.nan_to_num(0.0).square().sum((0, 2, 3, 4, 5)).sqrt()


def _holds(sets: tuple[_Set, ...], x: Tensor, tolerance: float = TOLERANCE) -> Tensor:
    return _worst(sets, x) <= tolerance


def _worst(sets: tuple[_Set, ...], x: Tensor) -> Tensor:
    return torch.stack([relative(part, x) for one in sets for part in one.parts]).amax(0)


def _dykstra(
    sets: tuple[_Set, ...], y: Tensor, sweeps: int = _SWEEPS, *, still: float = STILL
) -> tuple[Tensor, Tensor]:
    """Return the nearest fields, by accelerated alternating descent of the dual."""
    first, second = _two(sets)
    Y = y.expand(1 if len(sets) == 2 else len(sets), *y.shape)
    q = ahead = torch.zeros_like(Y)
    inertia = torch.ones(len(y), 1, 1, 1, 1, dtype=y.dtype, device=y.device)
    size, best, since = _norm(Y), torch.inf, 0
    x, well = y, torch.zeros(len(y), dtype=torch.bool, device=y.device)
    for sweep in range(sweeps):
        one = first(Y - ahead)
        p = Y - ahead - one
        other = second(Y - p)
        following = Y - p - other
        x = torch.where(well[:, None, None, None, None], x, other[0])
        gap, size = _norm(other - one), torch.maximum(size, _norm(other))
        close = gap <= still * size
        if still > STILL and bool(close.all()):
            break
        if bool((close | well).any()):
            well = well | (close & _holds(sets, x))
        apart = float(torch.where(well, 0.0, gap / size).max())
        best, since = (apart, sweep) if apart < 0.9 * best else (best, since)
        # of sets that have no field in common the corrections grow without end
        grown = torch.where(well, 0.0, _norm(following) / size).max() > _GROWN
        if bool(well.all()) or sweep - since > (_BRIEF if grown else _PATIENCE):
            break
        turned = ((ahead - following) * (following - q)).nan_to_num(0.0).sum((0, 2, 3, 4, 5)) > 0
        turned = turned[:, None, None, None, None]
        after = (1 + (1 + 4 * inertia.square()).sqrt()) / 2
        ahead = following + torch.where(turned, 0.0, (inertia - 1) / after) * (following - q)
        q, inertia = following, torch.where(turned, 1.0, after)
    return x, well


def _two(sets: tuple[_Set, ...]) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """Return the projections on two sets, of fields (K, N, T, H, W, C)."""
    if len(sets) == 2:
        one, other = sets
        return lambda x: one.project(x[0])[None], lambda x: other.project(x[0])[None]

    def apart(x: Tensor) -> Tensor:
        return torch.stack([one.project(part) for one, part in zip(sets, x, strict=True)])

    return apart, lambda x: x.mean(0, keepdim=True).expand_as(x)


def _in_turn(
    sets: tuple[_Set, ...],
    y: Tensor,
    tolerance: float = TOLERANCE,
    *,
    sweeps: int = _SWEEPS // 8,
) -> tuple[Tensor, Tensor]:
    """Return fields that hold all sets, found by projecting on one after the other."""
    x, well = y, _holds(sets, y, tolerance)
    best, since = torch.inf, 0
    for sweep in range(0 if bool(well.all()) else sweeps):
        following = x
        for one in sets:
            following = one.project(following)
        change = torch.where(well, 0.0, _norm((following - x)[None]))
        x = torch.where(well[:, None, None, None, None], x, following)
        well = well | _holds(sets, x, tolerance)
        worst = float(change.nan_to_num(torch.inf).max())
        best, since = (worst, sweep) if worst < 0.9 * best else (best, since)
        if bool(well.all()) or sweep - since > _PATIENCE // 5 or worst == torch.inf:
            break
    return x, well
