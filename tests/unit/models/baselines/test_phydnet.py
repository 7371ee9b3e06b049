from __future__ import annotations

import torch
from torch.nn import functional as F

from xearth.models.baselines.phydnet import PhyDNet, PhyDNetConfig

CONFIG = {
    "input_shape": (3, 8, 12, 1),
    "target_shape": (2, 8, 12, 1),
    "width": 16,
    "hidden": (8, 32),
    "derivatives": 3,
}


def second_route(state, x, horizon):
    """PhyDNet as plain functions of its weights, all predictions: (N, S, 1, H, W)."""

    def block(name, z, stride=1, up=False):
        w, b = state[f"{name}.0.weight"], state[f"{name}.0.bias"]
        if up:
            z = F.conv_transpose2d(z, w, b, stride, 1, stride - 1)
        else:
            z = F.conv2d(z, w, b, stride, 1)
        z = F.group_norm(z, 16, state[f"{name}.1.weight"], state[f"{name}.1.bias"])
        return F.leaky_relu(z, 0.2)

    def conv(name, z, padding):
        return F.conv2d(z, state[f"{name}.weight"], state[f"{name}.bias"], padding=padding)

    n, _, _, H, W = x.shape
    h = x.new_zeros(n, 32, H // 4, W // 4)
    r = [[x.new_zeros(n, size, H // 4, W // 4)] * 2 for size in (8, 32)]
    predictions = []
    for t in range(x.shape[1] + horizon - 1):
        z = x[:, t] if t < x.shape[1] else predictions[-1]
        for layer, stride in enumerate((2, 1, 2)):
            z = block(f"encoder.{layer}", z, stride)
        u = block("to_physics.1", block("to_physics.0", z))
        moved = conv("physics.filters", h, 1)
        moved = F.group_norm(moved, 3, state["physics.norm.weight"], state["physics.norm.bias"])
        gain = torch.sigmoid(conv("physics.gate", torch.cat([u, h], 1), 1))
        h = (1 - gain) * (h + conv("physics.mix", moved, 0)) + gain * u
        z = block("to_residual.1", block("to_residual.0", z))
        for layer, (y, before) in enumerate(r):
            gates = conv(f"residual.{layer}.gates", torch.cat([z, y], 1), 1)
            i, f, o = torch.sigmoid(gates[:, : gates.shape[1] * 3 // 4]).chunk(3, 1)
            c = f * before + i * torch.tanh(gates[:, gates.shape[1] * 3 // 4 :])
            r[layer] = [o * torch.tanh(c), c]
            z = r[layer][0]
        y = block("from_physics.1", block("from_physics.0", h, up=True), up=True)
        y = y + block("from_residual.1", block("from_residual.0", z, up=True), up=True)
        y = block("decoder.1", block("decoder.0", y, 2, up=True), up=True)
        w, b = state["decoder.2.weight"], state["decoder.2.bias"]
        predictions.append(F.conv_transpose2d(y, w, b, 2, 1, 1))
    return torch.stack(predictions, 1)


def test_two_routes():
    torch.manual_seed(0)
    net = PhyDNet(PhyDNetConfig(**CONFIG)).double()
    x = torch.randn(2, 3, 8, 12, 1, dtype=torch.float64)
    with torch.no_grad():
        expected = second_route(net.state_dict(), x.movedim(-1, 2), 2).movedim(2, -1)
        torch.testing.assert_close(net.rollout(x), expected, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(net(x), expected[:, -2:], rtol=1e-10, atol=1e-12)


def test_the_sigmoid_is_the_only_difference_to_the_published_output():
    torch.manual_seed(0)
    config = PhyDNetConfig(**{**CONFIG, "target_shape": (1, 8, 12, 1)})
    free = PhyDNet(config)
    bound = PhyDNet(PhyDNetConfig(**{**config.to_dict(), "output": "sigmoid"}))
    bound.load_state_dict(free.state_dict())
    x = torch.randn(2, 3, 8, 12, 1)
    with torch.no_grad():
        torch.testing.assert_close(bound(x), torch.sigmoid(free(x)))
        assert free(5 * x).min() < 0


def test_truth_in_the_horizon_is_read_where_it_is_kept():
    torch.manual_seed(0)
    net = PhyDNet(PhyDNetConfig(**CONFIG))
    x = torch.randn(2, 4, 8, 12, 1)
    keep = torch.ones(2, 3)
    keep[1, 2] = 0.0
    with torch.no_grad():
        forced, free = net.rollout(x, keep), net.rollout(x[:, :3])
    torch.testing.assert_close(forced[:, :3], free[:, :3])
    torch.testing.assert_close(forced[1], free[1])
    assert not torch.allclose(forced[0, 3], free[0, 3])
