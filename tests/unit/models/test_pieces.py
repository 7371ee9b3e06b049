"""Work in pieces gives the same numbers, only without gradients, and only as large as the cache."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from xearth.models.earthformer import Earthformer
from xearth.models.layers import FeedForward
from xearth.models.pieces import CACHE, in_pieces
from xearth.models.stems import StackFinalDecoder, StackInitialEncoder


def spy(sizes):
    def run(x):
        sizes.append(len(x))
        return 2 * x

    return run


def test_pieces_are_even_and_as_large_as_the_cache_allows():
    sizes: list[int] = []
    x = torch.randn(10, 3)
    with torch.no_grad():
        y = in_pieces(spy(sizes), x, CACHE // 4 // 4)
    assert sizes == [4, 3, 3]
    assert torch.equal(y, 2 * x)


def test_one_entry_larger_than_the_cache_is_a_piece():
    sizes: list[int] = []
    with torch.no_grad():
        in_pieces(spy(sizes), torch.randn(3, 2), CACHE)
    assert sizes == [1, 1, 1]


def test_nothing_is_cut_while_gradients_are_recorded_or_off_the_cpu():
    sizes: list[int] = []
    in_pieces(spy(sizes), torch.randn(3, 2), CACHE)
    with torch.no_grad():
        in_pieces(spy(sizes), torch.empty(3, 2, device="meta"), CACHE)
        in_pieces(spy(sizes), torch.empty(0, 2), CACHE)
    assert sizes == [3, 3, 0]


@pytest.mark.parametrize(
    ("part", "shape"),
    [
        (
            StackInitialEncoder(
                1,
                (16, 8),
                scales=(3, 2),
                convs=(2, 1),
                activation_name="leaky",
                padding="zeros",
            ),
            (2, 3, 192, 192, 1),
        ),
        (StackFinalDecoder(8, (8, 16), ((64, 64), (192, 192)), (1, 2), "leaky"), (2, 3, 32, 32, 8)),
        (FeedForward(64, 256), (2, 3, 32, 32, 64)),
    ],
)
def test_parts_give_the_numbers_of_the_whole(part: nn.Module, shape):
    torch.manual_seed(0)
    x = torch.randn(*shape)
    whole = part(x)
    with torch.no_grad():
        pieces = part(x)
    assert (whole - pieces).abs().max() <= 1e-5 * whole.abs().max()


def test_network_takes_a_batch_apart_without_changing_it():
    from xearth.models.config import EarthformerConfig

    torch.manual_seed(0)
    config = EarthformerConfig.for_shape("icar_enso", (8, 32, 64, 1), (4, 32, 64, 1), base_units=64)
    network = Earthformer(config).eval()
    x = torch.randn(2, 8, 32, 64, 1)
    whole = network(x)
    with torch.no_grad():
        apart = network(x)
    assert (whole - apart).abs().max() <= 1e-5 * whole.abs().max()
