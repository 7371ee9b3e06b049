"""What each subcommand does: read its arguments, call the library, say what was written."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from ..cf.describe import describe
from ..cf.discover import discover
from ..cf.writer import to_cf
from ..constraints.constraint import Constraint
from ..data.windows import Window
from ..errors import ConfigError, TimeAxisError
from ..forecasting.fit import fit
from ..forecasting.forecaster import NetworkForecaster
from ..forecasting.io import load
from ..forecasting.multi import MultiForecaster
from ..forecasting.recipe import Recipe
from .demo import run_demo
from .files import apart, open_dataset, open_field, picture, with_suffix, writable
from .nowcast import FILES as NOWCAST_FILES
from .nowcast import run_nowcast
from .whatif import FILES as WHATIF_FILES
from .whatif import run_whatif

if TYPE_CHECKING:
    import argparse

    from ..reference.protocol import Forecaster

__all__ = ["DEMOS", "EPOCHS", "Demo", "demo", "forecast", "info", "train", "version"]


def version() -> str:
    """Return name and version of the installed package."""
    package = __name__.partition(".")[0]
    return f"{package} {sys.modules[package].__version__}"


@dataclass(frozen=True)
class Demo:
    """A demo: what it shows, what it starts from, and what it writes.

    Parameters
    ----------
    summary : str
        A line of help.
    init : str
        Last observed step where none is asked for.
    files : mapping of str to str
        Names of the files written, by what they are.
    run : callable
        Takes init, what was asked for on the command line, and the paths.
    options : tuple of str
        Which of the options that some demos lack it has.
    members : int, optional
        Of the ensemble where none are asked for; None: that depends on the model.
    """

    summary: str
    init: str
    files: Mapping[str, str]
    run: Callable[[str, argparse.Namespace, dict[str, Path]], None]
    options: tuple[str, ...] = ()
    members: int | None = 20


#: Options that not all demos have, and what is said where one has not.
_LACKING = {"epochs": "trains nothing", "model": "has its own models"}


def _enso(init: str, asked: argparse.Namespace, paths: dict[str, Path]) -> None:
    epochs = EPOCHS if asked.epochs is None else asked.epochs
    run_demo(init=init, members=asked.members, epochs=epochs, **paths)


def _nowcast(init: str, asked: argparse.Namespace, paths: dict[str, Path]) -> None:
    run_nowcast(init=init, members=asked.members, paths=paths)


def _whatif(init: str, asked: argparse.Namespace, paths: dict[str, Path]) -> None:
    run_whatif(init=init, members=asked.members, model=asked.model, paths=paths)


#: Length of the short training of the ENSO demo.
EPOCHS = 2
#: By name; the first is run where none is named.
DEMOS: Mapping[str, Demo] = {
    "enso": Demo(
        "El Nino from sea-surface temperature: train for a short while, forecast, compare",
        "1997-06",
        {"netcdf": "enso_forecast.nc", "figure": "enso_forecast.png"},
        _enso,
        options=("epochs",),
    ),
    "nowcast": Demo(
        "rain of the next hour from radar: every forecast of one event, scored side by side",
        "2010-08-26T04:30",
        NOWCAST_FILES,
        _nowcast,
    ),
    "whatif": Demo(
        "the same hour of rain, were it much weaker or stronger: futures that hold an intensity",
        "2010-08-26T04:30",
        WHATIF_FILES,
        _whatif,
        options=("model",),
        members=None,
    ),
}


def demo(arguments: argparse.Namespace) -> None:
    """Run a demo and write its files."""
    one = DEMOS[arguments.name]
    for name, words in _LACKING.items():
        value = getattr(arguments, name)
        if value is not None and name not in one.options:
            raise ConfigError(
                f"--{name} {value}: the demo {arguments.name!r} {words}; leave it out"
            )
    if arguments.members is None:
        arguments.members = one.members
    paths = {key: writable(arguments.output_dir / name) for key, name in one.files.items()}
    init = one.init if arguments.init is None else arguments.init
    one.run(init, arguments, paths)


def info(arguments: argparse.Namespace) -> None:
    """Print what is recognized in a file."""
    if arguments.variable is None:
        dataset = open_dataset(arguments.file)
        print(describe(dataset))
    else:
        print(describe(open_field(arguments.file, arguments.variable)))


def train(arguments: argparse.Namespace) -> None:
    """Train a network on a file and save it."""
    from ..models.config import EarthformerConfig
    from ..models.heads import LowRankGaussian, Point

    output = with_suffix(writable(arguments.output), (".safetensors",), "--output")
    apart({"--output": output}, [arguments.file])
    field = open_field(arguments.file, arguments.variable)
    window = Window(history=arguments.history, horizon=arguments.horizon)
    learn = between(field, None, arguments.train_until)
    choose = between(field, arguments.validate.start, arguments.validate.stop)
    changes = {} if arguments.width is None else {"base_units": arguments.width}
    recipe = Recipe(
        head=LowRankGaussian(arguments.rank) if arguments.rank else Point(),
        season=True,
        name=output.stem,
    )
    forecaster = fit(
        EarthformerConfig.for_data(field, window, like=arguments.like, **changes), learn,
        window=window,
        validation=choose, epochs=arguments.epochs, seed=arguments.seed, recipe=recipe,
    )  # fmt: skip
    forecaster.save(output)
    print(f"wrote {output}")


def forecast(arguments: argparse.Namespace) -> None:
    """Forecast from a file, write CF, and draw maps if asked to."""
    output = with_suffix(writable(arguments.output), (".nc", ".zarr"), "--output")
    drawn = None if arguments.plot is None else picture(arguments.plot)
    apart({"--output": output, "--plot": drawn}, [arguments.file, arguments.model])
    forecaster = load(arguments.model)
    past: Any = history_for(forecaster, arguments.file, arguments.variable)
    if drawn is not None and isinstance(forecaster, MultiForecaster):
        raise ConfigError(
            f"--plot {drawn}: maps need a field, and {forecaster.name!r} forecasts index series. "
            "Leave it out; xearth.plotting.plume(index, obs) draws one of them."
        )
    wanted = {"init": arguments.init, "members": arguments.members, "seed": arguments.seed}
    asked = _constraints(arguments)
    if asked:
        result = past.earthformer.forecast(forecaster, **wanted, **asked)
        print(result.attrs["xearth_constraints"])
    else:
        result = forecaster.forecast(past, **wanted)
    if isinstance(result, xr.Dataset) and len(result.data_vars) == 1:
        (result,) = result.data_vars.values()
    what = result.name if isinstance(result, xr.DataArray) else ", ".join(map(str, result))
    to_cf(result, output, title=f"Forecast of {what} by {forecaster.name}")
    print(f"wrote {output}: {_sizes(result)}")
    if drawn is not None:
        from ..plotting.maps import maps

        maps(result, title=f"{forecaster.name}: mean of the members").savefig(drawn, dpi=150)
        print(f"wrote {drawn}")


def _constraints(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what is asked of a forecast: constraints from files of JSON, and the way."""
    if not arguments.constraint:
        if arguments.impose is not None:
            raise ConfigError(
                f"--impose {arguments.impose} says how to impose constraints, and there are none. "
                "Give --constraint FILE, or leave it out."
            )
        return {}
    read = [Constraint.from_json(path.read_text("utf-8")) for path in arguments.constraint]
    way = {} if arguments.impose is None else {"impose": arguments.impose}
    return {"constraints": read, **way}


def history_for(
    forecaster: Forecaster, path: Path, variable: str | None
) -> xr.DataArray | xr.Dataset:
    """Return what of a file a forecaster reads: one variable, or all if it reads several.

    Raises
    ------
    SourceError
        As :func:`xearth.cli.files.open_field`.
    """
    several = isinstance(forecaster, MultiForecaster)
    if isinstance(forecaster, NetworkForecaster):
        several = len(forecaster.normalizer.variables) > 1 or forecaster.indices is not None
    if several and variable is None:
        return open_dataset(path)
    return open_field(path, variable)


def between(field: xr.DataArray, first: str | None, last: str | None) -> xr.DataArray:
    """Return the part of `field` from one date to another, both included.

    Raises
    ------
    TimeAxisError
        If a date cannot be read, or nothing lies between them.
    """
    name = discover(field, require=("time",)).time
    span = f"{_stamp(field[name][0])} to {_stamp(field[name][-1])}"
    ordered = field.sortby(name)
    try:
        part = ordered.sel({name: slice(first, last)})
    except (ValueError, KeyError, TypeError) as error:
        raise TimeAxisError(
            f"cannot read the dates {first!r} to {last!r} ({error}); expected YYYY, YYYY-MM or "
            f"YYYY-MM-DD, within the field's {span}"
        ) from error
    if part.sizes[name] == 0:
        raise TimeAxisError(
            f"no time step from {first or 'the start'} to {last or 'the end'}; the field goes "
            f"from {span}"
        )
    return part


def _stamp(value: xr.DataArray) -> str:
    return str(value.dt.strftime("%Y-%m-%d").item())


def _sizes(field: Any) -> str:
    return ", ".join(f"{dim} {size}" for dim, size in field.sizes.items())
