"""PreDiff as a whole: members, context, guidance, official files, errors."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
import torch
from safetensors.torch import save_file

from xearth.errors import (
    CheckpointError,
    ConfigError,
    DataTypeError,
    GridMismatchError,
    MissingDataError,
    SamplingError,
)
from xearth.models.checkpoints import (
    load_tensors,
    official_name,
    official_state,
    our_name,
    save_tensors,
)
from xearth.models.config_parts import GlobalVectors
from xearth.models.prediff.config import (
    AlignmentConfig,
    AutoencoderConfig,
    DenoiserConfig,
    PreDiffConfig,
)
from xearth.models.prediff.flow import FlowMatching
from xearth.models.prediff.guidance import AlignmentGuidance
from xearth.models.prediff.model import PreDiff
from xearth.models.prediff.official_arguments import (
    _ALIGNMENT_DEFAULTS,
    _AUTOENCODER_DEFAULTS,
    _DENOISER_DEFAULTS,
    _PROCESS_DEFAULTS,
    official_config,
)
from xearth.models.prediff.official_names import (
    ALIGNMENT_NAMES,
    AUTOENCODER_NAMES,
    DENOISER_NAMES,
    DIFFUSERS_NAMES,
)
from xearth.models.prediff.process import Diffusion
from xearth.models.prediff.sampler import SAMPLERS
from xearth.models.prediff.sampler_ancestral import DDIM, DDPM
from xearth.models.prediff.sampler_dpm import DPMSolver

VAE = {
    "in_channels": 1,
    "out_channels": 1,
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
    "block_out_channels": [8, 16],
    "layers_per_block": 1,
    "latent_channels": 2,
    "norm_num_groups": 4,
    "scaling_factor": 0.2,
}
UNET = {
    "input_shape": [3, 4, 6, 2],
    "target_shape": [2, 4, 6, 2],
    "base_units": 8,
    "depth": [1],
    "num_global_vectors": 0,
    "block_attn_patterns": "axial",
    "ffn_activation": "gelu",
    "conv_init_mode": "0",
}
ALIGN = {k: v for k, v in UNET.items() if k != "target_shape"} | {"input_shape": [2, 4, 6, 2]}
CONFIG = {"autoencoder": VAE, "denoiser": UNET, "alignment": ALIGN}
NAMES = {
    "autoencoder": AUTOENCODER_NAMES,
    "denoiser": DENOISER_NAMES,
    "alignment": ALIGNMENT_NAMES,
}


@pytest.fixture(scope="module")
def model():
    model = official_config(CONFIG).build()
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for p in model.parameters():
            fan = p[0].numel() if p.ndim > 1 else 1
            p.copy_(0.5 * torch.randn(p.shape, generator=generator) / fan**0.5)
    return model.eval()


@pytest.fixture(scope="module")
def states(model):
    return {part: official_state(getattr(model, part), NAMES[part]) for part in NAMES}


@pytest.fixture(scope="module")
def context():
    return torch.rand(2, 3, 8, 12, 1, generator=torch.Generator().manual_seed(1))


# --- members ----------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["dpm-solver++", "sde-dpm-solver++", "ddpm"])
def test_a_member_is_the_same_in_any_batch(model, context, sampler):
    def draw(c, members, batch):
        return model.sample(c, members=members, steps=3, seed=7, sampler=sampler, batch=batch)

    whole = draw(context, 3, None)
    assert whole.shape == (2, 3, 2, 8, 12, 1)
    for batch in (1, 4):
        torch.testing.assert_close(draw(context, 3, batch), whole, rtol=1e-4, atol=1e-4)
    fewer = draw(context[1:], 2, None)
    torch.testing.assert_close(fewer, whole[1:, :2], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(whole[0, 0], whole[0, 1], atol=1e-2)


def test_seed_and_sampler_count(model, context):
    one = context[:1]
    draws = [
        model.sample(one, steps=2, seed=0),
        model.sample(one, steps=2, seed=1),
        model.sample(one, sampler=DDIM(steps=2, eta=1.0)),
    ]
    for a, b in [(0, 1), (0, 2)]:
        assert not torch.allclose(draws[a], draws[b], atol=1e-3)


def test_context_is_encoded_once(model, context):
    frames = []
    hook = model.autoencoder.encoder.register_forward_hook(lambda *a: frames.append(len(a[1][0])))
    model.sample(context, members=4, steps=2, batch=2)
    hook.remove()
    assert sum(frames) == 2 * 3


def test_what_is_drawn_is_what_the_denoiser_knows(model, context, monkeypatch):
    # a denoiser of a law without spread: every member is its one field
    truth = torch.randn(1, 2, 4, 6, 2, generator=torch.Generator().manual_seed(3))
    process = model.config.process

    def exact(z, t, _):
        levels = [process.level(float(k)) for k in t]
        return torch.cat([process.output(z[i : i + 1], at, truth) for i, at in enumerate(levels)])

    monkeypatch.setattr(model.denoiser, "forward", exact)
    drawn = model.sample(context[:1], members=2, steps=6)
    expected = model.decode(truth)[:, None].expand(-1, 2, -1, -1, -1, -1)
    torch.testing.assert_close(drawn, expected, rtol=1e-3, atol=1e-3)


def test_half_precision_is_near(model, context):
    plain = model.sample(context[:1], steps=2)
    with torch.autocast("cpu", torch.bfloat16):
        half = model.sample(context[:1], steps=2)
    assert half.dtype == torch.float32
    assert (half - plain).abs().max() < 0.1 * plain.abs().max()
    assert not torch.equal(half, plain)


def test_the_walk_is_in_single_precision_also_where_networks_are_not(model, context, monkeypatch):
    seen = []
    inner = DPMSolver.step
    monkeypatch.setattr(DPMSolver, "step", lambda s, at: seen.append(at.z.dtype) or inner(s, at))
    guidance = model.towards(torch.ones(1, 1), scale=0.1)
    with torch.autocast("cpu", torch.bfloat16):
        model.sample(context[:1], steps=2, guidance=guidance)
    half = copy.deepcopy(model).bfloat16()
    guidance = half.towards(torch.ones(1, 1), scale=0.1)
    assert half.sample(context[:1], steps=2, guidance=guidance).dtype == torch.float32
    assert half.sample(context[:1].bfloat16(), steps=2).dtype == torch.bfloat16
    assert set(seen) == {torch.float32}


def test_sampling_is_without_dropout(context):
    unet = {**UNET, "attn_drop": 0.5, "proj_drop": 0.5, "ffn_drop": 0.5}
    fresh = official_config({**CONFIG, "denoiser": unet}).build()
    fresh.autoencoder.eval()
    with torch.no_grad():
        fresh.denoiser.out.weight.fill_(1.0)
    assert torch.equal(*(fresh.sample(context[:1], steps=2) for _ in range(2)))
    assert fresh.denoiser.training
    assert not fresh.autoencoder.training


def test_ancestral_steps_have_the_variance_of_the_process(model, context):
    process = Diffusion(v_posterior=1.0)
    wide = PreDiff(PreDiffConfig(**{**vars(model.config), "process": process})).eval()
    wide.load_state_dict(model.state_dict())
    drawn = wide.sample(context[:1], sampler="ddpm", steps=3)
    explicit = wide.sample(context[:1], sampler=DDPM(steps=3, v_posterior=1.0))
    assert torch.equal(drawn, explicit)
    assert not torch.equal(drawn, model.sample(context[:1], sampler="ddpm", steps=3))


def test_latent_scale_is_undone():
    config = official_config({"autoencoder": VAE, "denoiser": UNET, "diffusion": {}})
    scaled = PreDiff(PreDiffConfig(**{**vars(config), "latent_scale": 4.0})).eval()
    x = torch.rand(1, 3, 8, 12, 1)
    torch.testing.assert_close(scaled.encode(x), 4.0 * scaled.autoencoder.encode(x)[0])
    torch.testing.assert_close(scaled.decode(scaled.encode(x)), scaled.autoencoder(x)[0])


def test_flow_matching_samples_too(context):
    small = official_config(CONFIG)
    config = PreDiffConfig(
        autoencoder=small.autoencoder, denoiser=small.denoiser, process=FlowMatching()
    )
    model = PreDiff(config).eval()
    for sampler in (None, *SAMPLERS):
        assert model.sample(context, sampler=sampler, steps=3).isfinite().all()


def test_guidance_moves_what_the_alignment_network_reads(model, context, monkeypatch):
    read = []
    for target in (-50.0, 50.0):
        guidance = model.towards(torch.tensor([[target]]), scale=1e3)
        monkeypatch.setattr(model, "decode", lambda z: z, raising=False)
        z = model.sample(context[:1], members=4, steps=8, guidance=guidance)[0]
        read.append(model.alignment(z, torch.tensor(0.0)).mean().item())
    assert read[1] > read[0]


# --- errors before and in sampling --------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"members": 0}, "members must be at least 1"),
        ({"batch": 0}, "batch must be at least 1"),
        ({"steps": 0}, "steps=0"),
        ({"sampler": "magic"}, "magic"),
        ({"seed": -1}, "no negative number"),
        ({"members": 1.5}, "whole number; got 1.5"),
        ({"steps": True}, "steps=True"),
        ({"seed": 0.5}, "seed=0.5"),
        ({"steps": 1001}, "at most 1000"),
        ({"sampler": 3}, "sampler is 3"),
        ({"sampler": DDIM(steps=2), "steps": 3}, "sampler has 2"),
        ({"sampler": DDIM(steps=300, spacing="quad")}, "levels must fall in noise"),
        ({"guidance": [None]}, "guidance holds None"),
    ],
)
def test_impossible_requests_are_refused_before_work(model, context, options, message):
    encoded = []
    hook = model.autoencoder.encoder.register_forward_hook(lambda *a: encoded.append(a))
    with pytest.raises(ConfigError, match=message):
        model.sample(context, **options)
    hook.remove()
    assert not encoded


def test_targets_of_guidance_are_one_for_all(model, context):
    for target in (0.5, torch.ones(1), torch.ones(2, 1), torch.ones(1, 2)):
        with pytest.raises(ConfigError, match="target"):
            model.towards(target)
    rows = AlignmentGuidance(network=model.alignment, target=torch.ones(2, 1))
    with pytest.raises(ConfigError, match="2 rows"):
        model.sample(context[:1], members=2, guidance=rows)
    with pytest.raises(ConfigError, match="scale"):
        model.towards(torch.ones(1, 1), scale="x")


def test_contexts_that_do_not_fit_are_refused(model, context):
    with pytest.raises(GridMismatchError, match=r"3, 8, 12, 1"):
        model.sample(context[:, :2])
    for other in (context.int(), context.numpy()):
        with pytest.raises(DataTypeError, match="tensor of floating numbers"):
            model.sample(other)
    broken = context.clone()
    broken[0, 0, 0, 0] = torch.nan
    with pytest.raises(MissingDataError, match="holds 1 values"):
        model.sample(broken)


def test_nan_in_sampling_stops_with_the_step_and_the_cause(model, context, monkeypatch):
    calls = []

    def breaks(z, t, _):
        calls.append(1)
        return z * (torch.nan if len(calls) == 2 else 0.0)

    monkeypatch.setattr(model.denoiser, "forward", breaks)
    with pytest.raises(SamplingError, match=r"step 1 .*Likely cause"):
        model.sample(context[:1], steps=4)


def test_nan_at_the_end_is_not_returned(model, context, monkeypatch):
    # the last step and the decoder are seen by no network after them
    overflow = DDIM(steps=2).step
    monkeypatch.setattr(DDIM, "step", lambda self, stage: overflow(stage) * 1e38 * 1e38)
    with pytest.raises(SamplingError, match=r"step 1 .*the state"):
        model.sample(context[:1], sampler=DDIM(steps=1))
    monkeypatch.undo()
    monkeypatch.setattr(model.autoencoder, "decode", lambda z: z * torch.inf)
    with pytest.raises(SamplingError, match=r"decoding, after the last step: 96 of 96"):
        model.sample(context[:1], steps=2)


def test_no_alignment_no_guidance_by_it(states):
    plain = PreDiff.from_official(
        autoencoder=states["autoencoder"], denoiser=states["denoiser"], config=CONFIG
    )
    assert plain.alignment is None
    assert plain.config.alignment is None
    with pytest.raises(ConfigError, match="no alignment network"):
        plain.towards(torch.ones(1, 1))


# --- configurations -----------------------------------------------------------------------------


@pytest.mark.parametrize("process", [Diffusion(prediction="v"), FlowMatching(time_scale=1.0)])
def test_configuration_goes_to_json_and_back(process):
    config = PreDiffConfig(process=process, alignment=AlignmentConfig())
    again = PreDiffConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PreDiffConfig(autoencoder=AutoencoderConfig(latent_channels=4)), "64 channels"),
        (lambda: PreDiffConfig(alignment=AlignmentConfig(input_shape=(6, 8, 8, 64))), "reads"),
        (lambda: PreDiffConfig(latent_scale=0.0), "must be positive"),
        (lambda: PreDiffConfig(denoiser=UNET), "expected DenoiserConfig"),
        (
            lambda: PreDiffConfig.for_shape(
                (3, 16, 16, 1), (2, 16, 16, 1), denoiser={"base_unit": 8}
            ),
            "denoiser holds base_unit;",
        ),
        (lambda: PreDiffConfig.for_shape((3, 100, 128, 1), (2, 100, 128, 1)), "multiples of 8"),
        (lambda: official_config("sevir"), "'sevir_lr'"),
        (lambda: official_config({"denoiser": UNET}), "expected autoencoder and denoiser"),
        (lambda: official_config({**CONFIG, "unet": UNET}), "expected autoencoder and denoiser"),
        (lambda: official_config({**CONFIG, "denoiser": {"depth": [1]}}), "lack input_shape"),
        (
            lambda: official_config({**CONFIG, "denoiser": {**UNET, "colour": 1}}),
            "no argument colour",
        ),
        (
            lambda: official_config({**CONFIG, "denoiser": {**UNET, "atn_drop": 0.1}}),
            r"atn_drop \(did you mean attn_drop\?\)",
        ),
        (
            lambda: official_config({**CONFIG, "denoiser": {**UNET, "cnv_init_mode": "0"}}),
            "no argument cnv_init_mode",
        ),
        (
            lambda: official_config({**CONFIG, "denoiser": {**UNET, "self_pattern": "axial"}}),
            "given twice",
        ),
        (lambda: official_config(None), "given as NoneType"),
        (lambda: official_config({**CONFIG, "autoencoder": [VAE]}), "given as list"),
        (
            lambda: official_config({**CONFIG, "diffusion": {"linear_start": "1e-4"}}),
            "reads as text",
        ),
        (
            lambda: official_config({**CONFIG, "diffusion": {"clip_denoised": True}}),
            r"DDPM\(clip=1\.0\)",
        ),
        (
            lambda: official_config({**CONFIG, "denoiser": {**UNET, "hierarchical_pos_embed": 1}}),
            "hierarchical_pos_embed is 1",
        ),
        (
            lambda: official_config({**CONFIG, "autoencoder": {**VAE, "in_channels": 3}}),
            "make them equal",
        ),
        (
            lambda: official_config({**CONFIG, "autoencoder": {**VAE, "up_block_types": []}}),
            "UpDecoderBlock2D",
        ),
    ],
)
def test_configurations_that_can_not_be_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


WRONG = (None, "x", -1, 1.5, [], [[]], {}, "1e-4", [1, 2], ["a"] * 4, float("nan"), [[[1]]])


def test_wrong_values_of_official_arguments_are_refused_by_name():
    parts = {
        "autoencoder": (VAE, _AUTOENCODER_DEFAULTS),
        "denoiser": (UNET, _DENOISER_DEFAULTS),
        "alignment": (ALIGN, _ALIGNMENT_DEFAULTS.keys() - _DENOISER_DEFAULTS.keys()),
        "diffusion": ({}, _PROCESS_DEFAULTS),
    }
    for part, (given, defaults) in parts.items():
        for key in defaults:
            refused = 0
            for value in WRONG:
                try:
                    official_config({**CONFIG, part: {**given, key: value}})
                except ConfigError:
                    refused += 1
            assert refused >= 6, key


def test_names_of_published_files_are_read():
    yaml = {k: v for k, v in UNET.items() if k != "block_attn_patterns"}
    named = {**CONFIG, "denoiser": {**yaml, "self_pattern": "axial"}}
    vae = {**VAE, "_class_name": "AutoencoderKL", "shift_factor": None, "use_quant_conv": True}
    named["autoencoder"] = vae
    with pytest.raises(ConfigError, match="use_quant_conv is False"):
        official_config({**named, "autoencoder": {**vae, "use_quant_conv": False}})
    trained = {"learn_logvar": True, "use_ema": True, "clip_denoised": False}
    assert official_config({**named, "diffusion": trained}) == official_config(CONFIG)


def test_official_process_is_read():
    diffusion = {"timesteps": 100, "beta_schedule": "cosine", "scale_factor": 0.5}
    config = official_config({**CONFIG, "diffusion": diffusion})
    assert (config.process.steps, config.process.schedule) == (100, "cosine")
    assert config.latent_scale == 0.5


def test_explicit_official_cuboids_are_read():
    sizes = {
        "block_attn_patterns": None,
        "block_cuboid_size": [[2, 4, 4], [1, 2, 2]],
        "block_cuboid_strategy": [["l", "l", "l"], ["d", "d", "d"]],
        "block_cuboid_shift_size": [[0, 1, 1], [0, 0, 0]],
    }
    config = official_config({**CONFIG, "denoiser": {**UNET, **sizes, "depth": [1, 1]}})
    assert [layer.cuboid for layer in config.denoiser.patterns[1]] == [(2, 4, 4), (1, 2, 2)]


# --- official files -----------------------------------------------------------------------------


@pytest.mark.parametrize("part", NAMES)
def test_official_names_are_a_bijection(part):
    configs = {
        "autoencoder": AutoencoderConfig(widths=(32, 64), layers=2),
        "denoiser": DenoiserConfig(global_vectors=GlobalVectors(count=2, ffn=True), base_units=8),
        "alignment": AlignmentConfig(global_vectors=GlobalVectors(count=2), base_units=8),
    }
    with torch.device("meta"):
        own = configs[part].build().state_dict()
    theirs = [official_name(name, NAMES[part]) for name in own]
    assert len(set(theirs)) == len(own)
    assert [our_name(name, NAMES[part]) for name in theirs] == list(own)


def load(states, **changes):
    return PreDiff.from_official(**{**states, "config": CONFIG, **changes})


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def test_state_dicts_and_files_are_read(model, states, tmp_path):
    assert same(load(states), model)
    files = {part: tmp_path / f"{part}.pt" for part in states}
    for part, path in files.items():
        torch.save(states[part], path)
    read = load(files)
    assert same(read, model)
    assert not read.training


def test_later_names_of_the_autoencoder_are_read(model, states):
    later = official_state(model.autoencoder, DIFFUSERS_NAMES)
    assert "encoder.mid_block.attentions.0.to_out.0.weight" in later
    assert same(load(states, autoencoder=later), model)


def trainer_file(states, averages=True):
    """Return what a trainer of the reference saves: all parts under prefixes."""
    content = {f"torch_nn_module.{k}": torch.zeros_like(v) for k, v in states["denoiser"].items()}
    index = {k: v for k, v in states["denoiser"].items() if not v.is_floating_point()}
    content |= {f"torch_nn_module.{k}": v for k, v in index.items()}
    for prefix in ("first_stage_model.", "cond_stage_model."):
        content |= {prefix + k: v for k, v in states["autoencoder"].items()}
    content |= {f"alignment_model.{k}": v for k, v in states["alignment"].items()}
    content |= {"logvar": torch.zeros(1000), "betas": torch.zeros(1000)}
    if averages:
        learned = {k: v for k, v in states["denoiser"].items() if v.is_floating_point()}
        content |= {f"model_ema.{k.replace('.', '')}": v for k, v in learned.items()}
        content |= {
            "model_ema.decay": torch.tensor(0.9999),
            "model_ema.num_updates": torch.tensor(3),
        }
    return {"state_dict": content, "epoch": 3, "global_step": 12}


def test_trainer_files_give_each_part_and_the_averages(model, states, tmp_path):
    path = tmp_path / "last.ckpt"
    torch.save(trainer_file(states), path)
    assert same(load(dict.fromkeys(states, path)), model)


def test_trainer_files_without_averages_give_the_weights(states, tmp_path):
    torch.save(trainer_file(states, averages=False), tmp_path / "raw.ckpt")
    read = load(states, denoiser=tmp_path / "raw.ckpt")
    assert not any(p.any() for p in read.denoiser.parameters())


class Settings:
    """A configuration of a library that need not be installed."""

    def __init__(self):
        self.rates = [1e-4, {"depth": (4, 4)}]

    def __setstate__(self, state):
        raise AssertionError("code of a file must not run")


def test_trainer_files_with_objects_of_other_libraries_are_read(model, states, tmp_path):
    path = tmp_path / "last.ckpt"
    others = {"hyper_parameters": Settings(), "callbacks": {"path": tmp_path, "kind": Settings}}
    torch.save(trainer_file(states) | others, path)
    assert same(load(dict.fromkeys(states, path)), model)
    torch.save(trainer_file(states)["state_dict"] | {"logvar": Settings()}, path)
    with pytest.raises(CheckpointError, match="no tensors under: logvar"):
        load(states, denoiser=path)


@pytest.mark.parametrize("prefix", ["model.", "module.", "torch_nn_module._orig_mod."])
def test_weights_below_any_prefix_are_read(model, states, prefix):
    below = {part: {prefix + k: v for k, v in state.items()} for part, state in states.items()}
    assert same(load(below), model)
    twice = below["denoiser"] | {f"b.{k}": v for k, v in states["denoiser"].items()}
    with pytest.raises(
        CheckpointError, match=r"holds 2 times the weights of the denoiser.*'a\.b\.'"
    ):
        load(states, denoiser={f"a.{k}": v for k, v in twice.items()})


def test_arrays_half_precision_and_safetensors_are_read(model, states, tmp_path):
    arrays = {k: v.numpy() for k, v in states["denoiser"].items()}
    half = {k: v.bfloat16() for k, v in states["autoencoder"].items()}
    path = tmp_path / "vae.safetensors"
    save_file({k: v.contiguous() for k, v in states["autoencoder"].items()}, path)
    assert same(load(states, denoiser=arrays, autoencoder=path), model)
    rough = load(states, autoencoder=half).autoencoder.encoder.conv_in.weight
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, model.autoencoder.encoder.conv_in.weight, rtol=1e-2, atol=0)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(CheckpointError, match=r"cannot read .*vae\.safetensors"):
        load(states, autoencoder=path)
    for weights in (None, 3, model.denoiser):
        with pytest.raises(CheckpointError, match="denoiser is given as"):
            load(states, denoiser=weights)


def test_averages_of_another_network_are_refused(states):
    content = trainer_file(states)["state_dict"]
    content["model_ema.stranger"] = torch.zeros(2)
    with pytest.raises(CheckpointError, match=r"moving averages .*\(stranger\)"):
        load(states, denoiser=content)
    del content["model_ema.stranger"], content["model_ema.final_projweight"]
    with pytest.raises(CheckpointError, match="1 have none"):
        load(states, denoiser=content)


def test_parts_given_for_one_another_are_told_apart(states):
    with pytest.raises(CheckpointError, match=r"of the autoencoder.*pass it as autoencoder="):
        load(states, denoiser=states["autoencoder"])
    with pytest.raises(CheckpointError, match="weights of the denoiser"):
        load(states, alignment=states["denoiser"])


def test_weights_that_do_not_fit_are_refused_by_name(states):
    missing = {k: v for k, v in states["denoiser"].items() if k != "final_proj.bias"}
    with pytest.raises(CheckpointError, match=r"given as denoiser: .*missing: final_proj.bias"):
        load(states, denoiser=missing)
    with pytest.raises(CheckpointError, match="unknown: stranger"):
        load(states, autoencoder={**states["autoencoder"], "stranger": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"wrong shapes: out.0.bias is \(3,\)"):
        load(states, alignment={**states["alignment"], "out.0.bias": torch.zeros(3)})
    broken = {**states["denoiser"], "final_proj.bias": torch.full((2,), torch.nan)}
    with pytest.raises(CheckpointError, match=r"not finite, first final_proj\.bias"):
        load(states, denoiser=broken)
    with pytest.raises(ConfigError, match="no configuration of one"):
        load(states, config={"autoencoder": VAE, "denoiser": UNET})


class Foreign:
    """An object no weights file should hold."""


def test_own_file_gives_the_same_model(model, context, tmp_path):
    path = model.save(tmp_path / "prediff.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    again = PreDiff.load(path)
    assert again.config == model.config
    assert not again.training
    found, expected = (m.sample(context, members=2, steps=2) for m in (again, model))
    assert torch.equal(found, expected)


def test_own_files_that_are_damaged_or_foreign_are_refused(model, tmp_path, monkeypatch):
    path = model.save(tmp_path / "prediff.safetensors")
    whole = path.read_bytes()
    monkeypatch.setattr("safetensors.torch.save_file", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model.save(path)
    assert path.read_bytes() == whole  # and what was half written is gone
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="no folder"):
        model.save(tmp_path / "nowhere" / "prediff.safetensors")
    with pytest.raises(CheckpointError, match="there is no file"):
        PreDiff.load(tmp_path / "other.safetensors")
    tensors, facts = load_tensors(path)
    path.write_bytes(whole[:-100])
    with pytest.raises(CheckpointError, match="truncated"):
        PreDiff.load(path)
    first = next(iter(tensors))
    for kept, told, message in (
        (
            tensors,
            facts | {"kind": "NowcastForecaster"},
            r"found 'NowcastForecaster'.*xearth\.load",
        ),
        (tensors, facts | {"format": 99}, "of format 99"),
        (tensors, {k: v for k, v in facts.items() if k != "config"}, "configuration is damaged"),
        (tensors, facts | {"config": {"denoiser": {"depth": "x"}}}, "configuration is damaged"),
        (tensors | {first: tensors[first][..., :1]}, facts, "weights do not fit"),
        ({k: v for k, v in tensors.items() if k != first}, facts, first),
    ):
        with pytest.raises(CheckpointError, match=message):
            PreDiff.load(save_tensors(path, kept, told))
    save_file({"w": torch.ones(1)}, path, metadata={"xearth": "{half"})
    with pytest.raises(CheckpointError, match="not JSON"):
        PreDiff.load(path)


def test_files_that_are_no_weights_are_refused(states, tmp_path):
    path = tmp_path / "weights.pt"
    with pytest.raises(CheckpointError, match="there is no file"):
        load(states, denoiser=path)
    torch.save(states["denoiser"], path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(CheckpointError, match="damaged"):
        load(states, denoiser=path)
    path.write_bytes(pickle.dumps(Foreign()))
    with pytest.raises(CheckpointError, match="tensors only"):
        load(states, denoiser=path)
    torch.save({"hello": "world"}, path)
    with pytest.raises(CheckpointError, match="holds no tensors under: hello"):
        load(states, denoiser=path)
