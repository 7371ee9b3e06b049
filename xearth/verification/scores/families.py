"""Families of distributions: their parameters, and what unit each of them has.

The closed forms are those of the package ``scoringrules``, an optional dependency.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType, ModuleType
from typing import Literal

from ...errors import ConfigError, MissingDependencyError

__all__ = ["FAMILIES", "Kind", "check_family", "load_scoringrules"]

#: A place on the scale of the truth, a width, one over a width, or a pure number.
Kind = Literal["location", "scale", "rate", "number"]

_LIMITS: Mapping[str, Kind] = {"lower": "location", "upper": "location"}
_LOCATION_SCALE: Mapping[str, Kind] = {"location": "location", "scale": "scale"}
_MASSES: Mapping[str, Kind] = {"lmass": "number", "umass": "number"}
_T: Mapping[str, Kind] = {"df": "number", **_LOCATION_SCALE}
_HALVES: Mapping[str, Kind] = {"scale1": "scale", "scale2": "scale", "location": "location"}
_GAMMA: Mapping[str, Kind] = {"shape": "number", "rate": "rate", "scale": "scale"}
_EXTREME: Mapping[str, Kind] = {"shape": "number", **_LOCATION_SCALE}
_NORMAL: Mapping[str, Kind] = {"mu": "location", "sigma": "scale"}
_LOG: Mapping[str, Kind] = {"mulog": "number", "sigmalog": "number"}

#: The parameters of each family, by the names that scoringrules gives them.
FAMILIES: Mapping[str, Mapping[str, Kind]] = MappingProxyType(
    {
        "2pexponential": _HALVES,
        "2pnormal": _HALVES,
        "beta": {"a": "number", "b": "number", **_LIMITS},
        "binomial": {"n": "number", "prob": "number"},
        "clogistic": {**_LOCATION_SCALE, **_LIMITS},
        "cnormal": {**_LOCATION_SCALE, **_LIMITS},
        "csg0": {**_GAMMA, "shift": "scale"},
        "ct": {**_T, **_LIMITS},
        "exponential": {"rate": "rate"},
        "exponential2": _LOCATION_SCALE,
        "exponentialM": {"mass": "number", **_LOCATION_SCALE},
        "gamma": _GAMMA,
        "gev": _EXTREME,
        "gpd": {**_EXTREME, "mass": "number"},
        "gtclogistic": {**_LOCATION_SCALE, **_LIMITS, **_MASSES},
        "gtcnormal": {**_LOCATION_SCALE, **_LIMITS, **_MASSES},
        "gtct": {**_T, **_LIMITS, **_MASSES},
        "hypergeometric": {"m": "number", "n": "number", "k": "number"},
        "laplace": _LOCATION_SCALE,
        "logistic": _NORMAL,
        "loglaplace": {"locationlog": "number", "scalelog": "number"},
        "loglogistic": _LOG,
        "lognormal": _LOG,
        "negbinom": {"n": "number", "prob": "number", "mu": "number"},
        "normal": _NORMAL,
        "poisson": {"mean": "number"},
        "t": _T,
        "tlogistic": {**_LOCATION_SCALE, **_LIMITS},
        "tnormal": {**_LOCATION_SCALE, **_LIMITS},
        "tt": {**_T, **_LIMITS},
        "uniform": {"min": "location", "max": "location", **_MASSES},
    }
)


def check_family(family: str, parameters: Mapping[str, object]) -> Mapping[str, Kind]:
    """Return what the parameters of a family are.

    Raises
    ------
    ConfigError
        Another family, or a parameter that it does not have.

    Examples
    --------
    >>> check_family("gamma", {"shape": 2.0})["rate"]
    'rate'
    """
    if family not in FAMILIES:
        raise ConfigError(f"unknown family {family!r}; the known ones are {', '.join(FAMILIES)}.")
    kinds = FAMILIES[family]
    other = [name for name in parameters if name not in kinds]
    if other or not parameters:
        raise ConfigError(
            f"the family {family!r} has the parameters {', '.join(kinds)}; found "
            f"{', '.join(parameters) or 'none'}."
        )
    return kinds


def load_scoringrules() -> ModuleType:
    """Import scoringrules.

    Raises
    ------
    MissingDependencyError
        It is not installed.
    """
    try:
        import scoringrules  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingDependencyError(
            "closed forms of distributions other than the normal one, and scores of several "
            "variables at once, are those of scoringrules, which is not installed. Install it: "
            "pip install 'xearth[scores]'."
        ) from error
    return scoringrules
