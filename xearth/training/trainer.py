"""Train a network on tensors, over the lightning Trainer.

A run is exact: the order of the samples and the dropout of an epoch derive from (seed, epoch),
so a run that is killed and started again with the same arguments ends, on a CPU with the same
number of threads, with the same weights as one that was never stopped.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CheckpointError, MissingDependencyError, TrainingError
from ..models.heads import Head
from .examples import Examples
from .losses import Loss
from .options import TrainOptions
from .strategies import SampledLoss

__all__ = ["Trained", "train"]

LAST = "last.ckpt"


@dataclass(frozen=True)
class Trained:
    """What training gives back.

    Parameters
    ----------
    state : dict of Tensor
        The weights of the best epoch (of the last one without validation), averaged if asked.
    history : tuple of dict
        One line per epoch: epoch, loss, lr and, with validation, valid_loss.
    best_epoch : int
        The epoch, from 1, that ``state`` is of.
    """

    state: dict[str, Tensor]
    history: tuple[dict[str, float], ...]
    best_epoch: int


def train(
    network: nn.Module,
    examples: Examples,
    *,
    head: Head,
    loss: Loss | SampledLoss,
    options: TrainOptions,
    validation: Examples | None = None,
    checkpoints: str | Path | None = None,
) -> Trained:
    """Fit ``network`` to ``examples`` and return the best weights.

    Parameters
    ----------
    network : Module
        (N, T, H, W, C_in) to (N, T_out, H, W, head.out_channels(C)). It is trained in place.
    examples, validation : Examples
        Where batches come from. With validation the epoch of lowest validation loss is kept.
    head : Head
        How the output is read.
    loss : Loss or SampledLoss
        A function of (prediction, truth, weight), (N,) per sample; or one of all frames of a
        network that predicts the next frame, with what it reads
        (:mod:`xearth.training.strategies`). The latter is validated by the squared error of the
        forecast.
    options : TrainOptions
        Everything else.
    checkpoints : path, optional
        A directory. A file is written there at the end of each epoch; if it holds the file of an
        earlier, unfinished run of the same network, data size and options, that run goes on.

    Raises
    ------
    MissingDependencyError
        If pytorch-lightning is not installed.
    TrainingError
        If there are no samples, or the loss is not finite.
    ConfigError
        If the loss is of another kind of network.
    CheckpointError
        If the file in ``checkpoints`` is damaged or belongs to another run.
    """
    if len(examples) == 0:
        raise TrainingError("there are no training samples: expected at least 1, found 0")
    if options.patience is not None and validation is None:
        raise TrainingError(
            f"patience={options.patience} needs a validation set, found none: pass validation=..."
        )
    if isinstance(loss, SampledLoss):
        loss.check(network, head)
    lightning, module_room = _lightning()
    print_ = _fingerprint(network, examples, validation, (head, loss, options))
    path = None if checkpoints is None else Path(checkpoints) / LAST
    resume = _finished_or_file(path, print_, options)
    if isinstance(resume, Trained):
        return resume
    keeper = module_room.Keeper(path, print_)
    callbacks: list[Any] = [keeper]
    if options.patience is not None:
        # decided before the file of the epoch is written, so that the file knows of it
        stop = lightning.callbacks.EarlyStopping(
            "valid_loss", patience=options.patience, check_on_train_epoch_end=False
        )
        callbacks.append(stop)
    fitting = module_room.Fitting(
        network, examples, validation=validation, head=head, loss=loss, options=options
    )
    with _quiet(), torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        trainer = _trainer(lightning, options, callbacks)
        trainer.fit(fitting, ckpt_path=resume, weights_only=True)
    return Trained(keeper.best or {}, tuple(keeper.history), keeper.best_epoch)


def _lightning() -> tuple[Any, Any]:
    try:
        import pytorch_lightning
    except ImportError as error:
        raise MissingDependencyError(
            "training needs pytorch-lightning, which is not installed: pip install 'xearth[train]'"
        ) from error
    from . import module

    return pytorch_lightning, module


def _trainer(lightning: Any, options: TrainOptions, callbacks: list[Any]) -> Any:
    devices = list(options.devices) if isinstance(options.devices, tuple) else options.devices
    return lightning.Trainer(
        max_epochs=options.epochs,
        accelerator=options.accelerator,
        devices=devices,
        strategy=options.strategy,
        precision=options.precision,
        callbacks=callbacks,
        enable_progress_bar=options.progress,
        enable_model_summary=False,
        enable_checkpointing=False,
        logger=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        reload_dataloaders_every_n_epochs=1,
    )


def _fingerprint(
    network: nn.Module,
    examples: Examples,
    validation: Examples | None,
    how: tuple[Head, Loss | SampledLoss, TrainOptions],
) -> str:
    """Return a hash of what makes two runs the same run."""
    head, loss, options = how
    free = ("progress", "accelerator", "devices", "strategy")
    facts = {
        "parameters": [(name, list(p.shape)) for name, p in network.named_parameters()],
        "samples": [len(examples), 0 if validation is None else len(validation)],
        "head": repr(head),
        "loss": repr(loss),
        "options": {k: v for k, v in options.to_dict().items() if k not in free},
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _finished_or_file(
    path: Path | None, fingerprint: str, options: TrainOptions
) -> Trained | Path | None:
    """Return the result of a finished run, the file of an unfinished one, or None."""
    if path is None:
        return None
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        return None
    try:
        saved = torch.load(path, weights_only=True, map_location="cpu")
        states = saved["callbacks"]
        kept = next(state for state in states.values() if "fingerprint" in state)
    except (
        EOFError, KeyError, OSError, RuntimeError, StopIteration,
        UnpicklingError, zipfile.BadZipFile,
    ) as error:  # fmt: skip
        raise CheckpointError(
            f"{path} cannot be read as the checkpoint of a training run ({error}); "
            "remove it to start again"
        ) from error
    if kept["fingerprint"] != fingerprint:
        raise CheckpointError(
            f"{path} belongs to another run (other network, number of samples, head, loss or "
            "options): use another directory, or remove the file to start again"
        )
    stopped = any(state.get("stopped_epoch", 0) > 0 for state in states.values())
    if stopped or len(kept["history"]) >= options.epochs:
        return Trained(kept["best"], tuple(kept["history"]), kept["best_epoch"])
    return path


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep lightning's remarks about devices and loader processes from the user's screen."""
    loggers = [
        logging.getLogger(f"pytorch_lightning.utilities.{name}") for name in ("rank_zero", "seed")
    ]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="pytorch_lightning")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
