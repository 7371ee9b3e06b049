"""Golden vectors of PreDiff: its networks, their layers and losses, and how it is evaluated.

Weights are made by the recipe of the index under the official names, and replaced by stored ones
where a case holds some. :data:`CASES` maps the start of a case's name to its runner, which takes a
:class:`Case` and returns the pairs (found, expected).
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from golden_diffusion import DIFFUSION
from golden_diffusion import Case as DiffusionCase
from golden_result import Result, relative_error, threads
from torch import Tensor, nn

from xearth.models.checkpoints import Renamed, load_official_state, official_name, official_state
from xearth.models.layers import PatchMerging3D, Upsample3D
from xearth.models.prediff.autoencoder import Autoencoder
from xearth.models.prediff.layers import AttentionPool, TimeResidual, sinusoids
from xearth.models.prediff.official_arguments import (
    alignment_config,
    autoencoder_config,
    denoiser_config,
)
from xearth.models.prediff.official_names import ALIGNMENT_NAMES, AUTOENCODER_NAMES, DENOISER_NAMES
from xearth.training.autoencoder_losses import AutoencoderLoss, hinge, kl_divergence, logistic
from xearth.training.patchgan import Discriminator

__all__ = ["CASES", "Case", "Pairs", "alignment", "denoiser", "prediff", "with_recipe"]

Pairs = Sequence[tuple[Any, Any]]
Network = TypeVar("Network", bound=nn.Module)
TABLES = ("relative_position_bias_table", "_embed.weight", "positional_embedding")


def weight(name: str, shape: tuple[int, ...]) -> Tensor:
    """Return a parameter by the recipe of the index."""
    n = np.random.RandomState(zlib.crc32(name.encode()) % 2**32).standard_normal(shape)
    if any(part in name for part in TABLES):
        w = 0.1 * n
    elif len(shape) >= 2:
        w = n / np.sqrt(np.prod(shape[1:]))
    else:
        w = 0.05 * n if name.endswith("bias") else 1.0 + 0.1 * n
    return torch.from_numpy(w.astype(np.float16).astype(np.float32))


def with_recipe(
    network: Network, names: Renamed = (), stored: Mapping[str, Any] | None = None
) -> Network:
    """Return a network with weights by the recipe, or stored ones, in evaluation mode."""
    state = official_state(network, names)
    for ours, parameter in network.named_parameters():
        name = official_name(ours, names)
        state[name] = weight(name, tuple(parameter.shape))
    for name, value in (stored or {}).items():
        state[name] = torch.from_numpy(np.asarray(value)).to(state[name].dtype)
    load_official_state(network, state, names)
    return network.eval()


@dataclass(frozen=True)
class Case:
    """One case: its folder and those beside it, constructor arguments, arrays as stored."""

    folder: Path
    cases: Mapping[str, Any]
    name: str
    arrays: Mapping[str, np.ndarray]

    @classmethod
    def open(cls, folder: Path, cases: Mapping[str, Any], name: str) -> Case:
        with np.load(folder / cases[name]["file"], allow_pickle=False) as archive:
            return cls(folder, cases, name, {key: archive[key] for key in archive.files})

    @property
    def kwargs(self) -> Mapping[str, Any]:
        """Constructor arguments."""
        arguments: Mapping[str, Any] = self.cases[self.name]["constructor_kwargs"]
        return arguments

    @property
    def weights(self) -> dict[str, np.ndarray]:
        """Stored weights under their official names."""
        return {k[2:]: v for k, v in self.arrays.items() if k.startswith("w.")}

    def beside(self, name: str) -> Case:
        """Return another case of the same index."""
        return self.open(self.folder, self.cases, name)

    def tensor(self, name: str) -> Tensor:
        """Return an array as a tensor, float16 as float32."""
        value = torch.from_numpy(np.asarray(self.arrays[name]))
        return value.float() if value.is_floating_point() else value

    def known(self, found: Mapping[str, Any]) -> Pairs:
        """Pair what was found with the stored arrays of the same names; LookupError for none."""
        pairs = [(value, self.arrays[k]) for k, value in found.items() if k in self.arrays]
        if not pairs:
            raise LookupError(f"holds {sorted(self.arrays)[:8]}, none of {sorted(found)}")
        return pairs


def _fields(frames: Tensor) -> Tensor:
    """View frames (B, C, H, W) as (B, 1, H, W, C)."""
    return frames.permute(0, 2, 3, 1)[:, None]


def _frames(fields: Tensor) -> Tensor:
    """View (B, 1, H, W, C) as frames (B, C, H, W): the inverse of :func:`_fields`."""
    return fields[:, 0].permute(0, 3, 1, 2)


# --- networks ---------------------------------------------------------------------------------


def denoiser(case: Case) -> nn.Module:
    """Return the denoiser of a case."""
    return with_recipe(denoiser_config(case.kwargs).build(), DENOISER_NAMES, case.weights)


def alignment(case: Case) -> nn.Module:
    """Return the alignment network of a case."""
    return with_recipe(alignment_config(case.kwargs).build(), ALIGNMENT_NAMES, case.weights)


def _autoencoder(case: Case) -> Autoencoder:
    network = autoencoder_config(case.kwargs).build()
    return with_recipe(network, AUTOENCODER_NAMES, case.weights)


def _denoise(case: Case) -> Pairs:
    found = denoiser(case)(case.tensor("z"), case.tensor("t"), case.tensor("cond"))
    return case.known({"eps": found})


def _align(case: Case) -> Pairs:
    return case.known({"u": alignment(case)(case.tensor("z"), case.tensor("t"))})


def _vae(case: Case) -> Pairs:
    network = _autoencoder(case)
    mean, log_variance = network.encode(_fields(case.tensor("x")))
    found = {
        "encoder_out": network.encoder(case.tensor("x")),
        "mean": _frames(mean),
        "logvar": _frames(log_variance),
        "std": _frames(torch.exp(0.5 * log_variance)),
        "kl": kl_divergence(mean, log_variance)[:, 0],
        "decoded_mode": _frames(network.decode(mean)),
    }
    if "eps" in case.arrays:
        z = mean + torch.exp(0.5 * log_variance) * _fields(case.tensor("eps"))
        found |= {"z_sample": _frames(z), "decoded_sample": _frames(network.decode(z))}
        noise = case.tensor("eps").square() + math.log(2.0 * math.pi)
        found["nll"] = 0.5 * (noise + found["logvar"]).sum(dim=(1, 2, 3))
    if "moments" in case.arrays and bool((log_variance.abs() < 20).all()):
        found["moments"] = torch.cat([found["mean"], found["logvar"]], dim=1)
    return case.known(found)


# --- layers -----------------------------------------------------------------------------------


def _times(case: Case) -> Pairs:
    widths = case.kwargs["dims"]
    return case.known({f"e{width}": sinusoids(case.tensor("t"), width) for width in widths})


def _time_block(case: Case) -> Pairs:
    k, embedded = case.kwargs, case.kwargs["use_embed"]
    block = TimeResidual(
        k["channels"],
        k["out_channels"],
        time_units=k["emb_channels"] if embedded else None,
        scale_shift=k["use_scale_shift_norm"],
    )
    with_recipe(block, DENOISER_NAMES, case.weights)
    time = block.read(case.tensor("emb")) if embedded else None
    y = block(case.tensor("x").permute(0, 2, 3, 4, 1), time)
    return case.known({"y": y.permute(0, 4, 1, 2, 3)})


def _pool(case: Case) -> Pairs:
    k = case.kwargs
    pool = AttentionPool(
        k["data_dim"], k["embed_dim"], heads=k["num_heads"], outputs=k["output_dim"]
    )
    names = [(theirs.removeprefix(".out.2"), ours.removeprefix(".pool")) for theirs, ours in _POOL]
    with_recipe(pool, names, case.weights)
    return case.known({"y": pool(case.tensor("x").mT)})


_POOL = [pair for pair in ALIGNMENT_NAMES if pair[0].startswith(".out.2.")]


def _merging(case: Case) -> Pairs:
    k = case.kwargs
    layer = PatchMerging3D(k["dim"], k["out_dim"], tuple(k["downsample"]), k["padding_type"])
    with_recipe(layer, (), case.weights)
    return case.known({"y": layer(case.tensor("x"))})


def _enlargement(case: Case) -> Pairs:
    k = case.kwargs
    layer = Upsample3D(k["dim"], k["out_dim"], tuple(k["target_size"][1:]), k["kernel_size"])
    with_recipe(layer, (), case.weights)
    return case.known({"y": layer(case.tensor("x"))})


# --- losses -----------------------------------------------------------------------------------


def _patchgan(case: Case) -> Pairs:
    k = case.kwargs
    judge = Discriminator(k["input_nc"], units=k["ndf"], layers=k["n_layers"])
    with_recipe(judge, (), case.weights)
    real, fake = (judge(_fields(case.tensor(name))) for name in ("real", "fake"))
    found = {"logits_real": real, "logits_fake": fake, "g_loss": -fake.mean()}
    return case.known(found | {"hinge": hinge(real, fake), "vanilla": logistic(real, fake)})


def _vae_loss(case: Case) -> Pairs:
    k = case.kwargs
    network = _autoencoder(case.beside("vae_small"))
    sizes = k["discriminator"]
    judge = Discriminator(k["disc_in_channels"], units=sizes["ndf"], layers=sizes["n_layers"])
    with_recipe(judge)
    loss = AutoencoderLoss(
        divergence_weight=k["kl_weight"],
        adversarial_weight=k["disc_weight"],
        adversarial_start=k["disc_start"],
    )
    x, noise = _fields(case.tensor("x")), _fields(case.tensor("eps"))
    found: dict[str, Any] = {}
    for step in (0, 5):
        with torch.enable_grad():
            terms = loss.terms(network, judge, x, noise, step=step)
        found |= {
            "rec": _frames(terms.decoded),
            f"gs{step}.total": terms.total,
            f"gs{step}.nll": terms.absolute,
            f"gs{step}.kl": terms.divergence,
            f"gs{step}.d_weight": terms.weight,
            f"gs{step}.g_loss": terms.adversarial,
            f"gs{step}.rec": (x - terms.decoded).abs().mean(),
            f"gs{step}.disc": loss.judge(judge, x, terms.decoded, step=step),
        }
    return case.known({name: value.detach() for name, value in found.items()})


# --- all cases --------------------------------------------------------------------------------

# Start of a case's name -> its runner; the longest that fits counts.
CASES: dict[str, Callable[[Case], Pairs]] = {
    "unet": _denoise,
    "align": _align,
    "vae_loss": _vae_loss,
    "vae": _vae,
    "timestep_embedding": _times,
    "temb_resblock": _time_block,
    "resblock": _time_block,
    "attention_pool3d": _pool,
    "patch_merging": _merging,
    "upsample3d": _enlargement,
    "patchgan": _patchgan,
}


def _diffused(run: Callable[[DiffusionCase], Pairs]) -> Callable[[Case], Pairs]:
    """Return the runner of a case of diffusion, which may ask for networks of other cases."""

    def network(case: Case) -> nn.Module:
        return denoiser(case) if "target_shape" in case.kwargs else alignment(case)

    return lambda case: run(
        DiffusionCase(case.name, case.kwargs, case.arrays, lambda name: network(case.beside(name)))
    )


def _runner(name: str) -> Callable[[Case], Pairs] | None:
    """Return the runner of a case, by the longest start of its name that is known."""
    runners = {start: _diffused(run) for start, run in DIFFUSION.items()} | CASES
    known = [start for start in runners if name.startswith(start)]
    return runners[max(known, key=len)] if known else None


def _result(folder: Path, cases: Mapping[str, Any], name: str) -> Result:
    run = _runner(name)
    title = f"prediff/{name}"
    if run is None:
        return Result(title, note="not a kind of case this version knows", failed=True)
    try:
        with threads(torch.get_num_threads() if "published" in name else 1), torch.no_grad():
            pairs = run(Case.open(folder, cases, name))
    except Exception as error:  # one broken case must not hide the others
        return Result(title, note=f"{type(error).__name__}: {error}".splitlines()[0], failed=True)
    worst = max(relative_error(np.asarray(found), expected) for found, expected in pairs)
    return Result(title, output=worst, note=f"{len(pairs)} arrays")


def prediff(folder: Path, index: Mapping[str, Any]) -> Iterator[Result]:
    """Run every case: evaluation, networks, layers and losses."""
    from golden_protocols import PREDIFF, guarded  # needs the library's scores

    for name, record in index["cases"].items():
        if name in PREDIFF:
            run, file = PREDIFF[name], record["file"]
            yield guarded(f"prediff/{name}", lambda r=run, f=file: r(folder, f))
        else:
            yield _result(folder, index["cases"], name)
