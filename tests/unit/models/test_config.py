from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import xearth.errors
from xearth.errors import ConfigError
from xearth.models.config import EarthformerConfig
from xearth.models.config_parts import Auxiliary, ConvStem, Dropout, GlobalVectors, StackStem
from xearth.models.cuboid.patterns import CuboidLayer, axial, cross, divided_space_time, video_swin

PUBLISHED = ["sevir", "sevir_lr", "icar_enso", "earthnet", "moving_mnist"]
COUNTS = {
    "sevir": 8_659_677,
    "sevir_lr": 1_505_069,
    "icar_enso": 1_394_325,
    "earthnet": 60_618_380,
    "moving_mnist": 6_702_109,
}


def count(config: EarthformerConfig) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in config.build().parameters())


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_parameter_counts(name):
    assert count(getattr(EarthformerConfig, name)()) == COUNTS[name]


@pytest.mark.parametrize(
    ("make", "millions"),
    [
        (EarthformerConfig.sevir_table, {True: 15.082, False: 13.075}),
        (EarthformerConfig.icar_enso_table, {True: 7.600, False: 6.601}),
    ],
)
@pytest.mark.parametrize("vectors", [True, False])
def test_table_parameter_counts(make, millions, vectors):
    assert round(count(make(global_vectors=vectors)) / 1e6, 3) == millions[vectors]


@pytest.mark.parametrize("name", [*PUBLISHED, "sevir_table", "icar_enso_table"])
def test_json_round_trip(name):
    config = getattr(EarthformerConfig, name)()
    assert EarthformerConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_round_trip_with_everything_changed():
    config = EarthformerConfig.for_shape(
        "sevir",
        (4, 20, 22, 3),
        (6, 20, 22, 1),
        base_units=16,
        stem=ConvStem(scale=(1, 2, 2), activation="relu"),
        encoder_patterns=(video_swin(2, 4), axial),
        cross_patterns=cross(2),
        global_vectors=GlobalVectors(count=2, ratio=2),
        auxiliary=Auxiliary(channels=3, cross="up"),
        dropout=Dropout(attention=0.0),
        block_units=(16, 48),
    )
    back = EarthformerConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert back == config
    assert hash(back) == hash(config)


def test_unknown_key_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"'widths'.*base_units"):
        EarthformerConfig.from_dict({"widths": 3})
    with pytest.raises(ConfigError, match=r"'size'.*scale"):
        EarthformerConfig.from_dict({"stem": {"scale": [1, 1, 1], "size": 3}})
    with pytest.raises(ConfigError, match=r"no field widths"):
        EarthformerConfig.for_shape("sevir", (1, 8, 8, 1), (1, 8, 8, 1), widths=3)


def test_unknown_setup_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"'enso'.*icar_enso"):
        EarthformerConfig.for_shape("enso", (1, 8, 8, 1), (1, 8, 8, 1))


def test_patterns_are_kept_per_level_and_given_in_any_way():
    shapes = {"input_shape": (4, 8, 8, 1), "target_shape": (6, 8, 8, 1), "base_units": 16}
    stem = ConvStem(scale=(1, 1, 1))
    by_function = EarthformerConfig(**shapes, stem=stem, encoder_patterns=divided_space_time)
    levels = (divided_space_time((4, 8, 8)), divided_space_time((4, 4, 4)))
    assert by_function.encoder_patterns == levels
    assert EarthformerConfig(**shapes, stem=stem, encoder_patterns=levels) == by_function
    one = (CuboidLayer((2, 2, 2)),)
    same = EarthformerConfig(**shapes, stem=stem, encoder_patterns=one)
    assert same.encoder_patterns == (one, one)
    with pytest.raises(ConfigError, match="3 patterns for 2 levels"):
        EarthformerConfig(**shapes, stem=stem, encoder_patterns=(axial, axial, axial))


def test_new_networks_get_the_right_thing_and_published_ones_what_they_had():
    published = EarthformerConfig.icar_enso()
    assert published.decoder_patterns[0][0].cuboid == (12, 1, 1)
    assert (published.padding, published.relative_index) == ("zeros", "sliced")
    new = EarthformerConfig.for_shape("icar_enso", published.input_shape, published.target_shape)
    assert new.decoder_patterns[0][0].cuboid == (14, 1, 1)
    assert (new.padding, new.relative_index, new.global_mask) == (
        "ignore",
        "recomputed",
        "reordered",
    )
    assert new == EarthformerConfig()


def test_integers_of_any_kind_are_taken_and_kept_plain():
    config = EarthformerConfig(input_shape=list(np.array([12, 24, 48, 1])), encoder_depth=[1, 1])
    assert config == EarthformerConfig()
    assert all(type(n) is int for n in config.input_shape)
    with pytest.raises(ConfigError, match="sequence of integers"):
        EarthformerConfig(input_shape=(12.5, 24, 48, 1))
    with pytest.raises(ConfigError, match="sequence of integers"):
        EarthformerConfig(encoder_depth=2)
    with pytest.raises(ConfigError, match="downsample"):
        EarthformerConfig(downsample=(2, 2))


def test_grids_of_the_levels():
    config = EarthformerConfig.for_shape("sevir", (5, 100, 75, 1), (4, 100, 75, 1))
    assert config.encoder_shapes == ((5, 9, 7), (5, 5, 4))
    assert config.decoder_shapes == ((4, 9, 7), (4, 5, 4))
    assert EarthformerConfig.sevir().units == (128, 256)
    grown = EarthformerConfig(scale_alpha=1.5, encoder_depth=(1, 1, 1), decoder_depth=(1, 1, 1))
    assert grown.units == (64, 64 * 2, 64 * 8)  # int((2 ** 1.5) ** i), truncated


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_shape": (12, 24, 48)}, "four positive integers"),
        ({"target_shape": (14, 24, 0, 1)}, "four positive integers"),
        ({"target_shape": (14, 12, 48, 1)}, "make them equal"),
        ({"encoder_depth": (1,)}, "as many in both"),
        ({"encoder_depth": (0, 1)}, "positive"),
        ({"heads": 7}, "do not divide"),
        ({"block_units": (32, 64)}, "base_units"),
        ({"base_units": 40, "heads": 4}, "multiple of 16"),
        ({"cross_start": 2}, "no level"),
        ({"positions": "thw"}, "positions"),
        ({"z_init": "noise"}, "z_init"),
        ({"padding": "reflect"}, "padding"),
        ({"norm": "batch_norm"}, "norm"),
        ({"checkpoint": "some"}, "checkpoint"),
        ({"dropout": Dropout(ffn=1.0)}, r"dropout\.ffn"),
        ({"global_vectors": GlobalVectors(count=0)}, "None for no vectors"),
        ({"global_vectors": GlobalVectors(ratio=2, separate_qkv=False)}, "separate_qkv"),
        ({"auxiliary": Auxiliary(cross="all")}, r"auxiliary\.cross"),
        ({"stem": StackStem(dims=(16, 32), scales=(2, 2), convs=(1, 1))}, "base_units"),
        ({"stem": StackStem(dims=(64,), scales=(2, 2), convs=(1,))}, "as many dims"),
        ({"stem": StackStem(dims=(9, 64), scales=(2, 2), convs=(1, 1))}, "norm groups"),
    ],
)
def test_impossible_values_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(EarthformerConfig(), **changes)


def test_the_configuration_needs_no_torch():
    """Without the package's face, which other rooms fill, this room's configuration is light."""
    package = Path(xearth.errors.__file__).parent
    script = (
        "import sys, types; face = sys.modules['xearth'] = types.ModuleType('xearth');"
        f"face.__path__ = [{str(package)!r}];"
        "from xearth.models.config import EarthformerConfig; EarthformerConfig.sevir().to_dict();"
        "print('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", script]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "False\n"
