r"""Leading EOFs of training anomalies, shared by the forecasters that work in their space.

Notation
--------
The anomalies :math:`a_t` are trailing means over ``smoothing`` steps of the cells that are never
missing, less their training mean, weighted by :math:`w = \sqrt{\cos\varphi}`. With the singular
vectors :math:`E` of :math:`w\,a` the amplitudes are :math:`x = E^\top w\, a` and the anomalies
come back as :math:`E x / w`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr

from ..cf.discover import discover
from ..errors import ConfigError, MissingDataError
from .training import Floats, Starts, Training, normal_draws

__all__ = ["Eofs"]


@dataclass(frozen=True, eq=False)
class Eofs:
    """The space of the leading EOFs of the training anomalies.

    Attributes
    ----------
    training : Training
    smoothing : int
        Length of the trailing mean that is the state *and the target* of the forecasts.
    valid : ndarray (P,) of bool
        Cells that are never missing in training; the others are missing in the forecasts.
    mean : ndarray (P_valid,)
        Mean of the smoothed anomalies over the training period.
    patterns : ndarray (K, P_valid)
        EOFs divided by the weights: amplitudes times these are anomalies.
    projections : ndarray (P_valid, K)
        EOFs times the weights: anomalies times these are amplitudes.
    unresolved : ndarray (R, P_valid)
        A square root of the covariance of what the EOFs leave out.
    """

    training: Training
    smoothing: int
    valid: npt.NDArray[np.bool_]
    mean: Floats
    patterns: Floats
    projections: Floats
    unresolved: Floats

    @classmethod
    def fit(cls, training: Training, *, modes: int, smoothing: int) -> Eofs:
        """Find the leading EOFs.

        Raises
        ------
        ConfigError
            More modes than the training data support, or a smoothing below 1.
        MissingDataError
            Every cell is missing at some time, or no state is complete.
        """
        if smoothing != int(smoothing) or smoothing < 1:
            raise ConfigError(f"smoothing must be a whole number of steps >= 1; found {smoothing}.")
        valid = _valid(training)
        x = trailing_mean(training.values[:, valid], int(smoothing))
        rows = np.asarray(np.isfinite(x[:, 0]))
        if not rows.any():
            raise MissingDataError(
                f"the training period {training.period} has no {smoothing} steps that follow each "
                "other. Train on a longer unbroken record."
            )
        mean = x[rows].mean(axis=0)
        weight = _weights(training.template)[valid]
        _, s, eofs = np.linalg.svd((x[rows] - mean) * weight, full_matrices=False)
        rank = int((s > s[0] * 1e-10).sum())
        if not 1 <= modes <= rank:
            raise ConfigError(
                f"modes must lie between 1 and the rank {rank} of the training data; found {modes}."
            )
        rest = slice(modes, rank)
        return cls(
            training=training,
            smoothing=int(smoothing),
            valid=valid,
            mean=mean,
            patterns=eofs[:modes] / weight,
            projections=eofs[:modes].T * weight[:, None],
            unresolved=(s[rest, None] / np.sqrt(rows.sum())) * eofs[rest] / weight,
        )

    @property
    def states(self) -> Floats:
        """Smoothed anomalies of the training period in the valid cells, (N, P_valid)."""
        return trailing_mean(self.training.values[:, self.valid], self.smoothing)

    @property
    def amplitudes(self) -> Floats:
        """Amplitudes by step of the training period, (N, K); NaN where a step is missing."""
        return (self.states - self.mean) @ self.projections

    @property
    def target(self) -> str | None:
        """What is forecast where it is not the value of the step, in words."""
        return f"trailing mean over {self.smoothing} steps" if self.smoothing > 1 else None

    def project(self, starts: Starts) -> Floats:
        """Amplitudes at each start, (I, K).

        Raises
        ------
        MissingDataError
            A start misses a value in a cell that was never missing in training.
        """
        state = starts.anomalies(self.smoothing).mean(axis=1)[:, self.valid]
        bad = ~np.isfinite(state).all(axis=1)
        if bad.any():
            stamp = str(starts.axis.values[starts.positions[bad]][0])[:16]
            raise MissingDataError(
                f"{bad.sum()} of {bad.size} starts, first {stamp}, miss values in up to "
                f"{int((~np.isfinite(state)).sum(axis=1).max())} cells that were never missing in "
                "training. Fill them, or leave these starts out."
            )
        return (state - self.mean) @ self.projections

    def expand(self, amplitudes: Floats) -> Floats:
        """Anomalies (..., P_valid) of amplitudes (..., K)."""
        return amplitudes @ self.patterns + self.mean

    def leftover(self, starts: Starts, n_leads: int, members: int, seed: int) -> Floats:
        """Draw what the EOFs leave out, (I, L, M, P_valid), independent from lead to lead."""
        shape = (members, len(self.unresolved))
        # stream 0 drives the EOFs; one lead at a time bounds the memory
        draws = (normal_draws(seed, starts, shape, 1 + lead) for lead in range(n_leads))
        return np.stack([z @ self.unresolved for z in draws], axis=1)

    def integrate(
        self,
        starts: Starts,
        operators: Callable[[int], tuple[Floats, Floats]],
        n_leads: int,
        *,
        members: int | None,
        seed: int,
    ) -> Floats:
        """Forecast anomalies by a linear operator for each step.

        Parameters
        ----------
        starts : Starts
        operators : callable
            Step n = 0, 1, ... after the start to its operator and a square root of its noise
            covariance, (K, K) or (I, K, K) each.
        n_leads : int
        members : int, optional
            Without it the mean: no noise.
        seed : int

        Returns
        -------
        ndarray (I, L, P_valid) or (I, L, M, P_valid)
        """
        x, out, draws = self.project(starts)[:, None], [], None
        if members is not None:
            # members first: a member is the same however many there are
            draws = normal_draws(seed, starts, (members, n_leads, x.shape[-1]))
            x = np.repeat(x, members, axis=1)
        for lead in range(n_leads):
            green, noise = operators(lead)
            x = x @ green.swapaxes(-1, -2)
            if draws is not None:
                x = x + draws[:, :, lead] @ noise.swapaxes(-1, -2)
            out.append(x)
        states = np.stack(out, axis=1)
        if members is None:
            return self.expand(states[:, :, 0])
        return self.expand(states) + self.leftover(starts, n_leads, members, seed)

    def label(self, anomalies: Floats, starts: Starts, *, name: str) -> xr.DataArray:
        """Add the normals to (I, L, P_valid) or (I, L, M, P_valid) and label the forecast."""
        values = np.full((*anomalies.shape[:-1], self.valid.size), np.nan)
        values[..., self.valid] = anomalies
        normals = starts.normals(anomalies.shape[1], smoothing=self.smoothing)
        values += normals if anomalies.ndim == 3 else normals[:, :, None]
        return self.training.label(values, starts, name=name, target=self.target)


def trailing_mean(x: Floats, length: int) -> Floats:
    """Mean over the last ``length`` rows, (N, P); NaN where one of them is missing."""
    windows = np.lib.stride_tricks.sliding_window_view(x, length, axis=0)
    means = np.full(x.shape, np.nan)
    means[length - 1 :] = windows.mean(axis=-1)
    return means


def _valid(training: Training) -> npt.NDArray[np.bool_]:
    """Cells that are never missing at the steps that are there, (P,)."""
    observed = np.isfinite(training.values).any(axis=1)
    valid = np.asarray(np.isfinite(training.values[observed]).all(axis=0))
    if not valid.any():
        raise MissingDataError(
            f"every one of the {valid.size} cells of {training.template.name!r} is missing at some "
            "time of the training period. Fill the gaps or select cells without any."
        )
    return valid


def _weights(template: xr.DataArray) -> Floats:
    """Square root of the cosine of latitude of each cell, (P,); ones without a latitude."""
    name = discover(template, require=()).lat
    if name is None:
        return np.ones(template.size)
    lat = template[name].broadcast_like(template).transpose(*template.dims)
    # a cell at the pole has no area, yet its anomalies must come back from its amplitudes
    cosine = np.cos(np.deg2rad(lat.values.astype(np.float64).ravel())).clip(min=1e-6)
    return np.sqrt(cosine)
