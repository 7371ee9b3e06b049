r"""N-body MNIST: digits that attract each other, made on demand; and the file of Moving MNIST.

*Physics.* Positions :math:`x_i`, in pixels of the canvas, are those of the upper left corners of
the digits, each cropped to what is drawn. With softening :math:`d` and masses :math:`m`,

.. math::

   a_i = G \sum_j m_j (x_j - x_i) \left(|x_j - x_i|^2 + d^2\right)^{p}, \qquad
   p = -\tfrac12, -1, -\tfrac32 \textrm{ for the laws r0, r1, r2,}

.. math::

   v \leftarrow \mathrm{clip}(v + a(x), \pm v_\mathrm{max}), \qquad x \leftarrow x + v .

The published set is of the law r0, under which the attraction does not fall with distance.

*Walls.* Where the center of a digit is nearer than the margin to an edge of the canvas, it is put
back to the margin and that component of its velocity is reversed. Positions are kept in single
precision, as published.

*Drawing.* Every ``every``-th step, from the first on, is drawn: digits bilinearly at their
positions, the brightest where they overlap, then the canvas resized bicubically
(:math:`a = -0.75`) and clipped to 0..255. The original rounds positions to 1/32 pixel in one
version of its graphics library; here they are not rounded.

Sources: Gao, Z. and others (2022), Earthformer, arXiv:2207.05833, section 4.2 and its data module;
Srivastava, N., E. Mansimov and R. Salakhutdinov (2015), Unsupervised learning of video
representations using LSTMs, arXiv:1502.04681, for Moving MNIST.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import xarray as xr
from xarray.core import indexing

from ...errors import ConfigError, SourceError
from .lazy import Items
from .samples import open as open_sample

__all__ = ["LAWS", "NBody", "crop", "generate", "open_moving_mnist", "trajectories"]

Array = npt.NDArray[Any]

#: Exponent of the squared distance and gravity of each law, as published.
LAWS = {"r0": (-0.5, 0.05), "r1": (-1.0, 5.0), "r2": (-1.5, 5.0)}

_DRAWN = 5  # gray levels: fainter pixels are not part of a digit
_CUBIC = -0.75
_WHITE = np.float32(255)


@dataclass(frozen=True, kw_only=True)
class NBody:
    """The world of the digits; its defaults are those of the published set.

    Parameters
    ----------
    law : {"r0", "r1", "r2"} or None
        How attraction depends on distance; None: digits do not see each other.
    gravity : float, optional
        G; by default that of the law.
    softening : float
        d, pixels.
    masses : tuple of float
        One for each digit, so their number too.
    canvas, size : int
        Height and width in pixels, where digits move and of the frames.
    frames, every : int
        Frames of a sequence, and steps from one to the next.
    margin : float
        Pixels from the edge at which centers turn back.
    speed : float
        Largest initial speed and largest component of a velocity, pixels per step.

    Raises
    ------
    ConfigError
        A value is impossible.

    Examples
    --------
    >>> NBody().acceleration(np.array([[0.0, 0.0], [30.0, 0.0]], "f8")).round(4).tolist()
    Traceback (most recent call last):
    ...
    xearth.errors.ConfigError: expected positions of 3 digits, one for each mass, found 2.
    >>> pair = NBody(masses=(1.0, 1.0))
    >>> pair.acceleration(np.array([[0.0, 0.0], [30.0, 0.0]])).round(4).tolist()
    [[0.0474, 0.0], [-0.0474, 0.0]]
    """

    law: Literal["r0", "r1", "r2"] | None = "r0"
    gravity: float | None = None
    softening: float = 10.0
    masses: tuple[float, ...] = (1.0, 1.0, 1.0)
    canvas: int = 128
    size: int = 64
    frames: int = 20
    every: int = 5
    margin: float = 10.0
    speed: float = 2.0

    def __post_init__(self) -> None:
        if self.law is not None and self.law not in LAWS:
            raise ConfigError(f"law={self.law!r}: expected one of {', '.join(LAWS)} or None.")
        for name in ("canvas", "size", "frames", "every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)}: expected at least 1.")
        if not self.masses or min(self.masses) <= 0:
            raise ConfigError(f"masses={self.masses}: expected one positive number per digit.")
        if self.softening <= 0 or self.speed < 0:
            raise ConfigError(
                f"softening={self.softening}, speed={self.speed}: expected a positive softening, "
                "else digits on top of each other attract infinitely, and no negative speed."
            )
        if not 0 <= 2 * self.margin < self.canvas:
            raise ConfigError(
                f"margin={self.margin}: expected less than half of the canvas, {self.canvas}."
            )

    def acceleration(self, positions: Array) -> Array:
        """Return the acceleration of each digit.

        Parameters
        ----------
        positions : array (digits, 2)
            x and y, pixels.

        Returns
        -------
        array of float64 (digits, 2)
            Pixels per step squared.
        """
        x = np.asarray(positions, dtype=np.float64)
        if x.shape != (len(self.masses), 2):
            raise ConfigError(
                f"expected positions of {len(self.masses)} digits, one for each mass, found "
                f"{len(x)}."
            )
        if self.law is None:
            return np.zeros_like(x)
        power, published = LAWS[self.law]
        gravity = published if self.gravity is None else self.gravity
        apart = x[None] - x[:, None]
        pull = np.asarray(self.masses) * ((apart**2).sum(-1) + self.softening**2) ** power
        accelerations: Array = gravity * (pull[..., None] * apart).sum(1)
        return accelerations

    def move(self, positions: Array, velocities: Array, sizes: Array, *, steps: int) -> Array:
        """Return the positions of the digits at each step, the initial ones first.

        Parameters
        ----------
        positions, velocities : array (digits, 2)
            Initial ones, x and y.
        sizes : array (digits, 2)
            Width and height of the digits.
        steps : int

        Returns
        -------
        array of float32 (steps, digits, 2)
        """
        half = np.asarray(sizes, dtype=np.float64) / 2
        low, high = self.margin - half, self.canvas - self.margin - half
        x, v = np.asarray(positions, np.float32), np.asarray(velocities, np.float64)
        path = [x]
        for _ in range(steps - 1):
            v = np.clip(v + self.acceleration(x), -self.speed, self.speed)
            x = (x + v).astype(np.float32)
            v = np.where((x < low) | (x > high), -v, v)
            x = np.clip(x, low, high).astype(np.float32)
            path.append(x)
        return np.stack(path)

    def draw(self, digits: Sequence[Array], path: Array) -> Array:
        """Return the frames of digits at positions.

        Parameters
        ----------
        digits : sequence of array (height, width)
            Gray levels 0..255.
        path : array (T, digits, 2)

        Returns
        -------
        array of float32 (T, size, size)
            Gray levels 0..255, rows from the top.
        """
        canvas = np.zeros((len(path), self.canvas, self.canvas))
        for digit, at in zip(digits, np.moveaxis(path, 1, 0).astype(np.float64), strict=True):
            height, width = np.shape(digit)
            columns, rows = (_hats(self.canvas, n, at[:, i]) for i, n in ((0, width), (1, height)))
            np.maximum(canvas, rows @ np.asarray(digit, float) @ columns.mT, out=canvas)
        if self.size != self.canvas:
            cubic = _cubic(self.size, self.canvas)
            canvas = cubic @ canvas @ cubic.T
        return np.clip(canvas, 0, _WHITE).astype(np.float32)

    def sequence(self, digits: Array, seed: Sequence[int]) -> Array:
        """Return one sequence of digits taken at random from a bank.

        Parameters
        ----------
        digits : array (N, height, width)
            Gray levels 0..255.
        seed : sequence of int

        Returns
        -------
        array of float32 (frames, size, size)
            Gray levels 0..255.
        """
        chosen, path = self._motion(digits, seed)
        return self.draw(chosen, path[: -1 : self.every])

    def trajectory(self, digits: Array, seed: Sequence[int]) -> tuple[Array, Array]:
        """Return how the digits of :meth:`sequence` move: what its frames show.

        Parameters
        ----------
        digits, seed
            As for :meth:`sequence`.

        Returns
        -------
        positions, velocities : array of float64 (frames, digits, 2)
            x and y in pixels, and the step that follows each frame in pixels.
        """
        _, path = self._motion(digits, seed)
        path = path.astype(np.float64)
        return path[: -1 : self.every], np.diff(path, axis=0)[:: self.every]

    def _motion(self, digits: Array, seed: Sequence[int]) -> tuple[list[Array], Array]:
        """Return digits taken at random and their positions at each step, and at one more."""
        rng = np.random.default_rng(seed)
        n = len(self.masses)
        chosen = [crop(digits[i]) for i in rng.integers(len(digits), size=n)]
        sizes = np.array([digit.shape[::-1] for digit in chosen])
        speed, angle = rng.uniform(0, self.speed, n), rng.uniform(0, 2 * np.pi, n)
        velocities = speed[:, None] * np.stack([np.cos(angle), np.sin(angle)], -1)
        positions = rng.uniform(size=(n, 2)) * (self.canvas - sizes)
        return chosen, self.move(positions, velocities, sizes, steps=self.frames * self.every + 1)


def _hats(canvas: int, digit: int, start: Array) -> Array:
    """Return bilinear weights (T, canvas, digit) of a digit's pixels that begins at ``start``."""
    apart = np.arange(canvas)[:, None] - np.arange(digit) - start[:, None, None]
    weights: Array = np.maximum(0.0, 1.0 - np.abs(apart))
    return weights


def _cubic(target: int, source: int) -> Array:
    """Return bicubic weights (target, source) of one axis; beyond the edge it continues."""
    center = (np.arange(target) + 0.5) * source / target - 0.5
    taps = np.floor(center).astype(int)[:, None] + np.arange(-1, 3)
    s, a = np.abs(center[:, None] - taps), _CUBIC
    near = ((a + 2) * s - (a + 3)) * s * s + 1
    far = ((s - 5) * s + 8) * s * a - 4 * a
    weights = np.zeros((target, source))
    rows = np.broadcast_to(np.arange(target)[:, None], taps.shape)
    np.add.at(weights, (rows, np.clip(taps, 0, source - 1)), np.where(s <= 1, near, far))
    return weights


def crop(digit: Array) -> Array:
    """Return the part of an image that is drawn on: from the first to the last row and column.

    Examples
    --------
    >>> image = np.zeros((28, 28), "uint8")
    >>> image[4:16, 9:20] = 200
    >>> crop(image).shape
    (12, 11)
    """
    drawn = np.asarray(digit) > _DRAWN
    if not drawn.any():
        raise SourceError(
            "a digit is blank: expected an image with gray levels up to 255, found none above "
            f"{_DRAWN}. Give digits as uint8, as MNIST has them, not as fractions of 1."
        )
    rows, columns = (np.flatnonzero(drawn.any(axis)) for axis in (1, 0))
    return np.asarray(digit)[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def generate(
    world: NBody | None = None,
    *,
    sequences: int = 20_000,
    seed: int = 0,
    digits: Array | xr.DataArray | None = None,
    chunks: Any = None,
) -> xr.DataArray:
    """Make sequences lazily: each when its values are asked for, always the same.

    Parameters
    ----------
    world : NBody, optional
        By default that of the published set.
    sequences : int
        The published sets have 20,000 for training, and 1,000 each for validation and test.
    seed : int
        A set of its own for each seed.
    digits : array (N, height, width), optional
        Images, gray levels 0..255. By default the sample ``mnist_digits``; give those of MNIST's
        training set for training like the published one.
    chunks : optional
        Dask chunks as in :meth:`xarray.DataArray.chunk`, by default xarray's own lazy arrays. A
        sequence takes 20 ms to make: ``.load()`` what is read more than once.

    Returns
    -------
    DataArray (sequence, time, y, x)
        float32, from 0 to 1; ``time`` is nominal, one second for each step of the motion.

    Raises
    ------
    ConfigError
        No sequence is asked for.
    SourceError
        The digits are of another form.

    Examples
    --------
    >>> train = generate(sequences=20_000)
    >>> train.shape
    (20000, 20, 64, 64)
    >>> train[0].max().item() > 0.9
    True
    """
    world = NBody() if world is None else world
    bank = _bank(sequences, digits)
    shape = (world.frames, world.size, world.size)
    made = Items(sequences, shape, np.float32, lambda k: world.sequence(bank, (seed, k)) / _WHITE)
    attrs = {"source": f"xearth.data.sources.nbody.generate, {world}, seed {seed}"}
    da = _labeled(made, world.every, attrs)
    return da if chunks is None else da.chunk(chunks)


def trajectories(
    world: NBody | None = None,
    *,
    sequences: int = 20_000,
    seed: int = 0,
    digits: Array | xr.DataArray | None = None,
) -> xr.Dataset:
    """Return how the digits of :func:`generate` move, lazily; the arguments are the same.

    What :class:`xearth.EnergyConserved` audits, and what a network is trained on that tells the
    energy of frames.

    Returns
    -------
    Dataset
        ``position`` and ``velocity`` (sequence, time, body, axis), in pixels of the canvas and
        pixels per step; ``axis`` is x, y from the top.

    Raises
    ------
    ConfigError, SourceError
        As for :func:`generate`.

    Examples
    --------
    >>> moved = trajectories(sequences=100)
    >>> dict(moved.isel(sequence=0).sizes)
    {'time': 20, 'body': 3, 'axis': 2}
    """
    world = NBody() if world is None else world
    bank = _bank(sequences, digits)
    shape = (world.frames, len(world.masses), 2)
    dims = ("sequence", "time", "body", "axis")
    found = {}
    for i, (name, units) in enumerate((("position", "pixel"), ("velocity", "pixel per step"))):
        made = Items(
            sequences,
            shape,
            np.float64,
            lambda k, part=i: world.trajectory(bank, (seed, k))[part],  # type: ignore[misc]
        )
        label = {"long_name": f"{name} of the digits, in {units}", "units": "1"}
        found[name] = xr.Variable(dims, indexing.LazilyIndexedArray(made), label)
    coords = {"sequence": np.arange(sequences), "time": _times(world.frames, world.every)}
    axes = {"body": np.arange(len(world.masses)), "axis": ["x", "y"]}
    attrs = {"source": f"xearth.data.sources.nbody.trajectories, {world}, seed {seed}"}
    return xr.Dataset(found, coords | axes, attrs)


def _times(frames: int, seconds: int) -> xr.Variable:
    time = np.datetime64("2000-01-01", "ns") + np.arange(frames) * np.timedelta64(seconds, "s")
    return xr.Variable("time", time, {"standard_name": "time", "long_name": "time, nominal"})


def _bank(sequences: int, digits: Array | xr.DataArray | None) -> Array:
    """Return the images to choose digits from."""
    if sequences < 1:
        raise ConfigError(f"sequences={sequences}: expected at least 1.")
    bank = np.asarray(open_sample("mnist_digits")["image"] if digits is None else digits)
    if bank.ndim != 3 or not len(bank):
        raise SourceError(
            f"digits: expected images (N, height, width), found the shape {bank.shape}. MNIST's "
            "own files are lists of 28 x 28 = 784 numbers: reshape them."
        )
    return bank


def open_moving_mnist(
    path: str | Path, *, split: Literal["train", "validation", "test"] = "train"
) -> xr.DataArray:
    """Open a split of Moving MNIST, the file ``mnist_test_seq.npy`` as distributed.

    The last 1,000 of its 10,000 sequences are the test split; a tenth of the others, drawn as in
    Earthformer's data module, is for validation.

    Parameters
    ----------
    path : path
        Of the file: uint8 (20 frames, 10,000 sequences, 64, 64).
    split : {"train", "validation", "test"}

    Returns
    -------
    DataArray (sequence, time, y, x)
        uint8, packed: ``scale_factor`` makes fractions of 1. Read from the file when needed.

    Raises
    ------
    SourceError
        The file is missing, truncated or of another form.
    ConfigError
        There is no such split.

    Examples
    --------
    >>> open_moving_mnist("mnist_test_seq.npy", split="test").shape  # doctest: +SKIP
    (1000, 20, 64, 64)
    """
    try:
        frames = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise SourceError(
            f"{path}: expected mnist_test_seq.npy as distributed, which cannot be read: {error}. "
            "Download it again."
        ) from error
    if frames.ndim != 4 or frames.dtype != np.uint8 or frames.shape[1] <= _TEST:
        raise SourceError(
            f"{path}: expected uint8 of the shape (20, 10000, 64, 64), found {frames.dtype} of "
            f"{frames.shape}. Frames come first, then sequences, as distributed."
        )
    chosen = _split(frames.shape[1], split)
    shape = (len(frames), *frames.shape[2:])
    stored = Items(chosen.size, shape, frames.dtype, lambda k: np.asarray(frames[:, chosen[k]]))
    da = _labeled(stored, 1, {"source": "Moving MNIST (mnist_test_seq.npy)", "scale_factor": _STEP})
    return da.assign_coords(sequence=chosen)


_TEST, _TENTH, _SEED = 1000, 0.1, 123
_STEP = float(np.float32(1 / 255))


def _split(total: int, split: str) -> Array:
    rest = total - _TEST
    shuffled = np.random.RandomState(_SEED).permutation(rest)
    held = int(np.ceil(rest * _TENTH))
    parts = {
        "train": shuffled[held:],
        "validation": shuffled[:held],
        "test": np.arange(rest, total),
    }
    if split not in parts:
        raise ConfigError(f"split={split!r}: expected one of {', '.join(parts)}.")
    return parts[split]


def _labeled(stored: Items, seconds: int, attrs: dict[str, Any]) -> xr.DataArray:
    """Return frames (sequence, time, y, x) with their labels; y is counted from the top."""
    n, frames, height, width = stored.shape
    coords = {
        "sequence": ("sequence", np.arange(n), {"long_name": "number of the sequence"}),
        "time": _times(frames, seconds),
        "y": ("y", np.arange(height)[::-1].astype(float), _pixel("row, counted from below", "Y")),
        "x": ("x", np.arange(width).astype(float), _pixel("column", "X")),
    }
    label = {"long_name": "brightness", "units": "1", **attrs}
    return xr.DataArray(
        xr.Variable(tuple(coords), indexing.LazilyIndexedArray(stored), label),
        coords,
        name="brightness",
    )


def _pixel(name: str, axis: str) -> dict[str, str]:
    return {"long_name": name, "units": "1", "axis": axis}
