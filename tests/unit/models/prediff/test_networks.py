"""The networks of PreDiff: what they compute by a second route, savings, gradients, errors."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from xearth.errors import ConfigError, GridMismatchError
from xearth.models.config_parts import Dropout, GlobalVectors
from xearth.models.cuboid.blocks import SelfBlock
from xearth.models.cuboid.patterns import parse
from xearth.models.prediff.config import AlignmentConfig, AutoencoderConfig, DenoiserConfig
from xearth.models.prediff.layers import (
    AttentionPool,
    TimeResidual,
    group_norm,
    normalized,
    sinusoids,
)

PATTERNS = (
    "full",
    "axial",
    "divided_st",
    "video_swin_2x4",
    "video_swin_1x4",
    "spatial_lg_4",
    "axial_space_dilate_2",
)
SMALL = {"input_shape": (3, 6, 10, 2), "target_shape": (2, 6, 10, 2), "base_units": 8}


def randomized(network: nn.Module, seed: int = 0) -> nn.Module:
    """Give every weight a random value: new networks hold zeros that hide what is behind them."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in network.parameters():
            fan = p[0].numel() if p.ndim > 1 else 1
            p.copy_(torch.randn(p.shape, generator=generator) / fan**0.5)
    return network.eval()


def denoiser(**changes):
    return randomized(DenoiserConfig(**{**SMALL, "depth": (2, 1), **changes}).build())


def fields(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def inputs(n=2):
    return fields(n, 2, 6, 10, 2), torch.tensor([3, 700][:n]), fields(n, 3, 6, 10, 2, seed=2)


# --- layers -----------------------------------------------------------------------------------


def test_sinusoids_are_those_of_the_definition():
    t, width = torch.tensor([0, 17, 999]), 6
    found = sinusoids(t, width)
    for k, row in zip(t.tolist(), found.tolist(), strict=True):
        angles = torch.tensor([k * 10.0 ** (-4 * i / 3) for i in range(3)], dtype=torch.float64)
        assert row == pytest.approx([*angles.cos().tolist(), *angles.sin().tolist()], abs=1e-4)


def test_sinusoids_know_times_between_steps_in_their_precision():
    halfway = sinusoids(torch.tensor([0.5], dtype=torch.float64), 4)
    assert halfway.dtype == torch.float64
    assert halfway[0, 2].item() == pytest.approx(torch.tensor(0.5).sin().item())


@pytest.mark.parametrize("scale_shift", [False, True])
def test_residual_block_is_its_formula(scale_shift):
    block = randomized(TimeResidual(4, 6, time_units=5, scale_shift=scale_shift))
    x, e = fields(2, 3, 4, 5, 4), fields(2, 5, seed=3)
    y = block(x, block.read(e))
    c = x.movedim(-1, 1).contiguous()
    h = block.conv_1(functional.silu(functional.group_norm(c, 4, *affine(block.norm_1))))
    time = functional.linear(functional.silu(e), block.time.weight, block.time.bias)
    time = time[:, :, None, None, None]
    if scale_shift:
        normal = functional.group_norm(h, 6, *affine(block.norm_2))
        h = normal * (1 + time[:, :6]) + time[:, 6:]
    else:
        h = functional.group_norm(h + time, 6, *affine(block.norm_2))
    expected = block.conv_2(functional.silu(h)) + block.skip(c)
    torch.testing.assert_close(y, expected.movedim(1, -1))


def affine(norm):
    return norm.weight, norm.bias


def test_residual_block_without_time_refuses_to_read_any():
    with pytest.raises(TypeError, match="reads no diffusion time"):
        TimeResidual(4, 4).read(torch.zeros(1, 3))


def test_pool_is_the_first_row_of_full_attention():
    pool = randomized(AttentionPool(6, 8, heads=2, outputs=3))
    x = fields(4, 6, 8)
    tokens = torch.cat([x.mean(1, keepdim=True), x], 1) + pool.positions.T
    q, k, v = pool.qkv(tokens.mT).mT.chunk(3, dim=-1)
    heads = [t.unflatten(-1, (2, 4)).transpose(1, 2) for t in (q, k, v)]
    weights = torch.softmax(heads[0] @ heads[1].mT / 2.0, dim=-1)
    whole = pool.out((weights @ heads[2]).transpose(1, 2).flatten(2).mT)
    torch.testing.assert_close(pool(x), whole[..., 0])


class PlainOnly(nn.GroupNorm):
    """A norm that sees its data before torch does, which crashes on others than these."""

    def forward(self, x):
        assert x.stride() == torch.empty(x.shape).stride()
        return super().forward(x)


@pytest.mark.parametrize("channels", [1, 3, 32])
@pytest.mark.parametrize("frames", [True, False])
def test_norm_of_data_that_need_no_gradient(channels, frames):
    # torch crashes here with channels last in memory; a single channel is last and first at once
    norm, x = PlainOnly(group_norm(channels).num_groups, channels), fields(2, 4, 5, 6, channels)
    x = x.movedim(-1, 1) if frames else x[0].movedim(-1, 1)
    normalized(norm, x).square().sum().backward()
    gradient = norm.weight.grad.clone()
    norm.zero_grad()
    norm(x.clone(memory_format=torch.contiguous_format)).square().sum().backward()
    torch.testing.assert_close(gradient, norm.weight.grad)


# --- denoiser ---------------------------------------------------------------------------------


def test_new_denoiser_returns_zero_and_the_way_through_it_is_open():
    network = DenoiserConfig(**SMALL, depth=(1, 1)).build().eval()
    assert not network(*inputs()).any()
    assert network.down.first.skip.weight.any()


@pytest.mark.parametrize("padding", ["zeros", "ignore", "nearest"])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_frames_nobody_reads_are_left_out_without_a_difference(pattern, padding):
    config = DenoiserConfig(**SMALL, depth=(1,), patterns=parse(pattern), padding=padding)
    shape = (8, (5, 6, 10), config.patterns[0])
    plain = randomized(SelfBlock(*shape, config.blocks()))
    spare = SelfBlock(*shape, config.blocks(), frames=2).eval()
    spare.load_state_dict(plain.state_dict())
    x = fields(2, 5, 6, 10, 8)
    with torch.no_grad():
        found, expected = spare(x)[0], plain(x)[0][:, -2:]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_saving_is_that_of_the_dead_frames():
    network = denoiser(depth=(1,))
    full = copy.deepcopy(network)
    (block,) = full.up.blocks[0]
    fresh = SelfBlock(8, (5, 6, 10), full.config.patterns[0], full.config.blocks())
    fresh.load_state_dict(block.state_dict())
    full.up.blocks[0][0] = fresh.eval()
    counts = []
    for net in (network, full):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            y = net(*inputs())
        counts.append(counter.get_total_flops())
        torch.testing.assert_close(y, full(*inputs()), rtol=1e-5, atol=1e-5)
    cells, dim = 2 * 3 * 60, 8
    linear = 2 * (4 * dim * dim) + 3 * 8 * dim * dim  # two layers of attention, three of ffn
    assert counts[1] - counts[0] >= 2 * cells * linear


def step_by_step(network, z, t, context):
    """Return what a denoiser says by the steps of the publication, one by one, nothing left out."""
    config, down, up = network.config, network.down, network.up
    stage = torch.cat([torch.ones(context.shape[:-1]), torch.zeros(z.shape[:-1])], 1)[..., None]
    x = down.first(torch.cat([torch.cat([context, z], 1), stage], -1))
    T, H, W = x.shape[1:4]
    tables = [p.weight for p in down.positions.children()]
    if config.positions == "t+hw":
        x = x + tables[0][:T, None, None] + tables[1].unflatten(0, config.grid[1:])[:H, :W]
    else:
        x = x + tables[0][:T, None, None] + tables[1][:H, None] + tables[2][:W]
    e = down.embed.second(functional.silu(down.embed.first(sinusoids(t, config.base_units))))
    g = None if config.global_vectors is None else down.vectors.expand(len(z), -1, -1)
    saved, top = [], config.levels - 1
    for half, order in ((down, range(top + 1)), (up, range(top, -1, -1))):
        for i in order:
            if half is down and i > 0:
                x, g = down.merge[i - 1](x), None if g is None else down.merge_global[i - 1](g)
            if half is up and i < top and config.skip:
                x = x + saved[i]
            for block in half.blocks[i]:
                whole = SelfBlock(
                    config.units[i], config.shapes[i], config.patterns[i], config.blocks()
                )
                whole.load_state_dict(block.state_dict())
                x = half.time_blocks[i](x, half.time_blocks[i].read(e))
                x, g = whole.eval()(x, g)
            if half is down:
                saved.append(x)
            elif i > 0:
                frames = x.flatten(0, 1).movedim(-1, 1)
                frames = functional.interpolate(frames, config.shapes[i - 1][1:], mode="nearest")
                x = up.enlarge[i - 1].conv(frames).movedim(1, -1).unflatten(0, (len(z), T))
                g = None if g is None else up.enlarge_global[i - 1](g)
    return network.out(x[:, context.shape[1] :])


NEIGHBORS = [
    {"depth": (2, 1, 3), "patterns": parse("divided_st")},
    {"depth": (1, 2), "patterns": parse("full"), "global_vectors": GlobalVectors(count=3)},
    {
        "depth": (1, 1, 1),
        "patterns": parse("video_swin_2x4"),
        "padding": "ignore",
        "global_vectors": GlobalVectors(count=2, ratio=2, separate_qkv=True, self_attention=True),
    },
    {"depth": (2,), "skip": False, "heads": 2, "time_factor": 2, "relative_positions": False},
    {"positions": "t+hw", "gated_ffn": True, "time_scale_shift": True, "inter_ffn": False},
    {"block_units": (8, 20), "downsample": (1, 3, 2), "upsample_kernel": 5, "padding": "nearest"},
    {"patterns": parse("spatial_lg_2"), "scale_alpha": 0.5, "final_projection": False},
]


@pytest.mark.parametrize("changes", NEIGHBORS)
def test_denoiser_is_the_steps_of_the_publication(changes):
    network = denoiser(**changes)
    with torch.no_grad():
        found, expected = network(*inputs()), step_by_step(network, *inputs())
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_global_vectors_are_read_and_change_what_is_read():
    vectors = GlobalVectors(count=3)
    network = denoiser(global_vectors=vectors)
    before = network(*inputs())
    with torch.no_grad():
        network.down.vectors.add_(1.0)
    assert not torch.allclose(network(*inputs()), before)
    context = inputs()[2].clone()
    context[:, 0] += 1.0  # every frame reaches the vectors, and they reach every frame
    assert not torch.allclose(network(inputs()[0], inputs()[1], context), before)


@pytest.mark.parametrize("vectors", [None, GlobalVectors(count=2, ffn=True)])
@pytest.mark.parametrize("checkpoint", ["none", "all"])
def test_every_weight_gets_a_gradient(vectors, checkpoint):
    network = denoiser(global_vectors=vectors, checkpoint=checkpoint, depth=(1, 1)).train()
    network(*inputs()).square().sum().backward()
    silent = [n for n, p in network.named_parameters() if p.grad is None]
    dead = ("global_proj", "g2l_", "g2g_", "global_ffn_l.2", "global_vec_norm")
    # the last update of the vectors has no reader
    assert all(n.startswith("up.blocks.0.0.") and any(d in n for d in dead) for n in silent)
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)
    assert not vectors or silent


def test_recomputing_changes_no_gradient():
    grads = []
    off = Dropout(attention=0.0, projection=0.0, ffn=0.0)
    for how in ("none", "all"):
        network = denoiser(checkpoint=how, depth=(1, 1), dropout=off).train()
        network(*inputs()).square().sum().backward()
        grads.append([p.grad for p in network.parameters()])
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b)


def test_one_context_and_one_time_serve_all():
    network = denoiser()
    z, _, context = inputs()
    t = torch.tensor(40)
    both = network(z, t.expand(2), context[:1].expand(2, -1, -1, -1, -1))
    torch.testing.assert_close(network(z, t, context[:1]), both)


def test_samples_do_not_see_each_other():
    network = denoiser().double()
    z, t, context = (part.double() for part in inputs())
    both = network(z, t, context)
    alone = [network(z[i : i + 1], t[i : i + 1], context[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(both, torch.cat(alone))


@pytest.mark.parametrize("shape", [(1, 5, 7, 3), (4, 9, 2, 1)])
def test_any_grid_has_a_denoiser(shape):
    config = DenoiserConfig(
        input_shape=shape, target_shape=(3, *shape[1:]), base_units=8, depth=(1, 1, 1)
    )
    z = fields(1, 3, *shape[1:])
    assert randomized(config.build())(z, torch.tensor([5]), fields(1, *shape)).shape == z.shape


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda z, t, c: (z[:, :1], t, c), "z_t must be a tensor"),
        (lambda z, t, c: (z, t, c[..., :1]), "context must be a tensor"),
        (lambda z, t, c: (z, torch.zeros(3), c), "one for each of the 2 samples"),
        (lambda z, t, c: (z, torch.zeros(2, 1), c), "one diffusion time"),
        (lambda z, t, c: (fields(3, 2, 6, 10, 2), t[:1], c), "2 contexts for 3"),
    ],
)
def test_denoiser_says_what_does_not_fit(change, message):
    with pytest.raises(GridMismatchError, match=message):
        denoiser()(*change(*inputs()))


def test_a_published_network_of_another_size_has_its_weights():
    # FlowCast: 13 -> 12 frames of 48 x 48 x 4, 192 channels, as its paper counts them
    shapes = {"input_shape": (13, 48, 48, 4), "target_shape": (12, 48, 48, 4)}
    with torch.device("meta"):
        network = DenoiserConfig(**shapes, base_units=192).build()
    assert sum(p.numel() for p in network.parameters()) == 76_780_174


# --- alignment --------------------------------------------------------------------------------


def alignment(**changes):
    shape = {"input_shape": (3, 4, 6, 2), "base_units": 8, "frames": 2}
    return randomized(AlignmentConfig(**{**shape, **changes}).build())


def test_alignment_gradient_is_that_of_differences():
    network = alignment(outputs=2).double()
    z, t = fields(2, 3, 4, 6, 2).double().requires_grad_(), torch.tensor([4, 900])
    (gradient,) = torch.autograd.grad(network(z, t)[:, 1, 0].sum(), z)
    step = 1e-5
    for at in [(0, 0, 1, 2, 0), (1, 2, 3, 5, 1)]:
        shifted = z.detach().clone()
        shifted[at] += step
        high = network(shifted, t)[:, 1, 0].sum()
        shifted[at] -= 2 * step
        slope = (high - network(shifted, t)[:, 1, 0].sum()) / (2 * step)
        assert gradient[at].item() == pytest.approx(slope.item(), rel=1e-5)


def test_alignment_reads_the_last_frames_and_each_sample_alone():
    network, z = alignment(), fields(2, 3, 4, 6, 2)
    both = network(z, torch.tensor(8))
    assert both.shape == (2, 2, 1)
    torch.testing.assert_close(network(z[1:], torch.tensor([8])), both[1:])


def test_alignment_weights_all_get_gradients():
    network = alignment(depth=(1, 2)).train()
    network(fields(1, 3, 4, 6, 2), torch.tensor([8])).sum().backward()
    assert all(p.grad is not None for p in network.parameters())


# --- autoencoder ------------------------------------------------------------------------------

TINY = AutoencoderConfig(channels=2, latent_channels=3, widths=(8, 16), layers=1, groups=4)


def test_frames_are_coded_one_apart_from_the_other(monkeypatch):
    network, x = randomized(TINY.build()), fields(2, 3, 4, 6, 2)
    whole = network.encode(x)
    monkeypatch.setattr("xearth.models.pieces.CACHE", 1)
    with torch.no_grad():
        for found, expected in zip(network.encode(x), whole, strict=True):
            torch.testing.assert_close(found, expected)
        torch.testing.assert_close(network.decode(whole[0][:, 1:2]), network(x)[0][:, 1:2])


def test_latent_frames_are_drawn_with_the_noise_given():
    network, x = randomized(TINY.build()), fields(1, 2, 4, 6, 2)
    mean, log_variance = network.encode(x)
    noise = fields(*mean.shape, seed=9)
    expected = network.decode(mean + torch.exp(0.5 * log_variance) * noise)
    torch.testing.assert_close(network(x, noise)[0], expected)


def test_autoencoder_weights_all_get_gradients():
    network, x = TINY.build(), fields(1, 1, 4, 6, 2)
    decoded, *moments = network(x, torch.zeros(1, 1, 2, 3, 3))
    sum(part.square().sum() for part in (decoded, *moments)).backward()
    assert all(p.grad is not None and p.grad.any() for p in network.parameters() if p.ndim > 1)


def test_variance_of_wild_weights_stays_finite():
    network = randomized(TINY.build())
    with torch.no_grad():
        network.to_moments.bias.fill_(1e4)
    assert network.encode(fields(1, 1, 4, 6, 2))[1].max() == 20.0


@pytest.mark.parametrize(
    ("run", "error", "message"),
    [
        (lambda n: n.encode(torch.zeros(1, 2, 5, 6, 2)), ConfigError, "multiples of 2"),
        (lambda n: n.encode(torch.zeros(1, 2, 4, 6, 1)), ConfigError, "2 channels"),
        (lambda n: n.encode(torch.zeros(2, 4, 6, 2)), GridMismatchError, "x must be a tensor"),
        (lambda n: n.decode(torch.zeros(1, 2, 4, 6, 2)), GridMismatchError, "has 2 channels"),
    ],
)
def test_autoencoder_says_what_does_not_fit(run, error, message):
    with pytest.raises(error, match=message):
        run(TINY.build())


# --- configurations ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AutoencoderConfig(widths=(12,)), "multiples of groups=32"),
        (lambda: AutoencoderConfig(layers=0), "layers must be an integer"),
        (lambda: DenoiserConfig(input_shape=(3, 16, 16)), "four positive integers"),
        (lambda: DenoiserConfig(input_shape=(3, 8, 16, 64)), "make them equal"),
        (lambda: DenoiserConfig(upsample_kernel=2), "must be odd"),
        (lambda: DenoiserConfig(upsample_kernel=-1), "upsample_kernel must be"),
        (lambda: DenoiserConfig(dropout=0.1), "dropout is 0.1; expected Dropout"),
        (lambda: DenoiserConfig(global_vectors=4), "global_vectors is 4; expected"),
        (lambda: DenoiserConfig(scale_alpha=-1), "scale_alpha must be"),
        (lambda: DenoiserConfig(patterns=4), "patterns is 4"),
        (lambda: DenoiserConfig(depth=2), "depth is 2"),
        (lambda: AlignmentConfig(frames="x"), "frames must be"),
        (lambda: AutoencoderConfig().latent_shape((3, 8, 8)), "four positive integers"),
        (lambda: DenoiserConfig(heads=5), "5 heads do not divide"),
        (lambda: DenoiserConfig(downsample=(2, 2, 2)), "frames keep their number"),
        (lambda: DenoiserConfig(depth=()), "depth needs a positive number"),
        (lambda: DenoiserConfig(block_units=(256,)), "must name 2 levels"),
        (lambda: DenoiserConfig(padding="wrap"), "padding must be one of"),
        (lambda: DenoiserConfig(time_drop=1.0), r"in \[0, 1\)"),
        (lambda: DenoiserConfig(patterns=(parse("axial"),) * 3), "3 patterns for 2 levels"),
        (lambda: DenoiserConfig(global_vectors=GlobalVectors(count=0)), "0 global vectors"),
        (lambda: AlignmentConfig(frames=7), "7 frames of 6"),
        (lambda: AlignmentConfig(outputs=0), "outputs must be an integer"),
        (lambda: DenoiserConfig.from_dict({"colour": 1}), "has no 'colour'"),
    ],
)
def test_impossible_configurations_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize(
    "config",
    [
        AutoencoderConfig(widths=(32, 64)),
        DenoiserConfig(global_vectors=GlobalVectors(count=2), patterns=parse("video_swin_2x4")),
        AlignmentConfig(outputs=3, depth=(1, 2)),
    ],
)
def test_configurations_go_to_json_and_back(config):
    import json

    assert type(config).from_dict(json.loads(json.dumps(config.to_dict()))) == config
