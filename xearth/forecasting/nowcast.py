r"""Nowcasts of rain by a network that follows the rain: any radar grid, any step of minutes.

The way of a forecast:

1. The frames up to the start become rain rates (reflectivity by its stated Z-R relation), and
   cells much narrower than those of training are averaged to about that width.
2. Their motion is found, and all frames are brought along it to the time of the start
   (:func:`xearth.models.nowcast.lagrangian`).
3. The network tells, for all leads at once, the distribution of the rain that is now in each
   cell, or that will come in from beyond the edge, which is carried to where it will be.
4. The mean of the distributions is the forecast, or members are drawn from them by Gaussian
   fields that are coherent in space and time and move with the rain
   (:class:`~xearth.forecasting.nowcast_noise.Noise`).

Nothing of this knows a place, a service or a grid: width of the cells and time step are inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ..cf.attrs import append_history
from ..cf.forecast_coords import forecast_coords
from ..errors import ConfigError
from ..fields.rain import reflectivity
from ..units import compatible, convert
from .kept import arguments_of, facts_of
from .nowcast_input import Frames, read_frames
from .nowcast_noise import Noise

if TYPE_CHECKING:
    import torch

    from ..models.nowcast import NowcastConfig, NowcastNet
    from ..models.nowcast_law import RainLaw

__all__ = ["KIND", "NowcastForecaster"]

KIND = "NowcastForecaster"
#: Log of the probability of rain below which a cell stays dry in all members.
_NEVER = -7.0
_KEPT = ("standard_name", "units", "grid_mapping", "cell_methods", "zr_a", "zr_b", "no_echo")


@dataclass(frozen=True, eq=False)
class _Drawer:
    """Distributions of the cells that may have rain, and where their noise is read.

    Parameters
    ----------
    shape : (int, int, int)
        Leads, rows, columns.
    cells : array of int (K,)
        Among all leads, rows and columns.
    places : array of int (K,)
        In the fields of noise, which repeat beyond the grid.
    rain : RainLaw (K,)
    """

    shape: tuple[int, int, int]
    cells: np.ndarray
    places: np.ndarray
    rain: RainLaw

    @classmethod
    def of(cls, rain: RainLaw, at: np.ndarray) -> _Drawer:
        """Return what members are drawn from, for rain (L, H, W) that was at (L, H, W, 2)."""
        L, H, W = rain.wet.shape
        cells = np.flatnonzero(rain.wet.numpy() > _NEVER)
        rows, columns = np.rint(at.reshape(-1, 2)[cells]).astype(np.int64).T
        places = cells // (H * W) * (H * W) + (rows % H) * W + columns % W
        return cls((L, H, W), cells, places, type(rain)(*(part.flatten()[cells] for part in rain)))

    def draw(self, fields: np.ndarray) -> np.ndarray:
        """Return the rain (L, H, W) of Gaussian fields (L, H, W)."""
        import torch

        z = torch.from_numpy(fields.reshape(-1)[self.places])
        out = np.zeros(np.prod(self.shape), dtype=np.float32)
        # e with exp(-e) = P(Z > z), exact enough up to 10 standard deviations
        e = -(0.5 * torch.erfc(z * 0.5**0.5)).log()
        out[self.cells] = self.rain.quantile(e).numpy()
        return out.reshape(self.shape)


@dataclass(frozen=True, kw_only=True, eq=False)
class NowcastForecaster:
    """A network that forecasts rain of radar composites, on any grid.

    Trained by :func:`xearth.forecasting.nowcast_fit.fit_nowcast`; returned by
    :func:`xearth.load`; kept by :meth:`save`.

    Parameters
    ----------
    config : NowcastConfig
    state : mapping of str to Tensor
        Weights of the network.
    noise : Noise
        Of the members.
    horizon : int
        Number of leads; the step is that of the data.
    name : str
    provenance : mapping
        Which events trained and chose it: plain values.
    metrics : mapping
        What was measured: plain values.

    Examples
    --------
    >>> import xearth
    >>> rain = xearth.samples.open("knmi_radar").isel(y=slice(80, 130), x=slice(60, 120))
    >>> fc = xearth.forecast(rain, "nowcast-small", init="2010-08-26T04:30", members=3)
    >>> dict(fc.sizes), fc.units
    ({'init': 1, 'lead': 12, 'member': 3, 'y': 50, 'x': 60}, 'mm h-1')
    """

    config: NowcastConfig
    state: Mapping[str, torch.Tensor]
    noise: Noise = field(default_factory=Noise)
    horizon: int = 12
    name: str = "nowcast"
    provenance: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        trained = self.provenance.get("trained_on", "unknown events")
        return (
            f"<NowcastForecaster {self.name!r}: {self.history} -> {self.horizon} frames of rain "
            f"on any grid; trained on {trained}>"
        )

    @property
    def history(self) -> int:
        """Number of frames that it looks back on; at the begin of a record three are enough."""
        return self.config.frames

    @cached_property
    def network(self) -> NowcastNet:
        """The network, ready to use."""
        net = self.config.build()
        net.load_state_dict(dict(self.state))
        return net.eval().requires_grad_(False)

    # -- forecast ---------------------------------------------------------------------------------

    def forecast(
        self, history: xr.DataArray, *, init: Any = None, members: int | None = None, seed: int = 0
    ) -> xr.DataArray:
        """Forecast as described in :class:`~xearth.reference.protocol.Forecaster`.

        Parameters
        ----------
        history : DataArray (time, y, x)
            Rain rates, reflectivities that state their Z-R relation (``zr_a``, ``zr_b``), or
            amounts in each frame, at an even step of 2 to 20 minutes, on a grid of even spacing.
        init, members, seed
            As there. Without members the forecast is the mean of the distributions. Member k of a
            seed is the same for any number of members. Members 2k and 2k + 1 have opposite noise,
            so they are not independent: estimators for members that are, "fair" ones above all,
            are biased.

        Returns
        -------
        DataArray (init, lead[, member], y, x)
            In the units and on the grid of the history, of amounts in mm h-1; missing where the
            last frame is.

        Raises
        ------
        AxisError, GridMismatchError
            The frames have dimensions beside rows and columns, fewer than 16 of one, or a spacing
            that is unknown, uneven, or above 10 km.
        TimeAxisError
            Another step, no such start, or a frame missing before it (named); fewer than three
            frames before it.
        MissingDataError
            A frame has no value at all, or infinite ones.
        UnitsError
            Neither rain nor a reflectivity of a known relation.
        ConfigError
            ``members`` is no whole number of at least 1.
        """
        if members is not None and (not isinstance(members, int | np.integer) or members < 1):
            raise ConfigError(
                f"members={members!r}: expected a whole number of at least 1, or None for the mean"
            )
        frames = read_frames(history, init, depth=self.history, name=self.name)
        made = np.stack([self._one(frames, i, members, seed) for i in range(len(frames.positions))])
        return self.labeled(made, frames, members)

    def probability(
        self, history: xr.DataArray, thresholds: Any, *, init: Any = None
    ) -> xr.DataArray:
        """Return the probability of at least so much rain, from the distributions themselves.

        Parameters
        ----------
        history, init
            As in :meth:`forecast`.
        thresholds : sequence of float
            Rain rates in mm/h, above 0.

        Returns
        -------
        DataArray (init, lead, threshold, y, x)

        Raises
        ------
        XearthError
            As :meth:`forecast`.

        Examples
        --------
        >>> import xearth
        >>> rain = xearth.samples.open("knmi_radar").isel(y=slice(80, 130), x=slice(60, 120))
        >>> model = xearth.load("nowcast-small")
        >>> p = model.probability(rain, [0.1, 1.0], init="2010-08-26T04:30")
        >>> p.dims, bool((p[:, :, 0] >= p[:, :, 1]).all())
        (('init', 'lead', 'threshold', 'y', 'x'), True)
        """
        levels = np.atleast_1d(np.asarray(thresholds, dtype=np.float64))
        if levels.ndim != 1 or not (levels > 0).all():
            raise ConfigError(
                f"thresholds={thresholds!r}: expected rain rates in mm/h, above 0, in one sequence"
            )
        frames = read_frames(history, init, depth=self.history, name=self.name)
        fields = []
        for i in range(len(frames.positions)):
            rain, _ = self._laws(frames, i)
            exceeding = np.stack([rain.exceeding(level).numpy() for level in levels], axis=1)
            fields.append(frames.hide(frames.fine(exceeding), i))
        coords = forecast_coords(frames.axis, frames.positions, self.horizon)
        coords["threshold"] = xr.Variable("threshold", levels, {"units": "mm h-1"})
        attrs = {"long_name": f"probability of rain, forecast by {self.name}", "units": "1"}
        dims = ("init", "lead", "threshold")
        return frames.grid.label(
            np.stack(fields), dims, coords=coords, name="probability", attrs=attrs
        )

    def _laws(self, frames: Frames, i: int) -> tuple[RainLaw, np.ndarray]:
        """Return the distributions (L, H, W) from a start, and where their rain is at the start."""
        import torch

        from ..models.nowcast import lagrangian, predict, signal
        from ..models.nowcast_law import law

        with torch.inference_mode():
            rate = torch.from_numpy(frames.rates(i))[None]
            known = ~rate.isnan()
            moved = lagrangian(signal(rate.nan_to_num(0.0)), known, self.horizon)
            raw, at = predict(self.network, moved, frames.facts)
            return law(raw[0]), (at[0] - moved.border).numpy()

    def _one(self, frames: Frames, i: int, members: int | None, seed: int) -> np.ndarray:
        """Return the forecast from a start in mm/h, (L[, M], H, W)."""
        rain, at = self._laws(frames, i)
        if members is None:
            return frames.hide(frames.fine(rain.mean().numpy()), i)
        drawer = _Drawer.of(rain, at)
        L, H, W = rain.wet.shape
        out = np.zeros((L, members, *frames.grid.shape), dtype=np.float32)
        for k in range(members):
            if k % 2 == 0:
                rng = np.random.default_rng([abs(seed), int(frames.keys[i]), k // 2])
                fields = self.noise.fields((H, W), frames.facts, L, rng)
            out[:, k] = frames.fine(drawer.draw(fields if k % 2 == 0 else -fields))
        return frames.hide(out, i)

    def labeled(self, made: np.ndarray, frames: Frames, members: int | None) -> xr.DataArray:
        """Return rain rates in mm/h (I, L[, M], H, W) as a forecast in the units of the history."""
        source = frames.source
        dims = ("init", "lead") if members is None else ("init", "lead", "member")
        coords = forecast_coords(frames.axis, frames.positions, self.horizon, members=members)
        attrs = {key: source.attrs[key] for key in _KEPT if key in source.attrs}
        what = source.attrs.get("long_name", source.name or "rain")
        attrs |= {"long_name": f"{what}, forecast by {self.name}", "forecaster": self.name}
        attrs |= {k: v for k, v in self.provenance.items() if k == "training_period"}
        units = str(source.attrs["units"])
        if compatible(units, "dBZ"):
            rate = xr.DataArray(
                made,
                attrs={"units": "mm h-1", "long_name": "rain rate", **attrs} | {"units": "mm h-1"},
            )
            values = reflectivity(rate).values
        else:
            values = convert(made, "mm h-1", units)
        dtype = source.dtype if source.dtype.kind == "f" else np.dtype(np.float32)
        return frames.grid.label(
            values.astype(dtype, copy=False),
            dims,
            coords=coords,
            name=source.name,
            attrs=append_history(attrs, f"forecast by {self!r}"),
        )

    # -- storage ----------------------------------------------------------------------------------

    def save(self, path: str | Path) -> Path:
        """Write one safetensors file, whole or not at all.

        Raises
        ------
        CheckpointError
            The folder does not exist.
        """
        import dataclasses

        from ..models.checkpoints import save_tensors

        facts = facts_of(self, KIND) | {
            "config": self.config.to_dict(),
            "noise": dataclasses.asdict(self.noise),
            "horizon": self.horizon,
        }
        return save_tensors(path, dict(self.state), facts)

    @classmethod
    def restore(
        cls, tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any]
    ) -> NowcastForecaster:
        """Return the forecaster of a file's content; :func:`xearth.load` reads the file."""
        from ..models.checkpoints import require_weights
        from ..models.nowcast import NowcastConfig

        config = NowcastConfig.from_dict(facts["config"])
        require_weights(lambda: config.build().state_dict(), tensors)
        return cls(
            config=config,
            state=dict(tensors),
            noise=Noise(**facts["noise"]),
            horizon=facts["horizon"],
            **arguments_of(facts),
        )
