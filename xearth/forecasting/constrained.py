r"""Networks with a Gaussian head under constraints: exact draws of the conditional law.

The law of a start is a mixture of low-rank Gaussians, one of each network
(:mod:`xearth.forecasting.forecaster`), with first guess and calibration. A constraint speaks of the
forecast in its own units, :math:`y = (v - b) / a` of the normalized :math:`v`, on the grid, in the
orientation and with the missing cells of the data. Mean and factors are brought there, where sums
of cells are bound, and the coordinates :math:`z` of members are drawn from their conditional law
(:mod:`xearth.forecasting.mixture`). As :math:`z` has no unit, members are made and labeled as
without constraints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..constraints.geometry import Geometry
from ..data.geometry import inverse
from ..data.normalize import scale_and_offset
from .impose import projected
from .mixture import Mixture
from .steering import PROJECTED, Steering, audited, linear

if TYPE_CHECKING:
    from torch import Tensor

    from ..models.heads import Prediction
    from .forecaster import NetworkForecaster
    from .history import Histories

__all__ = ["Physical", "constrained"]


def constrained(
    forecaster: NetworkForecaster,
    past: Histories,
    steering: Steering,
    *,
    members: int,
    seed: int,
    device: Any,
    progress: bool,
) -> Any:
    """Return the forecast of a network's histories that holds constraints, with its audit.

    Raises
    ------
    ConstraintError, LeadError, RegionError
        Before any network runs: see :meth:`Steering.require`; after that, if the factors of the
        forecast cannot meet the constraints.
    """
    shape = (len(past.positions), forecaster.horizon, *past.grid.shape)
    zeros = np.zeros((*shape, len(forecaster.normalizer.variables)), np.float32)
    hidden = forecaster.place.hide(zeros, past, slice(None))
    template = forecaster.label(hidden, past, None)
    each = steering.require(template)
    if steering.way == PROJECTED:
        made = forecaster.run(past, members=members, seed=seed, device=device, progress=progress)
        return projected(forecaster.label(made, past, members), steering)
    bound = [linear(steering.constraints, conditions) for conditions in each]
    layout = Physical(forecaster, past, Geometry(template))
    before, after, mixtures = [], [], []
    for rows, predictions in forecaster.predictions(past, device, progress=progress):
        keys = past.keys[rows]
        drawn = []
        for i, start in enumerate(range(*rows.indices(len(bound)))):
            here = [layout.prediction(one, i) for one in predictions]
            mixtures.append(Mixture.of(here, bound[start]))
            drawn.append(mixtures[-1].draw(members, seed=seed, key=int(keys[i])))
        free = forecaster.members(predictions, keys, members, seed)
        before.append(forecaster.place.hide(free, past, rows))
        after.append(forecaster.place.hide(_members(predictions, drawn), past, rows))
    held, free = (forecaster.label(np.concatenate(part), past, members) for part in (after, before))
    return audited(held, free, steering, _probabilities(steering, mixtures))


class Physical:
    """Normalized predictions in the units and layout of the labeled forecast.

    Parameters
    ----------
    forecaster : NetworkForecaster
    past : Histories
    layout : Geometry
        Of the labeled forecast.
    """

    def __init__(self, forecaster: NetworkForecaster, past: Histories, layout: Geometry) -> None:
        a, b = forecaster.normalizer.affine(past.source)
        packed = [scale_and_offset(variable) for variable in past.variables]
        self._scale = [f / a[c] for c, (f, _) in enumerate(packed)]
        self._offset = [o - b[c] * f / a[c] for c, (f, o) in enumerate(packed)]
        # rows and columns as the conditions on the labeled forecast have them
        self._rows = inverse(past.grid.y_index)[layout.grid.y_index]
        self._columns = inverse(past.grid.x_index)[layout.grid.x_index]

    def prediction(self, given: Prediction, i: int) -> Prediction:
        """Return the prediction (1, T, H, W, C) of one start."""
        import torch

        from ..models.heads import Prediction

        scale, offset = (torch.tensor(v, dtype=torch.float64) for v in (self._scale, self._offset))
        mean = given.mean[i : i + 1].cpu().double() * scale + offset
        factors = given.factors[i : i + 1].cpu().double() * scale[:, None]
        return Prediction(self.arranged(mean), self.arranged(factors))

    def arranged(self, field: Tensor) -> Tensor:
        """Return a field (N, T, H, W, ...) with rows and columns as conditions have them."""
        import torch

        rows, columns = torch.as_tensor(self._rows), torch.as_tensor(self._columns)
        return field[:, :, rows][:, :, :, columns]


def _members(
    predictions: Sequence[Prediction], drawn: Sequence[tuple[np.ndarray, np.ndarray]]
) -> np.ndarray:
    """Return the members (n, L, M, H, W, C) of networks (M,) and coordinates (M, K), float64."""
    made = []
    for i, (which, z) in enumerate(drawn):
        mean = np.stack([one.mean[i].cpu().double().numpy() for one in predictions])
        factors = np.stack([one.factors[i].cpu().double().numpy() for one in predictions])
        fields = mean[which]
        for s in np.unique(which):
            fields[which == s] += np.einsum("lhwck,mk->mlhwc", factors[s], z[which == s])
        made.append(np.moveaxis(fields, 0, 1))
    return np.stack(made)


def _probabilities(
    steering: Steering, mixtures: Sequence[Mixture]
) -> Mapping[str, list[float] | None]:
    """Return the probability of each constraint for each start, None where it has a density."""
    found: dict[str, list[float] | None] = {}
    for k, constraint in enumerate(steering.constraints):
        known = [p for p in (m.probability(k) for m in mixtures) if p is not None]
        found[str(constraint)] = known if len(known) == len(mixtures) else None
    return found
