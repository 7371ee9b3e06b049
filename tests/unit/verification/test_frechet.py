"""Frechet distance: a matrix square root by another library, closed forms, networks in files."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm

from xearth.errors import CheckpointError, ConfigError, DataTypeError, MissingDataError
from xearth.verification.frechet import frechet_distance, frechet_video_distance


def test_it_is_the_formula_with_a_matrix_square_root():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(60, 5)), rng.normal(size=(40, 5)) @ rng.normal(size=(5, 5)) + 1.0
    c1, c2 = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    shift = np.square(a.mean(0) - b.mean(0)).sum()
    expected = shift + np.trace(c1 + c2 - 2 * sqrtm(c1 @ c2).real)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-9)


def test_fewer_samples_than_features_and_one_feature_work():
    rng = np.random.default_rng(2)
    few = rng.normal(size=(3, 8))
    assert frechet_distance(few, few) == pytest.approx(0.0, abs=1e-9)
    one = rng.normal(size=(50, 1))
    spread = (2 - 1) ** 2 * one.var(ddof=1) + one.mean() ** 2
    assert frechet_distance(one, 2 * one) == pytest.approx(spread)


@pytest.mark.parametrize(
    ("a", "b", "error", "message"),
    [
        (np.zeros((1, 3)), np.zeros((5, 3)), DataTypeError, "first set must be a table"),
        (np.zeros((5, 3)), np.zeros((5, 2)), DataTypeError, "3 and 2 features"),
        (np.zeros((5, 3)), np.full((5, 3), np.nan), MissingDataError, "second set holds 15"),
    ],
)
def test_what_does_not_fit_is_refused(a, b, error, message):
    with pytest.raises(error, match=message):
        frechet_distance(a, b)


def test_videos_are_read_batch_by_batch():
    rng = np.random.default_rng(3)
    videos, sizes = rng.random((12, 3, 4, 4, 1), dtype=np.float32), []

    def features(batch):
        sizes.append(len(batch))
        return batch.reshape(len(batch), -1)[:, :4]

    batches = (videos[i : i + 3] for i in range(0, 12, 3))
    found = frechet_video_distance(batches, [videos**2], features=features)
    assert sizes == [3, 3, 3, 3, 12]
    whole = videos.reshape(12, -1)[:, :4].astype(np.float64)
    assert found == pytest.approx(frechet_distance(whole, whole**2), rel=1e-5)
    with pytest.raises(DataTypeError, match="must be videos"):
        frechet_video_distance([videos[0]], [videos], features=features)
    with pytest.raises(DataTypeError, match="no forecasts"):
        frechet_video_distance([], [videos], features=features)


def test_networks_see_videos_as_published_and_come_from_files(tmp_path):
    import torch

    from xearth.models.video_features import VideoFeatures, as_seen

    videos = torch.rand(2, 6, 5, 7, 1)
    seen = as_seen(videos)
    assert seen.shape == (2, 3, 12, 224, 224)
    assert torch.equal(seen[:, 0], seen[:, 2])
    assert torch.equal(seen[:, :, 0::2], seen[:, :, 1::2])
    large = torch.nn.functional.interpolate(videos[:, 4, None, ..., 0], (224, 224), mode="bilinear")
    torch.testing.assert_close(seen[:, 1, 8], 2 * large[:, 0] - 1)
    assert as_seen(torch.zeros(1, 9, 2, 2, 3)).shape[2] == 9
    with pytest.raises(ConfigError, match="have 2"):
        as_seen(torch.zeros(1, 9, 2, 2, 2))
    path = tmp_path / "i3d.pt"
    with pytest.raises(CheckpointError, match="there is no file"):
        VideoFeatures(path)
    path.write_bytes(b"no network")
    with pytest.raises(CheckpointError, match="TorchScript"):
        VideoFeatures(path)
    torch.save({"weight": torch.ones(2)}, path)
    with pytest.raises(CheckpointError, match="state_dict is not enough"):
        VideoFeatures(path)


def test_distance_of_videos_by_a_network_from_a_file(tmp_path):
    """A network that was scripted, and the formula with moments by numpy and a matrix root."""
    import torch

    from xearth.models.video_features import VideoFeatures

    torch.manual_seed(0)
    # in steps: a mean of 75,264 numbers that are added one by one in float32 is off by 1e-4
    pools = [torch.nn.AvgPool3d(size) for size in ((1, 8, 8), (1, 14, 14), (6, 1, 1))]
    network = torch.nn.Sequential(torch.nn.Conv3d(3, 2, 1), torch.nn.Tanh(), *pools)
    path = tmp_path / "features.pt"
    torch.jit.trace(network.eval(), torch.zeros(1, 3, 12, 224, 224)).save(str(path))
    rng = np.random.default_rng(4)
    shifts = rng.normal(scale=0.2, size=(2, 24, 1, 2, 2, 1))
    sets = rng.random((2, 24, 6, 4, 4, 1)) ** 2 * 0.6 + np.kron(shifts, np.ones((1, 1, 1, 2, 2, 1)))
    sets = sets.clip(0, 1).astype(np.float32)
    found = frechet_video_distance(sets[0, :, None], [sets[1]], features=VideoFeatures(path))

    weight, bias = (p.detach().numpy().astype(np.float64) for p in network[0].parameters())
    whole = np.repeat(np.repeat(sets, 2, axis=2)[..., 0], 1, axis=-1).reshape(-1, 1, 4, 4)
    fine = torch.nn.functional.interpolate(
        torch.from_numpy(whole), (224, 224), mode="bilinear", align_corners=False
    )
    gray = 2 * fine.double().numpy().reshape(2, 24, 12, 224, 224) - 1
    tables = [[], []]
    for k in range(2):
        for video in gray[k]:
            h = np.tanh(weight.sum(1).reshape(2, 1, 1, 1) * video + bias.reshape(2, 1, 1, 1))
            tables[k].append(h.reshape(2, 2, 6, 2, 112, 2, 112).mean((2, 4, 6)).ravel())
    a, b = np.array(tables)
    shift = np.square(a.mean(0) - b.mean(0)).sum()
    c1, c2 = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    expected = shift + np.trace(c1 + c2 - 2 * np.real(sqrtm(c1 @ c2)))
    assert expected > 1e-3
    assert found == pytest.approx(expected, rel=1e-5)
