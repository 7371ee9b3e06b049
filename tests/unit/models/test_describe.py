from __future__ import annotations

import pytest

from xearth.models.config import EarthformerConfig
from xearth.models.config_parts import ConvStem
from xearth.models.cuboid.patterns import full


def test_operations_of_the_published_sevir_network():
    """GFLOP of the reference, counted there.

    Its encoder takes 41.3 with global vectors and 33.0 without; here the last update of the
    vectors is left out, and queries to them cost a map of 8 vectors instead of one of all cells.
    """
    parts = {part.name: part.flops / 1e9 for part in EarthformerConfig.sevir().describe().parts}
    assert parts["final_decoder"] == pytest.approx(316.2, abs=0.05)
    assert parts["initial_encoder"] == pytest.approx(57.0, abs=0.05)
    assert parts["decoder"] == pytest.approx(32.1, abs=0.05)
    assert 33.0 < parts["encoder"] < 35.0


def test_a_network_counted_by_hand():
    """One level, one attention layer of each kind: every product written out."""
    T, T_out, H, W, C = 2, 3, 2, 4, 16
    config = EarthformerConfig.for_shape(
        "icar_enso",
        (T, H, W, 1),
        (T_out, H, W, 1),
        base_units=C,
        heads=2,
        encoder_depth=(1,),
        decoder_depth=(1,),
        encoder_patterns=full,
        stem=ConvStem(scale=(1, 1, 1), encoder_layers=1, decoder_layers=0),
    )
    cells, targets = T * H * W, T_out * H * W
    encoder = cells * (3 * C * C + C * C + 8 * C * C) + 2 * cells * cells * C
    decoder = targets * (2 * C * C + 8 * C * C) + cells * 2 * C * C + 2 * targets * T * C
    parts = {part.name: part.macs for part in config.describe().parts}
    assert parts["encoder"] == encoder
    assert parts["decoder"] == decoder
    assert parts["initial_encoder"] == cells * (9 * C + C * C)
    assert parts["final_decoder"] == targets * 9 * C * C
    assert parts["z_proj"] == targets * C * C
    assert parts["dec_final_proj"] == targets * C


def test_the_table_adds_up():
    summary = EarthformerConfig.icar_enso().describe()
    assert summary.total.parameters == 1_394_325
    lines = str(summary).splitlines()
    assert lines[-1].split()[:2] == ["total", "1,394,325"]
    assert len(lines) == len(summary.parts) + 2
