"""Hindcasts on disk: written block by block, in parallel, and taken up again after a stop.

While a hindcast is written it lies in ``NAME.zarr.incomplete``, never under its own name::

    NAME.zarr.incomplete/
        store/          the Zarr store, all its labels and the blocks written so far
        request.json    what is being written; there once the labels are
        done/00000      one empty file for each block, made after the block is on disk

A process that is killed leaves a block without its file in ``done``, and that block is made again.
When all are there, the metadata are consolidated and ``store`` is renamed to ``NAME.zarr``: who
finds a store under that name finds all of it. Nothing in it depends on the clock or on how often
the writing was taken up, so the store is the same byte for byte. Blocks survive the death of all
processes; after a power failure write anew (``resume=False``). One writer at a time: a second one
writes the same bytes, so it does no harm, but it may stop with an error.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from ..cf.discover import discover
from ..cf.writer import checked_target, from_cf, to_cf
from ..constraints.audit import audit_attrs
from ..errors import DataTypeError, SourceError, XearthError
from .fingerprint import fingerprint

__all__ = ["write_hindcast"]

REQUEST = "xearth_request"
START = "forecast_reference_time"
CHUNK_BYTES = 16 * 2**20
_POLL = 0.2  # seconds between two looks at what is done
_UNSTABLE = ("history",)  # attributes that tell the time of the day


def write_hindcast(
    hindcast: xr.DataArray | xr.Dataset,
    path: str | os.PathLike[str],
    *,
    resume: bool = True,
    progress: bool = False,
) -> Path:
    """Write a lazy hindcast to a Zarr store, block by block, so that it can be taken up again.

    The blocks are computed and written in parallel by the Dask scheduler in use (on a cluster
    every worker must see the path). Stop it in any way and call it again with the same hindcast:
    finished blocks are not computed again, and the store is the same as without the stop. Until
    all is done it lies in ``NAME.zarr.incomplete``.

    Constraints that a hindcast was asked to hold are audited when all blocks are there, and the
    audit is written into the attributes (if leads or cells that they ask for were cut off, the
    attributes go on saying that it is not computed).

    Parameters
    ----------
    hindcast : DataArray or Dataset (init, lead, ...)
        Such as :func:`xearth.hindcast` gives; one Dask block of starts is the unit of work. What
        was written is known again by the names of its Dask arrays, which hold the content of
        arrays in memory, and path and time of files. (Arrays without such a name, of
        ``dask.delayed`` or of a function that is not importable, are taken up in the same
        session only, with the same object.)
    path : path
        Ends in ``.zarr``. The layout is that of :func:`xearth.to_cf`; read it back with
        :func:`xearth.from_cf`.
    resume : bool
        Whether to go on with what an earlier call left; else begin anew, and replace a finished
        store at the end.
    progress : bool
        Show a progress bar with the time that is left.

    Returns
    -------
    Path
        Of the finished store.

    Raises
    ------
    SourceError
        The path has another ending or its folder is missing, or what lies there is another
        hindcast (another model, seed, history, other starts, members, leads, labels, blocks or
        values), or cannot be known to be the same; the message names what differs. Nothing is
        computed before.
    DataTypeError
        The values are not lazy.
    AxisError
        There are no starts or leads.
    MissingDependencyError
        Zarr is not installed.

    Examples
    --------
    >>> import tempfile
    >>> from xearth.cf.writer import from_cf
    >>> from xearth.data.sources import samples
    >>> from xearth.forecasting.hindcast import hindcast
    >>> from xearth.reference.persistence import Persistence
    >>> sst = samples.open("kaplan_sst")
    >>> model = Persistence.fit(sst.sel(time=slice("1950", "1981")), horizon=3)
    >>> hc = hindcast(sst, model, init=slice("1990-01", "1991-12"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     back = from_cf(write_hindcast(hc, folder + "/hc.zarr")).load()
    >>> bool((back.ssta == hc).sum() == hc.notnull().sum())
    True
    """
    target = checked_target(path)
    if target is None or target.suffix != ".zarr":
        raise SourceError(f"{str(path)!r}: expected a name that ends in .zarr for a hindcast.")
    laid = _laid_out(hindcast)
    work = _Work(target, laid, _request(hindcast, laid))
    if work.is_finished(resume=resume):
        return target
    work.prepare(resume=resume)
    work.run(progress=progress)
    return work.finish()


def _laid_out(hindcast: xr.DataArray | xr.Dataset) -> xr.Dataset:
    """Return the layout of the file, lazily, with the encoding of a Zarr store."""
    discover(hindcast, require=("init", "lead"))
    laid = to_cf(hindcast, history="written by xearth.write_hindcast")
    # what depends on the clock would make two equal hindcasts differ
    laid.attrs["history"] = "written by xearth.write_hindcast"
    for variable in laid.data_vars.values():
        variable.attrs = {k: v for k, v in variable.attrs.items() if k not in _UNSTABLE}
    block = START if START in laid.dims else None
    fields = {n: v for n, v in laid.data_vars.items() if _is_field(v, block)}
    if not fields or any(v.chunks is None for v in fields.values()):
        raise DataTypeError(
            f"a hindcast to write block by block must be lazy, but {list(laid.data_vars)} hold "
            "values in memory (or none). Make it with xearth.hindcast, chunk it with "
            ".chunk(init=12), or write what is in memory with xearth.to_cf."
        )
    for name, variable in fields.items():
        whole: dict[Any, int] = dict.fromkeys(variable.dims, -1)
        if block is not None:
            whole[block] = max(variable.chunksizes[block])
        laid[name] = variable.chunk(whole)
        plain = {"dtype": variable.dtype, "chunks": _chunks(laid[name], block)}
        plain["_FillValue"] = variable.dtype.type(np.nan) if variable.dtype.kind == "f" else None
        laid[name].encoding = plain
    return laid


def _is_field(variable: xr.DataArray, block: str | None) -> bool:
    return variable.chunks is not None or (block is not None and block in variable.dims)


def _chunks(variable: xr.DataArray, block: str | None) -> tuple[int, ...]:
    """Return the chunks on disk: one block of starts, cut along members and leads if large."""
    sizes = [parts[0] for parts in variable.variable.chunks or ()]
    for axis, dim in enumerate(variable.dims):
        if dim == block or int(np.prod(sizes)) * variable.dtype.itemsize <= CHUNK_BYTES:
            break
        rest = int(np.prod(sizes)) // sizes[axis] * variable.dtype.itemsize
        sizes[axis] = max(1, CHUNK_BYTES // rest)
    return tuple(sizes)


def _request(hindcast: xr.DataArray | xr.Dataset, laid: xr.Dataset) -> dict[str, Any]:
    """Return what makes this hindcast another than any other, as plain values."""
    fields = laid.data_vars if isinstance(hindcast, xr.Dataset) else list(laid.data_vars)[:1]
    first = laid[next(iter(fields))]
    facts = first.attrs
    starts = np.atleast_1d(laid[START].values)
    rest = {
        str(name): (coord.dims, coord.values)
        for name, coord in laid.coords.items()
        if name not in (START, "time", "realization", "forecast_period")
    }
    told = {k: v for k, v in facts.items() if k not in ("xearth_model", "xearth_seed")}
    lazy = {n: v for n, v in laid.data_vars.items() if v.chunks is not None}
    return {
        "model": str(facts.get("xearth_model", "")),
        "seed": str(facts.get("xearth_seed", "")),
        "data": str(facts.get("xearth_data", "")),
        "starts": f"{starts.size} from {starts[0]} to {starts[-1]}, {fingerprint(starts)}",
        "members": int(laid.sizes.get("realization", 0)),
        "leads": fingerprint(laid["forecast_period"].values),
        "variables": {str(n): [str(v.dtype), *map(int, v.shape)] for n, v in lazy.items()},
        "grid": fingerprint(rest),
        "attributes": fingerprint(told),
        "block": [int(c) for c in first.encoding["chunks"]],
        "content": _content(hindcast, laid),
    }


def _content(hindcast: xr.DataArray | xr.Dataset, laid: xr.Dataset) -> str:
    """Return what the values depend on: the names of the Dask arrays, and what is in memory."""
    made = hindcast.data_vars.values() if isinstance(hindcast, xr.Dataset) else [hindcast]
    names = [str(variable.data.name) for variable in made if variable.chunks is not None]
    static = {
        str(name): (variable.dims, variable.values, dict(variable.attrs))
        for name, variable in laid.data_vars.items()
        if variable.chunks is None
    }
    return fingerprint([names, static])


@dataclass(frozen=True, eq=False)
class _Work:
    """One store in the making."""

    target: Path
    laid: xr.Dataset
    request: dict[str, Any]

    @property
    def folder(self) -> Path:
        return self.target.with_name(f"{self.target.name}.incomplete")

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def fields(self) -> list[str]:
        return [str(n) for n, v in self.laid.data_vars.items() if v.chunks is not None]

    @property
    def regions(self) -> list[slice]:
        """The starts of each block."""
        first = self.laid[self.fields[0]]
        if START not in first.dims:
            return [slice(0, 1)]
        ends = np.cumsum(first.chunksizes[START]).tolist()
        return [slice(begin, end) for begin, end in zip([0, *ends[:-1]], ends, strict=True)]

    def marker(self, number: int) -> Path:
        return self.folder / "done" / f"{number:05d}"

    def done(self) -> set[str]:
        """Return the names of the markers of the blocks that are on disk."""
        return set(os.listdir(self.folder / "done"))

    def is_finished(self, *, resume: bool) -> bool:
        """Tell whether the target is this hindcast already; refuse another one."""
        if not self.target.exists() or not resume:
            return False
        self._same(_request_of(self.target), self.target)
        _discard(self.folder)
        return True

    def prepare(self, *, resume: bool) -> None:
        """Make the labels, or find them; refuse those of another hindcast."""
        note = self.folder / "request.json"
        if resume and note.exists():
            self._same(json.loads(note.read_text()), self.folder)
            return
        _discard(self.folder)
        (self.folder / "done").mkdir(parents=True)
        template = self.laid.assign_attrs({REQUEST: json.dumps(self.request, sort_keys=True)})
        template.to_zarr(self.store, compute=False, mode="w-", consolidated=False, zarr_format=3)
        _write_text(note, json.dumps(self.request, sort_keys=True))

    def run(self, *, progress: bool) -> None:
        """Compute and write the blocks that are missing."""
        import dask

        done = self.done()
        blocks = {name: self.laid[name].data.to_delayed().ravel() for name in self.fields}
        write = dask.delayed(_write_block)
        tasks = [
            write(
                {name: blocks[name][k] for name in self.fields},
                str(self.store),
                {name: self._index(name, region) for name in self.fields},
                str(self.marker(k)),
            )
            for k, region in enumerate(self.regions)
            if self.marker(k).name not in done
        ]
        with _bar(self, len(done), shown=progress):
            dask.compute(*tasks)

    def _index(self, name: str, region: slice) -> tuple[slice, ...]:
        return tuple(region if dim == START else slice(None) for dim in self.laid[name].dims)

    def finish(self) -> Path:
        """Consolidate and give the store its name."""
        import zarr

        missing = len(self.regions) - len(self.done())
        if missing:
            raise SourceError(
                f"{str(self.folder)!r}: {missing} of {len(self.regions)} blocks are not on disk "
                "although all were written. Do all workers see this folder? Write to one they do."
            )
        for leftover in self.store.rglob("*.partial"):  # of a writer that was killed
            leftover.unlink()
        self._audit()
        with warnings.catch_warnings():  # zarr says that format 3 does not define this yet
            warnings.filterwarnings("ignore", message="Consolidated metadata", module="zarr")
            zarr.consolidate_metadata(str(self.store))
        old = self.folder / "replaced"
        if self.target.exists():
            os.replace(self.target, old)
        os.replace(self.store, self.target)
        _discard(self.folder)
        return self.target

    def _audit(self) -> None:
        """Tell in the attributes how far what is on disk is off what it was asked to hold."""
        import zarr

        attrs = {name: self.laid[name].attrs for name in self.fields}
        asked = [name for name in self.fields if _is_unaudited(attrs[name])]
        if not asked:
            return
        how: dict[str, Any] = {"consolidated": False, "decode_timedelta": False}
        with xr.open_zarr(self.store, decode_coords="all", **how) as opened:
            made = from_cf(opened)
            try:
                told = audit_attrs(made[asked[0]] if len(asked) == 1 else made[asked])
            except XearthError:  # the attributes say already that it is not computed
                return
        for name in asked:
            array = zarr.open_array(str(self.store), path=name, mode="r+", zarr_format=3)
            array.attrs.update(told)

    def _same(self, found: dict[str, Any], place: Path) -> None:
        differing = sorted(
            key
            for key in self.request.keys() | found.keys()
            if self.request.get(key) != found.get(key)
        )
        if differing:
            if differing == ["content"]:
                raise SourceError(
                    f"{str(place)!r} holds a hindcast with the same labels, but of other values, "
                    "or of values that cannot be known to be the same: the content of the history, "
                    "the forecaster or the arrays differs, or cannot be seen (a lambda, "
                    "dask.delayed, random numbers). Write to another name, or begin anew with "
                    "resume=False (--no-resume)."
                )
            differing = [key for key in differing if key != "content"]  # follows from the others
            details = "; ".join(
                f"{key}: {found.get(key)!r} there, {self.request.get(key)!r} asked for"
                for key in differing
            )
            raise SourceError(
                f"{str(place)!r} holds another hindcast: {', '.join(differing)} differ "
                f"({details}). Ask for the same, write to another name, or begin anew with "
                "resume=False (--no-resume)."
            )


def _is_unaudited(attrs: dict[str, Any]) -> bool:
    """Tell whether attributes name constraints without saying what was held."""
    return any("held" not in entry for entry in json.loads(attrs.get("xearth_audit", "[]")))


def _request_of(store: Path) -> dict[str, Any]:
    """Read what a finished store holds."""
    try:
        text = json.loads((store / "zarr.json").read_text())["attributes"][REQUEST]
        found: dict[str, Any] = json.loads(text)
    except (OSError, ValueError, LookupError) as error:
        raise SourceError(
            f"{str(store)!r} exists and was not written by write_hindcast. Write to another name, "
            "or replace it with resume=False."
        ) from error
    return found


def _write_block(
    arrays: dict[str, np.ndarray], store: str, index: dict[str, tuple[slice, ...]], marker: str
) -> None:
    """Write the values of one block, then its marker; runs on a worker."""
    import zarr

    for name, values in arrays.items():
        array = zarr.open_array(store, path=name, mode="r+", zarr_format=3)
        array[index[name]] = values
    Path(marker).touch()


def _discard(folder: Path) -> None:
    """Remove a folder so that, killed half way, it is never taken for a good one."""
    if folder.exists():
        (folder / "request.json").unlink(missing_ok=True)
        shutil.rmtree(folder)


def _write_text(path: Path, text: str) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text)
    os.replace(temporary, path)


@contextmanager
def _bar(work: _Work, already: int, *, shown: bool) -> Iterator[None]:
    """Show how many blocks are done, and when all will be, by looking at their markers."""
    from tqdm.auto import tqdm

    over = threading.Event()
    with tqdm(
        total=len(work.regions), initial=already, disable=not shown, unit="block", desc="hindcast"
    ) as bar:

        def look() -> None:
            while not over.wait(_POLL):
                bar.update(len(work.done()) - bar.n)

        watcher = threading.Thread(target=look, daemon=True)
        if shown:
            watcher.start()
        try:
            yield
        finally:
            over.set()
            if shown:
                watcher.join()
                bar.update(len(work.done()) - bar.n)
