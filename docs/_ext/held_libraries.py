"""What the server of the kernels imports: all that pages import sooner or later.

None of it starts threads or draws numbers when imported. The units are read from their definitions
here, too, which takes a second.
"""

import gc

import cf_xarray  # noqa: F401
import dask.array  # noqa: F401
import distributed  # noqa: F401
import ipykernel.kernelapp  # noqa: F401
import IPython.core.completer  # noqa: F401
import matplotlib.pyplot  # noqa: F401
import netCDF4  # noqa: F401
import scipy.ndimage
import scipy.stats  # noqa: F401
import torch  # noqa: F401
import zarr  # noqa: F401

import xearth.cli.main
import xearth.forecasting.forecaster
import xearth.plotting
import xearth.verification  # noqa: F401
from xearth.units import registry

registry()
gc.collect()
gc.freeze()  # forks need not look at what they share
