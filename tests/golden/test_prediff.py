"""PreDiff against its reference: networks, layers and losses; and that differences are noticed."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from xearth.models.checkpoints import official_state
from xearth.models.describe import _product_flops
from xearth.models.prediff.config import AlignmentConfig, AutoencoderConfig, DenoiserConfig
from xearth.models.prediff.official_names import ALIGNMENT_NAMES, AUTOENCODER_NAMES, DENOISER_NAMES

sys.path.insert(0, str(Path(__file__).parents[2] / "ci"))

import golden_prediff as golden

FOLDER = Path(__file__).parent / "prediff"
INDEX = json.loads((FOLDER / "index.json").read_text())
KEYS = json.loads((FOLDER / "keys.json").read_text())


@pytest.fixture(scope="module")
def results():
    return {result.case: result for result in golden.prediff(FOLDER, INDEX)}


@pytest.mark.parametrize("name", INDEX["cases"])
def test_case(results, name):
    result = results[f"prediff/{name}"]
    assert not result.failed, result.line()
    assert result.output < 1e-5, result.line()


@pytest.mark.parametrize(("name", "array"), [("unet_small", "eps"), ("vae_small", "logvar")])
def test_a_wrong_number_is_noticed(tmp_path, name, array):
    with np.load(FOLDER / f"{name}.npz") as archive:
        arrays = dict(archive)
    arrays[array].flat[0] += 1e-2
    np.savez(tmp_path / f"{name}.npz", **arrays)
    (result,) = golden.prediff(tmp_path, {"cases": {name: INDEX["cases"][name]}})
    assert not result.ok


def test_what_is_missing_or_unknown_fails(tmp_path):
    shutil.copy(FOLDER / "unet_small.npz", tmp_path / "odd.npz")
    record = INDEX["cases"]["unet_small"]
    cases = {"unet_small": record, "odd": {**record, "file": "odd.npz"}}
    assert [r.ok for r in golden.prediff(tmp_path, {"cases": cases})] == [False, False]


@pytest.mark.parametrize(
    ("config", "names", "file", "count"),
    [
        (
            AutoencoderConfig(),
            AUTOENCODER_NAMES,
            "pretrained_sevirlr_vae_8x8x64_v1.pt",
            84_499_393,
        ),
        (
            DenoiserConfig(),
            DENOISER_NAMES,
            "pretrained_sevirlr_earthformerunet_v1.pt",
            136_817_538,
        ),
        (
            AlignmentConfig(),
            ALIGNMENT_NAMES,
            "pretrained_sevirlr_alignment_avg_x_cuboid_v1.pt",
            8_937_033,
        ),
    ],
    ids=["autoencoder", "denoiser", "alignment"],
)
def test_published_size(config, names, file, count):
    with torch.device("meta"):
        network = config.build()
    assert sum(p.numel() for p in network.parameters()) == count
    state = official_state(network, names)
    assert {name: list(value.shape) for name, value in state.items()} == KEYS[file]


def test_a_published_step_costs_what_it_did_but_for_the_dead_frames():
    config = DenoiserConfig()
    with torch.device("meta"):
        network = config.build().eval()
        z, context = torch.empty(1, *config.target_shape), torch.empty(1, *config.input_shape)
        t = torch.zeros(1)
    count = FlopCounterMode(display=False, custom_mapping={torch.ops.aten.baddbmm_: _product_flops})
    with count, torch.no_grad():
        network(z, t, context)
    # 653.4 GFLOP published; 7 frames of context pass by 2 layers of attention and 3 networks
    cells, dim = 7 * 256, 256
    dead = 2 * cells * dim * (2 * 4 * dim + 3 * 8 * dim) + 2 * 2 * 2 * cells * 16 * dim
    assert count.get_total_flops() / 1e9 == pytest.approx(653.4 - dead / 1e9, abs=0.1)
    assert dead / 1e9 == pytest.approx(7.6, abs=0.1)
