r"""ENSO ensembles by diffusion, that hold constraints.

Another forecaster says the mean of the months to come. Members of what it leaves open are drawn by
flow matching (:mod:`xearth.models.enso_diffusion`): with the notation there, member k of a start in
the month m is

.. math:: y_k = \mu + b_n\, a_{mn} \sum_j (R_m\, x_k)_j\, E_{jn},

with a factor :math:`b_n` for each lead that calibrates the width. Constraints steer the draw of
:math:`x_k`, through this decoder:

* bounds of sums of cells, which are linear in :math:`x`, by the covariance of the predicted clean
  coordinates (:class:`~xearth.models.prediff.guidance_covariance.CovarianceGuidance`): if the law
  is Gaussian, the limit of small steps is the conditional law;
* other measures with bounds, and sums beside them, by the same, linearized;
* all others to the nearest coordinates that hold them to first order
  (:class:`~xearth.models.prediff.nearest.NearestGuidance`).

``impose="exact"`` then takes the nearest members that hold all: coordinates, where all constraints
are linear, so that what moves hangs together over cells and leads; else fields.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import xarray as xr

from ..constraints.compiled import all_of
from ..constraints.geometry import Geometry
from ..errors import CheckpointError, ConfigError, ConstraintError
from .asked import checked_members
from .constrained import Physical
from .forecaster import NetworkForecaster
from .history import Histories, read_histories
from .impose import projected
from .kept import arguments_of, facts_of
from .steering import PROJECTED, Asked, Steering, audited

if TYPE_CHECKING:
    import torch

    from ..models.conditions.protocol import Condition
    from ..models.enso_diffusion import EnsoDiffusion, EnsoDiffusionConfig
    from ..models.heads import Prediction
    from ..models.prediff.guidance import Guidance

__all__ = ["KIND", "EnsoDiffusionForecaster"]

KIND = "EnsoDiffusionForecaster"
EXACT, GUIDED = "exact", "guided"
_BATCH = 32  # members that are drawn at once, always: rounding does not depend on their number


@dataclass(frozen=True, eq=False)
class _Start:
    """What members of a start are drawn from.

    Parameters
    ----------
    law : Prediction (1, L, H, W, C)
        Normalized; of its coordinates the diffusion draws.
    month : int
        0 is January.
    key : int
        Of the start.
    """

    law: Prediction
    month: int
    key: int

    def fields(self, x: torch.Tensor) -> np.ndarray:
        """Return the members (L, M, H, W, C), normalized, of coordinates (M, K)."""
        return _fields(self.law, x).swapaxes(0, 1).numpy()


@dataclass(frozen=True, eq=False)
class _Held:
    """What holds the constraints of a start.

    Parameters
    ----------
    guidances : tuple of Guidance
        On coordinates.
    linear : Condition or None
        On coordinates (M, 1, 1, K, 1), of the constraints that are linear.
    """

    guidances: tuple[Guidance, ...]
    linear: Condition | None

    @classmethod
    def of(cls, conditions: Sequence[Condition], law: Prediction, hidden: torch.Tensor) -> _Held:
        """Return what holds conditions on the fields of a law, missing where hidden."""
        from ..models.conditions.linear import Linear
        from ..models.conditions.protocol import Bounded
        from ..models.enso_diffusion import in_coordinates
        from ..models.prediff.guidance_covariance import CovarianceGuidance
        from ..models.prediff.nearest import NearestGuidance

        def decode(x: torch.Tensor) -> torch.Tensor:
            return _fields(law, x.double()).masked_fill(hidden, float("nan"))

        linear = [in_coordinates(one, law) for one in conditions if isinstance(one, Linear)]
        bounded = [one for one in conditions if isinstance(one, Bounded)]
        rest = [one for one in conditions if not isinstance(one, Bounded)]
        found: list[Guidance] = []
        if len(linear) == len(bounded) > 0:
            found.append(CovarianceGuidance(condition=all_of(linear), decode=_rows))
        elif bounded:
            found.append(CovarianceGuidance(condition=all_of(bounded), decode=decode))
        if rest:
            found.append(NearestGuidance(condition=all_of(rest), decode=decode))
        return cls(tuple(found), all_of(linear) if linear else None)

    def nearest(self, x: torch.Tensor) -> torch.Tensor:
        """Return the nearest coordinates (M, K) that hold the constraints that are linear."""
        return x if self.linear is None else self.linear.project(_rows(x)).flatten(1)


@dataclass(frozen=True, kw_only=True, eq=False)
class EnsoDiffusionForecaster:
    """A diffusion model of what another ENSO forecaster leaves open.

    Trained by ``ci/train_enso_diffusion.py``; returned by :func:`xearth.load`; kept by
    :meth:`save`.

    Parameters
    ----------
    base : NetworkForecaster
        Says the mean; of its spread nothing is used.
    config : EnsoDiffusionConfig
    state : mapping of str to Tensor
        Weights of the diffusion.
    width : sequence of float
        Factor of the departures from the mean at each lead.
    steps : int
        Of the sampler.
    name : str
    provenance, metrics : mapping
        Which years trained and chose, what was measured: plain values.

    Raises
    ------
    ConfigError
        Leads or cells of the base and of the diffusion differ, or widths are below 0.
    """

    base: NetworkForecaster
    config: EnsoDiffusionConfig
    state: Mapping[str, torch.Tensor]
    width: Sequence[float]
    steps: int = 20
    name: str = "enso-diffusion"
    provenance: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        cells = self.base.grid.shape[0] * self.base.grid.shape[1]
        cells *= len(self.base.normalizer.variables)
        expected = (self.base.horizon, cells, self.base.horizon)
        found = (self.config.leads, self.config.cells, len(self.width))
        if expected != found or min(self.width) < 0:
            raise ConfigError(
                f"forecaster {self.name!r}: the base needs leads, cells and widths of {expected}, "
                f"none of the widths below 0; found {found}, the least width {min(self.width)}"
            )

    def __repr__(self) -> str:
        period = self.provenance.get("training_period", "unknown period")
        return (
            f"<EnsoDiffusionForecaster {self.name!r}: {self.history} -> {self.horizon} x "
            f"{self.base.step} of {', '.join(self.base.normalizer.variables)} by diffusion about "
            f"the mean of {self.base.name!r} {self.base.place.words(self.base.grid)}; trained on "
            f"{period}>"
        )

    def __getstate__(self) -> dict[str, Any]:
        # models are built again from their states: half the size when sent to a worker
        return {k: v for k, v in self.__dict__.items() if k not in ("model", "reads")}

    @property
    def history(self) -> int:
        """Number of steps needed up to and including the init."""
        return self.base.history

    @property
    def horizon(self) -> int:
        """Number of leads."""
        return self.base.horizon

    @property
    def ways(self) -> tuple[str, ...]:
        """How constraints can be imposed beside ``projected``, the default first."""
        return (EXACT, GUIDED)

    @cached_property
    def reads(self) -> NetworkForecaster:
        """The base by this name: how histories are read and forecasts are labeled."""
        return replace(self.base, name=self.name, provenance=self.provenance)

    @cached_property
    def model(self) -> EnsoDiffusion:
        """The diffusion, ready to be sampled."""
        model = self.config.build()
        model.load_state_dict(dict(self.state))
        return model.eval().requires_grad_(False)

    # -- forecast ---------------------------------------------------------------------------------

    def forecast(
        self,
        history: xr.DataArray | xr.Dataset,
        *,
        init: Any = None,
        members: int | None = None,
        seed: int = 0,
        **asked: Unpack[Asked],
    ) -> Any:
        """Forecast as described in :class:`~xearth.reference.protocol.Forecaster`.

        Parameters
        ----------
        history : DataArray or Dataset (time, lat, lon)
            As :meth:`NetworkForecaster.forecast` of the base reads it.
        init, members, seed
            As there. Without members the forecast is the mean. Member k of a seed is the same for
            any number of members.
        constraints : Constraint or sequence of them, optional
            What each member shall hold; needs ``members``.
        impose : {"exact", "guided", "projected"}, optional
            Guide sampling and then take the nearest members that hold the constraints; guide
            alone, which nearly holds them, and takes observations with an error; or as
            :func:`xearth.impose`.

        Returns
        -------
        DataArray or Dataset (init, lead[, member], y, x)
            See :meth:`NetworkForecaster.forecast`, also for what it raises.

        Raises
        ------
        ConfigError
            ``members`` is no whole number of at least 1.
        ConstraintError, LeadError, RegionError
            Constraints that no such forecast can hold, or not in this way; before sampling.
        SamplingError
            A value became NaN or infinite: with the step and the likely cause.
        """
        members = checked_members(members)
        steering = Steering.of(self, members, **asked)
        past = read_histories(self.reads, history, init)
        if members is None:
            return self._label(np.stack([s.law.mean[0].numpy() for s in self._starts(past)]), past)
        if steering is None:
            return self._free(past, members, seed)
        conditions = steering.require(self._template(past))
        if steering.way == PROJECTED:
            return projected(self._free(past, members, seed), steering)
        if steering.way == EXACT:
            _require_exact(steering, conditions)
        return self._held(past, steering, conditions, members=members, seed=seed)

    def _template(self, past: Histories) -> Any:
        """Return a forecast of the mean, with zeros."""
        shape = (len(past.positions), self.horizon, *past.grid.shape)
        return self._label(np.zeros((*shape, len(past.variables)), np.float32), past)

    def _free(self, past: Histories, members: int, seed: int) -> Any:
        """Return the labeled ensemble without constraints."""
        made = [start.fields(self._drawn(start, members, seed)) for start in self._starts(past)]
        return self._label(np.stack(made), past, members)

    def _held(
        self,
        past: Histories,
        steering: Steering,
        conditions: Sequence[Sequence[Condition]],
        *,
        members: int,
        seed: int,
    ) -> Any:
        """Return the labeled ensemble with constraints, and its audit."""
        import torch

        from ..models.conditions.linear import Linear

        physical = Physical(self.reads, past, Geometry(self._template(past)))
        mask = torch.as_tensor(_known(past))
        hidden = ~physical.arranged(mask[None, None, :, :, None])
        before, after, linear = [], [], True
        for i, start in enumerate(self._starts(past)):
            each = list(conditions[i])
            held = _Held.of(each, physical.prediction(start.law, 0), hidden)
            linear = linear and all(isinstance(one, Linear) for one in each)
            before.append(start.fields(self._drawn(start, members, seed)))
            x = self._drawn(start, members, seed, held.guidances)
            after.append(start.fields(held.nearest(x) if steering.way == EXACT else x))
        free, made = (self._label(np.stack(part), past, members) for part in (before, after))
        if steering.way == EXACT and not linear:
            made = _attributed(projected(made, steering), made)
        return audited(made, free, steering)

    def _starts(self, past: Histories) -> Iterator[_Start]:
        """Yield what members of each start are drawn from."""
        import torch

        from ..models.heads import Prediction

        months = np.rint(past.reader.season_of(past.positions) * self.config.seasons)
        width = torch.tensor(self.width, dtype=torch.float32)[:, None, None]
        factors = [self.model.factors(m) * width for m in range(self.config.seasons)]
        for rows, predictions in self.reads.predictions(past, None, progress=False):
            means = torch.stack([one.mean for one in predictions]).mean(0)
            for i, mean in zip(range(*rows.indices(len(months))), means, strict=True):
                m = int(months[i]) % self.config.seasons
                shape = (1, *mean.shape, self.config.coordinates)
                law = Prediction(mean[None].clone(), factors[m].reshape(shape))
                yield _Start(law, m, int(past.keys[i]))

    def _drawn(
        self, start: _Start, members: int, seed: int, guidances: Sequence[Guidance] = ()
    ) -> torch.Tensor:
        """Return the coordinates (M, K) of members, in batches that are always whole."""
        import torch

        source = np.random.SeedSequence([abs(seed), start.key])
        found = []
        for k in range(0, members, _BATCH):
            x = self.model.sample(
                start.month,
                members=range(k, k + _BATCH),
                steps=self.steps,
                seed=int(source.generate_state(1)[0]),
                guidance=guidances,
            )
            found.append(x)
        return torch.cat(found)[:members].double()

    def _label(self, values: np.ndarray, past: Histories, members: int | None = None) -> Any:
        """Return normalized values (I, L[, M], H, W, C) as the labeled forecast."""
        made = self.reads.label(values, past, members)
        fields = (made,) if isinstance(made, xr.DataArray) else made.data_vars.values()
        for one in fields:
            one.attrs["history"] = one.attrs["history"].replace(repr(self.reads), repr(self))
        return made

    # -- storage ----------------------------------------------------------------------------------

    def save(self, path: str | Path) -> Path:
        """Write one safetensors file, whole or not at all.

        Raises
        ------
        CheckpointError
            The folder does not exist.
        """
        from ..models.checkpoints import save_tensors
        from .io import packed

        tensors, base = packed(self.base)
        narrow = ("modes", "root")  # numbers that float16 can hold
        own = {k: v.half() if k in narrow else v for k, v in self.state.items()}
        facts = facts_of(self, KIND) | {
            "config": self.config.to_dict(),
            "width": list(self.width),
            "steps": self.steps,
            "base": base,
        }
        every = {f"base.{k}": v for k, v in tensors.items()}
        every |= {f"diffusion.{k}": v.contiguous() for k, v in own.items()}
        return save_tensors(path, every, facts)

    @classmethod
    def restore(
        cls, tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any]
    ) -> EnsoDiffusionForecaster:
        """Return the forecaster of a file's content; :func:`xearth.load` reads the file."""
        from ..models.checkpoints import require_weights
        from ..models.enso_diffusion import EnsoDiffusionConfig
        from .io import unpacked

        parts: dict[str, dict[str, torch.Tensor]] = {"base": {}, "diffusion": {}}
        for key, value in tensors.items():
            part, _, name = key.partition(".")
            parts[part][name] = value.float() if value.is_floating_point() else value
        config = EnsoDiffusionConfig.from_dict(facts["config"])
        require_weights(lambda: config.build().state_dict(), parts["diffusion"])
        base = unpacked(parts["base"], facts["base"])
        if not isinstance(base, NetworkForecaster):
            raise CheckpointError(f"the base is a {type(base).__name__}, not a NetworkForecaster")
        return cls(
            base=base,
            config=config,
            state=parts["diffusion"],
            width=tuple(facts["width"]),
            steps=facts["steps"],
            **arguments_of(facts),
        )


def _fields(law: Prediction, x: torch.Tensor) -> torch.Tensor:
    """Return the fields (M, L, H, W, C) of coordinates (M, K) of a law (1, L, H, W, C)."""
    moved = x @ law.factors[0].to(x).flatten(0, -2).mT
    return law.mean.to(x) + moved.unflatten(1, law.mean.shape[1:])


def _rows(x: torch.Tensor) -> torch.Tensor:
    """Return coordinates (M, K) as fields (M, 1, 1, K, 1)."""
    return x[:, None, None, :, None]


def _known(past: Histories) -> np.ndarray:
    """Return the cells (H, W) that a forecast has."""
    mask = past.grid.mask
    return np.ones(past.grid.shape, dtype=bool) if mask is None else np.asarray(mask)


def _attributed(made: Any, like: Any) -> Any:
    """Return a forecast with the attributes of another."""
    if isinstance(made, xr.DataArray):
        return made.drop_attrs(deep=False).assign_attrs(like.attrs)
    return made.assign({name: _attributed(made[name], like[name]) for name in made.data_vars})


def _require_exact(steering: Steering, conditions: Sequence[Sequence[Condition]]) -> None:
    """Refuse what has no nearest members, before anything is drawn."""
    for constraint, condition in zip(steering.constraints, conditions[0], strict=True):
        if not condition.exact:
            raise ConstraintError(
                f"{constraint}: no member holds it better than others nearby (an observation with "
                "an error, or a number without a formula for it). Ask impose='guided'."
            )
