"""xearth: labeled Earth-system forecasts and an honest verdict on them.

Importing the package registers the ``.earthformer`` accessor on
:class:`xarray.DataArray` and :class:`xarray.Dataset`, and costs no more than importing xarray:
each public name loads its room when it is first used.

Examples
--------
>>> import xearth
>>> sst = xearth.samples.open("kaplan_sst")
>>> sst.earthformer.axes.time
'time'
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import errors
from .accessor import DataArrayAccessor, DatasetAccessor
from .errors import XearthError, XearthWarning

if TYPE_CHECKING:
    from .cf.conventions import as_hindcast, count_members, open_hindcast
    from .cf.discover import Axes, discover
    from .cf.nominal import decode_times
    from .cf.writer import from_cf, to_cf
    from .constraints.areal import AreaFraction, AreaMean, AreaTotal
    from .constraints.audit import audit, audit_attrs
    from .constraints.blocks import BlockMeans, FrameMeans
    from .constraints.bodies import EnergyConserved
    from .constraints.cells import AtPoints, EachCell, NonNegative
    from .constraints.constraint import All, Bound, Constraint
    from .constraints.extremes import AreaMaximum, AreaQuantile
    from .constraints.factor import ByFactor
    from .constraints.feasible import conflicts, require_feasible
    from .constraints.functional import Index, Nino3, Nino4, Nino12, Nino34
    from .constraints.intensity import IntensityAnomaly, IntensityClimatology, TransformedMean
    from .constraints.relations import BudgetClosed, Conserved, Monotone, Ordered, PersistentMask
    from .constraints.spectrum import SpectrumSlope
    from .constraints.where import Mask, Points
    from .data.grid import Grid
    from .data.normalize import Normalizer
    from .data.sources import samples
    from .data.splits import Split
    from .data.windows import Window
    from .fields.climatology import anomaly, climatology, from_anomaly
    from .fields.rain import rain_rate, reflectivity
    from .fields.regions import NINO3, NINO4, NINO12, NINO34, TROPICS, Box, box_mean
    from .fields.regrid import covered_fraction, regrid
    from .forecasting.adapt import as_history
    from .forecasting.alignment import FittedAlignment, fit_alignment
    from .forecasting.calibrate import EMOS, EnsembleDressing
    from .forecasting.firstguess import LinearGuess
    from .forecasting.fit import fit
    from .forecasting.forecaster import NetworkForecaster, forecast
    from .forecasting.hindcast import hindcast
    from .forecasting.impose import impose
    from .forecasting.indices import with_indices
    from .forecasting.io import load
    from .forecasting.recipe import Recipe
    from .forecasting.sensitivity import sensitivity
    from .forecasting.store import write_hindcast
    from .models.config import EarthformerConfig
    from .models.earthformer import Earthformer
    from .models.heads import LowRankGaussian, Point
    from .models.prediff.config import PreDiffConfig
    from .models.prediff.model import PreDiff
    from .reference.advection import Advection
    from .reference.analog import Analog
    from .reference.climatology import Climatology
    from .reference.cslim import CSLIM
    from .reference.dressed import Dressed
    from .reference.lim import LIM
    from .reference.persistence import DampedPersistence, Persistence
    from .reference.recharge import RechargeOscillator
    from .training.options import TrainOptions
    from .units import Q
    from .verification.align import observations_at
    from .verification.one_pass.verify import accumulate, verify
    from .verification.scores.deterministic import bias, correlation, mae, rmse
    from .verification.scores.indices import nino_index, relative_nino34, running_mean
    from .verification.scores.probabilistic import crps_ensemble, spread, spread_skill_ratio

__version__ = "0.1.0"

# Where each public name lives; a test keeps this equal to the imports above.
_HOMES = {
    "cf.conventions": ("as_hindcast", "count_members", "open_hindcast"),
    "cf.discover": ("Axes", "discover"),
    "cf.nominal": ("decode_times",),
    "cf.writer": ("from_cf", "to_cf"),
    "constraints.areal": ("AreaFraction", "AreaMean", "AreaTotal"),
    "constraints.audit": ("audit", "audit_attrs"),
    "constraints.blocks": ("BlockMeans", "FrameMeans"),
    "constraints.bodies": ("EnergyConserved",),
    "constraints.cells": ("AtPoints", "EachCell", "NonNegative"),
    "constraints.constraint": ("All", "Bound", "Constraint"),
    "constraints.extremes": ("AreaMaximum", "AreaQuantile"),
    "constraints.factor": ("ByFactor",),
    "constraints.feasible": ("conflicts", "require_feasible"),
    "constraints.intensity": ("IntensityAnomaly", "IntensityClimatology", "TransformedMean"),
    "constraints.relations": ("BudgetClosed", "Conserved", "Monotone", "Ordered", "PersistentMask"),
    "constraints.spectrum": ("SpectrumSlope",),
    "constraints.where": ("Mask", "Points"),
    "constraints.functional": ("Index", "Nino3", "Nino4", "Nino12", "Nino34"),
    "data.grid": ("Grid",),
    "data.normalize": ("Normalizer",),
    "data.splits": ("Split",),
    "data.windows": ("Window",),
    "fields.climatology": ("anomaly", "climatology", "from_anomaly"),
    "fields.rain": ("rain_rate", "reflectivity"),
    "fields.regions": ("NINO3", "NINO4", "NINO12", "NINO34", "TROPICS", "Box", "box_mean"),
    "fields.regrid": ("covered_fraction", "regrid"),
    "forecasting.adapt": ("as_history",),
    "forecasting.alignment": ("FittedAlignment", "fit_alignment"),
    "forecasting.calibrate": ("EMOS", "EnsembleDressing"),
    "forecasting.firstguess": ("LinearGuess",),
    "forecasting.fit": ("fit",),
    "forecasting.forecaster": ("NetworkForecaster", "forecast"),
    "forecasting.hindcast": ("hindcast",),
    "forecasting.impose": ("impose",),
    "forecasting.indices": ("with_indices",),
    "forecasting.io": ("load",),
    "forecasting.recipe": ("Recipe",),
    "forecasting.sensitivity": ("sensitivity",),
    "forecasting.store": ("write_hindcast",),
    "models.config": ("EarthformerConfig",),
    "models.earthformer": ("Earthformer",),
    "models.heads": ("LowRankGaussian", "Point"),
    "models.prediff.config": ("PreDiffConfig",),
    "models.prediff.model": ("PreDiff",),
    "reference.advection": ("Advection",),
    "reference.analog": ("Analog",),
    "reference.climatology": ("Climatology",),
    "reference.cslim": ("CSLIM",),
    "reference.dressed": ("Dressed",),
    "reference.lim": ("LIM",),
    "reference.persistence": ("DampedPersistence", "Persistence"),
    "reference.recharge": ("RechargeOscillator",),
    "training.options": ("TrainOptions",),
    "units": ("Q",),
    "verification.align": ("observations_at",),
    "verification.scores.deterministic": ("bias", "correlation", "mae", "rmse"),
    "verification.scores.indices": ("nino_index", "relative_nino34", "running_mean"),
    "verification.scores.probabilistic": ("crps_ensemble", "spread", "spread_skill_ratio"),
    "verification.one_pass.verify": ("accumulate", "verify"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "CSLIM",
    "EMOS",
    "LIM",
    "NINO3",
    "NINO4",
    "NINO12",
    "NINO34",
    "TROPICS",
    "Advection",
    "All",
    "Analog",
    "AreaFraction",
    "AreaMaximum",
    "AreaMean",
    "AreaQuantile",
    "AreaTotal",
    "AtPoints",
    "Axes",
    "BlockMeans",
    "Bound",
    "Box",
    "BudgetClosed",
    "ByFactor",
    "Climatology",
    "Conserved",
    "Constraint",
    "DampedPersistence",
    "DataArrayAccessor",
    "DatasetAccessor",
    "Dressed",
    "EachCell",
    "Earthformer",
    "EarthformerConfig",
    "EnergyConserved",
    "EnsembleDressing",
    "FittedAlignment",
    "FrameMeans",
    "Grid",
    "Index",
    "IntensityAnomaly",
    "IntensityClimatology",
    "LinearGuess",
    "LowRankGaussian",
    "Mask",
    "Monotone",
    "NetworkForecaster",
    "Nino3",
    "Nino4",
    "Nino12",
    "Nino34",
    "NonNegative",
    "Normalizer",
    "Ordered",
    "Persistence",
    "PersistentMask",
    "Point",
    "Points",
    "PreDiff",
    "PreDiffConfig",
    "Q",
    "RechargeOscillator",
    "Recipe",
    "SpectrumSlope",
    "Split",
    "TrainOptions",
    "TransformedMean",
    "Window",
    "XearthError",
    "XearthWarning",
    "accumulate",
    "anomaly",
    "as_hindcast",
    "as_history",
    "audit",
    "audit_attrs",
    "bias",
    "box_mean",
    "climatology",
    "conflicts",
    "correlation",
    "count_members",
    "covered_fraction",
    "crps_ensemble",
    "decode_times",
    "discover",
    "errors",
    "fit",
    "fit_alignment",
    "forecast",
    "from_anomaly",
    "from_cf",
    "hindcast",
    "impose",
    "load",
    "mae",
    "nino_index",
    "observations_at",
    "open_hindcast",
    "rain_rate",
    "reflectivity",
    "regrid",
    "relative_nino34",
    "require_feasible",
    "rmse",
    "running_mean",
    "samples",
    "sensitivity",
    "spread",
    "spread_skill_ratio",
    "to_cf",
    "verify",
    "with_indices",
    "write_hindcast",
]


def __getattr__(name: str) -> Any:
    """Load a public name on first use (PEP 562)."""
    if name == "samples":
        value = import_module(".data.sources.samples", __name__)
    elif name in _HOME:
        value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    else:
        raise AttributeError(f"module 'xearth' has no attribute {name!r}; it offers {__all__}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, those not loaded yet included."""
    return sorted({*globals(), *__all__})
