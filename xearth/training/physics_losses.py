r"""Losses and habits of training that came with PhyDNet, E3D-LSTM and TAU.

None is part of a forecast: the networks of :mod:`xearth.models.baselines` map a history to a
forecast, and training adds these. Fields are tensors (N, T, H, W, C).

Sources: Le Guen and Thome (2020), *Disentangling Physical Dynamics from Unknown Factors*, with
Long, Lu, Ma and Dong (2018), *PDE-Net*, for moments; Wang et al. (2019), *Eidetic 3D LSTM*; Tan
et al. (2023), *Temporal Attention Unit*.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..models.baselines.next_frame import NextFrame
from ..models.baselines.phydnet import PhyDNet
from ..models.heads import Head, Prediction
from .losses import MSE, sample_mean
from .strategies import SampledLoss, all_frames, frame_weights, free_running

__all__ = [
    "DifferenceDivergence",
    "E3DLSTMLoss",
    "PhyDNetLoss",
    "TeacherForcing",
    "difference_divergence",
    "frame_error",
    "kernel_moments",
    "moment_loss",
    "squared_and_absolute",
]


def _predicted(
    network: NextFrame, x: Tensor, y: Tensor, keep: Tensor, weight: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return all predicted frames of a history and the horizon, their truth and its weight."""
    frames = all_frames(x, y)
    truth = frames[:, 1:]
    prediction = network.rollout(frames[:, :-1], keep).to(truth)
    return prediction, truth, frame_weights(weight, truth, y)


# --- PhyDNet ----------------------------------------------------------------------------------


def kernel_moments(kernels: Tensor) -> Tensor:
    r"""Return the moments of square kernels of odd size k, (..., k, k) -> (..., k, k).

    .. math:: M_{ij} = \sum_{u,v} \frac{(u - r)^i}{i!} \frac{(v - r)^j}{j!} \, w_{uv},
              \qquad r = \frac{k - 1}{2}

    A kernel whose moments are 0 but for one, :math:`M_{ij} = 1`, is the finite difference
    :math:`\partial^{i+j} / \partial x^i \partial y^j` (x along rows) of the highest order that
    its size allows. Computed in float64, because the powers span many orders of magnitude.

    Raises
    ------
    ConfigError
        If the kernels are not square or of even size.

    Examples
    --------
    >>> second = torch.tensor([[0.0, 1, 0], [0, -2, 0], [0, 1, 0]])
    >>> kernel_moments(second)
    tensor([[0., 0., 0.],
            [0., 0., 0.],
            [1., 0., 0.]])
    """
    k = kernels.shape[-1]
    if kernels.ndim < 2 or kernels.shape[-2] != k or k % 2 == 0:
        raise ConfigError(
            f"moments are those of square kernels of odd size; got {tuple(kernels.shape)}"
        )
    order = torch.arange(k, dtype=torch.float64, device=kernels.device)
    powers = (order - k // 2) ** order[:, None] / torch.exp(torch.lgamma(order + 1))[:, None]
    return (powers @ kernels.double() @ powers.T).to(kernels.dtype)


def moment_loss(filters: Tensor) -> Tensor:
    r"""Return how far k^2 filters are from being one finite difference each.

    .. math:: \sum_b \frac{1}{k^4} \sum_{n,i,j} (M_{ij}(w_{nb}) - [n = k i + j])^2

    Parameters
    ----------
    filters : Tensor
        (k^2, C, k, k): ``network.physics.filters.weight`` of a
        :class:`~xearth.models.baselines.phydnet.PhyDNet`.

    Raises
    ------
    ConfigError
        If there are not as many filters as moments.

    Examples
    --------
    >>> smooth = torch.zeros(9, 1, 3, 3, requires_grad=True)
    >>> moment_loss(smooth)
    tensor(0.1111, grad_fn=<SumBackward0>)
    """
    moments = kernel_moments(filters)
    count, _, k, _ = moments.shape
    if count != k**2:
        raise ConfigError(
            f"{count} filters of {k} x {k} cannot be one finite difference each: expected {k**2}"
        )
    target = torch.eye(count, dtype=moments.dtype, device=moments.device).view(count, 1, k, k)
    return (moments - target).square().mean((0, 2, 3)).sum()


def frame_error(prediction: Tensor, truth: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the sum over frames of the mean squared error of a frame.

    PhyDNet adds the predictions of the history to those of the horizon and
    :func:`moment_loss` to the sum.

    Parameters
    ----------
    prediction, truth : Tensor
        (N, T, H, W, C).
    weight : Tensor, optional
        Of cells, broadcastable to them.

    Examples
    --------
    >>> frame_error(torch.ones(2, 3, 4, 4, 1), torch.zeros(2, 3, 4, 4, 1))
    tensor(3.)
    """
    error = (prediction - truth).square()
    weight = torch.ones_like(error) if weight is None else weight.expand_as(error)
    of_frames = sample_mean(error.flatten(0, 1), weight.flatten(0, 1))
    return of_frames.unflatten(0, error.shape[:2]).mean(0).sum()


@dataclass(frozen=True, kw_only=True)
class TeacherForcing:
    """Whole batches read the truth instead of their own forecast, ever fewer of them.

    A :class:`~xearth.training.strategies.Sampling`; the history is always kept.

    Parameters
    ----------
    steps_per_epoch : int
        Iterations of an epoch.
    decay : float
        By how much the probability falls from 1 with each epoch.

    Raises
    ------
    ConfigError
        If ``decay`` is negative or an epoch has no step.

    Examples
    --------
    >>> TeacherForcing(steps_per_epoch=500).probability(50_000)
    0.7
    """

    steps_per_epoch: int
    decay: float = 0.003

    def __post_init__(self) -> None:
        if not 0 <= self.decay < math.inf or self.steps_per_epoch < 1:
            raise ConfigError(
                f"{self}: expected a decay of 0 or more and at least 1 step per epoch"
            )

    def probability(self, iteration: int) -> float:
        """Return the probability that the batch of this iteration is forced."""
        return max(0.0, 1.0 - self.decay * (iteration // self.steps_per_epoch))

    def keep(
        self,
        iteration: int,
        *,
        samples: int,
        frames: tuple[int, int],
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return which steps after the first read the true frame, (samples, T + T_out - 2)."""
        if float(torch.rand((), generator=generator)) < self.probability(iteration):
            return torch.ones(samples, sum(frames) - 2, dtype=torch.bool)
        return free_running(samples, frames)


@dataclass(frozen=True, kw_only=True)
class PhyDNetLoss(SampledLoss):
    """:func:`frame_error` of all predicted frames plus :func:`moment_loss` of the filters.

    Parameters
    ----------
    sampling : Sampling
        Which true frames are read at which iteration: published with :class:`TeacherForcing`.
    moments : float
        How much the moments count.

    Examples
    --------
    >>> from xearth.models.baselines.phydnet import PhyDNetConfig
    >>> network = PhyDNetConfig(input_shape=(3, 8, 8, 1), target_shape=(2, 8, 8, 1)).build()
    >>> loss = PhyDNetLoss(sampling=TeacherForcing(steps_per_epoch=100))
    >>> frames = torch.rand(2, 5, 8, 8, 1)
    >>> loss(network, frames[:, :3], frames[:, 3:], iteration=10).shape
    torch.Size([])
    """

    moments: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.moments < math.inf:
            raise ConfigError(f"{self}: expected moments of 0 or more")

    def check(self, network: nn.Module, head: Head) -> None:
        """Refuse what cannot be trained so; see :meth:`SampledLoss.check`."""
        super().check(network, head)
        self._filters(network)

    def _filters(self, network: nn.Module) -> Tensor | None:
        """Return the filters that are to be finite differences, None if none are."""
        if not self.moments:
            return None
        if not isinstance(network, PhyDNet):
            raise ConfigError(
                f"{type(network).__name__} has no filters to make finite differences of: train it "
                "with moments=0, or a PhyDNet"
            )
        return network.physics.filters.weight

    def of(
        self, network: NextFrame, x: Tensor, y: Tensor, keep: Tensor, weight: Tensor | None = None
    ) -> Tensor:
        """Return the mean over samples of the loss, (); see :meth:`SampledLoss.of`.

        Raises
        ------
        ConfigError
            If the network is no PhyDNet but moments are asked for.
        """
        filters = self._filters(network)
        loss = frame_error(*_predicted(network, x, y, keep, weight))
        return loss if filters is None else loss + self.moments * moment_loss(filters)


# --- E3D-LSTM -----------------------------------------------------------------------------------


def squared_and_absolute(prediction: Tensor, truth: Tensor, weight: Tensor | None = None) -> Tensor:
    r"""Return :math:`\frac12 \sum d^2 + \sum |d|` of the error d, a sum and not a mean.

    Parameters
    ----------
    prediction, truth : Tensor
        (N, T, H, W, C); for E3D-LSTM all frames but the first, those of the history included.
    weight : Tensor, optional
        Of cells, broadcastable to them.

    Examples
    --------
    >>> squared_and_absolute(torch.full((1, 1, 1, 2, 1), 2.0), torch.zeros(1, 1, 1, 2, 1))
    tensor(8.)
    """
    error = prediction - truth
    cells = 0.5 * error.square() + error.abs()
    return (cells if weight is None else weight * cells).sum()


@dataclass(frozen=True, kw_only=True)
class E3DLSTMLoss(SampledLoss):
    """:func:`squared_and_absolute` of all predicted frames, per sample.

    Parameters
    ----------
    sampling : Sampling
        Which true frames are read at which iteration: published with
        :class:`~xearth.training.strategies.ScheduledSampling`.

    Examples
    --------
    >>> from xearth.models.baselines.e3d_lstm import E3DLSTMConfig
    >>> from xearth.training.strategies import ScheduledSampling
    >>> shapes = {"input_shape": (3, 8, 8, 1), "target_shape": (2, 8, 8, 1)}
    >>> network = E3DLSTMConfig(**shapes, hidden=(4, 4)).build()
    >>> frames = torch.rand(2, 5, 8, 8, 1)
    >>> loss = E3DLSTMLoss(sampling=ScheduledSampling())
    >>> loss(network, frames[:, :3], frames[:, 3:], iteration=10).shape
    torch.Size([])
    """

    def of(
        self, network: NextFrame, x: Tensor, y: Tensor, keep: Tensor, weight: Tensor | None = None
    ) -> Tensor:
        """Return the mean over samples of the loss, (); see :meth:`SampledLoss.of`."""
        return squared_and_absolute(*_predicted(network, x, y, keep, weight)) / len(x)


# --- TAU ----------------------------------------------------------------------------------------


def difference_divergence(
    prediction: Tensor,
    truth: Tensor,
    known: Tensor | None = None,
    *,
    temperature: float = 0.1,
    epsilon: float = 1e-12,
) -> Tensor:
    r"""Return how the changes from frame to frame differ in where they happen, per sample.

    With :math:`\Delta` the change from frame to frame, softmax taken over all cells and channels
    of a change, and I their number,

    .. math:: \frac{1}{(T - 1) I} \sum_{t,i} p_{ti}
              \log\Big(\frac{p_{ti}}{q_{ti} + \epsilon} + \epsilon\Big), \qquad
              p = \mathrm{softmax}(\Delta \hat x / \tau), \;
              q = \mathrm{softmax}(\Delta x / \tau).

    Parameters
    ----------
    prediction, truth : Tensor
        (N, T, H, W, C) of at least two frames.
    known : Tensor, optional
        bool, (N, T, H, W, C): where the truth is known. A change is known where both frames are.
    temperature : float
        :math:`\tau`, in normalized units.
    epsilon : float
        :math:`\epsilon`.

    Returns
    -------
    Tensor
        (N,).

    Raises
    ------
    ConfigError
        If there is only one frame.

    Examples
    --------
    >>> x = torch.rand(2, 3, 4, 5, 1)
    >>> difference_divergence(x, x).abs().max() < 1e-6
    tensor(True)
    """
    if prediction.shape[1] < 2:
        raise ConfigError(
            "changes from frame to frame need at least 2 frames of the forecast; got "
            f"{prediction.shape[1]}: use a longer horizon or another loss"
        )
    there = torch.ones_like(truth, dtype=torch.bool) if known is None else known.expand_as(truth)
    both = (there[:, 1:] & there[:, :-1]).flatten(2)

    def places(fields: Tensor) -> Tensor:
        change = (fields.diff(dim=1) / temperature).flatten(2)
        # finite, because a frame without any known cell would be 0 / 0
        hidden = torch.finfo(change.dtype).min
        return change.masked_fill(~both, hidden).softmax(-1) * both

    p, q = places(prediction), places(truth)
    terms = p * torch.log(p / (q + epsilon) + epsilon)
    return terms.sum((1, 2)) / both.sum((1, 2)).clamp_min(1)


@dataclass(frozen=True)
class DifferenceDivergence:
    """Mean squared error plus :func:`difference_divergence`: the loss of TAU.

    Parameters
    ----------
    gain : float
        How much the divergence counts.
    temperature : float
        In normalized units.

    Raises
    ------
    ConfigError
        If the gain is negative or the temperature not positive.

    Examples
    --------
    >>> import torch
    >>> from xearth.models.heads import Point
    >>> y = torch.rand(2, 3, 4, 5, 1)
    >>> loss = DifferenceDivergence()
    >>> loss(Point().predict(y), y, torch.ones(4, 1, 1)).shape
    torch.Size([2])
    """

    gain: float = 0.1
    temperature: float = 0.1

    def __post_init__(self) -> None:
        if not (self.gain >= 0 and self.temperature > 0):
            raise ConfigError(
                f"{self}: expected a gain of at least 0 and a positive temperature "
                "(normalized units)"
            )

    def __call__(self, prediction: Prediction, truth: Tensor, weight: Tensor) -> Tensor:
        """Return the loss of each sample, (N,)."""
        divergence = difference_divergence(
            prediction.mean, truth, weight.expand_as(truth) > 0, temperature=self.temperature
        )
        return MSE()(prediction, truth, weight) + self.gain * divergence
