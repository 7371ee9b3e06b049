"""What PhyDNet, E3D-LSTM, Rainformer and SimVP have in common."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from xearth.errors import ConfigError, GridMismatchError
from xearth.models.baselines.common import crop, pad_to_multiple
from xearth.models.baselines.e3d_lstm import E3DLSTMConfig
from xearth.models.baselines.phydnet import PhyDNetConfig
from xearth.models.baselines.rainformer import RainformerConfig
from xearth.models.baselines.simvp import SimVPConfig

# a frame that neither patches nor windows nor strides divide
FRAME = (9, 14)


def phydnet(**changes):
    return PhyDNetConfig(**{"width": 16, "hidden": (8, 32), "derivatives": 3, **changes})


def e3d_lstm(**changes):
    return E3DLSTMConfig(**{"hidden": (4, 4), "kernel": (2, 3, 3), **changes})


def rainformer(**changes):
    sizes = {"width": 4, "factors": (1, 2, 1, 2), "heads": (1, 1, 2, 2), "head_width": 4}
    return RainformerConfig(**{**sizes, "window": 2, **changes})


def simvp(**changes):
    return SimVPConfig(**{"width": 4, "layers": 4, "translator_width": 20, "blocks": 3, **changes})


def tau(**changes):
    return simvp(translator="tau", **changes)


MAKERS = [phydnet, e3d_lstm, rainformer, simvp, tau]
SMALL = pytest.mark.parametrize("make", MAKERS)


def shapes(T, T_out, C=1, C_out=1, frame=FRAME):
    return {"input_shape": (T, *frame, C), "target_shape": (T_out, *frame, C_out)}


def network(config, seed=0):
    torch.manual_seed(seed)
    return config.build()


@SMALL
@pytest.mark.parametrize(
    ("T", "T_out", "C", "C_out"), [(3, 1, 1, 1), (3, 3, 2, 2), (2, 5, 2, 1), (4, 3, 1, 2)]
)
def test_any_horizon_channels_and_frame(make, T, T_out, C, C_out):
    net = network(make(**shapes(T, T_out, C, C_out))).eval()
    x = torch.randn(2, T, *FRAME, C)
    with torch.no_grad():
        y = net(x)
        alone = net(x[1:])
    assert y.shape == (2, T_out, *FRAME, C_out)
    assert torch.isfinite(y).all()
    # in evaluation a forecast does not depend on what else is in the batch
    torch.testing.assert_close(y[1:], alone, rtol=1e-4, atol=1e-5)


@SMALL
def test_a_frame_of_one_cell(make):
    with torch.no_grad():
        y = network(make(**shapes(2, 2, frame=(1, 1)))).eval()(torch.randn(1, 2, 1, 1, 1))
    assert y.shape == (1, 2, 1, 1, 1)


@SMALL
def test_gradients_reach_every_parameter(make):
    idle = None
    for seed in range(8):  # narrow rectifiers may be off for one start of the weights
        net = network(make(**shapes(3, 2)), seed).double().train()
        net(torch.randn(4, 3, *FRAME, 1, dtype=torch.float64)).square().sum().backward()
        still = {n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()}
        idle = still if idle is None else idle & still
        if not idle:
            break
    assert not idle


@SMALL
def test_forecast_depends_on_every_frame_of_the_history(make):
    net = network(make(**shapes(3, 2))).double().eval()
    x = torch.randn(1, 3, *FRAME, 1, dtype=torch.float64, requires_grad=True)
    net(x)[:, -1].square().sum().backward()
    assert (x.grad.abs().amax((0, 2, 3, 4)) > 0).all()


@SMALL
def test_json_round_trip_and_weights(make):
    config = make(**shapes(3, 2))
    again = type(config).from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config
    first, second = network(config).eval(), network(again, seed=1).eval()
    second.load_state_dict(first.state_dict())
    x = torch.randn(1, 3, *FRAME, 1)
    with torch.no_grad():
        assert torch.equal(first(x), second(x))


@SMALL
def test_unknown_field_lists_the_known(make):
    config = make(**shapes(3, 2))
    with pytest.raises(ConfigError, match=r"depth.*it has.*target_shape"):
        type(config).from_dict({**config.to_dict(), "depth": 3})


@SMALL
def test_wrong_history_names_shapes_and_the_way_on(make):
    net = network(make(**shapes(3, 2)))
    with pytest.raises(GridMismatchError, match=r"\(N, 3, 9, 14, 1\).*\(1, 4, 9, 14, 1\).*Config"):
        net(torch.zeros(1, 4, *FRAME, 1))


@pytest.mark.parametrize("make", [rainformer, simvp, tau])
def test_padding_repeats_the_edge_and_is_cut_off(make):
    small = make(**shapes(3, 2))
    rows, columns = (-(-n // small.multiple) * small.multiple for n in FRAME)
    large = dataclasses.replace(small, **shapes(3, 2, frame=(rows, columns)))
    first, second = network(small).eval(), network(large).eval()
    second.load_state_dict(first.state_dict())
    x = torch.randn(1, 3, *FRAME, 1)
    with torch.no_grad():
        expected = crop(second(pad_to_multiple(x, small.multiple)), *FRAME)
        assert torch.equal(first(x), expected)


@pytest.mark.parametrize("make", [phydnet, e3d_lstm])
def test_padding_of_one_step(make):
    small = make(**shapes(1, 1))
    large = dataclasses.replace(small, **shapes(1, 1, frame=(12, 16)))
    first, second = network(small).eval(), network(large).eval()
    second.load_state_dict(first.state_dict())
    x = torch.randn(1, 1, *FRAME, 1)
    with torch.no_grad():
        torch.testing.assert_close(first(x), crop(second(pad_to_multiple(x, 4)), *FRAME))


def macs(config):
    """Count a forecast: next-frame networks by two steps, each costing as much more as the last."""
    if not isinstance(config, PhyDNetConfig | E3DLSTMConfig):
        return config.describe().total.macs
    frame = config.input_shape[1:]
    one, two = (
        dataclasses.replace(config, input_shape=(1, *frame), target_shape=(n, *frame))
        .describe()
        .total.macs
        for n in (1, 2)
    )
    steps = config.input_shape[0] + config.target_shape[0] - 1
    return steps * one + (two - 2 * one) * steps * (steps - 1) // 2


@pytest.mark.parametrize("make", [phydnet, e3d_lstm])
def test_each_step_costs_as_much_more_as_the_last(make):
    config = make(**shapes(4, 3))
    assert macs(config) == config.describe().total.macs


PARITY = [
    (PhyDNetConfig.sevir, 13_710_612, 3044),
    (PhyDNetConfig.icar_enso, 3_091_732, 5.66),
    (E3DLSTMConfig.sevir, 35_608_064, 258.3),
    (E3DLSTMConfig.icar_enso, 12_898_832, 49.84),
    (RainformerConfig.sevir, 184_112_700, 164.0),
    (RainformerConfig.icar_enso, 19_177_396, 1.33),
]


@pytest.mark.parametrize(
    ("make", "parameters", "gmac"), PARITY, ids=[make.__qualname__ for make, *_ in PARITY]
)
def test_parameters_and_macs_of_the_tables(make, parameters, gmac):
    config = make()
    with torch.device("meta"):
        net = config.build()
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert macs(config) / 1e9 == pytest.approx(gmac, rel=0.005)


@pytest.mark.parametrize(
    ("setup", "changes", "millions", "gmac"),
    [
        (SimVPConfig.sevir, {}, 10.544, 38.8),
        (SimVPConfig.sevir, {"layers": 4}, 10.528, 110.0),
        (SimVPConfig.sevir, {"layers": 4, "width": 32}, 13.357, 176.1),
        (SimVPConfig.sevir, {"layers": 4, "width": 32, "translator": "tau"}, 12.794, 170.3),
        (SimVPConfig.icar_enso, {}, 12.758, 3.93),
        (SimVPConfig.icar_enso, {"width": 16, "translator_width": 128, "blocks": 4}, 1.885, 0.61),
    ],
)
def test_simvp_counts_with_as_many_frames_as_in_the_history(setup, changes, millions, gmac):
    config = setup()
    target = (config.input_shape[0], *config.target_shape[1:])
    total = dataclasses.replace(config, target_shape=target, **changes).describe().total
    assert total.parameters / 1e6 == pytest.approx(millions, abs=6e-4)
    assert total.macs / 1e9 == pytest.approx(gmac, rel=0.005)


@pytest.mark.parametrize(
    ("make", "millions", "gmac"),
    [(SimVPConfig.sevir, 10.544, 38.8), (SimVPConfig.icar_enso, 12.758, 3.93)],
)
def test_simvp_of_another_horizon_costs_nearly_the_same(make, millions, gmac):
    total = make().describe().total
    assert total.parameters / 1e6 == pytest.approx(millions, rel=0.002)
    assert total.macs / 1e9 == pytest.approx(gmac, rel=0.025)


@pytest.mark.parametrize(
    ("make", "changes", "message"),
    [
        (phydnet, {"width": 24}, "multiple of 16"),
        (phydnet, {"derivatives": 4}, "must be odd"),
        (phydnet, {"kernel": 2}, "must be odd"),
        (phydnet, {"hidden": (8, 8)}, r"hidden\[-1\]"),
        (phydnet, {"hidden": ()}, "positive"),
        (phydnet, {"output": "relu"}, "'identity' or 'sigmoid'"),
        (e3d_lstm, {"hidden": (4, 8)}, "same number"),
        (e3d_lstm, {"kernel": (2, 4, 3)}, "odd height"),
        (e3d_lstm, {"kernel": (2, 3)}, "odd height"),
        (e3d_lstm, {"memory": "old"}, "'new' or 'given'"),
        (e3d_lstm, {"patch": 0}, "positive"),
        (rainformer, {"factors": (2, 2)}, "4 stages"),
        (rainformer, {"heads": (1, 1, 1)}, "4 stages"),
        (rainformer, {"factors": (1, 2, 4, 8)}, "way up"),
        (rainformer, {"width": 1, "factors": (2, 1, 1, 1)}, "last stage"),
        (rainformer, {"gate": "batch"}, "'channel' or 'pixel'"),
        (rainformer, {"spare_frames": -1}, "0 or more"),
        (simvp, {"width": 3}, "even"),
        (simvp, {"layers": 3}, "even"),
        (simvp, {"encoder_kernel": 4}, "must be odd"),
        (simvp, {"blocks": 1}, "one to narrow"),
        (simvp, {"translator": "vit"}, "gsta, tau"),
        (simvp, {"ratio": 0.0}, "at least one channel"),
        (simvp, {"drop_path": 1.0}, r"drop_path must be in \[0, 1\)"),
    ],
)
def test_errors_teach(make, changes, message):
    with pytest.raises(ConfigError, match=message):
        make(**changes)
