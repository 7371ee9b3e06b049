r"""A trained network as a forecaster: labeled history in, labeled forecast out.

Notation: :math:`S` networks share one configuration. Network :math:`s` reads the normalized
history :math:`X` and gives the mean :math:`\mu_s` and factors :math:`L_{s,k}` of a low-rank
Gaussian (:mod:`xearth.models.heads`), as a departure from the first guess if there is one.
Member :math:`m` comes from network :math:`s = m \bmod S` with draws of its own,

.. math:: Y_m = \mu_s + a_n \sum_k z_{m,k} L_{s,k}, \qquad z_{m,k} \sim \mathcal{N}(0, 1),

where :math:`z_m` depends on the seed, the init and :math:`m` alone: a member is the same
whatever the number of members or of inits asked for. Without members the forecast is the mean
:math:`\frac{1}{S}\sum_s \mu_s`. The factor :math:`a_n` is 1 unless the members are calibrated:
one number, or one for each time of year of the init and each lead :math:`n`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import xarray as xr

from ..cf.timeaxis import Step
from ..data.grid import Grid
from ..data.normalize import Normalizer
from ..data.windows import Window
from ..errors import CheckpointError, ConfigError, LeadError
from .asked import checked_leads, checked_members
from .firstguess import FittedGuess
from .history import Histories, read_histories
from .indices import Indices
from .inputs import first_guess
from .labels import labeled
from .place import Fixed, Place
from .steering import Asked, Steering

if TYPE_CHECKING:
    import torch

    from ..models.config import EarthformerConfig
    from ..models.heads import Head, Prediction
    from ..reference.protocol import Forecaster

__all__ = ["NetworkForecaster", "forecast"]

_BATCH = 16  # inits at once: small enough for a laptop, large enough to fill its cores


@dataclass(frozen=True, kw_only=True, eq=False)
class NetworkForecaster:
    """One or more trained networks with all that is needed to forecast from labeled data.

    Made by :func:`xearth.fit` and :func:`xearth.load`; kept by :meth:`save`.

    Parameters
    ----------
    config : EarthformerConfig
        Of every network.
    states : tuple of dict of Tensor
        The weights of each network.
    head : Point or LowRankGaussian
        How the output is read.
    grid : Grid
        Rows, columns and mask of the training data, or of one crop of them.
    normalizer : Normalizer
        Fitted to the training period.
    window : Window
        History and horizon.
    step : Step
        Of the time axis.
    required : array of bool (H, W)
        Cells that were never missing in training, so may not be missing now.
    guess : FittedGuess, optional
        First guess.
    season : bool
        Whether the networks read the time of year.
    indices : Indices, optional
        Index series that the networks read beside the fields.
    place : Fixed or Anywhere
        Whether they know the cells of ``grid`` or look through it at any grid.
    width : float or sequence (S) of sequences (L) of float
        Factor of the departures of members from the mean: one number, or a calibration for each
        of S times of year of the init and each lead.
    name : str
    provenance : mapping
        Training period, validation, seeds, versions, data: plain values.
    metrics : mapping
        What was measured in training: plain values.
    """

    config: EarthformerConfig
    states: tuple[dict[str, torch.Tensor], ...]
    head: Head
    grid: Grid
    normalizer: Normalizer
    window: Window
    step: Step
    required: np.ndarray
    guess: FittedGuess | None = None
    season: bool = False
    indices: Indices | None = None
    place: Place = field(default_factory=Fixed)
    width: float | Sequence[Sequence[float]] = 1.0
    name: str = "network"
    provenance: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        C = len(self.normalizer.variables)
        beside = (2 if self.season else 0) + (0 if self.indices is None else self.indices.channels)
        size = (*self.grid.shape, C + beside)
        expected = {
            "input_shape": (self.window.history, *size),
            "target_shape": (self.window.horizon, *size[:2], self.head.out_channels(C)),
        }
        found = {key: tuple(getattr(self.config, key)) for key in expected}
        if found != expected:
            raise ConfigError(
                f"forecaster {self.name!r}: grid, window and head need a network of {expected}, "
                f"found {found}. Use for_data() or for_shape() to size the configuration."
            )
        if not self.states:
            raise ConfigError(f"forecaster {self.name!r}: expected at least one network, found 0")
        self.place.check(self.name, self.guess)
        width = np.asarray(self.width, dtype=np.float64)
        whole = width.ndim == 0 or (width.ndim == 2 and width.shape[1] == self.window.horizon)
        if not whole or not (width >= 0).all():
            raise ConfigError(
                f"forecaster {self.name!r}: expected a width of one number or of {self.horizon} "
                f"for each time of year, none below 0; found shape {width.shape}"
            )

    def __repr__(self) -> str:
        period = self.provenance.get("training_period", "unknown period")
        return (
            f"<NetworkForecaster {self.name!r}: {len(self.states)} x "
            f"{type(self.config).__name__.removesuffix('Config')}, {self.history} -> "
            f"{self.horizon} x {self.step} of {', '.join(self.normalizer.variables)} "
            f"{self.place.words(self.grid)}; trained on {period}>"
        )

    def __getstate__(self) -> dict[str, Any]:
        # the networks are built again from the states: half the size when sent to a worker
        return {key: value for key, value in self.__dict__.items() if key != "networks"}

    @property
    def history(self) -> int:
        """Number of steps needed up to and including the init."""
        return self.window.history

    @property
    def horizon(self) -> int:
        """Number of leads."""
        return self.window.horizon

    @cached_property
    def networks(self) -> tuple[torch.nn.Module, ...]:
        """The networks, ready to be evaluated.

        Raises
        ------
        CheckpointError
            If weights do not fit the configuration.
        """
        built = []
        for state in self.states:
            network = self.config.build()
            try:
                network.load_state_dict(state, strict=True)
            except RuntimeError as error:
                raise CheckpointError(
                    f"forecaster {self.name!r}: its weights do not fit its configuration: {error}"
                ) from error
            built.append(network.eval().requires_grad_(False))
        return tuple(built)

    def forecast(
        self,
        history: xr.DataArray | xr.Dataset,
        *,
        init: Any = None,
        members: int | None = None,
        seed: int = 0,
        leads: int | None = None,
        device: Any = None,
        progress: bool = False,
        **asked: Unpack[Asked],
    ) -> Any:
        """Forecast from labeled data.

        Parameters
        ----------
        history : DataArray or Dataset (time, lat, lon)
            Observations in any units that convert. Another grid or product than that of the
            training data is read as :func:`xearth.as_history` says: as anomalies from its own
            climatology, on the model's cells. Index series that the model reads lie beside the
            fields in a Dataset (:func:`xearth.with_indices`), missing where not measured.
        init : str, datetime, slice or sequence, optional
            Times of the last observed step; default the last of ``history``.
        members : int, optional
            Size of the ensemble; default the mean forecast, without a ``member`` dimension.
        seed : int
            Of the members.
        leads : int, optional
            How many leads to return, from the first; default all.
        device : optional
            As in torch; default the CPU.
        progress : bool
            Show a progress bar over inits.
        constraints : Constraint or sequence of them, optional
            What each member shall hold, over all leads; needs ``members``.
        impose : {"conditional", "projected"}, optional
            How; by default from the conditional law, if the head is Gaussian
            (:mod:`xearth.forecasting.constrained`), else as :func:`xearth.impose`.

        Returns
        -------
        DataArray or Dataset (init, lead[, member], y, x)
            In the units, orientation and longitude convention of ``history`` (of the training
            data if it came on another grid), missing where the training data were always missing;
            with ``valid_time`` (init, lead).

        Raises
        ------
        AxisError, TimeAxisError
            No time axis, another step, no such init, or a gap in its history.
        UnitsError
            Units that do not convert, or absolute values, for a model of anomalies, on too short
            a record for a climatology.
        GridMismatchError
            A grid that does not cover that of the training data, or is too coarse.
        MissingDataError
            Missing values where the training data had none, or a missing variable.
        LeadError
            A lead beyond the horizon, or an impossible number of members.
        ConstraintError, RegionError
            Constraints that the forecast cannot hold, or not in this way.
        """
        count = self._leads(leads)
        self._check_members(members)
        steering = Steering.of(self, members, **asked)
        past = read_histories(self, history, init)
        if steering is not None and members is not None:
            from .constrained import constrained

            made = constrained(
                self, past, steering, members=members, seed=seed, device=device, progress=progress
            )
            return made.isel(lead=slice(count))
        values = self.run(past, members=members, seed=seed, device=device, progress=progress)
        return self.label(values[:, :count], past, members)

    def outline(
        self,
        history: xr.DataArray | xr.Dataset,
        *,
        init: Any = None,
        members: int | None = None,
    ) -> Any:
        """Return what :meth:`forecast` returns, with all values missing: no network runs.

        The history is checked as for a forecast, that of the first init with its values.

        Parameters
        ----------
        history, init, members
            As for :meth:`forecast`.

        Raises
        ------
        XearthError
            As :meth:`forecast`.

        Examples
        --------
        >>> import xearth
        >>> sst = xearth.samples.open("kaplan_sst").sel(time=slice("1990", "1992"))
        >>> shape = xearth.load("enso-small").outline(sst, members=3)
        >>> shape.dims, bool(shape.isnull().all())
        (('init', 'lead', 'member', 'lat', 'lon'), True)
        """
        self._check_members(members)
        past = read_histories(self, history, init)
        past.batch(slice(0, 1))
        sizes = [len(past.positions), self.horizon] + ([] if members is None else [members])
        shape = (*sizes, *past.grid.shape, len(self.normalizer.variables))
        return self.label(np.full(shape, np.nan, np.float32), past, members)

    # -- checks -----------------------------------------------------------------------------------

    def _leads(self, leads: int | None) -> int:
        """Return how many leads are asked for."""
        return self.horizon if leads is None else checked_leads(leads, self)

    def _check_members(self, members: int | None) -> None:
        if members is None:
            return
        if isinstance(members, bool) or not isinstance(members, int | np.integer) or members < 1:
            raise LeadError(f"members={members!r}: expected None or a whole number of at least 1")
        if not self.head.rank and members > len(self.states):
            raise LeadError(
                f"members={members}: {self.name!r} has {len(self.states)} networks that each give "
                "one field, so at most as many members. Train with a distributional head "
                "(LowRankGaussian) or more networks, or leave members out for the mean forecast."
            )

    # -- numbers ----------------------------------------------------------------------------------

    def run(
        self,
        past: Histories,
        *,
        members: int | None,
        seed: int,
        device: Any,
        progress: bool,
    ) -> np.ndarray:
        """Return normalized forecasts (I, L[, M], H, W, C), float32."""
        import torch

        parts = []
        for rows, predictions in self.predictions(past, device, progress=progress):
            if members is None:
                values = torch.stack([p.mean for p in predictions]).mean(0).cpu().numpy()
            else:
                values = self.members(predictions, past.keys[rows], members, seed)
            parts.append(self.place.hide(values, past, rows))
        return np.concatenate(parts)

    def predictions(
        self, past: Histories, device: Any, *, progress: bool
    ) -> Iterator[tuple[slice, list[Prediction]]]:
        """Yield the prediction of each network for some of the inits after the other."""
        import torch
        from tqdm.auto import tqdm

        count = len(past.positions)
        with tqdm(total=count, disable=not progress, unit="init") as bar:
            for start in range(0, count, _BATCH):
                rows = slice(start, min(start + _BATCH, count))
                with torch.inference_mode():
                    predictions = self._predict(past, rows, device)
                yield rows, predictions
                bar.update(rows.stop - rows.start)

    def _predict(self, past: Histories, rows: slice, device: Any) -> list[Prediction]:
        """Return the prediction of each network for some of the inits."""
        import torch

        x, network_input, season = past.batch(rows)
        guess = first_guess(self.guess, x, season, rank=self.head.rank)
        to = network_input.to(device)
        outputs = [self.place.run(net.to(device), to, self.grid) for net in self.networks]
        predictions = [self.head.predict(output).about(guess.to(output)) for output in outputs]
        widths = torch.as_tensor(self.widths(season)).to(outputs[0])[:, :, None, None, None, None]
        return [replace(one, factors=one.factors * widths) for one in predictions]

    def widths(self, season: np.ndarray) -> np.ndarray:
        """Return the factor of the members' departures, (n, L) or (1, 1).

        Parameters
        ----------
        season : array (n,)
            Time of year of each init, in [0, 1).
        """
        width = np.asarray(self.width, dtype=np.float64)
        if width.ndim == 0:
            return width.reshape(1, 1)
        return width[np.rint(season * len(width)).astype(np.int64) % len(width)]

    def members(
        self, predictions: list[Prediction], keys: np.ndarray, members: int, seed: int
    ) -> np.ndarray:
        """Return the members (n, L, M, H, W, C) of a batch."""
        import torch

        fields = []
        for m in range(members):
            prediction = predictions[m % len(predictions)]
            draws = [
                np.random.default_rng([seed, int(key), m]).standard_normal(self.head.rank)
                for key in keys
            ]
            z = torch.as_tensor(np.stack(draws), dtype=prediction.mean.dtype)
            fields.append(prediction.member(z.to(prediction.mean.device)).cpu().numpy())
        return np.stack(fields, 2)

    # -- labels -----------------------------------------------------------------------------------

    def label(self, values: np.ndarray, past: Histories, members: int | None) -> Any:
        """Return normalized values (I, L[, M], H, W, C) as the labeled forecast."""
        return labeled(self, values, past, members)

    @property
    def ways(self) -> tuple[str, ...]:
        """How constraints can be imposed beside ``projected``, the default first."""
        return ("conditional",) if self.head.rank else ()

    # -- storage ----------------------------------------------------------------------------------

    def save(self, path: str | Path) -> Path:
        """Write everything to one safetensors file, whole or not at all.

        Raises
        ------
        CheckpointError
            If the folder does not exist.
        """
        from .io import save

        return save(self, path)


def forecast(
    history: xr.DataArray | xr.Dataset,
    model: Forecaster | str | Path,
    *,
    init: Any = None,
    members: int | None = None,
    seed: int = 0,
    leads: int | None = None,
    progress: bool = False,
    **asked: Unpack[Asked],
) -> Any:
    """Forecast from labeled data with a forecaster, a saved one or a shipped one.

    Parameters
    ----------
    history : DataArray or Dataset (time, lat, lon)
        Observations.
    model : Forecaster, path or str
        A network or reference forecaster, the path of a saved one, or the name of a shipped one.
    init : str, datetime, slice or sequence, optional
        Times of the last observed step; default the last of ``history``.
    members : int, optional
        Size of the ensemble; default the mean forecast, without a ``member`` dimension.
    seed : int
        Of the members: member k is the same for any number of members.
    leads : int, optional
        How many leads to return, from the first; default all.
    progress : bool
        Show a progress bar over inits.
    constraints : Constraint or sequence of them, optional
        What each member shall hold, over all leads of the forecast; needs ``members``.
    impose : str, optional
        A way, by default the best there is: ``"conditional"`` (exact draws of the conditional law)
        of networks with a Gaussian head; those of a diffusion model; ``"projected"``
        (:func:`xearth.impose`) of all forecasters.

    Returns
    -------
    DataArray or Dataset (init, lead[, member], y, x)
        See :meth:`NetworkForecaster.forecast`, also for what it raises. With constraints its
        attributes hold an audit: ``xearth_constraints`` for readers, ``xearth_audit`` as JSON;
        with what was before, unless free members cost much (diffusion of rain).

    Raises
    ------
    ConfigError
        ``members`` is no whole number of at least 1.
    ConstraintError, LeadError, RegionError
        Constraints that no such forecast can hold, or not in this way; before sampling.

    Examples
    --------
    >>> from xearth.data.sources import samples
    >>> sst = samples.open("kaplan_sst")
    >>> fc = forecast(sst, "enso-small", init="1997-06", members=2)
    >>> fc.dims
    ('init', 'lead', 'member', 'lat', 'lon')
    >>> import xearth
    >>> cold = xearth.Nino34(season="DJF") <= xearth.Q(-1, "K")
    >>> what_if = forecast(sst, "enso-small", init="2003-03", members=20, constraints=cold)
    >>> bool(cold.check(what_if).all()), what_if.attrs["xearth_imposed"]
    (True, 'conditional')
    """
    from .io import forecaster_of

    members = checked_members(members)
    forecaster = forecaster_of(model)
    if isinstance(forecaster, NetworkForecaster):
        if forecaster.indices is not None:
            forecaster.indices.warn_if_unknown(history, forecaster.name)
        return forecaster.forecast(
            history, init=init, members=members, seed=seed, leads=leads, progress=progress, **asked
        )
    count = None if leads is None else checked_leads(leads, forecaster)
    steering = Steering.of(forecaster, members, **asked)
    fields: Any = history  # reference forecasters say themselves what they cannot read
    if steering is None:
        made = forecaster.forecast(fields, init=init, members=members, seed=seed)
    else:
        from .impose import forecast_held

        made = forecast_held(forecaster, fields, steering, init=init, members=members, seed=seed)
    return made.isel(lead=slice(count))
