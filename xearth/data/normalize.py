r"""Normalizer: statistics with units, and the affine map they make.

A variable :math:`x` in the unit of the statistics becomes :math:`z = (x - c) / s` with center
:math:`c` and scale :math:`s`: mean and standard deviation (``standard``), minimum and range
(``minmax``), or 0 and 1 (``none``). Data in another unit, :math:`x = u\,x' + v`, or packed,
:math:`x' = f p + o`, are normalized by one composed map :math:`z = a p + b`; nothing is decoded
in between.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import xarray as xr

from ..cf.discover import discover
from ..errors import CheckpointError, ConfigError, MissingDataError, UnitsError
from ..units import affine, convert_array, is_difference, parse
from .layout import channels, check_numeric
from .moments import Moments, moments_of

__all__ = ["Normalizer", "scale_and_offset"]

KINDS = ("standard", "minmax", "none")
_UNITLESS = (None, "1", "")


def scale_and_offset(variable: xr.DataArray) -> tuple[float, float]:
    """Return scale and offset of undecoded packed integers, (1, 0) for anything else.

    Examples
    --------
    >>> scale_and_offset(xr.DataArray(np.uint8(3), attrs={"scale_factor": 0.5, "add_offset": 10.0}))
    (0.5, 10.0)
    """
    if variable.dtype.kind not in "iu":
        return 1.0, 0.0
    attrs = variable.attrs
    return float(attrs.get("scale_factor", 1.0)), float(attrs.get("add_offset", 0.0))


@dataclass(frozen=True)
class Normalizer:
    """Center and scale of each variable, in its units; make one with `Normalizer.fit`.

    Parameters
    ----------
    variables : tuple of str
        Names, in the order of the channels.
    center, scale : tuple of float
        One per variable, in its unit.
    units : tuple of str or None
        CF units of the statistics; None or "1" for numbers without one.
    kind : {"standard", "minmax", "none"}
        What center and scale mean.
    difference : tuple of bool, optional
        Which variables are temperature differences (anomalies); default none.

    Raises
    ------
    ConfigError
        If the lengths differ, a number is not finite, a scale not positive, or the kind unknown.
    UnitsError
        If a unit cannot be read.

    Examples
    --------
    >>> sst = xr.DataArray([280.0, 290.0, 300.0], dims="time", name="sst", attrs={"units": "K"})
    >>> normalizer = Normalizer(("sst",), (290.0,), (10.0,), ("K",), "standard")
    >>> normalizer.apply(np.array([[280.0], [300.0]])).ravel()
    array([-1.,  1.])
    >>> (sst - 273.15).assign_attrs(units="degC").pipe(normalizer.prepare).values
    array([280., 290., 300.])
    """

    variables: tuple[str, ...]
    center: tuple[float, ...]
    scale: tuple[float, ...]
    units: tuple[str | None, ...]
    kind: str = "standard"
    difference: tuple[bool, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.variables)
        if not self.difference:
            object.__setattr__(self, "difference", (False,) * count)
        lengths = {f: len(getattr(self, f)) for f in ("center", "scale", "units", "difference")}
        if count == 0 or set(lengths.values()) != {count}:
            raise ConfigError(
                f"Normalizer of {self.variables}: expected one center, scale and unit per "
                f"variable ({count}), found {lengths}."
            )
        numbers = np.array([self.center, self.scale], dtype=np.float64)
        if not np.isfinite(numbers).all() or (numbers[1] <= 0).any():
            raise ConfigError(
                f"Normalizer of {self.variables}: expected finite centers and positive scales, "
                f"found center={self.center}, scale={self.scale}."
            )
        if self.kind not in KINDS:
            raise ConfigError(
                f"Normalizer: expected kind to be one of {KINDS}, found {self.kind!r}."
            )
        for unit in self.units:
            if unit not in _UNITLESS:
                parse(unit)

    @classmethod
    def fit(cls, obj: xr.DataArray | xr.Dataset, *, kind: str = "standard") -> Normalizer:
        """Return the statistics of all valid values of each variable.

        Parameters
        ----------
        obj : DataArray or Dataset
            Training data. Dask-backed data are computed block by block in one graph, data in
            files are read block by block; nothing is held in full.
        kind : {"standard", "minmax", "none"}
            Mean and standard deviation; minimum and range; or units alone, nothing computed.
            A variable that never changes gets the scale 1.

        Raises
        ------
        MissingDataError
            If a variable has no valid value, or an infinite one.
        DataTypeError
            If a variable is not numeric.

        Examples
        --------
        >>> da = xr.DataArray(
        ...     [[1.0, np.nan, 3.0]], dims=("lat", "lon"), name="sst", attrs={"units": "K"},
        ...     coords={"lat": ("lat", [0.0], {"units": "degrees_north"}),
        ...             "lon": ("lon", [0.0, 1, 2], {"units": "degrees_east"})})
        >>> Normalizer.fit(da)  # doctest: +NORMALIZE_WHITESPACE
        Normalizer(variables=('sst',), center=(2.0,), scale=(1.0,), units=('K',),
                   kind='standard', difference=(False,))
        """
        if kind not in KINDS:
            raise ConfigError(
                f"Normalizer.fit: expected kind to be one of {KINDS}, found {kind!r}."
            )
        found = _variables(obj)
        pairs = [(0.0, 1.0)] * len(found)
        if kind != "none":
            moments = moments_of(found.values())
            pairs = [
                _center_scale(name, m, scale_and_offset(variable), kind)
                for (name, variable), m in zip(found.items(), moments, strict=True)
            ]
        return cls(
            tuple(found),
            tuple(c for c, _ in pairs),
            tuple(s for _, s in pairs),
            tuple(v.attrs.get("units") for v in found.values()),
            kind,
            tuple(is_difference(v.attrs) for v in found.values()),
        )

    # -- values in the unit of the statistics -------------------------------------------------

    def apply(self, values: Any) -> Any:
        """Return ``(values - center) / scale``.

        Parameters
        ----------
        values : array or tensor (..., C)
            In the units of the statistics, the last axis the variables; integers are taken as
            float32, floating dtypes are kept.
        """
        values, center, scale = self._matched(values)
        return (values - center) / scale

    def invert(self, values: Any) -> Any:
        """Return ``values * scale + center``: the inverse of `apply`."""
        values, center, scale = self._matched(values)
        return values * scale + center

    def invert_scale(self, values: Any) -> Any:
        """Return ``values * scale``: for differences of normalized values (spread, errors)."""
        values, _, scale = self._matched(values)
        return values * scale

    def _matched(self, values: Any) -> tuple[Any, Any, Any]:
        """Return floating values and the statistics as arrays or tensors beside them."""
        if values.shape[-1] != len(self.variables):
            raise ConfigError(
                f"Normalizer of {self.variables}: expected {len(self.variables)} channels in the "
                f"last axis, found the shape {tuple(values.shape)}."
            )
        if isinstance(values, np.ndarray):
            if values.dtype.kind != "f":
                values = values.astype(np.float32)
            return (
                values,
                np.array(self.center, dtype=values.dtype),
                np.array(self.scale, dtype=values.dtype),
            )
        import torch

        if not values.is_floating_point():
            values = values.to(torch.float32)
        like = {"dtype": values.dtype, "device": values.device}
        return values, torch.tensor(self.center, **like), torch.tensor(self.scale, **like)

    # -- labeled objects -----------------------------------------------------------------------

    def prepare(self, obj: xr.DataArray | xr.Dataset) -> Any:
        """Return ``obj`` in the units of the statistics, lazily; the same object if it is already.

        Packed integers get new ``scale_factor`` and ``add_offset`` attributes, their numbers
        stay.

        Raises
        ------
        UnitsError
            If units are absent or incompatible, or anomalies meet absolute values.
        MissingDataError
            If a variable is absent.
        """
        if isinstance(obj, xr.DataArray):
            return self._converted(obj, 0)
        changed = {}
        for i, (name, variable) in enumerate(self._each(obj)):
            converted = self._converted(variable, i)
            if converted is not variable:
                changed[name] = converted
        return obj.assign(changed) if changed else obj

    def _converted(self, variable: xr.DataArray, index: int) -> xr.DataArray:
        """Return one variable in the unit of its statistics."""
        u, v = self._conversion(variable, index)
        unit = self.units[index]
        if unit in _UNITLESS or variable.attrs.get("units") == unit:
            return variable
        if variable.dtype.kind in "iu":
            f, o = scale_and_offset(variable)
            return variable.assign_attrs(units=unit, scale_factor=u * f, add_offset=u * o + v)
        return convert_array(variable, unit)

    def affine(self, obj: xr.DataArray | xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
        """Return a and b (C,) with ``a * stored + b`` the normalized values of ``obj``.

        Packing, conversion of units and normalization in one map; reads attributes only.

        Raises
        ------
        UnitsError, MissingDataError
            As `prepare`.

        Examples
        --------
        >>> packed = xr.DataArray(
        ...     np.array([0, 200], dtype="uint8"), name="t", dims="x",
        ...     attrs={"units": "degC", "scale_factor": 0.1, "add_offset": 10.0})
        >>> a, b = Normalizer(("t",), (293.15,), (5.0,), ("K",)).affine(packed)
        >>> [round(float(z), 6) for z in a * packed.values + b]
        [-2.0, 2.0]
        """
        a, b = np.empty(len(self.variables)), np.empty(len(self.variables))
        for i, (_, variable) in enumerate(self._each(obj)):
            u, v = self._conversion(variable, i)
            f, o = scale_and_offset(variable)
            a[i] = u * f / self.scale[i]
            b[i] = (u * o + v - self.center[i]) / self.scale[i]
        return a, b

    def _each(self, obj: xr.DataArray | xr.Dataset) -> Iterator[tuple[str, xr.DataArray]]:
        """Yield each variable of the statistics from ``obj``."""
        if isinstance(obj, xr.DataArray):
            if len(self.variables) != 1:
                raise MissingDataError(
                    f"DataArray {obj.name!r}: expected a Dataset with the variables "
                    f"{self.variables}, found one variable. Put them into one Dataset."
                )
            yield self.variables[0], obj
            return
        for name in self.variables:
            if name not in obj:
                raise MissingDataError(
                    f"Dataset: expected the variable {name!r}, found {list(obj.data_vars)}. "
                    "Rename or add it."
                )
            yield name, obj[name]

    def _conversion(self, variable: xr.DataArray, index: int) -> tuple[float, float]:
        """Return u and v with ``u * x + v`` in the unit of the statistics."""
        unit, name = self.units[index], self.variables[index]
        if unit in _UNITLESS:
            return 1.0, 0.0
        if "units" not in variable.attrs:
            raise UnitsError(
                f"{variable.name!r}: expected units that convert to {unit!r} (the statistics of "
                f"{name!r}), found no units. Set them: da.attrs['units'] = {unit!r}."
            )
        difference = is_difference(variable.attrs)
        if difference != self.difference[index]:
            words = {True: "anomalies (temperature: difference)", False: "absolute values"}
            raise UnitsError(
                f"{variable.name!r}: expected {words[self.difference[index]]}, as the statistics "
                f"of {name!r} are, found {words[difference]}. Convert them, or correct "
                "attrs['units_metadata'] ('temperature: difference' or 'temperature: on_scale')."
            )
        try:
            return affine(variable.attrs["units"], unit, difference=difference)
        except UnitsError as error:
            raise UnitsError(f"{variable.name!r}: {error}") from error

    # -- storage ----------------------------------------------------------------------------------

    def to_json(self) -> str:
        """Return the statistics as JSON; numbers keep every bit."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Normalizer:
        """Return the Normalizer written by `to_json`.

        Raises
        ------
        CheckpointError
            If the text is not such a Normalizer.

        Examples
        --------
        >>> normalizer = Normalizer(("sst",), (0.1,), (1 / 3,), ("K",))
        >>> Normalizer.from_json(normalizer.to_json()) == normalizer
        True
        """
        try:
            facts: Any = json.loads(text)
            fields: Any = {k: tuple(v) if isinstance(v, list) else v for k, v in facts.items()}
            return cls(**fields)
        except (AttributeError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"normalizer: expected the JSON of Normalizer.to_json, found {text[:60]!r} "
                f"({type(error).__name__}: {error}). The file is damaged or of another program."
            ) from error


def _variables(obj: xr.DataArray | xr.Dataset) -> dict[str, xr.DataArray]:
    """Return the channels of ``obj`` by name."""
    if isinstance(obj, xr.DataArray):
        check_numeric(obj)
        return {"field" if obj.name is None else str(obj.name): obj}
    found = channels(obj, discover(obj, require=("y", "x")))
    return {str(channel.name): obj[channel.name] for channel in found}


def _center_scale(
    name: str, moments: Moments, packed: tuple[float, float], kind: str
) -> tuple[float, float]:
    """Return center and scale in physical units from the moments of stored values."""
    if moments.count == 0:
        raise MissingDataError(
            f"{name!r}: expected valid values to fit statistics on, found all missing. Check the "
            "selection and the fill values."
        )
    factor, offset = packed
    center, scale = moments.mean, moments.std * abs(factor)
    if kind == "minmax":
        center, scale = moments.low, (moments.high - moments.low) * abs(factor)
        if factor < 0:
            center = moments.high
    if not np.isfinite([center, scale]).all():
        raise MissingDataError(
            f"{name!r}: expected finite values, found infinite ones (range {moments.low} .. "
            f"{moments.high}). Replace them, for example with da.where(np.isfinite(da))."
        )
    return center * factor + offset, scale if scale > 0 else 1.0
