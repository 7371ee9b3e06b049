"""What all of these networks promise: shapes, counts, gradients, configurations, errors."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from xearth import Window, samples
from xearth.errors import ConfigError, GridMismatchError
from xearth.models.baselines.convlstm import ConvLSTM, ConvLSTMCell, ConvLSTMConfig
from xearth.models.baselines.persistence import PersistenceConfig
from xearth.models.baselines.predrnn import PredRNNConfig, SpatioTemporalLSTMCell
from xearth.models.baselines.stacked_convlstm import StackedConvLSTMConfig
from xearth.models.baselines.unet import BatchNorm, UNet, UNetConfig

SMALL = {
    "convlstm": (ConvLSTMConfig, {"channels": (3, 4, 5), "first_channels": 2, "last_channels": 2}),
    "convlstm_a": (
        ConvLSTMConfig,
        {
            "channels": (3, 5),
            "strides": (3, 2),
            "conv_kernels": (5, 3),
            "deconv_kernels": (6, 2),
            "convs_widen": True,
            "peephole": True,
        },
    ),
    "persistence": (PersistenceConfig, {}),
    "predrnn": (PredRNNConfig, {"hidden": (4, 4), "kernel": 3}),
    "predrnn_norm": (PredRNNConfig, {"hidden": (4,), "patch": 2, "layer_norm": True}),
    "stacked_convlstm": (StackedConvLSTMConfig, {"hidden": (4, 3), "kernel": 3}),
    "stacked_norm": (StackedConvLSTMConfig, {"hidden": (3,), "layer_norm": True}),
    "unet": (UNetConfig, {"base_units": 2, "levels": 2, "center_factor": 8}),
}


def small(name, history=(4, 10, 14, 2), horizon=(3, 10, 14, 2)):
    cls, sizes = SMALL[name]
    return cls(input_shape=history, target_shape=horizon, **sizes)


# Parameters and 1e9 multiply-accumulates of the published tables' networks.
TABLE = {
    "unet": (UNetConfig, {"sevir": (16_556_044, 32.70), "icar_enso": (12_062_254, 0.348)}),
    "convlstm": (
        ConvLSTMConfig,
        {"sevir": (13_971_889, 536.8), "icar_enso": (13_971_889, 10.11)},
    ),
    "predrnn": (PredRNNConfig, {"sevir": (46_546_944, 160.9), "icar_enso": (23_838_720, 42.91)}),
    "persistence": (PersistenceConfig, {"sevir": (0, 0.0), "icar_enso": (0, 0.0)}),
}


@pytest.mark.parametrize("setup", ["sevir", "icar_enso"])
@pytest.mark.parametrize("name", TABLE)
def test_the_set_ups_of_the_tables(name, setup):
    config_class, rows = TABLE[name]
    total = getattr(config_class, setup)().describe().total
    parameters, giga = rows[setup]
    assert total.parameters == parameters
    assert total.macs / 1e9 == pytest.approx(giga, rel=1e-3)


def test_predrnn_v2_is_predrnn_and_one_adapter():
    with torch.device("meta"):
        network = dataclasses.replace(PredRNNConfig.icar_enso(), decoupling=True).build()
    assert sum(p.numel() for p in network.parameters()) == 23_838_720 + 128 * 128


def test_operations_belong_to_the_parts_that_do_them():
    """The UNet counted by hand: 9 C C' per cell of a convolution, 4 per cell enlarged."""
    H, W, T, T_out, b = 8, 12, 3, 2, 4
    config = UNetConfig(
        input_shape=(T, H, W, 1),
        target_shape=(T_out, H, W, 1),
        base_units=b,
        levels=1,
        center_factor=2,
    )
    cells, coarse = H * W, H * W // 4
    parts = {part.name: part.macs for part in config.describe().parts}
    assert parts == {
        "enc": cells * 9 * (T * b + b * b),
        "center": coarse * 9 * (b * 2 * b + 2 * b * 2 * b),
        "dec": coarse * 4 * 2 * b * b + cells * 9 * (2 * b * b + b * b),
        "out": cells * b * T_out,
    }


@pytest.mark.parametrize("T_out", [1, 2, 7])
@pytest.mark.parametrize("name", SMALL)
def test_any_horizon_and_a_grid_that_is_not_square(name, T_out):
    network = small(name, horizon=(T_out, 10, 14, 2)).build().eval()
    y = network(torch.randn(2, 4, 10, 14, 2))
    assert y.shape == (2, T_out, 10, 14, 2)
    assert torch.isfinite(y).all()


@pytest.mark.parametrize("C_out", [1, 3])
@pytest.mark.parametrize("name", sorted(set(SMALL) - {"persistence"}))
def test_other_channels_in_the_forecast(name, C_out):
    network = small(name, horizon=(3, 10, 14, C_out)).build().eval()
    assert network(torch.randn(1, 4, 10, 14, 2)).shape == (1, 3, 10, 14, C_out)


@pytest.mark.parametrize("name", SMALL)
def test_samples_do_not_see_each_other(name):
    network = small(name).build().eval()
    x = torch.randn(3, 4, 10, 14, 2)
    alone = torch.cat([network(sample[None]) for sample in x])
    assert torch.allclose(network(x), alone, atol=1e-5)


@pytest.mark.parametrize("name", sorted(set(SMALL) - {"persistence"}))
def test_a_gradient_reaches_every_parameter(name):
    network = small(name).build()
    y = network(torch.randn(2, 4, 10, 14, 2))
    y.square().mean().backward()
    unreached = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert unreached == []


def test_the_coarsest_forecaster_reads_zeros():
    """Half of its convolution, the half of the input, is never used: as published."""
    network = small("convlstm").build()
    network(torch.randn(2, 4, 10, 14, 2)).sum().backward()
    cell = network.forecaster[-1].cell
    assert not cell.conv.weight.grad[:, : cell.units].any()
    assert cell.conv.weight.grad[:, cell.units :].any()


@pytest.mark.parametrize("name", SMALL)
def test_configurations_come_back_from_json(name):
    config = small(name)
    plain = json.loads(json.dumps(config.to_dict()))
    assert type(config).from_dict(plain) == config
    assert hash(config) == hash(type(config).from_dict(plain))


def test_an_unknown_key_is_named():
    with pytest.raises(ConfigError, match=r"UNetConfig has no 'depth'; it has .*levels"):
        UNetConfig.from_dict({"depth": 3})


def test_sized_for_labeled_data():
    sst = samples.open("kaplan_sst")
    window = Window(history=6, horizon=9)
    config = UNetConfig.for_data(sst, window, levels=2)
    assert config.input_shape == (6, 12, 22, 1)
    assert config.target_shape == (9, 12, 22, 1)
    assert config.levels == 2
    with pytest.raises(ConfigError, match="no field depth; it has base_units"):
        UNetConfig.for_data(sst, window, depth=2)


@pytest.mark.parametrize(
    "shape", [(2, 3, 10, 14, 2), (2, 4, 10, 14, 1), (2, 4, 12, 14, 2), (4, 10, 14, 2)]
)
@pytest.mark.parametrize("name", SMALL)
def test_another_shape_is_refused(name, shape):
    network = small(name).build()
    with pytest.raises(GridMismatchError, match=r"\(N, 4, 10, 14, 2\).*Build one for that shape"):
        network(torch.zeros(shape))


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        (UNetConfig, {"input_shape": (12, 24, 48)}, "four positive integers"),
        (UNetConfig, {"target_shape": (2, 24, 24, 1)}, "make them equal"),
        (UNetConfig, {"levels": 0}, "UNetConfig.levels must be positive integers; got 0"),
        (UNetConfig, {"levels": 6}, "6 levels reduce 24 x 48 cells to one"),
        (ConvLSTMConfig, {"strides": (2, 2)}, "one number per level"),
        (ConvLSTMConfig, {"conv_kernels": (7, 4, 3)}, "conv_kernels must be odd"),
        (ConvLSTMConfig, {"lstm_kernel": 2}, "lstm_kernel must be odd"),
        (ConvLSTMConfig, {"deconv_kernels": (6, 4, 1)}, "leaves holes at stride 2"),
        (ConvLSTMConfig, {"channels": ()}, "channels must be positive integers"),
        (PredRNNConfig, {"hidden": (8, 16)}, "the same number of channels"),
        (PredRNNConfig, {"kernel": 4}, "kernel must be odd"),
        (PredRNNConfig, {"patch": 0}, "patch must be positive"),
        (PredRNNConfig, {"hidden": (8.5,)}, "hidden must be a sequence of integers"),
        (StackedConvLSTMConfig, {"kernel": 2}, "kernel must be odd"),
        (PersistenceConfig, {"target_shape": (14, 24, 48, 2)}, "cannot forecast 2 channels from 1"),
    ],
)
def test_impossible_values_are_refused(config, changes, message):
    with pytest.raises(ConfigError, match=message):
        config(**changes)


@pytest.mark.parametrize("name", ["unet", "convlstm", "predrnn"])
def test_padded_grids_are_grids_with_their_edge_repeated(name):
    """The forecast on 10 x 14 cells is that on 12 x 16 with the last row and column repeated."""
    network = small(name).build().eval()
    larger = small(name, (4, 12, 16, 2), (3, 12, 16, 2)).build().eval()
    larger.load_state_dict(network.state_dict())
    x = torch.randn(1, 4, 10, 14, 2)
    if name == "convlstm":  # reduced by 8
        larger = small(name, (4, 16, 16, 2), (3, 16, 16, 2)).build().eval()
        larger.load_state_dict(network.state_dict())
    H, W = larger.config.input_shape[1:3]
    rows, columns = torch.arange(H).clamp_max(9), torch.arange(W).clamp_max(13)
    padded = x[:, :, rows][:, :, :, columns]
    assert torch.allclose(network(x), larger(padded)[:, :, :10, :14], atol=1e-6)


def test_persistence_keeps_the_last_frame():
    network = small("persistence", horizon=(3, 10, 14, 1)).build()
    x = torch.randn(2, 4, 10, 14, 2)
    y = network(x)
    for lead in range(3):
        assert torch.equal(y[:, lead], x[:, -1, ..., :1])


# --- pieces -----------------------------------------------------------------------------------


def test_batch_norm_moves_by_the_biased_variance():
    torch.manual_seed(0)
    x = (3 + 2 * torch.randn(2, 5, 4, 3)).requires_grad_()
    other = x.detach().clone().requires_grad_()
    ours, torchs = BatchNorm(5), torch.nn.BatchNorm2d(5, eps=1e-3, momentum=0.01)
    y, z = ours(x), torchs(other)
    assert torch.allclose(y, z, atol=1e-6)
    y.pow(3).sum().backward()
    z.pow(3).sum().backward()
    assert torch.allclose(x.grad, other.grad, atol=1e-5)
    values = x.detach().double().transpose(0, 1).flatten(1)
    assert torch.allclose(ours.running_mean.double(), 0.01 * values.mean(1), atol=1e-7)
    biased = 0.99 + 0.01 * values.var(1, correction=0)
    assert torch.allclose(ours.running_var.double(), biased, atol=1e-7)
    assert not torch.allclose(torchs.running_var.double(), biased, atol=1e-4)
    assert torch.allclose(
        ours.eval()(x),
        torch.nn.functional.batch_norm(x, ours.running_mean, ours.running_var, eps=1e-3),
    )


def test_convlstm_cell_by_hand():
    """One cell of grid, kernel 1: the formulas with numbers in them."""
    cell = ConvLSTMCell(1, 1, 1, grid=(1, 1)).double()
    weights = torch.linspace(-0.9, 0.8, 8, dtype=torch.float64)
    bias = torch.tensor([0.1, -0.2, 0.3, 0.05], dtype=torch.float64)
    with torch.no_grad():
        cell.conv.weight.copy_(weights.reshape(4, 2, 1, 1))
        cell.conv.bias.copy_(bias)
        for name, value in (("Wci", 0.4), ("Wcf", -0.3), ("Wco", 0.7)):
            getattr(cell, name).fill_(value)
    x, h, c = 0.6, -0.5, 0.8
    i, f, g, o = (weights.reshape(4, 2) @ torch.tensor([x, h]).double() + bias).tolist()

    def sigmoid(v):
        return 1 / (1 + torch.e**-v)

    c_new = sigmoid(f - 0.3 * c) * c + sigmoid(i + 0.4 * c) * float(torch.tanh(torch.tensor(g)))
    h_new = sigmoid(o + 0.7 * c_new) * torch.tanh(torch.tensor(c_new, dtype=torch.float64))
    at = [torch.full((1, 1, 1, 1), v, dtype=torch.float64) for v in (x, h, c)]
    found_h, found_c = (value.item() for value in cell(at[0], (at[1], at[2])))
    assert found_c == pytest.approx(c_new, abs=1e-7)
    assert found_h == pytest.approx(float(h_new), abs=1e-7)


def test_peepholes_start_closed():
    config = small("convlstm_a")
    network = ConvLSTM(config).eval()
    blind = ConvLSTM(dataclasses.replace(config, peephole=False)).eval()
    blind.load_state_dict(network.state_dict(), strict=False)
    x = torch.randn(1, 4, 10, 14, 2)
    assert torch.equal(network(x), blind(x))


def test_spatiotemporal_cell_without_weights_forgets_by_its_bias():
    config = PredRNNConfig(hidden=(3,), kernel=3, forget_bias=2.0)
    cell = SpatioTemporalLSTMCell(2, config)
    for parameter in cell.parameters():
        torch.nn.init.zeros_(parameter)
    x, h, c, m = torch.randn(1, 2, 4, 4), *torch.randn(3, 1, 3, 4, 4)
    h_new, c_new, m_new, delta_c, delta_m = cell(x, h, c, m)
    kept = torch.sigmoid(torch.tensor(2.0))
    assert torch.allclose(c_new, kept * c)
    assert torch.allclose(m_new, kept * m)
    for zero in (h_new, delta_c, delta_m):
        assert not zero.any()


def test_unet_starts_as_glorot():
    torch.manual_seed(0)
    network = UNet(UNetConfig())
    weight = network.center.net[3].weight
    limit = (6 / (9 * (1024 + 1024))) ** 0.5
    assert weight.abs().max() <= limit
    assert float(weight.detach().std()) == pytest.approx(limit / 3**0.5, rel=1e-2)
    assert not network.out.bias.any()
