from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from xearth.models.baselines.e3d_lstm import E3DLSTM, E3DLSTMConfig, EideticCell, SameConv3d

CONFIG = {
    "input_shape": (3, 8, 12, 1),
    "target_shape": (2, 8, 12, 1),
    "hidden": (4, 4),
    "kernel": (2, 3, 3),
}


def network(**changes):
    torch.manual_seed(0)
    return E3DLSTM(E3DLSTMConfig(**{**CONFIG, **changes}))


@pytest.mark.parametrize("kernel", [(2, 5, 5), (3, 3, 5), (1, 1, 1)])
def test_even_kernels_look_ahead(kernel):
    torch.manual_seed(0)
    conv = SameConv3d(2, 3, kernel)
    x = torch.randn(1, 2, 4, 6, 7)
    padded = torch.zeros(1, 2, *(n + k - 1 for n, k in zip(x.shape[2:], kernel, strict=True)))
    t, h, w = ((k - 1) // 2 for k in kernel)
    padded[:, :, t : t + 4, h : h + 6, w : w + 7] = x
    torch.testing.assert_close(conv(x), F.conv3d(padded, conv.weight, conv.bias))


def test_recall_by_loops():
    torch.manual_seed(0)
    r, stored = torch.rand(2, 3, 2, 2, 3), torch.randn(2, 7, 3)
    found = EideticCell._recall(r, stored)
    for n in range(2):
        for where in ((0, 0, 0), (1, 1, 2), (0, 1, 1)):
            query = r[(n, slice(None), *where)]
            weight = torch.exp(stored[n] @ query)
            expected = (weight[:, None] * stored[n]).sum(0) / weight.sum()
            torch.testing.assert_close(found[(n, slice(None), *where)], expected)


def test_history_of_cells_grows_by_one_cell_per_step():
    net = network()
    tokens = 2 * 2 * 3  # window, rows and columns of patches
    stored = [s.cells[0].stored.shape[1] for _, s in net.steps(torch.randn(1, 3, 8, 12, 1))]
    assert stored == [tokens, 2 * tokens, 3 * tokens, 4 * tokens]


def test_the_published_global_memory_is_never_anything_but_zero():
    x = torch.randn(1, 3, 8, 12, 1)
    given, new = network(memory="given"), network()
    assert all(not s.memory.any() for _, s in given.steps(x))
    assert all(s.memory.any() for _, s in new.steps(x))
    given(x).square().sum().backward()
    new(x).square().sum().backward()
    assert all(not cell.conv_m.weight.grad.any() for cell in given.cells)
    assert all(cell.conv_m.weight.grad.any() for cell in new.cells)


def test_input_of_a_step_is_the_window_of_frames():
    net = network(window=3, patch=2, kernel=(3, 3, 3))
    frames = [s.frames for _, s in net.steps(torch.randn(1, 3, 8, 12, 1))]
    assert frames[0].shape == (1, 4, 2, 4, 6)
    assert not frames[0][:, :, 0].any()
    assert torch.equal(frames[1][:, :, 1], frames[2][:, :, 0])


def test_one_patch_and_one_sample():
    net = network(input_shape=(2, 4, 4, 1), target_shape=(2, 4, 4, 1))
    assert net(torch.randn(1, 2, 4, 4, 1)).shape == (1, 2, 4, 4, 1)
