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

import dataclasses
import math
from collections.abc import Mapping, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import CheckpointError, ConfigError, MissingDataError
from ..checkpoints import load_tensors, require_weights, save_tensors
from .config import PreDiffConfig
from .guidance import AlignmentGuidance, Guidance, guided
from .noise import MemberNoise
from .official import Weights, load_alignment, load_autoencoder, load_denoiser
from .official_arguments import official_config
from .sampler import make_sampler, sample
from .stage import Sampler
from .trunk import check_field

__all__ = ["PreDiff"]

KIND = "PreDiff"
FORMAT = 1
# Memory that a step may take, and how many copies of the finest features of a member it holds:
# measured at the published size, 0.05 GB a member, where the features take 3.4 MB.
BUDGET = 2 * 2**30
COPIES = 16


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

    def encode(self, x: Tensor) -> Tensor:
        """Return the latent frames (N, T, h, w, c) of frames (N, T, H, W, C): their means."""
        return self.config.latent_scale * self.autoencoder.encode(x)[0]

    def decode(self, z: Tensor) -> Tensor:
        """Return the frames (N, T, H, W, C) of latent frames (N, T, h, w, c)."""
        return self.autoencoder.decode(z / self.config.latent_scale)

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
            If the model has no alignment network.
        """
        if self.alignment is None:
            raise ConfigError(
                "this model has no alignment network: load one with from_official(alignment=...), "
                "or guide through the decoder"
            )
        return AlignmentGuidance(network=self.alignment, target=target, **options)

    def sample(
        self,
        context: Tensor,
        *,
        members: int = 1,
        steps: int = 20,
        sampler: str | Sampler = "dpm-solver++",
        seed: int = 0,
        guidance: Guidance | Sequence[Guidance] = (),
        batch: int | None = None,
    ) -> Tensor:
        """Draw forecasts.

        Member k of seed s is drawn from noise of its own: it is the same for any number of
        members, any batch, and any contexts beside its own (up to rounding). Members of one
        number have the same noise for all contexts. Under ``torch.autocast`` the networks run
        in half precision, and the walk in float32.

        Parameters
        ----------
        context : Tensor
            (N, T, H, W, C), finite.
        members : int
            Forecasts for each context, M.
        steps : int
            Steps of a sampler given by name.
        sampler : str or Sampler
            A name in :data:`xearth.models.prediff.sampler.SAMPLERS`, or one with its options.
        seed : int
            Of the noise.
        guidance : Guidance or sequence of Guidance
            What steers sampling, the innermost first; the same for all contexts.
        batch : int, optional
            Forecasts that are drawn at once; as many as 2 GiB hold by default.

        Returns
        -------
        Tensor
            (N, M, T_out, H, W, C).

        Raises
        ------
        GridMismatchError
            If the context is not of the shape the model was built for.
        MissingDataError
            If the context is not finite.
        ConfigError
            If a number is too small, or a sampler unknown.
        SamplingError
            If a value became NaN or infinite: with the step and the likely cause.
        """
        self._check(context, members=members, batch=batch)
        walk = make_sampler(sampler, steps=steps) if isinstance(sampler, str) else sampler
        guidances = guidance if isinstance(guidance, Sequence) else (guidance,)
        size = self._batch() if batch is None else batch
        pairs = [(n, k) for n in range(len(context)) for k in range(members)]
        forecasts = []
        with torch.no_grad():
            latent = self.encode(context)
            for start in range(0, len(pairs), size):
                rows, numbers = zip(*pairs[start : start + size], strict=True)
                z = self._draw(latent[list(rows)], numbers, walk, guidances, seed)
                forecasts.append(self.decode(z))
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
        network = partial(self._denoise, context)
        predict = guided(process.predictor(network), *guidances)
        return sample(sampler, process, predict, noise)

    def _denoise(self, context: Tensor, z: Tensor, t: Tensor) -> Tensor:
        return self.denoiser(z, t, context).to(z.dtype)

    def _batch(self) -> int:
        T, H, W = self.config.denoiser.grid
        features = math.prod((T, H, W, self.config.denoiser.base_units, 4))
        return max(1, BUDGET // (COPIES * features))

    def _check(self, context: Tensor, *, members: int, batch: int | None) -> None:
        for name, value in (("members", members), ("batch", 1 if batch is None else batch)):
            if value < 1:
                raise ConfigError(f"{name} must be at least 1; got {value!r}")
        check_field("context", context, self.config.input_shape)
        bad = int((~context.isfinite()).sum())
        if bad or not len(context):
            raise MissingDataError(
                f"the context {tuple(context.shape)} holds {bad} values that are missing or "
                "infinite, expected one or more contexts without any: fill them first"
            )
