r"""Guidance towards any functional of a constraint, by a network trained to read it from noise.

An alignment network :math:`U_\phi(z_t, t)` reads from a noised latent forecast the numbers
:math:`m(x)` that a functional measures of the clean one (:mod:`xearth.training.alignment_fit`).
Sampling is steered down the gradient of

.. math:: F(z_t) = \Big\lVert\, \bar u - \min(\max(\bar u, l), u) \,\Big\rVert, \qquad
   \bar u = \tfrac1T \textstyle\sum_T U_\phi(z_t, t),

the distance of what is read from the bounds of the constraint, in standard deviations of the
numbers in the training data; for numbers that differ from frame to frame without the mean over
frames. No gradient passes through denoiser or decoder, so it is cheap; a network serves all
bounds of one functional, and no other. What fields do not show by a formula, the energy of bodies
above all, is given as labels.

Source: Gao, Z. and others (2023), PreDiff, arXiv:2307.10422, section 3.2.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ..constraints.bodies import EnergyConserved
from ..constraints.constraint import Bound, Constraint, encoded
from ..constraints.frames import frame_dim
from ..constraints.functional import Functional
from ..constraints.intensity import IntensityAnomaly
from ..constraints.kinds import decoded
from ..errors import CheckpointError, ConstraintError, MissingDataError
from .alignment_data import frames_of, latents_of, process_of, runs, sequences_of, split

if TYPE_CHECKING:
    import torch

    from ..data.normalize import Normalizer
    from ..models.prediff.alignment import Alignment
    from ..models.prediff.config import AlignmentConfig
    from ..models.prediff.guidance import AlignmentGuidance
    from ..training.alignment_fit import AlignmentRecipe

__all__ = ["KIND", "FittedAlignment", "fit_alignment"]

KIND = "FittedAlignment"
FORMAT = 1
#: Numbers of a frame that are read at most.
MOST = 64
_KEPT = ("units", "units_metadata")


@dataclass(frozen=True, eq=False, kw_only=True)
class FittedAlignment:
    """A network that reads what a functional measures, from noised latent forecasts.

    Made by :func:`fit_alignment`.

    Parameters
    ----------
    of : Functional or EnergyConserved
        What is measured.
    like : DataArray
        Zeros with the dims, the leads and the units of what is measured of one forecast.
    center, scale : tuple of float
        Of the numbers in the training data, in these units; one of each output.
    config : AlignmentConfig
    state : mapping of str to Tensor
        Weights.
    metrics : mapping
        ``errors``: mean squared error over the variance in four parts of the noise levels, low
        noise first, of sequences that were held out.
    """

    of: Functional | EnergyConserved
    like: xr.DataArray
    center: tuple[float, ...]
    scale: tuple[float, ...]
    config: AlignmentConfig
    state: Mapping[str, torch.Tensor]
    metrics: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<FittedAlignment: reads {self.of}, in {self.like.attrs.get('units', '1')}>"

    @cached_property
    def network(self) -> Alignment:
        """The network, ready to use; what it reads is standardized."""
        network = self.config.build()
        network.load_state_dict(dict(self.state))
        return network.eval().requires_grad_(False)

    @property
    def by_frame(self) -> bool:
        """Whether there is a number of each frame."""
        return _by_frame(self.like, self.config.frames)

    def towards(
        self, constraint: Constraint, *, scale: float = 2.0, **options: Any
    ) -> AlignmentGuidance:
        r"""Return guidance towards the bounds of a constraint, for ``model.sample(guidance=...)``.

        Parameters
        ----------
        constraint : Constraint
            A bound of the functional that the network was trained for; or the conservation that
            it was trained for, with its ``energy``.
        scale : float
            Strength, for numbers in their standard deviations: a Gaussian law moves towards the
            bounds by about so many of its own, and oversteps them where it is too large. The law
            of the samples is weighed by :math:`\exp(-\mathrm{scale} \cdot F)`.
        **options
            Of :class:`~xearth.models.prediff.guidance.AlignmentGuidance`.

        Raises
        ------
        ConstraintError
            The network was trained for another functional.
        UnitsError
            The units of the bound do not fit.
        """
        import torch

        from ..models.prediff.guidance import AlignmentGuidance

        asked = _asked_of(constraint)
        if asked != self.of:
            raise ConstraintError(
                f"alignment network of another constraint: it was trained to read {self.of}, the "
                f"constraint is on {asked}. Train one: xearth.fit_alignment(constraint, model, "
                "data)."
            )
        both = _ends_of(constraint, self.like)
        ends = [_arranged(end, self.like, self.config.frames) for end in both]
        center, spread = np.asarray(self.center), np.asarray(self.scale)
        lower, upper = (torch.as_tensor((end - center) / spread)[None] for end in ends)
        read = _Beyond(self.network, lower, upper, self.by_frame)
        target = torch.zeros(1, lower[0].numel() if self.by_frame else lower.shape[-1])
        return AlignmentGuidance(network=read, target=target, scale=scale, **options)

    def save(self, path: str | Path) -> Path:
        """Write one safetensors file, whole or not at all.

        Raises
        ------
        CheckpointError
            The folder does not exist.
        """
        from ..models.checkpoints import save_tensors

        frame = frame_dim(self.like) if self.like.dims else None
        facts = {
            "format": FORMAT,
            "kind": KIND,
            "functional": json.dumps(encoded(self.of)),
            "dims": {str(d): n for d, n in self.like.sizes.items()},
            "leads": None if frame is None else self.like[frame].values.tolist(),
            "lead_attrs": {} if frame is None else dict(self.like[frame].attrs),
            "attrs": dict(self.like.attrs),
            "center": list(self.center),
            "scale": list(self.scale),
            "config": self.config.to_dict(),
            "metrics": dict(self.metrics),
        }
        return save_tensors(path, dict(self.state), facts)

    @classmethod
    def load(cls, path: str | Path) -> FittedAlignment:
        """Return what :meth:`save` wrote.

        Raises
        ------
        CheckpointError
            The file holds something else.
        """
        from ..models.checkpoints import load_tensors
        from ..models.prediff.config import AlignmentConfig

        tensors, facts = load_tensors(path)
        if facts.get("kind") != KIND or facts.get("format") != FORMAT:
            raise CheckpointError(
                f"{path}: expected an alignment network as FittedAlignment.save writes it, found "
                f"{facts.get('kind')!r} of format {facts.get('format')!r}."
            )
        dims = facts["dims"]
        like = xr.DataArray(np.zeros(tuple(dims.values())), dims=tuple(dims), attrs=facts["attrs"])
        if facts["leads"] is not None:
            like = like.assign_coords(lead=("lead", facts["leads"], facts["lead_attrs"]))
        return cls(
            of=decoded(facts["functional"]),
            like=like,
            center=tuple(facts["center"]),
            scale=tuple(facts["scale"]),
            config=AlignmentConfig.from_dict(facts["config"]),
            state=tensors,
            metrics=facts["metrics"],
        )


@dataclass(frozen=True, eq=False)
class _Beyond:
    """How far what a network reads is outside of bounds, as (N, 1, m) or (N, 1, T m)."""

    network: Alignment
    lower: torch.Tensor
    upper: torch.Tensor
    by_frame: bool

    def __call__(self, z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        from ..models.conditions.protocol import beyond

        read = self.network(z, t)
        lower, upper = self.lower.to(read), self.upper.to(read)
        if self.by_frame:
            return beyond(read, lower, upper).flatten(1)[:, None]
        return beyond(read.mean(1, keepdim=True), lower[:, :1], upper[:, :1])


def fit_alignment(
    of: Constraint | Functional,
    model: Any,
    data: xr.DataArray,
    *,
    labels: xr.DataArray | None = None,
    normalizer: Normalizer | None = None,
    encode: Callable[[xr.DataArray], torch.Tensor] | None = None,
    recipe: AlignmentRecipe | None = None,
) -> FittedAlignment:
    """Train a network to read what a constraint measures, from noised latent forecasts.

    Every run of frames as long as the forecast is an example: the functional measures it, labeled,
    in its units; the model encodes it. The last part in time is held out; what was read there is
    in the metrics of what is returned.

    Parameters
    ----------
    of : Constraint or Functional
        ``xearth.AreaMean(per="horizon")``, a bound of it, or an intensity anomaly; or
        :class:`xearth.EnergyConserved`, with labels.
    model : PreDiff
        Or whatever has a ``process``, if `encode` is given.
    data : DataArray (time, y, x)
        What the model forecasts, observed. With labels (sequence, time, y, x): sequences as long
        as the forecast, each an example.
    labels : DataArray (sequence, time), optional
        What is to be read of each frame, where no formula measures it: energies of bodies whose
        motion was simulated, ``of.measure(xearth.data.sources.nbody.trajectories(...))``.
    normalizer : Normalizer, optional
        To the values that the autoencoder of the model was trained on; they are taken as they are
        by default.
    encode : callable, optional
        From labeled sequences (init, lead, y, x) to clean latent fields (init, lead, h, w, C), in
        place of the autoencoder of the model.
    recipe : AlignmentRecipe, optional

    Returns
    -------
    FittedAlignment

    Raises
    ------
    ConstraintError
        A kind of constraint that measures no numbers, too many of them, or always the same;
        labels that are missing, not asked for, or of other sequences.
    MissingDataError
        Too few sequences, or missing cells where the functional or the model looks.
    ConfigError
        Frames that do not fit the model.
    TrainingError
        Training diverged.

    Examples
    --------
    >>> import numpy as np, pandas as pd, torch, xarray as xr, xearth
    >>> from types import SimpleNamespace
    >>> from xearth.models.prediff.process import Diffusion
    >>> from xearth.training.alignment_fit import AlignmentRecipe
    >>> time = pd.date_range("2020-01-01", periods=40, freq="5min")
    >>> rain = xr.DataArray(
    ...     np.random.default_rng(0).gamma(2.0, 1.0, (40, 4, 4)), name="rain",
    ...     coords={"time": time, "y": ("y", np.arange(4.0), {"axis": "Y", "units": "km"}),
    ...             "x": ("x", np.arange(4.0), {"axis": "X", "units": "km"})},
    ...     dims=("time", "y", "x"), attrs={"units": "mm h-1"})
    >>> model = SimpleNamespace(process=Diffusion(), frames=2)
    >>> tiny = AlignmentRecipe(steps=2, batch=2, sizes={"base_units": 8, "depth": (1,)})
    >>> fitted = fit_alignment(
    ...     xearth.AreaMean(per="horizon"), model, rain, recipe=tiny,
    ...     encode=lambda part: torch.as_tensor(part.values[..., None], dtype=torch.float32))
    >>> fitted
    <FittedAlignment: reads the area mean over the whole domain, over the horizon, in mm h-1>
    >>> guidance = fitted.towards(xearth.AreaMean(per="horizon") >= xearth.Q(3, "mm/h"))
    """
    import torch

    from ..models.prediff.config import AlignmentConfig
    from ..training.alignment_fit import (
        AlignmentRecipe,
        errors_by_noise,
        fit_alignment_network,
    )

    recipe = AlignmentRecipe() if recipe is None else recipe
    functional, sequences, measured = _examples(of, model, data, labels)
    learn, judge = split(sequences, recipe.held_out)
    numbers = _numbers(measured, sequences, frames_of(model), functional)
    center, spread = _statistics(numbers[: len(learn)], functional)
    standard = torch.as_tensor((numbers - center) / spread, dtype=torch.float32)
    latents, shape = latents_of(model, sequences, normalizer, encode)
    config = AlignmentConfig(
        input_shape=shape, frames=shape[0], outputs=numbers.shape[-1], **dict(recipe.sizes)
    )
    torch.manual_seed(recipe.seed)
    network, process = config.build(), process_of(model)
    fit_alignment_network(network, process, latents, standard[: len(learn)], recipe)
    errors = errors_by_noise(
        network, process, lambda i, g: latents(i + judge[0], g), standard[judge[0] :]
    )
    like = xr.zeros_like(measured.isel({d: 0 for d in measured.dims if d == "init"}, drop=True))
    like = like.drop_vars([c for c in like.coords if c != "lead"])
    like.attrs = {k: measured.attrs[k] for k in _KEPT if k in measured.attrs}
    return FittedAlignment(
        of=functional,
        like=like,
        center=tuple(center.tolist()),
        scale=tuple(spread.tolist()),
        config=config,
        state=network.state_dict(),
        metrics={"errors": errors, "sequences": len(learn), "held_out": len(judge)},
    )


# -- what is measured -----------------------------------------------------------------------------


def _examples(
    of: Constraint | Functional, model: Any, data: xr.DataArray, labels: xr.DataArray | None
) -> tuple[Functional | EnergyConserved, xr.DataArray, xr.DataArray]:
    """Return what is measured, sequences (init, lead, y, x), and the numbers of each."""
    if isinstance(of, EnergyConserved) != (labels is not None):
        raise ConstraintError(
            f"{of}: expected labels= for the energy of bodies, which no formula reads from frames, "
            f"and for nothing else; found {'none' if labels is None else 'some'}."
        )
    if labels is not None and isinstance(of, EnergyConserved):
        sequences = sequences_of(data, frames_of(model))
        return _rule_of(of), sequences, _labels_of(sequences, data, labels)
    functional, measure = _measured_by(of)
    sequences = runs(data, frames_of(model))
    return functional, sequences, measure(sequences).compute()


def _labels_of(sequences: xr.DataArray, data: xr.DataArray, labels: xr.DataArray) -> xr.DataArray:
    """Return labels (init, lead) of sequences."""
    dims = tuple(d for d in data.dims if d in labels.dims)
    shape = tuple(data.sizes[d] for d in dims)
    if len(dims) != 2 or labels.ndim != 2 or labels.transpose(*dims).shape != shape:
        raise ConstraintError(
            f"labels: expected a number of each sequence and frame of the data, "
            f"{dict(data.sizes)}, found {dict(labels.sizes)}."
        )
    values = labels.transpose(*dims).values
    like = sequences.isel(dict.fromkeys(sequences.dims[2:], 0), drop=True)
    found = like.copy(data=values.astype(np.float64))
    found.attrs = {"units": labels.attrs.get("units", "1")}
    return found


def _rule_of(constraint: EnergyConserved) -> EnergyConserved:
    """Return what a network reads, whatever energy is to be kept and how well."""
    return replace(constraint, energy=None, within=EnergyConserved.within)


def _asked_of(constraint: Constraint) -> Functional | EnergyConserved:
    """Return what a constraint is on.

    Raises
    ------
    ConstraintError
        It is no bound.
    """
    if isinstance(constraint, EnergyConserved):
        return _rule_of(constraint)
    return _bound_of(constraint).of


def _ends_of(constraint: Constraint, like: xr.DataArray) -> Sequence[xr.DataArray]:
    """Return both bounds in the units of what was measured.

    Raises
    ------
    ConstraintError
        The energy that is to be kept is not known.
    """
    if not isinstance(constraint, EnergyConserved):
        return _bound_of(constraint).ends(like)
    if constraint.energy is None:
        raise ConstraintError(
            f"{constraint}: expected the energy that frames shall have, as the first of them is "
            "not known before it is drawn. Give that of the last frame that was seen: energy=..."
        )
    return (xr.full_like(like, constraint.energy),) * 2


def _bound_of(constraint: Constraint) -> Bound:
    """Return the bound of a functional that a constraint is.

    Raises
    ------
    ConstraintError
        It is of another kind.
    """
    bound = constraint.bound if isinstance(constraint, IntensityAnomaly) else constraint
    if not isinstance(bound, Bound):
        raise ConstraintError(
            f"{constraint}: expected a bound of one functional, which a network can read, found "
            f"{type(constraint).__name__}. Use guidance through the decoder, or a projection."
        )
    return bound


def _measured_by(
    of: Constraint | Functional,
) -> tuple[Functional, Callable[[xr.DataArray], xr.DataArray]]:
    if isinstance(of, Functional):
        return of, of.measure
    if not isinstance(of, Constraint):
        raise ConstraintError(
            f"fit_alignment: expected a constraint or a functional such as xearth.AreaMean(), "
            f"found {type(of).__name__}."
        )
    bound = _bound_of(of)
    return bound.of, bound.measure


def _by_frame(measured: xr.DataArray, frames: int) -> bool:
    return measured.sizes.get("lead") == frames


def _numbers(
    measured: xr.DataArray, sequences: xr.DataArray, frames: int, of: Functional | EnergyConserved
) -> np.ndarray:
    """Return what was measured as (N, T, m), the same for all frames where it is of them all."""
    missing = int(measured.isnull().sum())
    if missing:
        raise MissingDataError(
            f"{of}: expected a number of each of {sequences.sizes['init']} sequences, {missing} "
            "are missing. Fill the missing cells, or bound a place that is always seen."
        )
    values = np.stack(
        [_arranged(measured.isel(init=i), measured, frames) for i in range(measured.sizes["init"])]
    )
    if values.shape[-1] > MOST:
        raise ConstraintError(
            f"{of}: expected up to {MOST} numbers of a frame to be read, found {values.shape[-1]}. "
            "Use guidance through the decoder, or bound fewer places."
        )
    return values


def _arranged(values: xr.DataArray, measured: xr.DataArray, frames: int) -> np.ndarray:
    """Return numbers of one forecast, or bounds of them, as (T, m)."""
    shape = {d: n for d, n in measured.sizes.items() if d != "init"}
    whole = values.broadcast_like(xr.DataArray(np.zeros(tuple(shape.values())), dims=tuple(shape)))
    if _by_frame(measured, frames):
        return whole.transpose("lead", ...).values.reshape(frames, -1)
    return np.broadcast_to(whole.transpose(*shape).values.reshape(1, -1), (frames, whole.size))


def _statistics(
    numbers: np.ndarray, of: Functional | EnergyConserved
) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation (m,)."""
    center, spread = numbers.mean((0, 1)), numbers.std((0, 1))
    if not (spread > 1e-9 * np.maximum(abs(center), 1e-30)).all():
        raise ConstraintError(
            f"{of}: expected a number that varies, found {center} in all sequences: there is "
            "nothing to learn. Give data in which it does."
        )
    return center, spread
