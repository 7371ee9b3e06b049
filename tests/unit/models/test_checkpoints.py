from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from xearth.errors import CheckpointError, ConfigError, MissingDependencyError
from xearth.models.auxiliary import AuxiliaryEarthformer
from xearth.models.checkpoints import (
    load_tensors,
    official_name,
    official_state,
    our_name,
    read_official,
    save_tensors,
)
from xearth.models.config import EarthformerConfig
from xearth.models.earthformer import Earthformer
from xearth.models.official import OFFICIAL_DEFAULTS, official_config

TINY = {
    "input_shape": [3, 6, 8, 1],
    "target_shape": [4, 6, 8, 1],
    "base_units": 16,
    "enc_depth": [1, 1],
    "dec_depth": [1, 1],
    "num_global_vectors": 0,
    "padding_type": "zeros",
    "z_init_method": "zeros",
    "enc_attn_patterns": "axial",
    "dec_self_attn_patterns": "axial",
    "dec_cross_attn_patterns": "cross_1x1",
}
AUX = {**TINY, "auxiliary_channels": 2, "unet_dec_cross_mode": "both", "num_global_vectors": 2}


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    return official_config(TINY).build().eval()


@pytest.fixture
def state(tiny):
    return {name: tensor.clone() for name, tensor in official_state(tiny).items()}


@pytest.fixture
def x():
    return torch.randn(2, 3, 6, 8, 1)


def same(a, b, *inputs):
    with torch.no_grad():
        torch.testing.assert_close(a(*inputs), b(*inputs), rtol=0, atol=0)


class Settings:
    """A configuration of a library that need not be installed."""

    def __setstate__(self, state):
        raise AssertionError("code of a file must not run")


@pytest.mark.parametrize("form", ["mapping", "numpy", "pt", "ckpt", "prefixed", "wrapped"])
def test_official_weights_in_every_form(form, tiny, state, x, tmp_path):
    weights = state
    if form == "numpy":
        weights = {name: tensor.numpy() for name, tensor in state.items()}
    elif form == "prefixed":
        weights = {f"torch_nn_module.{name}": tensor for name, tensor in state.items()}
    elif form == "wrapped":
        weights = {f"model._orig_mod.{name}": tensor for name, tensor in state.items()}
    elif form != "mapping":
        weights = tmp_path / f"weights.{form}"
        content = {
            "state_dict": {
                **{f"torch_nn_module.{name}": tensor for name, tensor in state.items()},
                "valid_mse.sum_squared_error": torch.zeros(()),
            },
            "epoch": 3,
            "hyper_parameters": Settings(),
        }
        torch.save(state if form == "pt" else content, weights)
    model = Earthformer.from_official(weights, config=TINY)
    assert not model.training
    same(model, tiny, x)


def test_official_names_are_a_bijection(tiny):
    names = list(tiny.state_dict())
    assert [our_name(official_name(name)) for name in names] == names
    assert any(official_name(name) != name for name in names)


def test_published_key_counts():
    for make, keys in ((EarthformerConfig.sevir, 286), (EarthformerConfig.earthnet, 431)):
        with torch.device("meta"):
            network = make().build()
        assert len(official_state(network)) == keys


def test_index_buffers_may_be_left_out_but_are_checked(state, x, tiny):
    indexes = [name for name in state if name.endswith("relative_position_index")]
    assert indexes
    lean = {name: tensor for name, tensor in state.items() if name not in indexes}
    same(Earthformer.from_official(lean, config=TINY), tiny, x)
    wrong = {**state, indexes[0]: state[indexes[0]] + 1}
    with pytest.raises(CheckpointError, match="is not the index of cuboid"):
        Earthformer.from_official(wrong, config=TINY)
    with pytest.raises(CheckpointError, match="another configuration"):
        Earthformer.from_official({**state, indexes[0]: torch.zeros(2, 2)}, config=TINY)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("z_proj.bias"), r"missing: z_proj\.bias"),
        (lambda s: s.update({"z_proj.extra": torch.zeros(1)}), r"unknown: z_proj\.extra"),
        (
            lambda s: s.update({"z_proj.bias": torch.zeros(7)}),
            r"z_proj\.bias is \(7,\), expected \(32,\)",
        ),
        (lambda s: s.update({"z_proj.bias": "text"}), r"no tensors under: z_proj\.bias"),
        (lambda s: s.clear(), "expected a mapping"),
    ],
)
def test_weights_that_do_not_fit_are_refused(change, message, state):
    change(state)
    with pytest.raises(CheckpointError, match=message):
        Earthformer.from_official(state, config=TINY)


def test_a_foreign_checkpoint_is_named_as_such():
    foreign = torch.nn.Sequential(torch.nn.Linear(2, 2)).state_dict()
    with pytest.raises(
        CheckpointError, match=r"missing: .* and \d+ more.*unknown: 0\.bias, 0\.weight"
    ):
        Earthformer.from_official(foreign, config=TINY)


def test_damaged_files_are_refused(tmp_path, state):
    path = tmp_path / "weights.pt"
    with pytest.raises(CheckpointError, match="there is no file"):
        read_official(path)
    torch.save(state, path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(CheckpointError, match="damaged"):
        read_official(path)
    path.write_bytes(b"no checkpoint at all")
    with pytest.raises(CheckpointError, match="damaged"):
        read_official(path)
    torch.save([1, 2], path)
    with pytest.raises(CheckpointError, match="list, expected a mapping"):
        read_official(path)


class Malicious:
    """What a hostile checkpoint does: name a function to be called on loading."""

    def __reduce__(self):
        return (print, ("this code must not run",))


def test_no_code_of_a_file_is_run(tmp_path, capsys):
    path = tmp_path / "weights.pt"
    torch.save({"a": Malicious()}, path)
    with pytest.raises(CheckpointError, match="no tensors under: a"):
        read_official(path)
    path.write_bytes(pickle.dumps(Malicious(), protocol=2))
    with pytest.raises(CheckpointError):
        read_official(path)
    assert "must not run" not in capsys.readouterr().out


def test_failed_loading_leaves_the_network_as_it_was(tiny, state):
    from xearth.models.checkpoints import load_official_state

    network = official_config(TINY).build()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state.pop("z_proj.bias")
    with pytest.raises(CheckpointError):
        load_official_state(network, state)
    assert all(torch.equal(before[name], t) for name, t in network.state_dict().items())


def test_auxiliary_network_is_recognized_by_its_weights():
    network = official_config(AUX).build().eval()
    loaded = Earthformer.from_official(official_state(network), config=AUX)
    assert isinstance(loaded, AuxiliaryEarthformer)
    inputs = [torch.randn(1, 3, 6, 8, 1), torch.randn(1, 3, 6, 8, 2), torch.randn(1, 4, 6, 8, 2)]
    same(loaded, network, *inputs)
    bare = {key: value for key, value in AUX.items() if not key.startswith(("aux", "unet"))}
    assert official_config(bare, auxiliary=True).auxiliary.channels == 1


@pytest.mark.parametrize("name", ["sevir", "icar_enso", "earthnet", "sevir_table"])
def test_names_of_setups(name):
    assert official_config(name) == getattr(EarthformerConfig, name)()


def test_official_yaml(tmp_path, tiny, state, x):
    path = tmp_path / "cfg.yaml"
    lines = [
        f"  {key}: {str(value).lower()}" for key, value in TINY.items() if "patterns" not in key
    ]
    names = ["self_pattern: axial", "cross_self_pattern: axial", "cross_pattern: cross_1x1"]
    path.write_text(
        "\n".join(["dataset:", "  in_len: 3", "model:", *lines, *(f"  {n}" for n in names)])
    )
    same(Earthformer.from_official(state, config=path), tiny, x)
    path.write_text("dataset: {}")
    with pytest.raises(ConfigError, match="no 'model:' section"):
        official_config(path)
    path.write_text("model: [unclosed")
    with pytest.raises(ConfigError, match="cannot read"):
        official_config(path)


def test_yaml_without_pyyaml_says_what_to_install(tmp_path, monkeypatch):
    path = tmp_path / "cfg.yaml"
    path.write_text("model: {}")
    monkeypatch.setitem(__import__("sys").modules, "yaml", None)
    with pytest.raises(MissingDependencyError, match="PyYAML"):
        official_config(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_head": 4}, r"no argument num_head"),
        ({"downsample_type": "pool"}, "patch_merge"),
        ({"initial_downsample_type": "interp"}, "stack_conv"),
        ({"enc_attn_patterns": "nothing"}, "pattern"),
    ],
)
def test_unknown_official_values_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        official_config({**TINY, **changes})
    with pytest.raises(ConfigError, match="neither a published set-up"):
        official_config("sevirr")
    with pytest.raises(ConfigError, match="no target_shape"):
        official_config({"input_shape": [1, 2, 2, 1]})


def test_official_defaults_disagree_with_themselves():
    """The reference's own defaults have 3 encoder levels and 2 decoder levels."""
    shapes = {"input_shape": [4, 16, 16, 1], "target_shape": [4, 16, 16, 1]}
    with pytest.raises(ConfigError, match="as many in both"):
        official_config(shapes)
    config = official_config({**shapes, "enc_depth": [4, 4]})
    assert config.decoder_patterns[0][0].shift == (1, 1, 1)
    assert config.cross_patterns[1][1].n_temporal == 2
    assert OFFICIAL_DEFAULTS["enc_depth"] == (4, 4, 4)


def test_a_longer_list_of_convolutions_is_reversed_before_it_is_cut():
    ctor = {
        **TINY,
        "initial_downsample_type": "stack_conv",
        "initial_downsample_stack_conv_num_layers": 2,
        "initial_downsample_stack_conv_dim_list": [4, 16],
        "initial_downsample_stack_conv_downscale_list": [2, 1],
    }
    longer = official_config({**ctor, "initial_downsample_stack_conv_num_conv_list": [3, 1, 5]})
    assert (longer.stem.convs, longer.stem.back) == ((3, 1), (5, 1))
    exact = official_config({**ctor, "initial_downsample_stack_conv_num_conv_list": [3, 1]})
    assert (exact.stem.convs, exact.stem.back) == ((3, 1), (1, 3))
    assert len(longer.build().final_decoder.conv_block_list[0]) == 3 * 5


def test_downward_positions_of_the_reference_are_cut_to_what_is_read():
    ctor = {**AUX, "dec_hierarchical_pos_embed": True, "block_units": [16, 16],
            "target_shape": [3, 6, 8, 1]}  # fmt: skip
    network = official_config(ctor).build().eval()
    state = official_state(network)
    key = "decoder.down_hierarchical_pos_embed_l.0.HW_embed.weight"
    small_table = state[key].clone()
    large = torch.full((6 * 8, 16), float("nan")).unflatten(0, (6, 8))
    large[:3, :4] = small_table.unflatten(0, (3, 4))
    loaded = Earthformer.from_official({**state, key: large.flatten(0, 1)}, config=ctor)
    assert torch.equal(loaded.decoder.down_hierarchical_pos_embed_l[0].HW_embed.weight, small_table)


def test_own_files_round_trip(tmp_path):
    base = torch.randn(4, 6)
    tensors = {"a": base, "view": base[:, ::2], "half": torch.ones(3).half(), "i": torch.arange(3)}
    metadata = {"config": EarthformerConfig.sevir().to_dict(), "note": "Niño", "n": 1.5}
    path = save_tensors(tmp_path / "m.safetensors", tensors, metadata)
    back, meta = load_tensors(path)
    assert meta == metadata
    assert all(
        torch.equal(back[k], tensors[k]) and back[k].dtype == tensors[k].dtype for k in tensors
    )
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


def test_own_files_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = save_tensors(tmp_path / "m.safetensors", {"a": torch.ones(2)}, {"v": 1})
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save_tensors(path, {"a": torch.zeros(2)}, {"v": 2})
    monkeypatch.undo()
    assert load_tensors(path)[1] == {"v": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


def test_own_files_that_are_not_ours_are_refused(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "m.safetensors"
    with pytest.raises(CheckpointError, match="there is no file"):
        load_tensors(path)
    save_file({"a": torch.ones(2)}, path)
    with pytest.raises(CheckpointError, match="without xearth metadata"):
        load_tensors(path)
    save_tensors(path, {"a": torch.ones(64)}, {})
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="truncated"):
        load_tensors(path)
    with pytest.raises(CheckpointError, match="not JSON"):
        save_tensors(path, {}, {"bad": np.zeros(2)})
    with pytest.raises(CheckpointError, match="no folder"):
        save_tensors(tmp_path / "none" / "m.safetensors", {}, {})
