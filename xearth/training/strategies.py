r"""How next-frame networks are trained: which frames they read, and what else they are asked.

A network that predicts the next frame reads true frames at first and its own predictions later.
At iteration :math:`n`, scheduled sampling keeps the true frame of a step behind the history with
a probability :math:`\eta_n` that falls to 0,

.. math:: \eta_n = \max(0, \eta_0 - r\,n) \text{ until } n = n_{stop}, \text{ then } 0;

reverse scheduled sampling draws in the history as well, with a probability that rises to 1,

.. math::
    r_n &= \tfrac12,\; 1 - \tfrac12 e^{-(n - n_1)/\alpha},\; 1, \qquad
    \eta_n = \tfrac12,\; \tfrac12 - \tfrac12 \frac{n - n_1}{n_2 - n_1},\; 0
    \qquad (n < n_1,\; n_1 \le n < n_2,\; n \ge n_2).

Given to :class:`xearth.Recipe` as its loss, such a strategy trains a forecaster; the iteration is
the step of the optimizer, and draws derive from (seed, epoch, step), so that a run that is resumed
draws what it would have drawn. Forecasts know nothing of this.

Sources: Bengio et al. (2015), *Scheduled Sampling*; Wang et al. (2022), *PredRNN*, IEEE TPAMI
(reverse scheduled sampling, decoupling loss).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import ConfigError
from ..models.baselines.next_frame import NextFrame
from ..models.heads import Head
from .losses import sample_mean

__all__ = [
    "NextFrameLoss",
    "ReverseScheduledSampling",
    "SampledLoss",
    "Sampling",
    "ScheduledSampling",
    "all_frames",
    "decoupling_loss",
    "frame_weights",
    "free_running",
]


class Sampling(Protocol):
    """What a strategy of sampling offers."""

    def keep(
        self,
        iteration: int,
        *,
        samples: int,
        frames: tuple[int, int],
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return which steps after the first read the true frame, (samples, T + T_out - 2)."""


def _check_probability(name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise ConfigError(f"{name} must be a probability between 0 and 1; got {value!r}")


def _draw(probabilities: Tensor, samples: int, generator: torch.Generator | None) -> Tensor:
    """Return Bernoulli draws (samples, steps) by the probability of each step."""
    drawn = torch.rand(samples, len(probabilities), generator=generator)
    return drawn < probabilities


def free_running(samples: int, frames: tuple[int, int]) -> Tensor:
    """Return what a forecast keeps: the history (T frames) and none of the T_out after it.

    Examples
    --------
    >>> free_running(1, (3, 2))
    tensor([[ True,  True, False]])
    """
    T, T_out = frames
    return (torch.arange(1, T + T_out - 1) < T).expand(samples, -1)


@dataclass(frozen=True, kw_only=True)
class ScheduledSampling:
    """True frames behind the history with a probability that falls linearly.

    Parameters
    ----------
    start : float
        Probability at iteration 0.
    rate : float
        By how much it falls at each iteration.
    stop : int
        Iteration from which it is 0.

    Examples
    --------
    >>> ScheduledSampling().probability(1000)
    0.98
    """

    start: float = 1.0
    rate: float = 2e-5
    stop: int = 50_000

    def __post_init__(self) -> None:
        _check_probability("start", self.start)
        if self.rate < 0 or self.stop < 0:
            raise ConfigError(f"{self}: rate and stop must not be negative")

    def probability(self, iteration: int) -> float:
        """Return the probability to keep a true frame behind the history."""
        if iteration >= self.stop:
            return 0.0
        return max(0.0, self.start - self.rate * iteration)

    def keep(
        self,
        iteration: int,
        *,
        samples: int,
        frames: tuple[int, int],
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return which steps after the first read the true frame, (samples, T + T_out - 2)."""
        T, T_out = frames
        p = torch.tensor([1.0] * (T - 1) + [self.probability(iteration)] * (T_out - 1))
        return _draw(p, samples, generator)


@dataclass(frozen=True, kw_only=True)
class ReverseScheduledSampling:
    """True frames with a probability that rises in the history and falls behind it.

    Parameters
    ----------
    step1, step2 : int
        Iterations between which the probabilities move.
    alpha : float
        Iterations in which the one of the history comes closer to 1 by a factor e.

    Examples
    --------
    >>> ReverseScheduledSampling().probabilities(0)
    (0.5, 0.5)
    >>> ReverseScheduledSampling().probabilities(50_000)
    (1.0, 0.0)
    """

    step1: int = 25_000
    step2: int = 50_000
    alpha: float = 5_000.0

    def __post_init__(self) -> None:
        if not (0 <= self.step1 < self.step2 and self.alpha > 0):
            raise ConfigError(
                f"{self}: expected 0 <= step1 < step2, so that the probabilities have time to "
                "move, and a positive alpha"
            )

    def probabilities(self, iteration: int) -> tuple[float, float]:
        """Return the probabilities to keep a true frame in the history and behind it."""
        if iteration < self.step1:
            return 0.5, 0.5
        if iteration >= self.step2:
            return 1.0, 0.0
        passed = iteration - self.step1
        history = 1.0 - 0.5 * math.exp(-passed / self.alpha)
        return history, 0.5 - 0.5 * passed / (self.step2 - self.step1)

    def keep(
        self,
        iteration: int,
        *,
        samples: int,
        frames: tuple[int, int],
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return which steps after the first read the true frame, (samples, T + T_out - 2)."""
        T, T_out = frames
        history, horizon = self.probabilities(iteration)
        p = torch.tensor([history] * (T - 1) + [horizon] * (T_out - 1))
        return _draw(p, samples, generator)


def decoupling_loss(increments: Sequence[tuple[Tensor, Tensor]], adapter: nn.Module) -> Tensor:
    r"""Return how alike the two increments of each layer are, (); 0 when they are orthogonal.

    .. math::
        \frac{1}{L} \sum_l \frac{1}{N C} \sum_{n, c}
        \frac{|\langle A * \Delta c_{lnc}, A * \Delta m_{lnc} \rangle|}
             {\|A * \Delta c_{lnc}\| \, \|A * \Delta m_{lnc}\|}

    Parameters
    ----------
    increments : sequence of pairs of Tensor
        (delta c, delta m) of each layer, each (N, C, h, w); products are over the grid.
    adapter : Module
        The convolution A.

    Examples
    --------
    >>> c, m = torch.eye(2).reshape(2, 1, 1, 1, 2).unbind()
    >>> float(decoupling_loss([(c, m)], torch.nn.Identity()))
    0.0
    """
    alike = []
    for pair in increments:
        c, m = (functional.normalize(adapter(delta).flatten(2), dim=2) for delta in pair)
        alike.append((c * m).sum(2).abs().mean())
    return torch.stack(alike).mean()


@dataclass(frozen=True, kw_only=True)
class SampledLoss:
    """Base of the losses of all predictions of a next-frame network: ``of`` once it is drawn.

    Parameters
    ----------
    sampling : Sampling
        Which true frames are read at which iteration.
    """

    sampling: Sampling

    def check(self, network: nn.Module, head: Head) -> None:
        """Refuse what cannot be trained so, before anything is trained.

        Raises
        ------
        ConfigError
            The network does not predict frame by frame, or reads other channels than it forecasts;
            the head makes a distribution.
        """
        what = type(self).__name__
        if not isinstance(network, NextFrame):
            raise ConfigError(
                f"{what} trains networks that predict the next frame (StackedConvLSTM, PredRNN, "
                f"PhyDNet, E3DLSTM); found {type(network).__name__}, which makes its forecast at "
                "once. Train it with a loss of xearth.training.losses."
            )
        if head.rank:
            raise ConfigError(
                f"{what} compares frames, which a distribution does not predict; found {head}. "
                "Leave out the head: Point() is the default."
            )
        read, made = network.config.input_shape[-1], network.config.target_shape[-1]
        if read != made:
            raise ConfigError(
                f"{what} needs frames of the same channels in history and forecast, for the one is "
                f"read where the other was predicted; found {read} and {made}. Leave out the "
                "season and index series."
            )

    def draw(
        self, iteration: int, x: Tensor, y: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return which true frames of a batch are kept, (N, T + T_out - 2)."""
        frames = (x.shape[1], y.shape[1])
        keep = self.sampling.keep(iteration, samples=len(x), frames=frames, generator=generator)
        return keep.to(x.device)

    def __call__(
        self,
        network: NextFrame,
        x: Tensor,
        y: Tensor,
        *,
        iteration: int,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return the loss, (), of a history (N, T, H, W, C) and the frames after it.

        Raises
        ------
        ConfigError
            If history and horizon have other channels, or the network lacks what is asked of it.
        """
        return self.of(network, x, y, self.draw(iteration, x, y, generator))

    def of(
        self, network: NextFrame, x: Tensor, y: Tensor, keep: Tensor, weight: Tensor | None = None
    ) -> Tensor:
        """Return the mean over samples of the loss, (), when these true frames are kept.

        Parameters
        ----------
        network : NextFrame
        x, y : Tensor, (N, T, H, W, C) and (N, T_out, H, W, C)
        keep : Tensor
            See ``NextFrame.steps``.
        weight : Tensor, optional
            Broadcastable to ``y``; see :func:`frame_weights`.
        """
        raise NotImplementedError(f"{type(self).__name__}.of")


def all_frames(x: Tensor, y: Tensor) -> Tensor:
    """Return history and horizon as one sequence, whose every frame is predicted or read.

    Raises
    ------
    ConfigError
        If they have other channels.

    Examples
    --------
    >>> all_frames(torch.zeros(1, 3, 4, 4, 1), torch.zeros(1, 2, 4, 4, 1)).shape
    torch.Size([1, 5, 4, 4, 1])
    """
    if x.shape[-1] != y.shape[-1]:
        raise ConfigError(
            f"a next-frame loss compares all frames: history and horizon need the same channels, "
            f"found {x.shape[-1]} and {y.shape[-1]}"
        )
    return torch.cat([x, y], dim=1)


def frame_weights(weight: Tensor | None, truth: Tensor, y: Tensor) -> Tensor:
    """Return the weight of every predicted frame: cells of the history count as in the first lead.

    Parameters
    ----------
    weight : Tensor or None
        Of the horizon, broadcastable to ``y``; None: all cells count alike.
    truth : Tensor, (N, T - 1 + T_out, H, W, C)
        All frames that are predicted.
    y : Tensor, (N, T_out, H, W, C)
        Those of the horizon.

    Examples
    --------
    >>> truth = torch.zeros(1, 3, 1, 2, 1)
    >>> frame_weights(torch.tensor([0.0, 1.0]).view(2, 1), truth, truth[:, 1:]).flatten()
    tensor([0., 1., 0., 1., 0., 1.])
    """
    if weight is None:
        return torch.ones_like(truth)
    horizon = weight.expand_as(y)
    history = horizon[:, :1].expand(-1, truth.shape[1] - y.shape[1], -1, -1, -1)
    return torch.cat([history, horizon], dim=1)


@dataclass(frozen=True, kw_only=True)
class NextFrameLoss(SampledLoss):
    r"""Mean squared error of every predicted frame, plus :math:`\beta` times the decoupling loss.

    Parameters
    ----------
    sampling : Sampling
        Which true frames are read at which iteration.
    decoupling : float
        :math:`\beta`; needs a network with an adapter (``PredRNNConfig(decoupling=True)``).

    Examples
    --------
    >>> from xearth.models.baselines.predrnn import PredRNNConfig
    >>> network = PredRNNConfig(
    ...     input_shape=(3, 8, 8, 1), target_shape=(2, 8, 8, 1), hidden=(4,), kernel=3
    ... ).build()
    >>> loss = NextFrameLoss(sampling=ScheduledSampling())
    >>> frames = torch.rand(2, 5, 8, 8, 1)
    >>> loss(network, frames[:, :3], frames[:, 3:], iteration=10).shape
    torch.Size([])
    """

    decoupling: float = 0.0

    def __post_init__(self) -> None:
        if self.decoupling < 0:
            raise ConfigError(f"decoupling must not be negative; got {self.decoupling}")

    def check(self, network: nn.Module, head: Head) -> None:
        """Refuse what cannot be trained so; see :meth:`SampledLoss.check`."""
        super().check(network, head)
        self._adapter(network)

    def _adapter(self, network: nn.Module) -> nn.Module | None:
        """Return the convolution before increments are compared, None if they are not."""
        adapter: nn.Module | None = getattr(network, "adapter", None)
        if self.decoupling and adapter is None:
            raise ConfigError(
                f"{type(network).__name__} has no adapter for the decoupling loss: build it from "
                "PredRNNConfig(decoupling=True, ...), or train it with decoupling=0"
            )
        return adapter if self.decoupling else None

    def of(
        self, network: NextFrame, x: Tensor, y: Tensor, keep: Tensor, weight: Tensor | None = None
    ) -> Tensor:
        """Return the mean over samples of the loss, (); see :meth:`SampledLoss.of`."""
        frames, adapter = all_frames(x, y), self._adapter(network)
        predictions, penalties = [], []
        for prediction, state in network.steps(frames[:, :-1], keep):
            predictions.append(prediction)
            if adapter is not None:
                penalties.append(decoupling_loss(state.increments, adapter))
        truth = frames[:, 1:]
        error = network.joined(predictions).to(truth) - truth
        loss = sample_mean(error.square(), frame_weights(weight, truth, y)).mean()
        return loss + self.decoupling * torch.stack(penalties).mean() if penalties else loss
