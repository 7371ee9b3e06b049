r"""PreDiff: forecasts drawn from a law, by diffusion in the latent space of an autoencoder.

.. math::
    z_c = s\, \mu(x_{\le 0}), \qquad z_0^{(k)} \sim p_\theta(z_0 \mid z_c), \qquad
    x^{(k)} = D\big(z_0^{(k)} / s\big), \qquad k = 0, 1, \dots

The context is encoded once, by the mean of the encoder's law; a sampler walks from noise to
clean latent fields :math:`z_0`, which are decoded. The four parts - process, denoiser, sampler,
guidance - know nothing of each other; this module joins them.

Source: Gao et al. (2023), *PreDiff: Precipitation Nowcasting with Latent Diffusion Models*,
NeurIPS.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import CheckpointError, ConfigError, SamplingError
from ..checkpoints import load_tensors, require_weights, save_tensors
from .asked import check_context, check_counts, check_walk, chosen_sampler
from .config import PreDiffConfig
from .finite import count_bad
from .guidance import AlignmentGuidance, Guidance, guided
from .noise import MemberNoise
from .official import Weights, load_alignment, load_autoencoder, load_denoiser
from .official_arguments import official_config
from .sampler import sample
from .stage import Sampler

__all__ = ["PreDiff"]

KIND = "PreDiff"
FORMAT = 1
# Memory that a step may take, and how many copies of the finest features of a member it holds:
# measured at the published size, 0.05 GB a member, where the features take 3.4 MB.
BUDGET = 2 * 2**30
COPIES = 16


@contextlib.contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Leave out what networks do in training only; their parts are as before afterwards."""
    training = [part for part in network.modules() if part.training]
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True


class PreDiff(nn.Module):
    """A latent diffusion model of what follows a context.

    Parameters
    ----------
    config : PreDiffConfig
        Sizes and choices.

    Examples
    --------
    >>> from .config import AutoencoderConfig
    >>> small = AutoencoderConfig(latent_channels=2, widths=(8, 8), layers=1, groups=4)
    >>> config = PreDiffConfig.for_shape(
    ...     (3, 8, 8, 1), (2, 8, 8, 1), autoencoder=small,
    ...     denoiser={"base_units": 8, "depth": (1,)},
    ... )
    >>> model = PreDiff(config).eval()
    >>> model.sample(torch.rand(1, 3, 8, 8, 1), members=4, steps=2).shape
    torch.Size([1, 4, 2, 8, 8, 1])
    """

    def __init__(self, config: PreDiffConfig) -> None:
        super().__init__()
        self.config = config
        self.autoencoder = config.autoencoder.build()
        self.denoiser = config.denoiser.build()
        self.alignment = None if config.alignment is None else config.alignment.build()

    @classmethod
    def from_official(
        cls,
        *,
        autoencoder: Weights,
        denoiser: Weights,
        alignment: Weights | None = None,
        config: str | Mapping[str, Any] | PreDiffConfig = "sevir_lr",
    ) -> PreDiff:
        """Load checkpoints of the reference implementation: same weights, same numbers.

        Parameters
        ----------
        autoencoder, denoiser, alignment : path or mapping
            Official ``.pt`` files, ``.ckpt`` files of the reference's trainers, ``.safetensors``
            files, or state_dicts; one ``.ckpt`` may hold several parts, and is given for each.
            Where it holds moving averages of the denoiser's weights, those are taken. No code of a
            file is run.
        config : str, mapping or PreDiffConfig
            ``sevir_lr``, or the official constructor arguments of each part by its name.

        Returns
        -------
        PreDiff
            In evaluation mode; without an alignment network where none is given.

        Raises
        ------
        CheckpointError
            If a file is not readable or of another part, or keys are missing, unknown, of a
            wrong shape or not finite.
        ConfigError
            If the configuration is unknown or impossible.

        Examples
        --------
        >>> from xearth.models.checkpoints import official_state
        >>> from xearth.models.prediff.official_names import AUTOENCODER_NAMES, DENOISER_NAMES
        >>> vae = {"in_channels": 1, "out_channels": 1, "block_out_channels": [8],
        ...        "latent_channels": 2, "norm_num_groups": 4}
        >>> unet = {"input_shape": [3, 8, 8, 2], "target_shape": [2, 8, 8, 2], "depth": [1],
        ...         "base_units": 8, "num_global_vectors": 0, "block_attn_patterns": "axial"}
        >>> config = {"autoencoder": vae, "denoiser": unet}
        >>> new = official_config(config).build()
        >>> model = PreDiff.from_official(
        ...     autoencoder=official_state(new.autoencoder, AUTOENCODER_NAMES),
        ...     denoiser=official_state(new.denoiser, DENOISER_NAMES),
        ...     config=config,
        ... )
        >>> model.alignment is None
        True
        """
        wanted = official_config(config)
        if alignment is not None and wanted.alignment is None:
            raise ConfigError(
                "weights of an alignment network are given, but no configuration of one: add "
                "'alignment' to the configuration"
            )
        model = cls.__new__(cls)
        nn.Module.__init__(model)
        aligned = wanted.alignment if alignment is not None else None
        model.config = dataclasses.replace(wanted, alignment=aligned)
        model.autoencoder = load_autoencoder(autoencoder, wanted.autoencoder)
        model.denoiser = load_denoiser(denoiser, wanted.denoiser)
        model.alignment = None
        if alignment is not None and aligned is not None:
            model.alignment = load_alignment(alignment, aligned)
        return model.eval()

    def save(self, path: str | PathLike[str]) -> Path:
        """Write configuration and weights to one safetensors file, whole or not at all.

        Raises
        ------
        CheckpointError
            If the folder does not exist.

        Examples
        --------
        >>> import tempfile
        >>> from .config import AutoencoderConfig
        >>> small = AutoencoderConfig(latent_channels=2, widths=(8,), layers=1, groups=4)
        >>> config = PreDiffConfig.for_shape((3, 8, 8, 1), (2, 8, 8, 1), autoencoder=small,
        ...                                  denoiser={"base_units": 8, "depth": (1,)})
        >>> path = PreDiff(config).save(Path(tempfile.mkdtemp()) / "model.safetensors")
        >>> PreDiff.load(path).config == config
        True
        """
        facts = {"format": FORMAT, "kind": KIND, "config": self.config.to_dict()}
        return save_tensors(path, self.state_dict(), facts)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> PreDiff:
        """Return the model that :meth:`save` wrote, in evaluation mode; no code of a file is run.

        Raises
        ------
        CheckpointError
            If there is no such file, or it is damaged, of something else, or its weights do not
            fit its configuration.

        Examples
        --------
        >>> PreDiff.load("nowhere.safetensors")
        Traceback (most recent call last):
        xearth.errors.CheckpointError: there is no file nowhere.safetensors
        """
        tensors, facts = load_tensors(path)
        if facts.get("kind") != KIND or facts.get("format") != FORMAT:
            raise CheckpointError(
                f"{path}: expected a {KIND} of format {FORMAT} as PreDiff.save writes it, found "
                f"{facts.get('kind')!r} of format {facts.get('format')!r}. Forecasters are read by "
                "xearth.load, official checkpoints by PreDiff.from_official."
            )
        try:
            config = PreDiffConfig.from_dict(facts["config"])
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(
                f"{path}: its configuration is damaged or of another version ({error!s:.200}). "
                "Write it again with PreDiff.save(path)."
            ) from error
        require_weights(lambda: config.build().state_dict(), tensors, f"{path}: the weights")
        model = config.build()
        model.load_state_dict(tensors)
        return model.eval()

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights."""
        return self.denoiser.out.weight.dtype

    def encode(self, x: Tensor) -> Tensor:
        """Return the latent frames of frames of data: the means of the encoder's law.

        Parameters
        ----------
        x : Tensor
            (N, T, H, W, C).

        Returns
        -------
        Tensor
            (N, T, h, w, c), times ``latent_scale``, in the precision of x.

        Raises
        ------
        ConfigError, GridMismatchError
            If the frames are not such as the autoencoder was built for.

        Examples
        --------
        >>> from .config import AutoencoderConfig
        >>> small = AutoencoderConfig(latent_channels=2, widths=(8, 8), layers=1, groups=4)
        >>> config = PreDiffConfig.for_shape((3, 8, 8, 1), (2, 8, 8, 1), autoencoder=small,
        ...                                  denoiser={"base_units": 8, "depth": (1,)})
        >>> model = PreDiff(config).eval()
        >>> z = model.encode(torch.rand(1, 3, 8, 8, 1))
        >>> z.shape, model.decode(z).shape
        (torch.Size([1, 3, 4, 4, 2]), torch.Size([1, 3, 8, 8, 1]))
        """
        mean: Tensor = self.autoencoder.encode(x.to(self.dtype))[0]
        return self.config.latent_scale * mean.to(x.dtype)

    def decode(self, z: Tensor) -> Tensor:
        """Return the frames of latent frames; nothing holds them to a range.

        Parameters
        ----------
        z : Tensor
            (N, T, h, w, c), times ``latent_scale``.

        Returns
        -------
        Tensor
            (N, T, H, W, C), in the precision of z.

        Raises
        ------
        GridMismatchError
            If the latent frames are not such as the autoencoder was built for.
        """
        frames: Tensor = self.autoencoder.decode((z / self.config.latent_scale).to(self.dtype))
        return frames.to(z.dtype)

    def towards(self, target: Tensor, **options: Any) -> AlignmentGuidance:
        """Return guidance by the alignment network.

        Parameters
        ----------
        target : Tensor
            (1, m): what the network shall read, on average over the frames.
        **options
            Of :class:`~xearth.models.prediff.guidance.AlignmentGuidance`.

        Raises
        ------
        ConfigError
            If the model has no alignment network, or the target is none of its readings.

        Examples
        --------
        >>> from .config import AlignmentConfig, AutoencoderConfig
        >>> small = AutoencoderConfig(latent_channels=2, widths=(8, 8), layers=1, groups=4)
        >>> config = PreDiffConfig.for_shape(
        ...     (3, 8, 8, 1), (2, 8, 8, 1), autoencoder=small,
        ...     denoiser={"base_units": 8, "depth": (1,)},
        ...     alignment=AlignmentConfig(base_units=8, input_shape=(2, 4, 4, 2), frames=2),
        ... )
        >>> model = PreDiff(config).eval()
        >>> wetter = model.towards(torch.tensor([[0.4]]), scale=10.0)
        >>> model.sample(torch.rand(1, 3, 8, 8, 1), steps=2, guidance=wetter).shape
        torch.Size([1, 1, 2, 8, 8, 1])
        """
        if self.alignment is None:
            raise ConfigError(
                "this model has no alignment network: load one with from_official(alignment=...), "
                "or guide through the decoder"
            )
        guidance = AlignmentGuidance(network=self._aligned, target=target, **options)
        wanted = (1, self.alignment.config.outputs)
        if tuple(target.shape) != wanted:
            raise ConfigError(
                f"the target has the shape {tuple(target.shape)}, expected {wanted}: one row for "
                "all forecasts, of as many numbers as the alignment network reads"
            )
        return guidance

    def sample(
        self,
        context: Tensor,
        *,
        members: int = 1,
        steps: int | None = None,
        sampler: str | Sampler | None = None,
        seed: int = 0,
        guidance: Guidance | Sequence[Guidance] = (),
        batch: int | None = None,
    ) -> Tensor:
        """Draw forecasts.

        Member k of seed s is drawn from noise of its own, the same bits for any number of members,
        any batch, and any contexts beside its own; so the forecast is the same up to the rounding
        of float32, as convolutions add in another order in another batch. Members of one number
        have the same noise for all contexts. Dropout is off, also in training mode. Under
        ``torch.autocast`` the networks run in half precision, and the walk in float32.

        Parameters
        ----------
        context : Tensor
            (N, T, H, W, C), finite floating numbers.
        members : int
            Forecasts for each context, M.
        steps : int, optional
            Steps of a sampler given by name; by default 20 of DPM-Solver++, 10 of Euler and Heun,
            50 of DDIM, 1000 of DDPM.
        sampler : str or Sampler, optional
            A name in :data:`xearth.models.prediff.sampler.SAMPLERS`, or one with its options; by
            default ``dpm-solver++``, and ``euler`` for flow matching.
        seed : int
            Of the noise.
        guidance : Guidance or sequence of Guidance
            What steers sampling, the innermost first; the same for all contexts.
        batch : int, optional
            Forecasts that are drawn at once; as many as 2 GiB hold by default.

        Returns
        -------
        Tensor
            (N, M, T_out, H, W, C), in the precision of the context.

        Raises
        ------
        GridMismatchError
            If the context is not of the shape the model was built for.
        DataTypeError
            If the context is no tensor of floating numbers.
        MissingDataError
            If the context is not finite.
        ConfigError
            If a number is too small, or a sampler or guidance is none, before anything is computed.
        SamplingError
            If a value became NaN or infinite: with the step and the likely cause.

        Examples
        --------
        >>> from .config import AutoencoderConfig
        >>> small = AutoencoderConfig(latent_channels=2, widths=(8, 8), layers=1, groups=4)
        >>> config = PreDiffConfig.for_shape((3, 8, 8, 1), (2, 8, 8, 1), autoencoder=small,
        ...                                  denoiser={"base_units": 8, "depth": (1,)})
        >>> model, context = PreDiff(config).eval(), torch.rand(1, 3, 8, 8, 1)
        >>> four = model.sample(context, members=4, steps=2, seed=7)
        >>> two = model.sample(context, members=2, steps=2, seed=7, batch=1)
        >>> torch.allclose(four[:, :2], two, atol=1e-5)
        True
        """
        guidances = tuple(guidance) if isinstance(guidance, Sequence) else (guidance,)
        walk = chosen_sampler(self.config.process, sampler, steps)
        check_counts(members=members, batch=1 if batch is None else batch)
        check_walk(self.config, walk, guidances, seed)
        check_context(context, self.config.input_shape)
        size = self._batch() if batch is None else batch
        pairs = [(n, k) for n in range(len(context)) for k in range(members)]
        forecasts = []
        with _evaluating(self), torch.no_grad():
            latent = self.encode(context)
            latent = latent.to(torch.promote_types(latent.dtype, torch.float32))
            for start in range(0, len(pairs), size):
                rows, numbers = zip(*pairs[start : start + size], strict=True)
                z = self._draw(latent[list(rows)], numbers, walk, guidances, seed)
                forecasts.append(self._decoded(z).to(context.dtype))
        return torch.cat(forecasts).unflatten(0, (len(context), members))

    def _draw(
        self,
        context: Tensor,
        numbers: Sequence[int],
        sampler: Sampler,
        guidances: Sequence[Guidance],
        seed: int,
    ) -> Tensor:
        """Return clean latent forecasts of members, one for each latent context."""
        shape, process = self.config.denoiser.target_shape, self.config.process
        noise = MemberNoise(shape, numbers, seed, dtype=context.dtype, device=context.device)
        network = partial(self._denoise, context.to(self.dtype))
        predict = guided(process.predictor(network), *guidances)
        return sample(sampler, process, predict, noise)

    def _denoise(self, context: Tensor, z: Tensor, t: Tensor) -> Tensor:
        return self.denoiser(z.to(self.dtype), t, context).to(z.dtype)

    def _aligned(self, z: Tensor, t: Tensor) -> Tensor:
        if self.alignment is None:
            raise ConfigError("the alignment network of this model was taken away")
        return self.alignment(z.to(self.dtype), t).to(z.dtype)

    def _decoded(self, z: Tensor) -> Tensor:
        """Return the frames of clean latent forecasts, if they are finite."""
        frames = self.decode(z)
        if bad := count_bad(frames):
            raise SamplingError(
                f"decoding, after the last step: {bad} of {frames.numel()} values are NaN or "
                f"infinite, of latent fields that are sound (largest value {z.abs().max():.3g}). "
                "Likely cause: weights of the autoencoder that are not finite, or an overflow in "
                "half precision. Check the weights, sample in float32."
            )
        return frames

    def _batch(self) -> int:
        T, H, W = self.config.denoiser.grid
        features = math.prod((T, H, W, self.config.denoiser.base_units, 4))
        return max(1, BUDGET // (COPIES * features))
