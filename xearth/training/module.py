"""The lightning side of training; imported only when a network is trained (extra ``train``)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset

from ..errors import TrainingError
from ..models.heads import Head, Prediction
from .ema import warmed_average
from .examples import EpochBatches, Examples, TrainingBatch
from .losses import MSE, Loss
from .options import TrainOptions
from .strategies import SampledLoss

__all__ = ["Fitting", "Keeper"]


def _constant(network: nn.Module, decay: float) -> AveragedModel:
    return AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay))


_AVERAGES: Mapping[str, Callable[[nn.Module, float], AveragedModel]] = {
    "constant": _constant,
    "warmed": warmed_average,
}


class _Batches(Dataset[TrainingBatch]):
    """Maps a list of indices to a batch, so that a loader never collates single samples."""

    def __init__(self, examples: Examples) -> None:
        self.examples = examples

    def __getitem__(self, indices: list[int]) -> TrainingBatch:
        return self.examples.batch(indices)

    def __len__(self) -> int:
        return len(self.examples)


class Fitting(lightning.LightningModule):
    """Steps the optimizer over batches cut in micro-batches; validates once per epoch.

    Parameters
    ----------
    network : Module
        (N, T, H, W, C_in) to (N, T_out, H, W, head.out_channels(C)).
    examples, validation : Examples
        ``validation`` may be None.
    head, loss, options
        See :func:`xearth.training.trainer.train`.
    """

    def __init__(
        self,
        network: nn.Module,
        examples: Examples,
        *,
        validation: Examples | None,
        head: Head,
        loss: Loss | SampledLoss,
        options: TrainOptions,
    ) -> None:
        super().__init__()
        # each batch is one optimizer step whatever the number of micro-batches
        self.automatic_optimization = False
        self.network = network
        self.average = (
            None if options.ema is None else _AVERAGES[options.averaging](network, options.ema)
        )
        self.examples, self.validation = examples, validation
        self.head, self.loss, self.options = head, loss, options
        self._losses: list[Tensor] = []
        self._seen = 0

    @property
    def best_network(self) -> nn.Module:
        """The network that is validated and kept: the average when there is one."""
        return self.network if self.average is None else self.average.module

    def _loader(self, examples: Examples, seed: int | None) -> DataLoader[TrainingBatch]:
        order = EpochBatches(
            len(examples),
            self.options.batch_size,
            seed=seed,
            rank=self.trainer.global_rank,
            world=self.trainer.world_size,
        )
        order.set_epoch(self.current_epoch)
        return DataLoader(_Batches(examples), sampler=order, batch_size=None)

    def train_dataloader(self) -> DataLoader[TrainingBatch]:
        """Return the batches of the current epoch."""
        return self._loader(self.examples, self.options.seed)

    def val_dataloader(self) -> DataLoader[TrainingBatch] | list[Any]:
        """Return the validation batches, in order."""
        return [] if self.validation is None else self._loader(self.validation, None)

    def configure_optimizers(self) -> Any:
        """Return the published optimizer and schedule."""
        schedule = self.options.schedule
        optimizer = schedule.optimizer(self.network)
        samples = -(-len(self.examples) // self.trainer.world_size)
        return {
            "optimizer": optimizer,
            "lr_scheduler": schedule.scheduler(optimizer, self.options.steps(samples)),
        }

    def on_train_epoch_start(self) -> None:
        """Forget the losses of the epoch before."""
        self._losses, self._seen = [], 0

    def _seed(self, batch_idx: int) -> torch.Generator:
        """Seed dropout from (seed, epoch, step, device), so that a resumed run repeats it.

        Return a generator of the same origin, for what else is drawn.
        """
        where = [self.current_epoch, batch_idx, self.trainer.global_rank]
        entropy = np.random.SeedSequence([self.options.seed, *where])
        dropout, other = (int(word) for word in entropy.generate_state(2))
        if self.device.type == "cpu":
            # the seeding of all devices notes the stack for each that is not there: slow, and kept
            torch.default_generator.manual_seed(dropout)
        else:
            torch.manual_seed(dropout)
        return torch.Generator().manual_seed(other)

    def _losses_of(
        self, batch: TrainingBatch, batch_idx: int
    ) -> Iterator[tuple[TrainingBatch, Tensor]]:
        """Yield the pieces of a batch and their losses; what is drawn is drawn for all of it."""
        generator, size = self._seed(batch_idx), self.options.micro_batch
        if not isinstance(self.loss, SampledLoss):
            for piece in batch.pieces(size):
                yield piece, self._loss(self.network, piece)
            return
        iteration = self.current_epoch * int(self.trainer.num_training_batches) + batch_idx
        keep = self.loss.draw(iteration, batch.x, batch.y, generator)
        network: Any = self.network  # of the kind that the loss has checked
        for piece, kept in zip(batch.pieces(size), keep.split(size or len(keep)), strict=True):
            yield piece, self.loss.of(network, piece.x, piece.y, kept, piece.weight)

    def _prediction(self, network: nn.Module, batch: TrainingBatch) -> Prediction:
        # the score is a difference of near numbers: in float32 even where layers run in bfloat16
        output = network(batch.x)
        if output.dtype in (torch.bfloat16, torch.float16):
            output = output.float()
        return self.head.predict(output).about(batch.guess.to(output))

    def _loss(self, network: nn.Module, batch: TrainingBatch) -> Tensor:
        prediction = self._prediction(network, batch)
        dtype = prediction.mean.dtype
        # a forecast has no true frames to read: it is judged as it will be made
        loss = MSE() if isinstance(self.loss, SampledLoss) else self.loss
        return loss(prediction, batch.y.to(dtype), batch.weight.to(dtype)).mean()

    def training_step(self, batch: TrainingBatch, batch_idx: int) -> None:
        """Take one step of the optimizer over ``batch``.

        Raises
        ------
        TrainingError
            If the loss is not finite; it names the epoch, the step and the samples.
        """
        optimizer: Any = self.optimizers()
        scheduler: Any = self.lr_schedulers()
        optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.device)
        for piece, loss in self._losses_of(batch, batch_idx):
            if not torch.isfinite(loss):
                raise TrainingError(self._where(float(loss.detach()), piece, batch_idx))
            share = len(piece.x) / len(batch.x)
            self.manual_backward(loss * share)
            total += loss.detach() * share
        if self.options.schedule.clip is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.options.schedule.clip)
        optimizer.step()
        scheduler.step()
        if self.average is not None:
            self.average.update_parameters(self.network)
        self._losses.append(total * len(batch.x))
        self._seen += len(batch.x)
        self.log("loss", total, prog_bar=True, logger=False)

    @property
    def _rate(self) -> float:
        scheduler: Any = self.lr_schedulers()
        return float(scheduler.get_last_lr()[0])

    def _where(self, loss: float, piece: TrainingBatch, batch_idx: int) -> str:
        bad = [
            name
            for name, values in (
                ("input", piece.x),
                ("truth", piece.y),
                ("first guess", piece.guess.mean),
            )
            if not bool(torch.isfinite(values).all())
        ]
        cause = (
            f"the {' and the '.join(bad)} of these samples holds values that are not finite"
            if bad
            else "its data are finite: lower the learning rate (Schedule.lr) or use precision 32"
        )
        return (
            f"the loss became {loss} in epoch {self.current_epoch + 1} of "
            f"{self.options.epochs}, step {batch_idx + 1} of the epoch, learning rate "
            f"{self._rate:.3g}, samples "
            f"{self.examples.describe(piece.indices)}; {cause}"
        )

    def validation_step(self, batch: TrainingBatch, batch_idx: int) -> None:
        """Add the validation loss of ``batch`` to that of the epoch."""
        loss = self._loss(self.best_network, batch)
        self.log(
            "valid_loss",
            loss,
            prog_bar=True,
            logger=False,
            on_epoch=True,
            sync_dist=self.trainer.world_size > 1,
            batch_size=len(batch.x),
        )

    def epoch_line(self) -> dict[str, float]:
        """Return the line of the history of the epoch that just ended."""
        loss = float(torch.stack(self._losses).sum()) / self._seen
        line = {
            "epoch": float(self.current_epoch + 1),
            "loss": loss,
            "lr": self._rate,
        }
        if self.validation is not None:
            line["valid_loss"] = float(self.trainer.callback_metrics["valid_loss"])
        return line


class Keeper(Callback):
    """Keeps the best weights and writes the file a killed run is resumed from.

    Parameters
    ----------
    path : Path or None
        Written at the end of each epoch, whole or not at all.
    fingerprint : str
        What the run is, so that another run's file is not taken for it.
    """

    def __init__(self, path: Path | None, fingerprint: str) -> None:
        self.path, self.fingerprint = path, fingerprint
        self.best: dict[str, Tensor] | None = None
        self.best_loss = float("inf")
        self.best_epoch = 0
        self.history: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        """Compare, keep and write."""
        line = module.epoch_line()
        self.history.append(line)
        loss = line.get("valid_loss", -line["epoch"])  # without validation the last epoch counts
        if loss < self.best_loss:
            self.best_loss, self.best_epoch = loss, int(line["epoch"])
            state = module.best_network.state_dict()
            self.best = {name: value.detach().cpu().clone() for name, value in state.items()}
        if self.path is not None:
            partial = self.path.with_name(self.path.name + ".partial")
            trainer.save_checkpoint(partial)
            if trainer.is_global_zero:
                os.replace(partial, self.path)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        return {
            "fingerprint": self.fingerprint,
            "best": self.best,
            "best_loss": self.best_loss,
            "best_epoch": self.best_epoch,
            "history": self.history,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up where the file was written."""
        for name in ("best", "best_loss", "best_epoch", "history"):
            setattr(self, name, state_dict[name])
