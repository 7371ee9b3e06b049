r"""Patterns: which cuboids a block attends in, as plain values.

A *layer* of a pattern is a cuboid size :math:`(b_T, b_H, b_W)`, one strategy letter per
axis (``l`` local: neighbors; ``d`` dilated: every :math:`n/b`-th element) and a shift
:math:`(s_T, s_H, s_W)`. A self-attention pattern is a tuple of such layers, a
cross-attention pattern a tuple of :class:`CrossLayer`. Functions such as :func:`axial` size
a pattern for a grid :math:`(T, H, W)`.

Source: Gao et al. (2022), *Earthformer: Exploring Space-Time Transformers for Earth System
Forecasting*, Table 1 and appendix.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import ConfigError

__all__ = [
    "CrossLayer",
    "CrossPattern",
    "CrossPatternFunction",
    "CuboidLayer",
    "Pattern",
    "PatternFunction",
    "Shape3",
    "axial",
    "axial_space_dilate",
    "cross",
    "cross_lg",
    "cross_shifted",
    "divided_space_time",
    "full",
    "parse",
    "parse_cross",
    "spatial_local_global",
    "video_swin",
]

Shape3 = tuple[int, int, int]
LOCAL = "lll"
DILATED = "ddd"


def _check_strategy(strategy: str) -> None:
    if len(strategy) != 3 or set(strategy) - {"l", "d"}:
        raise ConfigError(
            f"strategy must be three letters, each 'l' (local) or 'd' (dilated); got {strategy!r}"
        )


def _check_numbers(name: str, numbers: Sequence[int], *, length: int, least: int) -> None:
    if len(numbers) != length or any(not isinstance(n, int) or n < least for n in numbers):
        raise ConfigError(f"{name} must be {length} integers >= {least}; got {tuple(numbers)!r}")


@dataclass(frozen=True)
class CuboidLayer:
    """One self-attention layer of a pattern.

    Parameters
    ----------
    cuboid : tuple of int
        Size (b_T, b_H, b_W) of a cuboid, in grid cells of the level.
    strategy : str
        One letter per axis, ``l`` or ``d``.
    shift : tuple of int
        Cells (s_T, s_H, s_W) by which the grid is rolled before it is cut.

    Examples
    --------
    >>> CuboidLayer((2, 4, 4), shift=(1, 2, 2))
    CuboidLayer(cuboid=(2, 4, 4), strategy='lll', shift=(1, 2, 2))
    """

    cuboid: Shape3
    strategy: str = LOCAL
    shift: Shape3 = (0, 0, 0)

    def __post_init__(self) -> None:
        _check_numbers("cuboid", self.cuboid, length=3, least=1)
        _check_numbers("shift", self.shift, length=3, least=0)
        _check_strategy(self.strategy)


@dataclass(frozen=True)
class CrossLayer:
    """One cross-attention layer of a pattern.

    Parameters
    ----------
    window : tuple of int
        Size (b_H, b_W) of the windows, the same for queries and memory.
    strategy : str
        One letter per axis (T, H, W), ``l`` or ``d``.
    shift : tuple of int
        Cells (s_H, s_W) by which both grids are rolled; zero on dilated axes.
    n_temporal : int
        Into how many temporal cuboids queries and memory are cut.

    Examples
    --------
    >>> CrossLayer((2, 2), strategy="ddd", shift=(1, 1))
    CrossLayer(window=(2, 2), strategy='ddd', shift=(0, 0), n_temporal=1)
    """

    window: tuple[int, int]
    strategy: str = LOCAL
    shift: tuple[int, int] = (0, 0)
    n_temporal: int = 1

    def __post_init__(self) -> None:
        _check_numbers("window", self.window, length=2, least=1)
        _check_numbers("shift", self.shift, length=2, least=0)
        _check_numbers("n_temporal", (self.n_temporal,), length=1, least=1)
        _check_strategy(self.strategy)
        pairs = zip(self.shift, self.strategy[1:], strict=True)
        object.__setattr__(self, "shift", tuple(0 if how == "d" else s for s, how in pairs))


Pattern = tuple[CuboidLayer, ...]
CrossPattern = tuple[CrossLayer, ...]
PatternFunction = Callable[[Shape3], Pattern]
CrossPatternFunction = Callable[[Shape3], CrossPattern]


def full(shape: Shape3) -> Pattern:
    """One cuboid that holds everything: plain softmax attention over (T, H, W).

    Examples
    --------
    >>> full((2, 3, 4))[0].cuboid
    (2, 3, 4)
    """
    return (CuboidLayer(shape),)


def axial(shape: Shape3) -> Pattern:
    """Three one-dimensional attentions: along T, then H, then W.

    Examples
    --------
    >>> [layer.cuboid for layer in axial((12, 24, 48))]
    [(12, 1, 1), (1, 24, 1), (1, 1, 48)]
    """
    T, H, W = shape
    return (CuboidLayer((T, 1, 1)), CuboidLayer((1, H, 1)), CuboidLayer((1, 1, W)))


def divided_space_time(shape: Shape3) -> Pattern:
    """Attention along time, then over each whole frame.

    Examples
    --------
    >>> [layer.cuboid for layer in divided_space_time((12, 24, 48))]
    [(12, 1, 1), (1, 24, 48)]
    """
    T, H, W = shape
    return (CuboidLayer((T, 1, 1)), CuboidLayer((1, H, W)))


def video_swin(P: int = 2, M: int = 4) -> PatternFunction:
    """Windows of P frames by M x M cells, then the same windows shifted by half.

    Examples
    --------
    >>> [(layer.cuboid, layer.shift) for layer in video_swin(2, 8)((12, 6, 16))]
    [((2, 6, 6), (0, 0, 0)), ((2, 6, 6), (1, 3, 3))]
    """

    def pattern(shape: Shape3) -> Pattern:
        T, H, W = shape
        p, m = min(P, T), min(M, H, W)
        return (CuboidLayer((p, m, m)), CuboidLayer((p, m, m), shift=(p // 2, m // 2, m // 2)))

    return pattern


def spatial_local_global(M: int = 4) -> PatternFunction:
    """Time, then local M x M windows, then dilated M x M windows.

    A grid no larger than M x M gets :func:`divided_space_time`.

    Examples
    --------
    >>> [(layer.cuboid, layer.strategy) for layer in spatial_local_global(4)((5, 8, 8))]
    [((5, 1, 1), 'lll'), ((1, 4, 4), 'lll'), ((1, 4, 4), 'ddd')]
    """

    def pattern(shape: Shape3) -> Pattern:
        T, H, W = shape
        if H <= M and W <= M:
            return divided_space_time(shape)
        return (
            CuboidLayer((T, 1, 1)),
            CuboidLayer((1, M, M)),
            CuboidLayer((1, M, M), strategy=DILATED),
        )

    return pattern


def axial_space_dilate(K: int = 2) -> PatternFunction:
    """Axial attention whose space axes are cut in K parts, dilated and then local.

    Examples
    --------
    >>> [(layer.cuboid, layer.strategy) for layer in axial_space_dilate(2)((5, 8, 6))][:3]
    [((5, 1, 1), 'lll'), ((1, 4, 1), 'ddd'), ((1, 4, 1), 'lll')]
    """

    def pattern(shape: Shape3) -> Pattern:
        T, H, W = shape
        k = min(K, H, W)
        along_h, along_w = (1, H // k, 1), (1, 1, W // k)
        return (
            CuboidLayer((T, 1, 1)),
            CuboidLayer(along_h, strategy=DILATED),
            CuboidLayer(along_h),
            CuboidLayer(along_w, strategy=DILATED),
            CuboidLayer(along_w),
        )

    return pattern


def cross(k: int = 1) -> CrossPatternFunction:
    """Cross-attention in k x k windows, all frames of the memory at once.

    Examples
    --------
    >>> cross(4)((12, 3, 8))
    (CrossLayer(window=(3, 3), strategy='lll', shift=(0, 0), n_temporal=1),)
    """

    def pattern(shape: Shape3) -> CrossPattern:
        m = min(k, *shape[1:])
        return (CrossLayer((m, m)),)

    return pattern


def cross_lg(k: int = 1) -> CrossPatternFunction:
    """Local, then dilated k x k windows.

    Examples
    --------
    >>> [layer.strategy for layer in cross_lg(2)((12, 8, 8))]
    ['lll', 'ddd']
    """

    def pattern(shape: Shape3) -> CrossPattern:
        m = min(k, *shape[1:])
        return (CrossLayer((m, m)), CrossLayer((m, m), strategy=DILATED))

    return pattern


def cross_shifted(k: int = 1) -> CrossPatternFunction:
    """Local, dilated, then local windows shifted by half (the reference says "heter").

    Examples
    --------
    >>> [(layer.strategy, layer.shift) for layer in cross_shifted(4)((12, 8, 8))]
    [('lll', (0, 0)), ('ddd', (0, 0)), ('lll', (2, 2))]
    """

    def pattern(shape: Shape3) -> CrossPattern:
        m = min(k, *shape[1:])
        return (
            CrossLayer((m, m)),
            CrossLayer((m, m), strategy=DILATED),
            CrossLayer((m, m), shift=(m // 2, m // 2)),
        )

    return pattern


# Official names, as data: (expression, sizes the reference defined, function of the sizes).
_SELF_NAMES: tuple[tuple[str, tuple[tuple[int, ...], ...], Callable[..., Any]], ...] = (
    ("full", (), lambda: full),
    ("axial", (), lambda: axial),
    ("divided_st", (), lambda: divided_space_time),
    ("video_swin", (), video_swin),
    (r"video_swin_(\d+)x(\d+)", ((1, 2, 4, 8, 10), (1, 2, 4, 8, 16, 32)), video_swin),
    ("spatial_lg_v1", (), spatial_local_global),
    (r"spatial_lg_(\d+)", ((1, 2, 4, 8, 16, 32),), spatial_local_global),
    (r"axial_space_dilate_(\d+)", ((2, 4, 8),), axial_space_dilate),
)
_CROSS_NAMES: tuple[tuple[str, tuple[tuple[int, ...], ...], Callable[..., Any]], ...] = (
    (r"cross_(\d+)x\1", ((1, 2, 4, 8),), cross),
    (r"cross_(\d+)x\1_lg", ((1, 2, 4, 8),), cross_lg),
    (r"cross_(\d+)x\1_heter", ((1, 2, 4, 8),), cross_shifted),
)


def _names(table: Sequence[tuple[str, tuple[tuple[int, ...], ...], Callable[..., Any]]]) -> str:
    readable = (re.sub(r"\(\\d\+\)|\\1", "N", expression) for expression, _, _ in table)
    return ", ".join(readable)


def _parse(name: str, table: Sequence[tuple[str, tuple[tuple[int, ...], ...], Any]]) -> Any:
    for expression, allowed, function in table:
        match = re.fullmatch(expression, name)
        if match is None:
            continue
        sizes = tuple(int(group) for group in match.groups())
        for size, choices in zip(sizes, allowed, strict=True):
            if size not in choices:
                raise ConfigError(f"pattern {name!r}: size {size} is not one of {choices}")
        return function(*sizes)
    raise ConfigError(f"no pattern is called {name!r}; official names are {_names(table)}")


def parse(name: str) -> PatternFunction:
    """Return the self-attention pattern of an official name.

    Raises
    ------
    ConfigError
        If the reference has no such name.

    Examples
    --------
    >>> len(parse("video_swin_2x8")((13, 16, 16)))
    2
    """
    function: PatternFunction = _parse(name, _SELF_NAMES)
    return function


def parse_cross(name: str) -> CrossPatternFunction:
    """Return the cross-attention pattern of an official name.

    Raises
    ------
    ConfigError
        If the reference has no such name.

    Examples
    --------
    >>> parse_cross("cross_1x1")((12, 8, 8))[0].window
    (1, 1)
    """
    function: CrossPatternFunction = _parse(name, _CROSS_NAMES)
    return function
