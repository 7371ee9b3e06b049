"""Sorting networks: which rows to compare, whatever they hold.

A network is a fixed list of comparators (a, b), a < b; each leaves the smaller value in row a and
the larger in row b. Since the list does not depend on the data, one comparator can sort thousands
of points at once with one minimum and one maximum, which is what vector units are good at.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from ...errors import ConfigError

__all__ = ["Comparator", "sorting_network"]

Comparator = tuple[int, int]


@cache
def sorting_network(rows: int) -> tuple[Comparator, ...]:
    """Return the comparators of Batcher's odd-even merge sort for ``rows`` rows.

    The network of the next power of two, without the comparators of rows that are not there: as
    those rows would hold the largest values and come last, no comparator would ever change them.
    The comparators come depth first, so that neighbors in the list work on the same few rows.

    Parameters
    ----------
    rows : int
        How many rows, 0 or more.

    Returns
    -------
    tuple of (int, int)
        Comparators in the order to apply them; 32 for 10 rows, 415 for 51.

    Raises
    ------
    ConfigError
        A negative number of rows.

    References
    ----------
    Batcher 1968, Sorting networks and their applications, AFIPS 32, 307-314; Knuth, The Art of
    Computer Programming 3, 5.3.4.

    Examples
    --------
    >>> sorting_network(3)
    ((0, 1), (0, 2), (1, 2))
    >>> len(sorting_network(51))
    415
    """
    if rows < 0:
        raise ConfigError(f"a sorting network needs 0 rows or more; found {rows}.")
    size = 1
    while size < rows:
        size *= 2
    return tuple((a, b) for a, b in _sort(0, size) if b < rows)


def _sort(first: int, size: int) -> Iterator[Comparator]:
    """Yield the comparators that sort ``size`` rows (a power of two) from ``first`` on."""
    if size > 1:
        half = size // 2
        yield from _sort(first, half)
        yield from _sort(first + half, half)
        yield from _merge(first, size, 1)


def _merge(first: int, size: int, step: int) -> Iterator[Comparator]:
    """Yield the comparators that merge the sorted halves of every ``step``-th row."""
    if 2 * step < size:
        yield from _merge(first, size, 2 * step)
        yield from _merge(first + step, size, 2 * step)
        for a in range(first + step, first + size - step, 2 * step):
            yield a, a + step
    else:
        yield first, first + step
