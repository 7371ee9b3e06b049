"""The ``.earthformer`` accessor: a thin, stateless door to the public functions.

Each method is one call of a function that also exists without the accessor; heavy libraries load
inside the methods that need them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import xarray as xr

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Unpack

    import torch

    from .cf.discover import Axes
    from .constraints.functional import Index
    from .data.grid import Grid
    from .data.loader import Windows
    from .data.normalize import Normalizer
    from .data.tensors import LabeledTensor
    from .data.windows import Window
    from .fields.regions import Box
    from .forecasting.steering import Asked
    from .plotting.methods import Plots, ScorePlots
    from .reference.protocol import Forecaster
    from .verification.one_pass.verify import Comparison, Scores

__all__ = ["DataArrayAccessor", "DatasetAccessor"]


class _Accessor:
    """What labeled arrays and datasets share.

    Nothing happens at construction: xarray caches accessors while attributes change.
    """

    def __init__(self, obj: Any) -> None:
        self._obj = obj

    def __repr__(self) -> str:
        from .cf.describe import describe

        return str(describe(self._obj))

    def _repr_html_(self) -> str:
        from .cf.describe import describe

        return describe(self._obj)._repr_html_()

    @property
    def axes(self) -> Axes:
        """Which dimensions and coordinates are time, latitude, longitude, lead ...

        Examples
        --------
        >>> import xearth
        >>> xearth.samples.open("oisst").earthformer.axes.lat
        'lat'
        """
        from .cf.discover import discover

        return discover(self._obj, require=())

    @property
    def grid(self) -> Grid:
        """All that is needed to come back from a tensor; see :class:`~xearth.Grid`."""
        from .data.grid import Grid

        return Grid.from_array(self._obj)

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """Rows, columns and channels (H, W, C) of one time step as a tensor."""
        _, _, H, W, C = self.grid.sizes
        return H, W, C

    def to_tensor(self, *, device: Any = None, dtype: torch.dtype | None = None) -> LabeledTensor:
        """Return the values as a tensor (N, T, H, W, C) that knows its way back.

        Parameters
        ----------
        device : torch.device or str, optional
        dtype : torch.dtype, optional
            By default the dtype of the data; packed integers stay integers.

        Returns
        -------
        LabeledTensor
            ``.tensor``, ``.mask`` (True = valid), ``.grid`` and ``.to_array()``.

        Examples
        --------
        >>> import xarray as xr, xearth
        >>> sst = xearth.samples.open("kaplan_sst").isel(time=slice(0, 3)).load()
        >>> t = sst.earthformer.to_tensor()
        >>> tuple(t.tensor.shape)
        (1, 3, 12, 22, 1)
        >>> xr.testing.assert_identical(t.to_array(), sst)
        """
        from .data.tensors import to_tensor

        return to_tensor(self._obj, device=device, dtype=dtype)

    def windows(
        self, window: Window, *, normalizer: Normalizer | None = None, init: Any = None
    ) -> Windows:
        """Return all training windows by number; see :class:`~xearth.data.loader.Windows`.

        Examples
        --------
        >>> import xearth
        >>> sst = xearth.samples.open("kaplan_sst")
        >>> len(sst.earthformer.windows(xearth.Window(history=12, horizon=18)))
        1747
        """
        from .data.loader import Windows

        return Windows(self._obj, window, normalizer=normalizer, init=init)

    def box_mean(self, box: Box) -> Any:
        """Return the area mean over a box, cells at its edge in part.

        Examples
        --------
        >>> import xearth
        >>> sst = xearth.samples.open("oisst")
        >>> warm_pool = xearth.Box(-5, 5, 150, 170, "warm pool")
        >>> round(float(sst.earthformer.box_mean(warm_pool).mean()), 1)
        29.4
        """
        from .fields.regions import box_mean

        return box_mean(self._obj, box)

    def regrid(self, like: xr.DataArray | xr.Dataset, *, minimum_covered: float = 0.5) -> Any:
        """Return means over the cells of another grid; see :func:`xearth.regrid`.

        Examples
        --------
        >>> import xearth
        >>> kaplan = xearth.samples.open("kaplan_sst")
        >>> xearth.samples.open("oisst").earthformer.regrid(like=kaplan).shape
        (180, 12, 22)
        """
        from .fields.regrid import regrid

        return regrid(self._obj, like, minimum_covered=minimum_covered)

    def forecast(
        self,
        model: Forecaster | str | Path,
        *,
        init: Any = None,
        members: int | None = None,
        seed: int = 0,
        leads: int | None = None,
        progress: bool = False,
        **asked: Unpack[Asked],
    ) -> Any:
        """Forecast from this field, or these; see :func:`xearth.forecast`.

        Parameters
        ----------
        model : Forecaster, path or str
            A forecaster, the path of a saved one, or the name of a shipped one.
        init : str, datetime, slice or sequence, optional
            Starts, each the last observed step; by default the last step of the field.
        members : int, optional
            Size of the ensemble; by default the mean forecast.
        seed : int
            Member k of a seed is the same for any number of members.
        leads : int, optional
            How many leads to return; by default all that the model forecasts.
        progress : bool
            Show a bar over the starts.
        constraints, impose : optional
            What each member shall hold, and the way to impose it.

        Returns
        -------
        DataArray or Dataset
            (init, lead[, member], y, x) in the units and orientation of this field; of another
            product or grid than the model's, anomalies on the model's grid.

        Examples
        --------
        >>> import xearth
        >>> sst = xearth.samples.open("kaplan_sst")
        >>> fc = sst.earthformer.forecast("enso-small", init="1997-06", members=4)
        >>> dict(fc.sizes)
        {'init': 1, 'lead': 18, 'member': 4, 'lat': 12, 'lon': 22}
        """
        from .forecasting.forecaster import forecast

        options = {"init": init, "members": members, "seed": seed, "leads": leads}
        return forecast(self._obj, model, progress=progress, **options, **asked)

    def hindcast(
        self,
        model: Forecaster | str | Path,
        *,
        init: Any = None,
        members: int | None = None,
        seed: int = 0,
        starts_per_block: int | None = None,
        **asked: Unpack[Asked],
    ) -> Any:
        """Return forecasts from many starts, lazily; see :func:`xearth.hindcast`.

        Examples
        --------
        >>> import xearth
        >>> sst = xearth.samples.open("kaplan_sst")
        >>> hc = sst.earthformer.hindcast("enso-small", init=slice("1982-01", "1983-12"))
        >>> hc.sizes["init"], hc.chunks is not None
        (24, True)
        """
        from .forecasting.hindcast import hindcast

        options = {"init": init, "members": members, "seed": seed}
        return hindcast(self._obj, model, starts_per_block=starts_per_block, **options, **asked)

    def to_cf(self, path: str | Path | None = None, **attributes: str) -> xr.Dataset:
        """Return a CF-1.11 dataset, written to ``path`` if given; see :func:`xearth.to_cf`.

        Parameters
        ----------
        path : str or Path, optional
            ``.nc`` for NetCDF4, ``.zarr`` for Zarr.
        **attributes : str
            Global attributes such as ``title``.
        """
        from .cf.writer import to_cf

        return to_cf(self._obj, path, **attributes)


@xr.register_dataset_accessor("earthformer")
class DatasetAccessor(_Accessor):
    """``Dataset.earthformer``: variables are channels, or scores."""

    @property
    def plot(self) -> ScorePlots:
        """Figures of scores: ``plot.skill("rmse")``, ``plot.start_months("correlation")`` ..."""
        from .plotting.methods import ScorePlots

        return ScorePlots(self._obj)


@xr.register_dataarray_accessor("earthformer")
class DataArrayAccessor(_Accessor):
    """``DataArray.earthformer``: one field or index."""

    def climatology(
        self,
        *,
        base: tuple[str, str] | slice | None = None,
        frequency: Literal["month", "dayofyear"] = "month",
    ) -> xr.DataArray:
        """Return the mean for each calendar month or day; see :func:`xearth.climatology`."""
        from .fields.climatology import climatology

        return climatology(self._obj, base=base, frequency=frequency)

    def anomaly(
        self,
        clim: xr.DataArray | None = None,
        *,
        base: tuple[str, str] | slice | None = None,
    ) -> xr.DataArray:
        """Return the departure from a climatology; see :func:`xearth.anomaly`.

        Examples
        --------
        >>> import xearth
        >>> anomaly = xearth.samples.open("oisst").earthformer.anomaly(base=("1982", "1996"))
        >>> anomaly.attrs["units_metadata"]
        'temperature: difference'
        """
        from .fields.climatology import anomaly

        return anomaly(self._obj, clim, base=base)

    def from_anomaly(self, clim: xr.DataArray) -> xr.DataArray:
        """Return anomalies with their climatology added; see :func:`xearth.from_anomaly`."""
        from .fields.climatology import from_anomaly

        return from_anomaly(self._obj, clim)

    def nino(self, region: str | Box = "nino34") -> xr.DataArray:
        """Return a Nino index: nino12, nino3, nino34, nino4 or a box of your own."""
        from .verification.scores.indices import nino_index

        return nino_index(self._obj, region)

    def nino34(self) -> xr.DataArray:
        """Return the Nino3.4 index (5S-5N, 170W-120W) of a field or a forecast.

        Examples
        --------
        >>> import xearth
        >>> sst = xearth.samples.open("kaplan_sst")
        >>> round(float(sst.earthformer.nino34().sel(time="1997-12").item()), 1)
        2.6
        """
        from .verification.scores.indices import nino_index

        return nino_index(self._obj, "nino34")

    def relative_nino34(
        self,
        *,
        base: tuple[str, str] | slice | None = None,
        tropics: Box | None = None,
        scale: float | None = None,
    ) -> xr.DataArray:
        """Return Nino3.4 relative to the tropics; see :func:`xearth.relative_nino34`."""
        from .fields.regions import TROPICS
        from .verification.scores.indices import relative_nino34

        return relative_nino34(self._obj, base=base, tropics=tropics or TROPICS, scale=scale)

    def running_mean(
        self,
        months: int = 3,
        *,
        align: Literal["trailing", "centered"] = "trailing",
        history: xr.DataArray | None = None,
    ) -> xr.DataArray:
        """Return means over neighboring months along time or lead; see ``running_mean``."""
        from .verification.scores.indices import running_mean

        return running_mean(self._obj, months, align=align, history=history)

    def sensitivity(
        self, model: Forecaster | str | Path, *, of: Index, init: Any = None
    ) -> xr.DataArray:
        """Return the derivative of a forecast index by this field; see :func:`xearth.sensitivity`.

        Examples
        --------
        >>> import xearth
        >>> sst = xearth.samples.open("kaplan_sst").sel(time=slice("1990", "1996"))
        >>> sst.earthformer.sensitivity("enso-small", of=xearth.Nino34(lead=6)).dims
        ('init', 'lag', 'lat', 'lon')
        """
        from .forecasting.sensitivity import sensitivity

        return sensitivity(self._obj, model, of=of, init=init)

    def verify(
        self,
        truth: xr.DataArray,
        scores: Scores = ("rmse",),
        *,
        by: str | Sequence[str] = "lead",
        weights: Any = "area",
        regions: Any = None,
        climatology: xr.DataArray | None = None,
        thresholds: Any = None,
        **comparison: Unpack[Comparison],
    ) -> xr.Dataset:
        """Return scores of this forecast at its valid times; see :func:`xearth.verify`.

        Examples
        --------
        >>> import xearth
        >>> sst = xearth.samples.open("kaplan_sst")
        >>> model = xearth.Persistence.fit(sst.sel(time=slice("1950", "1981")), horizon=3)
        >>> hc = sst.earthformer.hindcast(model, init=slice("1982-01", "1983-12"))
        >>> hc.earthformer.verify(sst, ["rmse", "nino34_correlation"]).nino34_correlation.dims
        ('lead',)
        """
        from .verification.one_pass.verify import verify

        return verify(
            self._obj,
            truth,
            scores,
            by=by,
            weights=weights,
            regions=regions,
            climatology=climatology,
            thresholds=thresholds,
            **comparison,
        )

    @property
    def plot(self) -> Plots:
        """Figures of this field or forecast: ``plot.maps()``, ``plot.plume(obs=...)``."""
        from .plotting.methods import Plots

        return Plots(self._obj)
