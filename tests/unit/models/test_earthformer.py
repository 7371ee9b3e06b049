from __future__ import annotations

import copy
import dataclasses

import pytest
import torch

from xearth.errors import ConfigError, GridMismatchError
from xearth.models.auxiliary import AuxiliaryEarthformer
from xearth.models.config import EarthformerConfig
from xearth.models.config_parts import Auxiliary, ConvStem, GlobalVectors, StackStem
from xearth.models.cuboid.patterns import cross_shifted, spatial_local_global, video_swin
from xearth.models.earthformer import Earthformer
from xearth.models.unfilled import unfilled

DEVICES = ["cpu", "meta", *(["cuda"] if torch.cuda.is_available() else [])]


def small(**changes) -> EarthformerConfig:
    fields = {"base_units": 16, "heads": 2, **changes}
    input_shape = fields.pop("input_shape", (3, 7, 9, 2))
    target_shape = fields.pop("target_shape", (5, 7, 9, 1))
    return EarthformerConfig.for_shape("icar_enso", input_shape, target_shape, **fields)


VARIANTS = {
    "plain": {},
    "three levels": {"encoder_depth": (1, 2, 1), "decoder_depth": (1, 1, 2)},
    "stack stem": {"stem": StackStem(dims=(4, 16), scales=(2, 1), convs=(1, 2))},
    "time merged": {"stem": ConvStem(scale=(2, 2, 1)), "downsample": (2, 2, 2)},
    "swin": {"encoder_patterns": video_swin(2, 4), "decoder_patterns": video_swin(2, 2)},
    "local-global": {"encoder_patterns": spatial_local_global(2), "padding": "nearest"},
    "shifted cross": {"cross_patterns": cross_shifted(2)},
    "globals": {"global_vectors": GlobalVectors(count=2)},
    "globals everywhere": {
        "global_vectors": GlobalVectors(
            count=2, ratio=2, ffn=True, decoder_self=True, decoder_cross=True
        ),
        "decoder_depth": (2, 2),
    },
    "mean": {"z_init": "mean", "first_self_attention": True},
    "last": {"z_init": "last", "hierarchical_positions": True},
    "nearest": {"z_init": "nearest_interp", "positions": "t+hw", "cross_start": 1},
    "one level": {"encoder_depth": (1,), "decoder_depth": (1,), "hierarchical_positions": True},
    "odd options": {
        "norm": "rms_norm",
        "gated_ffn": True,
        "activation": "softsign",
        "relative_positions": False,
        "final_projection": False,
        "encoder_inter_ffn": False,
        "upsample_kernel": 5,
        "cross_last_frames": 2,
    },
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_learns_on_every_device(variant, device):
    """Forward and backward; every parameter that should be learned gets a gradient."""
    config = small(**VARIANTS[variant])
    model = config.build().to(device)
    x = torch.randn(2, *config.input_shape, device=device)
    y = model(x)
    assert y.shape == (2, *config.target_shape)
    assert y.device.type == device
    y.square().mean().backward()
    idle = [name for name, p in model.named_parameters() if p.grad is None]
    dead = ("g2l", "g2g", "global_proj", "global_ffn", "global_qkv")
    assert [name for name in idle if not any(part in name for part in dead)] == []
    if config.global_vectors is None:
        assert idle == []
    if device != "meta":
        assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("device", DEVICES)
def test_a_network_made_on_a_device_holds_nothing_elsewhere(device):
    with torch.device(device):
        model = small(**VARIANTS["swin"], global_vectors=GlobalVectors(count=2)).build()
    tensors = [*model.parameters(), *model.buffers()]
    assert {t.device.type for t in tensors} == {device}
    assert model(torch.randn(1, 3, 7, 9, 2, device=device)).device.type == device


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (12, 22), (17, 3)])
@pytest.mark.parametrize("like", ["icar_enso", "sevir", "sevir_lr", "moving_mnist"])
def test_any_grid_can_be_sized(like, shape):
    H, W = shape
    config = EarthformerConfig.for_shape(
        like, (2, H, W, 1), (3, H, W, 1), encoder_depth=(1, 1), decoder_depth=(1, 1)
    )
    with unfilled():
        network = config.build()
    x = torch.empty(1, 2, H, W, 1, device="meta")
    assert network(x).shape == (1, 3, H, W, 1)


def test_samples_do_not_see_each_other():
    model = small(global_vectors=GlobalVectors(count=2)).build().eval()
    x = torch.randn(3, 3, 7, 9, 2)
    with torch.no_grad():
        torch.testing.assert_close(model(x)[1:2], model(x[1:2]))


def test_gradients_by_finite_differences():
    config = small(
        input_shape=(2, 3, 4, 1),
        target_shape=(2, 3, 4, 1),
        activation="gelu",
        stem=ConvStem(scale=(1, 1, 2), encoder_layers=1, decoder_layers=1, activation="tanh"),
    )
    torch.manual_seed(1)
    model = config.build().double().eval()
    x = torch.randn(1, 2, 3, 4, 1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(model, (x,), fast_mode=True)


def test_every_frame_of_the_horizon_is_attended_together():
    """The published decoder cuts 14 months into 12 + 2; a new one does not."""
    config = small()
    short = small(target_shape=(3, 7, 9, 1))
    published_way = dataclasses.replace(config, decoder_patterns=short.decoder_patterns)
    for c, expected in ((config, [True] * 5), (published_way, [False, False, False, True, True])):
        block = c.build().eval().decoder.self_blocks[0][0]
        _, H, W = c.decoder_shapes[0]
        x = torch.randn(1, 5, H, W, 16, requires_grad=True)
        block(x)[0][0, 4].sum().backward()
        assert [bool(x.grad[0, t].abs().sum() > 1e-6) for t in range(5)] == expected


def test_a_wrong_grid_is_refused():
    model = small().build()
    with pytest.raises(GridMismatchError, match=r"\(N, 3, 7, 9, 2\).*\(1, 3, 7, 8, 2\)"):
        model(torch.randn(1, 3, 7, 8, 2))


def test_recomputing_changes_nothing_but_memory():
    gradients = []
    for how in ("none", "ffn", "all"):
        torch.manual_seed(0)
        model = small(checkpoint=how).build().train()
        for module in model.modules():
            if hasattr(module, "drop"):
                module.drop = 0.0
        torch.manual_seed(1)
        model(torch.randn(1, 3, 7, 9, 2)).sum().backward()
        gradients.append(model.enc_pos_embed.T_embed.weight.grad)
    torch.testing.assert_close(gradients[1], gradients[0])
    torch.testing.assert_close(gradients[2], gradients[0])


def test_inference_then_training_then_copy():
    config = small(**VARIANTS["swin"])
    model = config.build().eval()
    x = torch.randn(1, *config.input_shape)
    with torch.inference_mode():
        first = model(x)
    model.train()(x).sum().backward()
    twin = copy.deepcopy(model).eval()
    with torch.no_grad():
        torch.testing.assert_close(twin(x), first.clone())


def test_autocast_keeps_the_shape_and_roughly_the_numbers():
    config = small(global_vectors=GlobalVectors(count=2))
    model = config.build().eval()
    x = torch.randn(1, *config.input_shape)
    with torch.no_grad():
        exact = model(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = model(x)
    assert (rough.float() - exact).abs().max() < 0.2 * exact.abs().max() + 0.05


def test_published_initialization():
    torch.manual_seed(0)
    model = EarthformerConfig.icar_enso().build()
    attention = model.encoder.blocks[1][0].attn_l[0]
    ffn = model.encoder.blocks[1][0].ffn_l[0]
    for weight, fan_in in ((attention.qkv.weight, 128), (ffn.ffn_2.weight, 512)):
        assert weight.std().item() == pytest.approx(fan_in**-0.5, rel=0.05)
    assert attention.proj.bias.abs().max() == 0
    up = model.decoder.upsample_layers[0].conv
    gain = (2 / (1 + 0.1**2)) ** 0.5
    assert up.weight.std().item() == pytest.approx(gain / (64 * 9) ** 0.5, rel=0.05)
    table = attention.relative.bias_table
    assert table.std().item() == pytest.approx(0.02, rel=0.3)
    assert table.abs().max() < 2.0
    # PyTorch's own start of a convolution: uniform with bound 1 / sqrt(fan_in).
    conv = model.initial_encoder.conv_block[3].weight
    assert conv.abs().max().item() == pytest.approx((64 * 9) ** -0.5, rel=0.02)


def test_auxiliary_network():
    vectors = GlobalVectors(count=2, decoder_self=True, decoder_cross=True)
    config = small(
        auxiliary=Auxiliary(channels=4, cross="both"),
        decoder_depth=(2, 1),
        hierarchical_positions=True,
        global_vectors=vectors,
    )
    model = config.build()
    assert isinstance(model, AuxiliaryEarthformer)
    x = torch.randn(2, *config.input_shape)
    past, future = torch.randn(2, 3, 7, 9, 4), torch.randn(2, 5, 7, 9, 4)
    y = model(x, past, future)
    assert y.shape == (2, 5, 7, 9, 1)
    y.sum().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None and "global" not in n] == []


def test_auxiliary_fields_of_another_size_are_stretched():
    config = small(
        auxiliary=Auxiliary(channels=1), input_shape=(2, 4, 4, 1), target_shape=(2, 4, 4, 1)
    )
    model = config.build().eval()
    x, coarse = torch.randn(1, 2, 4, 4, 1), torch.randn(1, 1, 2, 2, 1)
    fine = coarse.repeat_interleave(2, 1).repeat_interleave(2, 2).repeat_interleave(2, 3)
    with torch.no_grad():
        torch.testing.assert_close(model(x, coarse, coarse), model(x, fine, fine))


def test_auxiliary_fields_of_other_channels_are_refused():
    model = small(auxiliary=Auxiliary(channels=2)).build()
    x, past = torch.randn(1, 3, 7, 9, 2), torch.randn(1, 3, 7, 9, 3)
    with pytest.raises(GridMismatchError, match="channels=2"):
        model(x, past, past)


def test_auxiliary_network_refuses_to_merge_time():
    with pytest.raises(ConfigError, match="time factors to 1"):
        small(auxiliary=Auxiliary(channels=1), downsample=(2, 2, 2)).build()
    with pytest.raises(ConfigError, match="auxiliary"):
        AuxiliaryEarthformer(small())


def test_state_holds_parameters_only():
    """Masks and indexes are computed, so a state fits the same network on any device."""
    model = Earthformer(small(**VARIANTS["swin"]))
    assert set(model.state_dict()) == {name for name, _ in model.named_parameters()}
