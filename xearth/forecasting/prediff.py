r"""Ensembles of rain by diffusion, in the coordinates of the air, that hold constraints.

The way of a forecast:

1. A nowcast network tells the distribution of each cell and lead, as in
   :mod:`~xearth.forecasting.nowcast`: where the rain goes and how sure that is.
2. Members of the normal scores it leaves open are drawn by flow matching in a latent space of
   blocks (:mod:`xearth.models.prediff.rain`), given the last frames and how probable rain is.
3. The scores are carried along the motion to whole cells, which keeps their spectrum, and become
   rain by the distributions of the cells they arrive in.

Constraints steer step 2: in every step the predicted scores are moved, as little as it takes to
first order, until what they decode to holds the constraints; nothing has to be trained for that.
``impose="exact"`` then takes the nearest fields that hold them, in the units of the forecast.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xarray as xr

from ..constraints.audit import flattened
from ..constraints.cells import NonNegative
from ..constraints.compiled import all_of
from ..constraints.feasible import feasible_conditions
from ..errors import ConfigError, ConstraintError
from ..units import affine, compatible
from .kept import arguments_of, facts_of
from .nowcast import NowcastForecaster
from .nowcast_input import Frames, read_frames
from .nowcast_noise import Noise
from .steering import Steering, audited

if TYPE_CHECKING:
    import torch

    from ..constraints.constraint import Constraint
    from ..models.conditions.protocol import Condition
    from ..models.nowcast_law import RainLaw
    from ..models.prediff.rain import RainDiffusion, RainDiffusionConfig

__all__ = ["KIND", "PreDiffForecaster"]

KIND = "PreDiffForecaster"
_BATCH = 2  # members that are drawn at once; one more where one would be left
_WAYS = ("exact", "guided")


@dataclass(frozen=True, eq=False)
class _Start:
    """What members of a start are drawn from.

    Parameters
    ----------
    rain : RainLaw (L, H, W)
        Distributions of the cells of the grid.
    places : Tensor of int (L, H, W)
        Where the air of each was at the start, among the cells (h, w) of the scores.
    context : Tensor (1, T_c, h, w, C)
        Of the model.
    model : RainDiffusion
    """

    rain: RainLaw
    places: torch.Tensor
    context: torch.Tensor
    model: RainDiffusion

    def fields(self, scores: torch.Tensor) -> torch.Tensor:
        """Return the rain rates (M, L, H, W) in mm/h of scores (M, L, h, w)."""
        from ..models.rain_scores import rain_of

        index = self.places.flatten(1).expand(len(scores), -1, -1)
        there = scores.flatten(2).gather(2, index).unflatten(2, self.places.shape[1:])
        return rain_of(self.rain, there)


@dataclass(frozen=True, eq=False)
class _Asked:
    """A condition on the fields of a start, and how rain rates become those fields.

    Parameters
    ----------
    condition : Condition
        On (M, L, H, W, 1) in the units of the forecast.
    factor : int
        Rows and columns of the data for one of the model.
    shape : (int, int)
        Of the data.
    hidden : Tensor of bool (H, W)
        Cells without a forecast.
    scale : float
        Units of the forecast for 1 mm/h.
    exact : bool
        Whether the nearest fields that hold the condition are taken in the end.
    """

    condition: Condition
    factor: int
    shape: tuple[int, int]
    hidden: torch.Tensor
    scale: float
    exact: bool

    def fields(self, rate: torch.Tensor) -> torch.Tensor:
        """Return the fields (M, L, H, W, 1) of rain rates in mm/h; gradients pass."""
        if self.factor > 1:
            for axis in (-2, -1):
                rate = rate.repeat_interleave(self.factor, axis)
            rate = rate[..., : self.shape[0], : self.shape[1]]
        return (self.scale * rate).masked_fill(self.hidden, float("nan"))[..., None]


@dataclass(frozen=True, kw_only=True, eq=False)
class PreDiffForecaster:
    """A diffusion model that forecasts ensembles of rain of radar composites, on any grid.

    Trained by ``ci/train_prediff_small.py``; returned by :func:`xearth.load`; kept by :meth:`save`.

    Parameters
    ----------
    config : RainDiffusionConfig
    state : mapping of str to Tensor
        Weights of the diffusion model.
    base : NowcastForecaster
        Whose network says the distributions; its noise is not used.
    steps : int
        Of the sampler.
    name : str
    provenance, metrics : mapping
        Which events trained it, what was measured: plain values.
    """

    config: RainDiffusionConfig
    state: Mapping[str, torch.Tensor]
    base: NowcastForecaster
    steps: int = 10
    name: str = "prediff"
    provenance: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        trained = self.provenance.get("trained_on", "unknown events")
        return (
            f"<PreDiffForecaster {self.name!r}: {self.history} -> {self.horizon} frames of rain "
            f"on any grid, by diffusion; trained on {trained}>"
        )

    @property
    def history(self) -> int:
        """Number of frames that it looks back on; at the begin of a record three are enough."""
        return self.base.history

    @property
    def horizon(self) -> int:
        """Number of leads."""
        return self.config.leads

    @property
    def ways(self) -> tuple[str, ...]:
        """How constraints can be imposed, the default first."""
        return _WAYS

    # -- forecast ---------------------------------------------------------------------------------

    def forecast(
        self,
        history: xr.DataArray,
        *,
        init: Any = None,
        members: int | None = None,
        seed: int = 0,
        constraints: Constraint | Sequence[Constraint] | None = None,
        impose: Literal["exact", "guided"] = "exact",
    ) -> xr.DataArray:
        """Forecast as described in :class:`~xearth.reference.protocol.Forecaster`.

        Parameters
        ----------
        history : DataArray (time, y, x)
            Rain rates, reflectivities that state their Z-R relation (``zr_a``, ``zr_b``), or
            amounts in each frame, at an even step of 2 to 20 minutes, on a grid of even spacing.
        init, members, seed
            As there. Without members the forecast is the mean of the cells' distributions. Member
            k of a seed is the same for any number of members. Members 2k and 2k + 1 start from
            opposite noise, so they are not independent: estimators for members that are, "fair"
            ones above all, are biased.
        constraints : Constraint or sequence of them, optional
            What every member shall hold.
        impose : {"exact", "guided"}
            Guide sampling towards the constraints and then take the nearest fields that hold them,
            which are not negative; or guide alone. The attributes of the forecast say how far each
            constraint is off. How far the same members are without it takes a second forecast, of
            the same seed and without constraints, and :func:`xearth.audit_attrs`.

        Returns
        -------
        DataArray (init, lead[, member], y, x)
            In the units and on the grid of the history, of amounts in mm h-1; missing where the
            last frame is.

        Raises
        ------
        AxisError, GridMismatchError, TimeAxisError, MissingDataError, UnitsError
            As :meth:`xearth.forecasting.nowcast.NowcastForecaster.forecast`.
        ConfigError
            ``members`` is no whole number of at least 1, or missing where there are constraints;
            ``impose`` is no way there is.
        ConstraintError, LeadError, RegionError
            Constraints that contradict each other, do not fit the forecast, or have no exact
            projection where it is asked for.
        """
        if members is not None and (not isinstance(members, int | np.integer) or members < 1):
            raise ConfigError(
                f"members={members!r}: expected a whole number of at least 1, or None for the mean"
            )
        if impose not in _WAYS:
            raise ConfigError(f"impose={impose!r}: expected one of {', '.join(_WAYS)}")
        asked = () if constraints is None else flattened(constraints)
        if asked and members is None:
            raise ConfigError("constraints steer members: say how many, for example members=10")
        frames = read_frames(history, init, depth=self.history, name=self.name)
        count = len(frames.positions)
        if members is None:
            means = np.stack([self._mean(frames, i) for i in range(count)])
            return self._label(means, frames, None)
        # what cannot hold is refused here, before anything is drawn
        wanted = self._asked(frames, asked, impose) if asked else [None] * count
        drawn = []
        for i, one in enumerate(wanted):
            start = self._start(frames, i)
            drawn.append(self._members(start, frames, i, members=members, seed=seed, asked=one))
        made = self._label(np.stack(drawn), frames, members)
        return audited(made, None, Steering(asked, impose)) if asked else made

    def _mean(self, frames: Frames, i: int) -> np.ndarray:
        """Return the mean in mm/h (L, H, W) from a start."""
        mean = self._start(frames, i).rain.mean()
        return frames.hide(frames.fine(mean.numpy()), i)

    def _start(self, frames: Frames, i: int) -> _Start:
        """Return what members of a start are drawn from."""
        import torch

        from ..models.advection import sample
        from ..models.nowcast import lagrangian, signal
        from ..models.nowcast_law import law
        from ..models.rain_scores import air_laws, wet_probit

        with torch.no_grad():
            rate = torch.from_numpy(frames.rates(i))[None]
            known = ~rate.isnan()
            moved = lagrangian(signal(rate.nan_to_num(0.0)), known, self.horizon)
            z, seen = moved.z[0], moved.known[0]
            width, minutes = frames.facts
            speed = moved.speed[0] * width * 1000 / (minutes * 60)
            net, facts = self.base.network, frames.facts
            raw = air_laws(net, z, seen, speed, facts=facts, leads=self.horizon)
            at = _arrivals(moved.back[0], moved.border)
            rain = law(sample(raw, at))
            rows, columns = (
                _span(at[..., k], z.shape[-2 + k], self.config.multiple) for k in (0, 1)
            )
            probit = wet_probit(law(raw))[[n - 1 for n in self.config.told]]
            some = [
                _part(x, rows, columns)[None]
                for x in (z[[-1 - n for n in self.config.frames]], probit)
            ]
            h, w = (len(n) // self.config.block for n in (rows, columns))
            model = self.config.build(h, w)
            model.load(dict(self.state))
            model.eval().requires_grad_(False)
            cell = at.round().long()
            places = (cell[..., 0] - rows[0]).clamp(0, len(rows) - 1) * len(columns)
            places = places + (cell[..., 1] - columns[0]).clamp(0, len(columns) - 1)
            return _Start(rain, places, model.context(*some), model)

    def _members(
        self,
        start: _Start,
        frames: Frames,
        i: int,
        *,
        members: int,
        seed: int,
        asked: _Asked | None = None,
    ) -> np.ndarray:
        """Return members in mm/h (L, M, H, W) from a start."""
        from ..models.prediff.nearest import NearestGuidance

        found = []
        guidance = None
        if asked is not None:

            def guidance(decode: Any) -> Sequence[Any]:
                def fields(x: torch.Tensor) -> torch.Tensor:
                    return asked.fields(start.fields(decode(x)))

                return (NearestGuidance(condition=asked.condition, decode=fields),)

        key = int(np.random.SeedSequence([abs(seed), int(frames.keys[i])]).generate_state(1)[0])
        # Not one alone: convolutions of a single field take another, slower way.
        cuts = [0, *range(_BATCH, members - 1, _BATCH), members]
        for numbers in itertools.starmap(range, itertools.pairwise(cuts)):
            scores = start.model.sample(
                start.context, members=numbers, steps=self.steps, seed=key, guidance=guidance
            )
            rate = start.fields(scores)
            if asked is not None and asked.exact:
                exact = asked.condition.project(asked.fields(rate))
                found.append((exact[..., 0] / asked.scale).numpy())
            else:
                found.append(frames.hide(frames.fine(rate.numpy()), i))
        return np.concatenate(found).swapaxes(0, 1)

    def _asked(
        self, frames: Frames, constraints: Sequence[Constraint], impose: str
    ) -> list[_Asked | None]:
        """Return the condition of each start, before anything is drawn."""
        import torch

        units = str(frames.source.attrs["units"])
        if compatible(units, "dBZ"):
            raise ConstraintError(
                f"{self.name}: constraints steer rain rates, {frames.source.name!r} is in {units}. "
                "Forecast xearth.rain_rate(history) instead."
            )
        scale, _ = affine("mm h-1", units)
        every = (*constraints, NonNegative())
        found: list[_Asked | None] = []
        L, (H, W) = self.horizon, frames.grid.shape
        for i in range(len(frames.positions)):
            empty = frames.hide(np.zeros((L, H, W), dtype=np.float32), i)
            one = dataclasses.replace(
                frames, positions=frames.positions[i : i + 1], steps=frames.steps[i : i + 1]
            )
            template = self._label(empty[None], one, None)
            each = feasible_conditions(every, template)
            loose = [one.name for one in each if not one.exact]
            if impose == "exact" and loose:
                raise ConstraintError(
                    f"{'; '.join(loose)}: has no exact projection. Use impose='guided'."
                )
            condition = all_of(each)
            hidden = torch.from_numpy(np.isnan(empty[0]))
            exact = impose == "exact"
            found.append(_Asked(condition, frames.factor, (H, W), hidden, scale, exact))
        return found

    def _label(self, made: np.ndarray, frames: Frames, members: int | None) -> xr.DataArray:
        """Return rain rates in mm/h (I, L[, M], H, W) as a forecast in the units of the history."""
        named = dataclasses.replace(self.base, name=self.name, provenance=self.provenance)
        found = named.labeled(made, frames, members)
        found.attrs["history"] = found.attrs["history"].replace(repr(named), repr(self))
        return found

    # -- storage ----------------------------------------------------------------------------------

    def save(self, path: str | Path, *, dtype: str | None = None) -> Path:
        """Write one safetensors file, whole or not at all.

        Parameters
        ----------
        path : path
        dtype : str, optional
            Keep the weights of the denoiser in this dtype, "float16" for half the size.

        Raises
        ------
        CheckpointError
            The folder does not exist.
        """
        import torch

        from ..models.checkpoints import save_tensors

        kept = dict(self.state)
        if dtype is not None:
            narrow = [k for k in kept if k.startswith("denoiser.") and kept[k].is_floating_point()]
            kept |= {k: kept[k].to(getattr(torch, dtype)) for k in narrow}
        tensors = {f"diffusion.{k}": v.contiguous() for k, v in kept.items()}
        tensors |= {f"base.{k}": v for k, v in self.base.state.items()}
        facts = facts_of(self, KIND) | {
            "config": self.config.to_dict(),
            "base": {
                "config": self.base.config.to_dict(),
                "provenance": dict(self.base.provenance),
            },
            "steps": self.steps,
        }
        return save_tensors(path, tensors, facts)

    @classmethod
    def restore(
        cls, tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any]
    ) -> PreDiffForecaster:
        """Return the forecaster of a file's content; :func:`xearth.load` reads the file."""
        from ..models.checkpoints import require_weights
        from ..models.nowcast import NowcastConfig
        from ..models.prediff.rain import RainDiffusionConfig

        parts: dict[str, dict[str, torch.Tensor]] = {"diffusion": {}, "base": {}}
        for key, value in tensors.items():
            part, _, name = key.partition(".")
            parts[part][name] = value.float() if value.is_floating_point() else value
        config = RainDiffusionConfig.from_dict(facts["config"])
        base = NowcastForecaster(
            config=NowcastConfig.from_dict(facts["base"]["config"]),
            state=parts["base"],
            noise=Noise(),
            horizon=config.leads,
            name=f"base of {facts['name']}",
            provenance=facts["base"]["provenance"],
        )
        require_weights(lambda: config.build().weights(), parts["diffusion"])
        require_weights(lambda: base.config.build().state_dict(), parts["base"])
        return cls(
            config=config,
            state=parts["diffusion"],
            base=base,
            steps=facts["steps"],
            **arguments_of(facts),
        )


def _arrivals(back: torch.Tensor, border: int) -> torch.Tensor:
    """Return where what arrives in the cells of the grid was, (L, H, W, 2), with the border."""
    import torch

    H, W = back.shape[1:3]
    axes = (torch.arange(n, dtype=back.dtype) for n in (H, W))
    at = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1) - back
    return at[:, border : H - border, border : W - border]


def _span(at: torch.Tensor, cells: int, multiple: int) -> range:
    """Return the rows or columns that are read, so many that it is a multiple; some lie outside."""
    low = max(int(at.min().floor()), 0)
    high = min(int(at.max().ceil()), cells - 1) + 1
    return range(low, low + -(-(max(high - low, 4 * multiple)) // multiple) * multiple)


def _part(x: torch.Tensor, rows: range, columns: range) -> torch.Tensor:
    """Return rows and columns of fields, 0 where they lie outside."""
    import torch

    some = x[..., rows.start : rows.stop, columns.start : columns.stop]
    pad = (0, len(columns) - some.shape[-1], 0, len(rows) - some.shape[-2])
    return torch.nn.functional.pad(some, pad)
