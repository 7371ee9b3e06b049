r"""Linear conditions: equalities, inequalities, intervals and observations with error.

.. math:: l \le A y \le u, \qquad
   \min_{y'} (y' - y)^\top C^{-1} (y' - y) \;\Rightarrow\; y' = y - C A^\top \lambda,

for an equality :math:`\lambda = (A C A^\top)^{-1} (A y - b)`; with inequalities those
multipliers whose bound does not bind are 0 (:mod:`.quadratic`). Where sums do not share cells and
:math:`C` is diagonal, :math:`A C A^\top` is too, and nothing is iterated. Exact.

An area mean with weights :math:`w` that add up to 1, and its additive correction
:math:`y - (\bar y - b)\, w / \sum w^2`, is the case m = 1; a total, a block mean, a value at a
point, a box mean over a season and the conservation of mass are others. An observation with the
error :math:`\sigma` has the energy :math:`(A y - b)^2 / (2 \sigma^2)` and no projection: many
fields hold it, some better than others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property

import torch
from torch import Tensor

from ...errors import ConstraintError
from .covariance import Covariance, Diagonal
from .protocol import Bounded, beyond, known
from .quadratic import multipliers
from .rows import Rows, lowered, products

__all__ = ["Linear", "blocks", "gram", "nearest", "points"]


@dataclass(frozen=True, eq=False)
class Linear(Bounded):
    """Bounds of weighted sums of cells.

    Parameters
    ----------
    rows : Rows
        A.
    lower, upper : Tensor (m,) or (N, m), or float
    sd : Tensor (m,) or float, optional
        Error of observations, in their units; it is then the scale of the energy.
    covariance : Covariance, optional
        How a correction spreads; by default cells are alike and apart from each other.

    Raises
    ------
    ConstraintError
        As :class:`Bounded`; an error that is not positive; bounds of another number than sums.

    Examples
    --------
    >>> mean = Rows.over(torch.ones(1, 2, 2, 1), frames=True).mean()
    >>> at_least = Linear(mean, lower=5.0, name="mean")
    >>> at_least.residual(torch.ones(1, 1, 2, 2, 1)).tolist()
    [[-4.0]]
    >>> at_least.project(torch.ones(1, 1, 2, 2, 1)).flatten().tolist()
    [5.0, 5.0, 5.0, 5.0]
    """

    rows: Rows
    _: KW_ONLY
    sd: Tensor | float | None = None
    covariance: Covariance | None = None

    def __post_init__(self) -> None:
        if self.sd is not None:
            object.__setattr__(self, "scale", self.sd)
        super().__post_init__()
        if self.sd is not None:
            object.__setattr__(self, "sd", self.scale)
        count = self.bounds(torch.empty(0))[0].shape[-1:]
        if count not in ((), (1,), (len(self.rows),)):
            raise ConstraintError(
                f"{self.name}: expected one bound, or one for each of {len(self.rows)} sums, found "
                f"{count[0]}."
            )

    @property
    def weights(self) -> Tensor:
        """A as a sparse tensor, float64 (m, n)."""
        return self.rows.matrix()

    @property
    def exact(self) -> bool:
        """Whether there is a projection: not for observations with error."""
        return self.sd is None

    def apply(self, y: Tensor) -> Tensor:
        """Return A y, (N, m), in the dtype of ``y``."""
        return self.rows.apply(y, self.name)

    def adjoint(self, r: Tensor) -> Tensor:
        """Return A^T r, (N, T, H, W, C), of ``r`` (N, m)."""
        return self.rows.adjoint(r)

    def measure(self, y: Tensor) -> Tensor:
        """Return A y, float64 (N, m)."""
        return self.rows.sums(y, self.name)

    def magnitude(self, y: Tensor) -> Tensor:
        """Return the larger of the bounds and of the sums of absolute terms, (N, m)."""
        return torch.maximum(super().magnitude(y), self.rows.absolute(y))

    def project(self, y: Tensor) -> Tensor:
        """Return the nearest field, in the norm of the covariance."""
        return nearest((self,), y, together=lambda: self.gram)

    @cached_property
    def gram(self) -> Tensor:
        """A C A^T, float64 (m, m)."""
        return gram((self,))


def gram(conditions: Sequence[Linear]) -> Tensor:
    """Return A C A^T of the sums of all conditions, which share one covariance, (m, m)."""
    C = conditions[0].covariance
    if C is None or isinstance(C, Diagonal):
        variance = torch.ones((), dtype=torch.float64) if C is None else C.variance.double()
        deviation = variance.sqrt().broadcast_to(conditions[0].rows.shape).flatten()
        return products([condition.rows for condition in conditions], deviation)
    columns = []
    for condition in conditions:
        for unit in torch.eye(len(condition.rows), dtype=torch.float64):
            spread = C.apply(condition.adjoint(unit[None]))
            columns.append(torch.cat([c.apply(spread) for c in conditions], -1)[0])
    G = torch.stack(columns)
    return (G + G.mT) / 2


def nearest(
    conditions: Sequence[Linear], y: Tensor, *, together: Callable[[], Tensor] | None = None
) -> Tensor:
    """Return the nearest field to ``y`` that holds all conditions.

    Parameters
    ----------
    conditions : sequence of Linear
    y : Tensor (N, T, H, W, C)
    together : callable, optional
        Returns :func:`gram` of the conditions, where it is kept.

    Raises
    ------
    ConstraintError
        One is an observation with error; their covariances differ; they contradict each other.
    MissingDataError
        A cell that has weight is NaN.
    """
    C = conditions[0].covariance
    for condition in conditions:
        if condition.sd is not None:
            raise ConstraintError(
                f"{condition.name}: an observation with error (sd) has no nearest field that "
                "holds it. Impose it by guidance or draw from the conditional law; without sd it "
                "is exact."
            )
        if condition.covariance is not C:
            raise ConstraintError(
                f"{condition.name} and {conditions[0].name}: expected one covariance for both, "
                "found two. Corrections can spread in one way only: give both the same object."
            )
    off = []
    for condition in conditions:
        value = known(condition, condition.measure(y))
        off.append((value, *(bound.expand_as(value) for bound in condition.bounds(value))))
    a, lower, upper = (torch.cat(part, -1) for part in zip(*off, strict=True))
    excess = beyond(a, lower, upper)
    if not bool(excess.any()):
        return y
    first = conditions[0]
    if len(conditions) == 1 and C is None and first.rows.disjoint:
        return first.rows.lowered(y, excess / first.rows.norms().to(a))
    G = gram(conditions) if together is None else together()
    found = multipliers(G.to(a.device), a, lower, upper)
    parts = found.split([len(condition.rows) for condition in conditions], -1)
    each = list(zip(conditions, parts, strict=True))
    if C is None:
        return lowered(y, [(condition.rows, part) for condition, part in each])
    change = sum((condition.adjoint(part) for condition, part in each), y.new_zeros(()))
    return (y.double() - C.apply(change)).to(y.dtype)


def blocks(
    shape: torch.Size | tuple[int, ...],
    size: tuple[int, int, int],
    coarse: Tensor,
    *,
    weights: Tensor | None = None,
    name: str = "block means",
) -> Linear:
    """Return the condition that block means equal a coarse field, in space and in time.

    Parameters
    ----------
    shape : (T, H, W, C)
    size : (t, h, w)
        Cells of a block; T, H and W are multiples of them.
    coarse : Tensor (T / t, H / h, W / w, C), or (N, ...)
        NaN binds nothing there.
    weights : Tensor, broadcastable to (T, H, W, C), optional
        Areas of the cells, 0 where missing. A block without any is not bound.

    Raises
    ------
    ConstraintError
        A size that does not divide the shape; a coarse field of another shape.

    Examples
    --------
    >>> half = blocks((1, 2, 4, 1), (1, 2, 2), torch.tensor([3.0, 5.0]).reshape(1, 1, 2, 1))
    >>> half.project(torch.zeros(1, 1, 2, 4, 1))[0, 0, 0, :, 0].tolist()
    [3.0, 3.0, 5.0, 5.0]
    """
    T, H, W, C = shape
    if any(s < 1 or n % s for n, s in zip((T, H, W), size, strict=True)):
        raise ConstraintError(
            f"{name}: blocks of {size} cells do not divide a field of {(T, H, W)} (time, y, x). "
            "Crop the field to whole blocks."
        )
    counts = (T // size[0], H // size[1], W // size[2], C)
    if tuple(coarse.shape[-4:]) != counts or coarse.ndim not in (4, 5):
        raise ConstraintError(
            f"{name}: expected a coarse field {counts} (T, H, W, C), found {tuple(coarse.shape)}."
        )
    groups = torch.arange(torch.Size(counts).numel()).reshape(counts)
    for dim, s in enumerate(size):
        groups = groups.repeat_interleave(s, dim)
    fill = torch.ones(()) if weights is None else weights
    fill = fill.double().broadcast_to(tuple(shape))
    total = torch.zeros(int(groups.max()) + 1, dtype=torch.float64)
    total.index_add_(0, groups.flatten(), fill.flatten())
    kept = torch.nonzero(total > 0).flatten()
    number = torch.full_like(total, -1, dtype=torch.int64)
    number[kept] = torch.arange(len(kept))
    rows = Rows.from_groups(number[groups], fill).mean()
    value = coarse.double().flatten(-4)[..., kept]
    free = value.isnan()
    return Linear(
        rows,
        lower=value.masked_fill(free, -torch.inf),
        upper=value.masked_fill(free, torch.inf),
        name=name,
    )


def points(
    shape: torch.Size | tuple[int, ...],
    at: Tensor,
    values: Tensor,
    *,
    sd: Tensor | float | None = None,
    name: str = "points",
) -> Linear:
    """Return the condition that cells have the values of gauges, exactly or with an error.

    Parameters
    ----------
    shape : (T, H, W, C)
    at : Tensor, int64 (m, 4)
        Frame, row, column and channel of each.
    values : Tensor (m,) or (N, m)
    sd : Tensor (m,) or float, optional
        Standard deviation of their errors.

    Examples
    --------
    >>> gauge = points((1, 2, 2, 1), torch.tensor([[0, 1, 0, 0]]), torch.tensor([4.0]))
    >>> gauge.project(torch.zeros(1, 1, 2, 2, 1)).flatten().tolist()
    [0.0, 0.0, 4.0, 0.0]
    """
    size = torch.tensor(tuple(shape))
    if at.ndim != 2 or at.shape[1] != 4 or bool(((at < 0) | (at >= size)).any()):
        raise ConstraintError(
            f"{name}: expected (m, 4) positions (frame, row, column, channel) within "
            f"{tuple(shape)}, found {at.tolist()[:5]}."
        )
    strides = torch.tensor([size[1:].prod(), size[2:].prod(), size[3], 1])
    index = (at * strides).sum(1, keepdim=True)
    rows = Rows(index, torch.ones(len(at), 1, dtype=torch.float64), torch.Size(shape))
    return Linear(rows, lower=values, upper=values, sd=sd, name=name)
