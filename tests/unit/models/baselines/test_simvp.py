from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.nn import functional as F

from xearth.models.baselines.simvp import SimVP, SimVPConfig, TranslatorBlock

SMALL = {"width": 4, "layers": 4, "translator_width": 20, "blocks": 3}


def config(T=3, T_out=3, **changes):
    shapes = {"input_shape": (T, 8, 12, 1), "target_shape": (T_out, 8, 12, 1)}
    return SimVPConfig(**{**shapes, **SMALL, **changes})


def network(settings):
    torch.manual_seed(0)
    net = SimVP(settings).double().eval()
    for name, value in net.state_dict().items():
        if name.endswith(("running_mean", "running_var", "scale1", "scale2")):
            value.copy_(torch.rand_like(value) + 0.5)
    return net


def second_route(net, x, translator):
    """SimVP as plain functions of its weights: (N, T, C, H, W) -> the same."""
    state = net.state_dict()

    def conv(name, z, **options):
        return F.conv2d(z, state[f"{name}.weight"], state[f"{name}.bias"], **options)

    def finish(name, z):
        return F.silu(F.group_norm(z, 2, state[f"{name}.norm.weight"], state[f"{name}.norm.bias"]))

    def norm(name, z):
        keys = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(z, *(state[f"{name}.{key}"] for key in keys))

    n, T = x.shape[:2]
    z = x.flatten(0, 1)
    for layer, stride in enumerate((1, 2, 1, 2)):
        z = finish(f"encoder.{layer}", conv(f"encoder.{layer}.conv", z, stride=stride, padding=1))
        if layer == 0:
            skip = z
    z = z.reshape(n, -1, *z.shape[2:])
    for i in range(3):
        name = f"translator.{i}"
        m = norm(f"{name}.norm1", z)
        u = F.gelu(conv(f"{name}.into", m))
        d = u.shape[1]
        a = conv(f"{name}.attention.wide.0", u, padding=2, groups=d)
        a = conv(f"{name}.attention.wide.1", a, padding=9, dilation=3, groups=d)
        a = conv(f"{name}.attention.mix", a)
        if translator == "gsta":
            a = torch.sigmoid(a[:, d:]) * a[:, :d]
        else:
            inside = F.relu(u.mean((2, 3)) @ state[f"{name}.attention.channels.0.weight"].T)
            weight = torch.sigmoid(inside @ state[f"{name}.attention.channels.2.weight"].T)
            a = weight[:, :, None, None] * a * u
        z = z + state[f"{name}.scale1"].view(-1, 1, 1) * (m + conv(f"{name}.out", a))
        hidden = conv(f"{name}.fc1", norm(f"{name}.norm2", z))
        hidden = F.gelu(conv(f"{name}.near", hidden, padding=1, groups=hidden.shape[1]))
        z = z + state[f"{name}.scale2"].view(-1, 1, 1) * conv(f"{name}.fc2", hidden)
        if f"{name}.change.weight" in state:
            z = conv(f"{name}.change", z)
    z = z.reshape(n * T, -1, *z.shape[2:])
    for layer, stride in enumerate((2, 1, 2, 1)):
        z = conv(f"decoder.{layer}.conv", z + skip if layer == 3 else z, padding=1)
        z = finish(f"decoder.{layer}", F.pixel_shuffle(z, 2) if stride == 2 else z)
    return conv("readout", z).unflatten(0, (n, T))


@pytest.mark.parametrize("translator", ["gsta", "tau"])
@pytest.mark.parametrize("width", [20, 12])  # with and without maps that change the width
def test_two_routes(translator, width):
    net = network(config(translator=translator, translator_width=width))
    x = torch.randn(2, 3, 8, 12, 1, dtype=torch.float64)
    with torch.no_grad():
        expected = second_route(net, x.movedim(-1, 2), translator).movedim(2, -1)
        torch.testing.assert_close(net(x), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("T", "T_out", "sources"),
    [
        (3, 3, [[0], [1], [2]]),
        (2, 4, [[0], [0], [1], [1]]),
        (4, 2, [[0, 1], [2, 3]]),
        (3, 1, [[0, 1, 2]]),
        (1, 3, [[0], [0], [0]]),
        (2, 3, [[0], [0, 1], [1]]),
    ],
)
def test_frames_behind_the_skip_are_repeated_or_averaged(T, T_out, sources):
    skip = torch.randn(2 * T, 3, 4, 5)
    found = SimVP._skip(skip, T, T_out).unflatten(0, (2, T_out))
    frames = skip.unflatten(0, (2, T))
    expected = torch.stack([frames[:, source].mean(1) for source in sources], 1)
    torch.testing.assert_close(found, expected)


def test_drop_path_leaves_whole_samples_out_and_keeps_the_mean():
    torch.manual_seed(0)
    block = TranslatorBlock(4, 4, config(), drop_path=0.25)
    path = block._path(torch.ones(4000, 4, 2, 2))
    assert path.unique().tolist() == pytest.approx([0.0, 1 / 0.75])
    assert torch.equal(path.amin((1, 2, 3)), path.amax((1, 2, 3)))
    assert path.mean().item() == pytest.approx(1.0, abs=0.05)
    assert torch.equal(block.eval()._path(path), path)


@pytest.mark.parametrize(
    ("drop_path", "rates"), [(0.0, [0.0, 0.0, 0.0]), (0.1, [0.01, 0.055, 0.1])]
)
def test_drop_path_rises_from_block_to_block(drop_path, rates):
    net = SimVP(config(drop_path=drop_path))
    assert [block.drop_path for block in net.translator] == pytest.approx(rates)


def test_published_start_of_the_weights():
    torch.manual_seed(0)
    net = SimVP(SimVPConfig(input_shape=(4, 8, 8, 1), target_shape=(4, 8, 8, 1)))
    block = net.translator[1]
    for conv, fan_out in ((block.into, 256), (block.near, 9), (block.attention.mix, 512)):
        assert conv.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
    assert net.decoder[0].conv.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert torch.all(block.scale1 == 0.01)


@pytest.mark.parametrize(
    ("make", "frames", "parameters", "gmac", "finer"),
    [(SimVPConfig.sevir, 13, 10.544, 38.8, 8), (SimVPConfig.icar_enso, 12, 12.758, 3.93, 1)],
)
def test_costs_with_as_many_frames_out_as_in_are_those_of_published_code(
    make, frames, parameters, gmac, finer
):
    """Published code forecasts as many frames as it reads; convolutions cost as the area does."""
    ours = make()
    T, H, W, C = ours.input_shape
    sizes = (H // finer, W // finer, C)
    theirs = dataclasses.replace(ours, input_shape=(T, *sizes), target_shape=(frames, *sizes))
    cost = theirs.describe().total
    assert cost.parameters / 1e6 == pytest.approx(parameters, abs=5e-4)
    assert cost.macs * finer**2 / 1e9 == pytest.approx(gmac, rel=1e-3)
