from __future__ import annotations

import pytest

from xearth.errors import ConfigError
from xearth.models.cuboid import patterns
from xearth.models.cuboid.patterns import CrossLayer, CuboidLayer, parse, parse_cross

SELF_NAMES = [
    "full",
    "axial",
    "divided_st",
    "video_swin",
    *(f"video_swin_{p}x{m}" for p in (1, 2, 4, 8, 10) for m in (1, 2, 4, 8, 16, 32)),
    "spatial_lg_v1",
    *(f"spatial_lg_{m}" for m in (1, 2, 4, 8, 16, 32)),
    *(f"axial_space_dilate_{k}" for k in (2, 4, 8)),
]
CROSS_NAMES = [f"cross_{k}x{k}{kind}" for k in (1, 2, 4, 8) for kind in ("", "_lg", "_heter")]


def test_every_official_name_is_known():
    assert len(SELF_NAMES) == 44
    assert len(CROSS_NAMES) == 12
    for name in SELF_NAMES:
        assert all(isinstance(layer, CuboidLayer) for layer in parse(name)((5, 9, 7)))
    for name in CROSS_NAMES:
        assert all(isinstance(layer, CrossLayer) for layer in parse_cross(name)((5, 9, 7)))


# Written out by hand from the table of the specification.
@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("full", (5, 9, 7), [((5, 9, 7), "lll", (0, 0, 0))]),
        (
            "axial",
            (5, 9, 7),
            [
                ((5, 1, 1), "lll", (0, 0, 0)),
                ((1, 9, 1), "lll", (0, 0, 0)),
                ((1, 1, 7), "lll", (0, 0, 0)),
            ],
        ),
        (
            "video_swin",
            (13, 16, 16),
            [((2, 4, 4), "lll", (0, 0, 0)), ((2, 4, 4), "lll", (1, 2, 2))],
        ),
        (
            "video_swin_8x32",
            (5, 9, 7),
            [((5, 7, 7), "lll", (0, 0, 0)), ((5, 7, 7), "lll", (2, 3, 3))],
        ),
        (
            "spatial_lg_8",
            (5, 9, 7),
            [
                ((5, 1, 1), "lll", (0, 0, 0)),
                ((1, 8, 8), "lll", (0, 0, 0)),
                ((1, 8, 8), "ddd", (0, 0, 0)),
            ],
        ),
        (
            "spatial_lg_16",
            (5, 9, 7),
            [((5, 1, 1), "lll", (0, 0, 0)), ((1, 9, 7), "lll", (0, 0, 0))],
        ),
        (
            "axial_space_dilate_8",
            (5, 9, 7),
            [
                ((5, 1, 1), "lll", (0, 0, 0)),
                ((1, 1, 1), "ddd", (0, 0, 0)),
                ((1, 1, 1), "lll", (0, 0, 0)),
                ((1, 1, 1), "ddd", (0, 0, 0)),
                ((1, 1, 1), "lll", (0, 0, 0)),
            ],
        ),
    ],
)
def test_self_pattern_values(name, shape, expected):
    found = [(layer.cuboid, layer.strategy, layer.shift) for layer in parse(name)(shape)]
    assert found == expected


def test_cross_pattern_values():
    heter = parse_cross("cross_8x8_heter")((5, 6, 9))
    assert [(c.window, c.strategy, c.shift) for c in heter] == [
        ((6, 6), "lll", (0, 0)),
        ((6, 6), "ddd", (0, 0)),
        ((6, 6), "lll", (3, 3)),
    ]
    assert {c.n_temporal for c in heter} == {1}


def test_patterns_are_values():
    assert parse("video_swin_4x8")((5, 9, 9)) == patterns.video_swin(4, 8)((5, 9, 9))
    assert hash(parse("axial")((5, 9, 9))) == hash(patterns.axial((5, 9, 9)))


@pytest.mark.parametrize(
    "name", ["axiall", "video_swin_3x4", "video_swin_2x5", "spatial_lg_64", ""]
)
def test_unknown_self_names_are_refused(name):
    with pytest.raises(ConfigError, match="pattern"):
        parse(name)


@pytest.mark.parametrize("name", ["cross_1x2", "cross_3x3", "last_frame_dst"])
def test_unknown_cross_names_are_refused(name):
    with pytest.raises(ConfigError, match="pattern"):
        parse_cross(name)


@pytest.mark.parametrize(
    "make",
    [
        lambda: CuboidLayer((0, 1, 1)),
        lambda: CuboidLayer((1, 1)),
        lambda: CuboidLayer((1, 1, 1), strategy="lxl"),
        lambda: CuboidLayer((1, 1, 1), shift=(0, -1, 0)),
        lambda: CrossLayer((1, 1), n_temporal=0),
        lambda: CrossLayer((1, 1), strategy="ll"),
    ],
)
def test_impossible_layers_are_refused(make):
    with pytest.raises(ConfigError):
        make()
