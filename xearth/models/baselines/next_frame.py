r"""Networks that predict the next frame and read their own prediction when history has ended.

.. math::
    \hat x_{t+1}, s_{t+1} = f(\tilde x_t, s_t), \qquad
    \tilde x_t = k_t\, x_t + (1 - k_t)\, \hat x_t, \qquad t = 0, \dots, T + T_{out} - 2

where :math:`k_t` says how much of the true frame is kept: 1 in the history and 0 after it for a
forecast (:math:`k_0 = 1` always). What training keeps is drawn by
:mod:`xearth.training.strategies`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ...errors import GridMismatchError
from .common import Baseline, BaselineConfig, crop, pad_to_multiple, patch, unpatch

__all__ = ["NextFrame", "emitted", "gates"]


def emitted(config: BaselineConfig) -> int:
    """Return how many channels C_e a next-frame network emits per cell.

    With as many channels in the forecast as in the history these are the frame itself.
    Otherwise the C channels of the next frame, which are fed back, come first and the C_out
    channels of the forecast after them.

    Examples
    --------
    >>> emitted(BaselineConfig(input_shape=(4, 8, 8, 3), target_shape=(4, 8, 8, 1)))
    4
    """
    C, C_out = config.input_shape[-1], config.target_shape[-1]
    return C if C_out == C else C + C_out


class _Gated(Protocol):
    """What of a configuration decides the convolutions of gates on a grid of patches."""

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """(T, H, W, C) of the history."""

    @property
    def patch(self) -> int:
        """Side of a patch."""

    @property
    def kernel(self) -> int:
        """Size of the convolution."""

    @property
    def layer_norm(self) -> bool:
        """Whether each cell of the grid of patches is normalized."""


def gates(before: int, after: int, config: _Gated) -> nn.Sequential:
    """Return the convolution, without bias, that maps channels to gates; normalized if asked."""
    k = config.kernel
    layers: list[nn.Module] = [nn.Conv2d(before, after, k, padding=k // 2, bias=False)]
    if config.layer_norm:
        grid = (-(-n // config.patch) for n in config.input_shape[1:3])
        layers.append(nn.LayerNorm([after, *grid]))
    return nn.Sequential(*layers)


class NextFrame(Baseline):
    """Base of these networks; a subclass has ``start`` and ``step``.

    Frames inside are patched, (N, h, w, p p C) moved to (N, p p C, h, w).

    Parameters
    ----------
    config : BaselineConfig
        Sizes and choices.
    patch_size : int
        Side p of a patch; grids that it does not divide are padded.
    """

    def __init__(self, config: BaselineConfig, patch_size: int) -> None:
        super().__init__(config)
        self.patch_size = patch_size

    def start(self, frame: Tensor) -> Any:
        """Return the state before the first frame (N, p p C, h, w)."""
        raise NotImplementedError(f"{type(self).__name__}.start")

    def step(self, frame: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Return the prediction (N, p p C_e, h, w) of the frame after this one, and the state."""
        raise NotImplementedError(f"{type(self).__name__}.step")

    def steps(self, frames: Tensor, keep: Tensor | None = None) -> Iterator[tuple[Tensor, Any]]:
        """Predict frame after frame.

        Parameters
        ----------
        frames : Tensor
            True frames (N, S, H, W, C), at least the T of the history. Frames beyond them are
            only needed where ``keep`` is not 0.
        keep : Tensor, optional
            How much of the true frame enters steps 1, 2, ...: (N, T + T_out - 2), or with
            (H, W, C) or (1, 1, 1) after that. By default the history is kept and nothing else.

        Yields
        ------
        Tensor
            Prediction (N, h, w, p p C_e) of frame t + 1, t = 0, ..., T + T_out - 2.
        Any
            State behind that step.

        Raises
        ------
        GridMismatchError
            If ``frames`` or ``keep`` are of another shape.
        """
        T, H, W, C = self.config.input_shape
        count = T + self.config.target_shape[0] - 1
        needed = T if keep is None else count
        self.check_frames("frames", frames[:, :needed], (needed, H, W, C))
        inside = self._inside(frames[:, :needed])
        share = None if keep is None else self._share(keep, count - 1, frames)
        frame, state = inside[:, 0], self.start(inside[:, 0])
        for t in range(count):
            if t > 0 and share is not None:
                k = share[:, t - 1]
                frame = k * inside[:, t] + (1 - k) * frame
            elif t < needed:
                frame = inside[:, t]
            prediction, state = self.step(frame, state)
            yield prediction.movedim(1, -1), state
            frame = self._fed_back(prediction)

    def rollout(self, frames: Tensor, keep: Tensor | None = None) -> Tensor:
        """Return all predictions (N, T + T_out - 1, H, W, C_e); see :meth:`steps`."""
        return self.joined([prediction for prediction, _ in self.steps(frames, keep)])

    def joined(self, predictions: list[Tensor]) -> Tensor:
        """Return patched predictions (N, h, w, p p C_e) as one tensor (N, S, H, W, C_e)."""
        _, H, W, _ = self.config.input_shape
        return crop(unpatch(torch.stack(predictions, 1), self.patch_size), H, W)

    def _forecast(self, x: Tensor) -> Tensor:
        T_out, _, _, C_out = self.config.target_shape
        predictions = [prediction for prediction, _ in self.steps(x)]
        return self.joined(predictions[-T_out:])[..., -C_out:]

    def _inside(self, x: Tensor) -> Tensor:
        """Return (N, S, H, W, C) as (N, S, p p C, h, w)."""
        return patch(pad_to_multiple(x, self.patch_size), self.patch_size).movedim(-1, 2)

    def _share(self, keep: Tensor, count: int, frames: Tensor) -> Tensor:
        """Return ``keep`` as a tensor that broadcasts against the frames inside."""
        N, (H, W, C) = len(frames), self.config.input_shape[1:]
        cells = tuple(keep.shape[2:])
        if tuple(keep.shape[:2]) != (N, count) or cells not in ((), (1, 1, 1), (H, W, C)):
            raise GridMismatchError(
                f"keep must be (N, T + T_out - 2) = ({N}, {count}), one number for each step "
                f"after the first, or that with ({H}, {W}, {C}); got {tuple(keep.shape)}"
            )
        if cells == (H, W, C):
            return self._inside(keep.to(frames))
        return keep.to(frames).reshape(N, count, 1, 1, 1)

    def _fed_back(self, prediction: Tensor) -> Tensor:
        """Return the C channels of the frame among the C_e emitted ones."""
        C, C_e = self.config.input_shape[-1], emitted(self.config)
        if C_e == C:
            return prediction
        return prediction.unflatten(1, (-1, C_e))[:, :, :C].flatten(1, 2)
