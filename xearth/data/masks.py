r"""Missing cells: found, filled before a network, put back after it.

A mask is boolean and True where a value is *valid*. Missing means NaN in floating data and the
declared ``_FillValue`` or ``missing_value`` in packed integers. Tensors hold 0 in missing cells
of floating data; packed integers keep their own fill value, which only the mask interprets.
"""

from __future__ import annotations

import numpy as np

from ..errors import MissingDataError

__all__ = ["fill", "require_valid", "restore", "static_mask", "valid_mask"]


def valid_mask(values: np.ndarray, fill_values: tuple[float, ...] = ()) -> np.ndarray:
    """Return where ``values`` are valid, same shape, bool.

    Parameters
    ----------
    values : array
        Any shape; floating, integer or bool.
    fill_values : tuple of numbers
        What else means "missing": the only way in integers, beside NaN in floating data.

    Examples
    --------
    >>> valid_mask(np.array([1.0, np.nan]))
    array([ True, False])
    >>> valid_mask(np.array([7, 255], dtype="uint8"), (255,))
    array([ True, False])
    """
    valid = ~np.isnan(values) if values.dtype.kind == "f" else np.ones(values.shape, dtype=bool)
    for number in fill_values:
        if not np.isnan(number):
            valid &= values != number
    return valid


def fill(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Set missing cells of floating ``values`` to 0, in place, and return it.

    Examples
    --------
    >>> v = np.array([1.0, np.nan])
    >>> fill(v, valid_mask(v))
    array([1., 0.])
    """
    if values.dtype.kind == "f":
        np.copyto(values, 0, where=~valid)
    return values


def restore(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Set missing cells of floating ``values`` to NaN, in place, and return it: undoes `fill`.

    Examples
    --------
    >>> restore(np.array([1.0, 0.0]), np.array([True, False]))
    array([ 1., nan])
    """
    if values.dtype.kind == "f":
        np.copyto(values, np.nan, where=~valid)
    return values


def static_mask(valid: np.ndarray) -> np.ndarray:
    """Return (H, W): the cells valid at least once in ``valid`` (..., H, W).

    Examples
    --------
    >>> static_mask(np.array([[[True, False]], [[False, False]]]))
    array([[ True, False]])
    """
    return np.asarray(valid.any(axis=tuple(range(valid.ndim - 2))))


def require_valid(valid: np.ndarray, expected: np.ndarray, name: object) -> None:
    """Refuse fields with missing cells where a model saw none.

    Parameters
    ----------
    valid : array of bool (..., H, W)
        Where the data are valid.
    expected : array of bool (H, W)
        Where the model expects values.
    name : object
        Name of the data, for the message.

    Raises
    ------
    MissingDataError
        If a cell that the model expects is missing.

    Examples
    --------
    >>> require_valid(np.array([[True, False]]), np.array([[True, False]]), "sst")
    """
    absent = ~valid & expected
    if absent.any():
        cells = np.argwhere(static_mask(absent))
        raise MissingDataError(
            f"{name!r}: values expected in {int(expected.sum())} cells, found "
            f"{int(absent.sum())} missing values in {len(cells)} of them (the first at row "
            f"{cells[0][0]}, column {cells[0][1]} counted from the south-west). Fill them, "
            "for example with .interpolate_na(), or use a model trained with the same mask."
        )
