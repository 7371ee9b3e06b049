"""Entry point of the command ``xearth``."""

from __future__ import annotations

import argparse
import sys
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from ..cf.leads import COUNTINGS
from ..errors import XearthError, XearthWarning
from ..verification.scores.indices import REGIONS
from .commands import DEMOS, EPOCHS, demo, forecast, info, train, version
from .evaluation import hindcast, verify

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main", "parser"]


def _files(name: str) -> str:
    """Return the names of what a demo writes, in words."""
    *names, last = DEMOS[name].files.values()
    return f"{', '.join(names)} and {last}"


DESCRIPTION = """\
Forecasts of labeled Earth-system fields with cuboid-attention networks.

  xearth demo        the whole path on real data in a minute: start here
  xearth info        what xearth sees in a NetCDF or Zarr file
  xearth forecast    an ensemble forecast from a file and a trained model
  xearth train       train a model on your own file
  xearth hindcast    forecasts from many starts, written block by block
  xearth verify      scores of a hindcast against observations
"""

DEMO = f"""\
Show a whole job on real data that ship with xearth. Every step is a call of a public function.

{chr(10).join(f"  xearth demo {name:9} {one.summary}" for name, one in DEMOS.items())}

enso opens a real sea-surface-temperature record (Kaplan, tropical Pacific), trains a network on it
for a short while to show how, loads the model that comes with xearth, forecasts, and sets its skill
on 1982-2003 beside two linear inverse models, both persistences and climatology, with intervals.
It takes half a minute on two cores and writes {_files("enso")}.

nowcast opens frames of the Dutch weather radars, forecasts the next hour with all that there is,
from the last frame as it is to the trained model, and sets CSI, MSE, CRPS and spread side by side.
It takes about a minute and writes {_files("nowcast")}.

whatif asks the same hour to be far weaker or stronger than usual, n = -4 to 4 standard deviations
of the climatology of its intensity, and shows futures that hold that, how probable each is, and
whether they are still rain. A diffusion model draws them, which takes some minutes; members of
--model nowcast-small are brought there by a factor in one. It writes {_files("whatif")}.
"""

INFO = """\
Print what xearth sees in a file: axes and how they were recognized, orientation, longitude
convention, calendar, time step, gaps, units. Nothing is read beyond coordinates.

example:
  xearth info sst.nc
  xearth info sst.nc --variable sst
"""

TRAIN = """\
Train a network on a field (time, latitude, longitude) and save it as one file.

The years up to --train-until are learned from; those of --validate choose when to stop. Keep
later years for the verdict: a model is not to be judged by years that helped to make it.

example:
  xearth train sst.nc --variable sst --history 12 --horizon 18 \\
      --train-until 1981-12 --validate 1982-01:1989-12 --epochs 20 --output sst.safetensors
"""

FORECAST = """\
Forecast from a file with a trained model: the name of one that comes with xearth (enso-small)
or the path of a file that `xearth train` wrote. The field must be on the model's grid, in
units that can be converted to the model's.

example:
  xearth forecast sst.nc --model enso-small --init 1997-06 --output fc.nc --plot fc.png
"""


HINDCAST = """\
Forecast from many starts of a file and write them to a Zarr store, a few starts at a time and in
parallel. Stop it when you like: the same command goes on where it stopped, and what it writes is
the same as without the stop. Until all is done the store is called OUTPUT.incomplete.

example:
  xearth hindcast sst.nc --model enso-small --init 1982-01:2001-12 --members 20 \\
      --output hindcast.zarr
"""

VERIFY = """\
Score a hindcast against observations in one pass, with as little memory as a few blocks take.
The hindcast may come from `xearth hindcast` or from an archive (CF, climpred, NMME, C3S, S2S ...);
observations are a series in time on the same grid, in units that convert. A quoted pattern
("hc_*.nc") is a hindcast in several files.

Scores are named as in xearth.verify; crps is short for crps_ensemble (crps_fair is the other).

example:
  xearth verify hindcast.zarr sst.nc --scores crps,acc --by lead --output scores.nc \\
      --plot skill.png
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` and return its exit status.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name. Default: those of the process.

    Returns
    -------
    int
        0: done. 2: the input cannot be used; one line on standard error says why
        (``--debug`` shows the traceback). argparse itself exits with 2 on wrong usage.
    """
    arguments = parser().parse_args(argv)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            arguments.run(arguments)
    except (XearthError, OSError) as error:
        if arguments.debug:
            traceback.print_exc()
        print(f"xearth {arguments.command}: {one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"xearth {arguments.command}: interrupted", file=sys.stderr)
        return 130
    return 0


def one_line(error: BaseException) -> str:
    """Return the message of `error` without line breaks, its type if it has no message.

    Examples
    --------
    >>> one_line(FileNotFoundError(2, "No such file or directory", "a.nc"))
    "[Errno 2] No such file or directory: 'a.nc'"
    """
    return " ".join(str(error).split()) or type(error).__name__


def _show_warning(  # noqa: PLR0917 - the signature of warnings.showwarning
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print what xearth wants a user to know as one line; the rest is for developers."""
    if issubclass(category, XearthWarning):
        print(f"note: {one_line(Warning(str(message)))}", file=sys.stderr)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    top = argparse.ArgumentParser(
        prog="xearth", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("--version", action="version", version=version())
    subparsers = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_demo(_command(subparsers, "demo", DEMO, "the whole path on real data", demo))
    _add_info(_command(subparsers, "info", INFO, "what xearth sees in a file", info))
    _add_train(_command(subparsers, "train", TRAIN, "train a model on a file", train))
    _add_forecast(_command(subparsers, "forecast", FORECAST, "forecast from a file", forecast))
    _add_hindcast(
        _command(subparsers, "hindcast", HINDCAST, "forecasts from many starts", hindcast)
    )
    _add_verify(_command(subparsers, "verify", VERIFY, "scores of a hindcast", verify))
    return top


def _command(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    description: str,
    summary: str,
    run: object,
) -> argparse.ArgumentParser:
    """Add a subcommand that calls `run` with the parsed arguments."""
    command = subparsers.add_parser(
        name,
        description=description,
        help=summary,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run)
    command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return command


def _add_demo(command: argparse.ArgumentParser) -> None:
    first = next(iter(DEMOS))
    inits = ", ".join(f"{one.init} of {name}" for name, one in DEMOS.items())
    command.add_argument(
        "name", nargs="?", choices=tuple(DEMOS), default=first,
        help="which demo (default: %(default)s)",
    )  # fmt: skip
    command.add_argument(
        "--init", metavar="DATE",
        help=f"last observed step; the forecast starts after it (default: {inits})",
    )  # fmt: skip
    command.add_argument(
        "--members", type=positive, metavar="N",
        help="members of the ensemble (default: 20; 4 of each future that is drawn, of whatif)",
    )  # fmt: skip
    command.add_argument(
        "--model", metavar="NAME",
        help="radar model of whatif: one that ships, or a file (default: the first that ships)",
    )  # fmt: skip
    command.add_argument(
        "--epochs", type=positive, metavar="N",
        help=f"length of the short training, of enso (default: {EPOCHS})",
    )  # fmt: skip
    command.add_argument(
        "--output-dir", type=Path, default=Path(), metavar="DIR",
        help="where the files are written (default: the current directory)",
    )  # fmt: skip


def _add_file(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", metavar="FILE", help="a NetCDF file or a Zarr store")
    command.add_argument(
        "--variable", metavar="NAME", help="the variable; needed if the file holds several"
    )


def _add_info(command: argparse.ArgumentParser) -> None:
    _add_file(command)


def _add_train(command: argparse.ArgumentParser) -> None:
    _add_file(command)
    command.add_argument(
        "--history", type=positive, default=12, metavar="STEPS",
        help="time steps the network sees (default: %(default)s)",
    )  # fmt: skip
    command.add_argument(
        "--horizon", type=positive, default=18, metavar="STEPS",
        help="time steps it forecasts (default: %(default)s)",
    )  # fmt: skip
    command.add_argument(
        "--train-until", required=True, metavar="DATE", help="last date to learn from"
    )
    command.add_argument(
        "--validate", required=True, type=period, metavar="FROM:TO",
        help="dates that choose when to stop, after --train-until",
    )  # fmt: skip
    command.add_argument(
        "--epochs", type=positive, default=20, metavar="N",
        help="passes over the training data at most (default: %(default)s)",
    )  # fmt: skip
    command.add_argument(
        "--like", default="icar_enso", metavar="NAME",
        help="published set-up to size for this grid (default: %(default)s)",
    )  # fmt: skip
    command.add_argument(
        "--width", type=positive, metavar="N",
        help="channels of the network, a multiple of 16 (default: as published)",
    )  # fmt: skip
    command.add_argument(
        "--rank", type=whole, default=8, metavar="K",
        help="patterns that make the members of an ensemble; 0: no ensemble (default: %(default)s)",
    )  # fmt: skip
    command.add_argument("--seed", type=whole, default=0, help="random seed (default: %(default)s)")
    command.add_argument(
        "--output", type=Path, default=Path("model.safetensors"), metavar="PATH",
        help="where the model is saved (default: %(default)s)",
    )  # fmt: skip


def _add_forecast(command: argparse.ArgumentParser) -> None:
    _add_file(command)
    command.add_argument(
        "--model", default="enso-small", metavar="NAME_OR_PATH",
        help="a model that comes with xearth, or a file (default: %(default)s)",
    )  # fmt: skip
    command.add_argument(
        "--init", metavar="DATE", help="last observed step to use (default: the last in the file)"
    )
    command.add_argument(
        "--members", type=positive, default=20, metavar="N",
        help="members of the ensemble (default: %(default)s)",
    )  # fmt: skip
    command.add_argument("--seed", type=whole, default=0, help="random seed (default: %(default)s)")
    command.add_argument(
        "--output", type=Path, default=Path("forecast.nc"), metavar="PATH",
        help="CF file to write, .nc or .zarr (default: %(default)s)",
    )  # fmt: skip
    command.add_argument(
        "--constraint", type=Path, action="append", metavar="FILE",
        help="JSON that Constraint.to_json() returned, which every member shall hold; repeatable",
    )  # fmt: skip
    command.add_argument(
        "--impose", metavar="WAY", help="how constraints are imposed (default: the model's best)"
    )
    command.add_argument("--plot", type=Path, metavar="PATH", help="also draw maps into this file")


def _add_hindcast(command: argparse.ArgumentParser) -> None:
    _add_file(command)
    command.add_argument(
        "--model", default="enso-small", metavar="NAME_OR_PATH",
        help="a model that comes with xearth, or a file (default: %(default)s)",
    )  # fmt: skip
    command.add_argument(
        "--init", type=starts, metavar="FROM:TO",
        help="starts, each the last observed step; an end may be left out (default: all)",
    )  # fmt: skip
    command.add_argument(
        "--members", type=positive, metavar="N",
        help="members of the ensemble (default: the mean forecast alone)",
    )  # fmt: skip
    command.add_argument("--seed", type=whole, default=0, help="random seed (default: %(default)s)")
    command.add_argument(
        "--starts-per-block", type=positive, metavar="N",
        help="starts that are made and written together (default: 16, or as fit into 128 MiB)",
    )  # fmt: skip
    command.add_argument(
        "--output", "-o", type=Path, default=Path("hindcast.zarr"), metavar="PATH",
        help="Zarr store to write (default: %(default)s)",
    )  # fmt: skip
    command.add_argument(
        "--resume", action=argparse.BooleanOptionalAction, default=True,
        help="go on with what an earlier run left, or begin anew (default: go on)",
    )  # fmt: skip
    command.add_argument(
        "--progress", action=argparse.BooleanOptionalAction,
        help="show a progress bar and the time left (default: on a terminal)",
    )  # fmt: skip


def _add_verify(command: argparse.ArgumentParser) -> None:
    command.add_argument("forecast", metavar="FORECAST", help="hindcast: NetCDF, Zarr or a pattern")
    command.add_argument("observations", metavar="OBS", help="observations: NetCDF or Zarr")
    command.add_argument("--variable", metavar="NAME", help="of the hindcast, if it holds several")
    command.add_argument(
        "--member", metavar="NAME",
        help="dimension of the members, such as model (default: recognized)",
    )  # fmt: skip
    command.add_argument(
        "--counting", choices=COUNTINGS,
        help="how the file labels the period that begins at the start: 0, 1 or 0.5 (default: as "
        "it says itself)",
    )  # fmt: skip
    command.add_argument(
        "--obs-variable", metavar="NAME",
        help="of the observations (default: that of the hindcast, or the only one)",
    )  # fmt: skip
    command.add_argument(
        "--scores", type=names, default=["rmse"], metavar="A,B",
        help="for example crps,acc,rmse,spread (default: rmse)",
    )  # fmt: skip
    command.add_argument(
        "--by", type=names, default=["lead"], metavar="A,B",
        help="lead, init, month, season, year ...: one score for each (default: lead)",
    )  # fmt: skip
    command.add_argument(
        "--weights", choices=("area", "none"), default="area",
        help="of the cells (default: %(default)s)",
    )  # fmt: skip
    command.add_argument("--region", choices=sorted(REGIONS), help="only the cells in this box")
    command.add_argument(
        "--base", type=period, metavar="FROM:TO",
        help="years of the observations that make the climatology, for acc of absolute values; "
        "take them from before the judged years",
    )  # fmt: skip
    _add_events(command)
    command.add_argument(
        "--output", "-o", type=Path, metavar="PATH", help="write the scores: .nc or .zarr"
    )
    command.add_argument("--plot", type=Path, metavar="PATH",
        help="draw the scores by lead, or by month and lead",
    )  # fmt: skip


def _add_events(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--threshold", action="append", metavar="'5 mm/h'",
        help="of events, with a unit, for csi, pod ...; may be given several times",
    )  # fmt: skip
    command.add_argument(
        "--op", choices=(">=", ">"), default=">=",
        help="an event is a value at or above its threshold, or above it (default: %(default)s)",
    )  # fmt: skip
    command.add_argument(
        "--levels", type=fractions, default=[0.5], metavar="P,P",
        help="of the central intervals of interval_coverage and interval_width (default: 0.5)",
    )  # fmt: skip


def names(text: str) -> list[str]:
    """Return "a,b" as a list of names, or tell argparse what is wrong.

    Examples
    --------
    >>> names("crps, acc")
    ['crps', 'acc']
    """
    found = [part.strip() for part in text.split(",")]
    if not all(found):
        raise argparse.ArgumentTypeError(f"expected names between commas, found {text!r}")
    twice = [name for name in dict.fromkeys(found) if found.count(name) > 1]
    if twice:
        raise argparse.ArgumentTypeError(f"expected each name once, found {', '.join(twice)} twice")
    return found


def fractions(text: str) -> list[float]:
    """Return "0.5,0.9" as numbers, or tell argparse what is wrong.

    Examples
    --------
    >>> fractions("0.5,0.9")
    [0.5, 0.9]
    """
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected numbers between commas, such as 0.5,0.9; found {text!r}"
        ) from None


def starts(text: str) -> slice | str:
    """Return "1982-01:" as a slice of dates, one date as it is.

    Examples
    --------
    >>> starts("1982-01:2001-12"), starts(":1990"), starts("1997-06")
    (slice('1982-01', '2001-12', None), slice(None, '1990', None), '1997-06')
    """
    first, colon, last = text.partition(":")
    return slice(first or None, last or None) if colon else text


def positive(text: str) -> int:
    """Return a whole number above zero, or tell argparse what is wrong.

    Examples
    --------
    >>> positive("12")
    12
    """
    return _number(text, 1, "above zero")


def whole(text: str) -> int:
    """Return a whole number, zero or above, or tell argparse what is wrong.

    Examples
    --------
    >>> whole("0")
    0
    """
    return _number(text, 0, "of zero or above")


def _number(text: str, least: int, words: str) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"expected a whole number {words}, found {text!r}")
    return int(text)


def period(text: str) -> slice:
    """Return "1982-01:1989-12" as a slice of dates.

    Examples
    --------
    >>> period("1982-01:1989-12")
    slice('1982-01', '1989-12', None)
    """
    first, colon, last = text.partition(":")
    if not (first and colon and last):
        raise argparse.ArgumentTypeError(
            f"expected FROM:TO, for example 1982-01:1989-12, found {text!r}"
        )
    return slice(first, last)
