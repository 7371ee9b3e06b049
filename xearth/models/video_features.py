r"""Features of videos by a network in a file, for the Frechet video distance.

The published distance takes the 400 logits of an I3D network that was trained to tell actions
apart. It sees three channels, 224 x 224 cells, values :math:`2x - 1` and at least 9 frames, so a
single channel is repeated, frames are enlarged by bilinear interpolation, and shorter videos
are shown with each frame doubled.

Sources: Carreira and Zisserman (2017), *Quo Vadis, Action Recognition?*; Unterthiner et al.
(2018), *Towards Accurate Generative Models of Video*; Gao et al. (2023), *PreDiff*.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import CheckpointError, ConfigError

__all__ = ["VideoFeatures", "as_seen"]

SIDE, LEAST = 224, 9


def as_seen(videos: Tensor) -> Tensor:
    """Return videos (N, T, H, W, C) with values from 0 to 1 as I3D sees them, (N, 3, T', 224, 224).

    Raises
    ------
    ConfigError
        If there are neither one nor three channels.

    Examples
    --------
    >>> as_seen(torch.zeros(1, 6, 8, 8, 1)).shape
    torch.Size([1, 3, 12, 224, 224])
    """
    N, T, _, _, C = videos.shape
    if C not in (1, 3):
        raise ConfigError(
            f"the network sees one or three channels, the videos have {C}: choose channels"
        )
    frames = videos.flatten(0, 1).permute(0, 3, 1, 2).expand(-1, 3, -1, -1)
    large = functional.interpolate(frames, (SIDE, SIDE), mode="bilinear", align_corners=False)
    seen = (2.0 * large - 1.0).unflatten(0, (N, T)).transpose(1, 2)
    return seen.repeat_interleave(2, dim=2) if T < LEAST else seen


class VideoFeatures:
    """Features of videos, one batch at a time.

    Parameters
    ----------
    network : Module or path
        (N, 3, T, 224, 224) -> (N, d): a module, or a TorchScript file of one. Such a file holds
        the program of the network, which runs when features are made: take it only from where you
        would take code. It is not unpickled by Python, so reading it runs nothing. Weights as the
        rest of this package reads them hold no program at all.

    Raises
    ------
    CheckpointError
        If the file can not be read.

    Examples
    --------
    >>> pool = nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten())
    >>> VideoFeatures(pool)(np.ones((2, 6, 8, 8, 1), np.float32)).tolist()
    [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    """

    def __init__(self, network: nn.Module | str | PathLike[str]) -> None:
        self.network = network if isinstance(network, nn.Module) else _script(Path(network))
        self.network.eval()

    def __call__(self, videos: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the features (N, d) of videos (N, T, H, W, C)."""
        with torch.no_grad():
            features = self.network(as_seen(torch.from_numpy(np.ascontiguousarray(videos))))
        return features.flatten(1).float().cpu().numpy()


def _script(path: Path) -> nn.Module:
    if not path.is_file():
        raise CheckpointError(f"there is no file {path}; give a TorchScript file of the network")
    try:
        network: nn.Module = torch.jit.load(str(path), map_location="cpu")
    except (RuntimeError, ValueError, OSError) as error:
        raise CheckpointError(
            f"cannot read {path} as TorchScript ({str(error).splitlines()[0]}). A state_dict is "
            "not enough, as no architecture is part of this package: save the module with "
            "torch.jit.save, or give the module itself"
        ) from error
    return network
