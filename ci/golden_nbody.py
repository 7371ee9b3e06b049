"""Golden vectors of N-body MNIST: accelerations, positions and frames of one saved sequence.

Frames are compared in gray levels: they were rounded, so half a level is no error.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from golden_result import Result, relative_error

from xearth.data.sources.nbody import LAWS, NBody, crop

PHYSICS = 1e-6  # accelerations and matrices
LEVELS = 2.0  # gray levels that the graphics library of the original may be off
MODES = (*LAWS, None)


def nbody(path: Path) -> Iterator[Result]:
    """Run the cases of one file."""
    with np.load(path, allow_pickle=False) as archive:
        stored = {key: archive[key] for key in archive.files}
    for mode in MODES:
        name = f"nbody/{mode}"
        if f"affine_{mode}" not in stored:
            continue
        try:
            yield from _mode(name, mode, stored)
        except Exception as error:  # one broken case must not hide the others
            yield Result(name, note=f"{type(error).__name__}: {error}", failed=True)


def _mode(name: str, mode: Any, stored: dict[str, np.ndarray]) -> Iterator[Result]:
    if mode is not None:
        pair = NBody(law=mode, masses=(1.0,) * len(stored["acc_pos"]))
        error = relative_error(pair.acceleration(stored["acc_pos"]), stored[f"acc_{mode}"])
        yield Result(f"{name}/acceleration", output=error, failed=error > PHYSICS)
    frames, affine = stored[f"frames_{mode}"], stored[f"affine_{mode}"]
    size, (steps, n) = frames.shape[-1], affine.shape[:2]
    world = NBody(law=mode, masses=(1.0,) * n, canvas=size, size=size, frames=steps, every=1)
    replay = {k.removeprefix("replay_"): v[0] for k, v in stored.items() if k[:7] == "replay_"}
    for key, plain in (("scale_variation", 1), ("base_rotation_angle", 0)):
        if not np.all(replay[key] == plain) or replay["random_acceleration_magnitude"].any():
            yield Result(name, skipped=True, note="digits that turn, swell or swerve: not offered")
            return
    bank = stored["digit_bank"]
    side = round(bank.shape[-1] ** 0.5)
    digits = [crop(bank[i].reshape(side, side)) for i in replay["digit_indices"]]
    sizes = np.array([digit.shape[::-1] for digit in digits])
    angle, speed = replay["init_velocity_angle"], replay["init_velocity_magnitude"]
    velocities = speed[:, None] * np.stack([np.cos(angle), np.sin(angle)], -1)
    positions = replay["affine_transforms_multipliers"] * (size - sizes)
    path = world.move(positions, velocities, sizes, steps=steps)
    error = relative_error(path, affine[..., 2])
    yield Result(f"{name}/positions", output=error, failed=error > PHYSICS, note=f"{steps} steps")
    at = np.linspace(0, steps - 1, len(frames)).round().astype(int)
    worst = float(np.abs(np.rint(world.draw(digits, path[at])) - frames).max())
    yield Result(
        f"{name}/frames",
        output=worst / 255 if worst > LEVELS else 0.0,
        failed=worst > LEVELS,
        note=f"{worst:.0f} gray levels of 255 at most",
    )
