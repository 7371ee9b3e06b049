"""xearth: labelled Earth-system forecasts and an honest verdict on them.

Importing the package registers the ``.earthformer`` accessor on
:class:`xarray.DataArray` and :class:`xarray.Dataset`. Heavy libraries (torch, pint,
matplotlib) load when they are first needed.

Examples
--------
>>> import xearth
>>> sst = xearth.samples.open("kaplan_sst")
>>> sst.earthformer.axes.time
'time'
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import errors
from .accessor import DataArrayAccessor, DatasetAccessor
from .cf.discover import Axes, discover
from .cf.writer import from_cf, to_cf
from .data.grid import Grid
from .data.normalize import Normalizer
from .data.sources import samples
from .data.windows import Window
from .errors import XearthError, XearthWarning
from .fields.climatology import anomaly, climatology
from .fields.regions import NINO3, NINO4, NINO12, NINO34, TROPICS, Box, box_mean
from .forecasting.fit import fit
from .forecasting.forecaster import NetworkForecaster, forecast
from .forecasting.hindcast import hindcast
from .forecasting.io import load
from .reference.climatology import Climatology
from .reference.lim import LIM
from .reference.persistence import DampedPersistence, Persistence
from .units import Q
from .verification.align import observations_at
from .verification.deterministic import bias, correlation, mae, rmse
from .verification.indices import nino_index, relative_nino34, running_mean
from .verification.probabilistic import crps_ensemble, spread, spread_skill_ratio
from .verification.skill import skill_by_lead

if TYPE_CHECKING:
    from .models.config import EarthformerConfig
    from .models.earthformer import Earthformer

__version__ = "0.1.0"

__all__ = [
    "LIM",
    "NINO3",
    "NINO4",
    "NINO12",
    "NINO34",
    "TROPICS",
    "Axes",
    "Box",
    "Climatology",
    "DampedPersistence",
    "DataArrayAccessor",
    "DatasetAccessor",
    "Earthformer",
    "EarthformerConfig",
    "Grid",
    "NetworkForecaster",
    "Normalizer",
    "Persistence",
    "Q",
    "Window",
    "XearthError",
    "XearthWarning",
    "anomaly",
    "bias",
    "box_mean",
    "climatology",
    "correlation",
    "crps_ensemble",
    "discover",
    "errors",
    "fit",
    "forecast",
    "from_cf",
    "hindcast",
    "load",
    "mae",
    "nino_index",
    "observations_at",
    "relative_nino34",
    "rmse",
    "running_mean",
    "samples",
    "skill_by_lead",
    "spread",
    "spread_skill_ratio",
    "to_cf",
]


def __getattr__(name: str) -> Any:
    """Load the names that need torch on first use (PEP 562)."""
    if name == "Earthformer":
        from .models.earthformer import Earthformer

        return Earthformer
    if name == "EarthformerConfig":
        from .models.config import EarthformerConfig

        return EarthformerConfig
    raise AttributeError(f"module 'xearth' has no attribute {name!r}; it offers {__all__}")


def __dir__() -> list[str]:
    """List the public names, those not loaded yet included."""
    return sorted({*globals(), *__all__})
