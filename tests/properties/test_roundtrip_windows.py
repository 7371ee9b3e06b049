"""Windows of any field are frames of its tensor, and label their way back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xearth.data.loader import Windows
from xearth.data.tensors import to_tensor
from xearth.data.windows import Window
from xearth.testing.strategies import cf_arrays

pytestmark = pytest.mark.filterwarnings("ignore::xearth.errors.DiscoveryWarning")


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    database=None,
)
@given(cf_arrays(time=True), st.sampled_from([2**30, 0]))
def test_windows_are_frames_of_the_tensor(da: xr.DataArray, budget: int) -> None:
    labeled = to_tensor(da)
    frames, valid = labeled.tensor, labeled.mask
    N, T = frames.shape[:2]
    windows = Windows(da, Window(1, 1), memory_budget=budget)
    assert len(windows) == N * (T - 1)
    batch = windows.batch(range(len(windows)))
    if frames.dtype.itemsize > 2 or frames.is_floating_point():
        frames = frames.float()
    shape = (N, T - 1, *frames.shape[2:])
    assert torch.equal(batch.x.reshape(shape), frames[:, :-1])
    assert torch.equal(batch.y.reshape(shape), frames[:, 1:])
    assert torch.equal(batch.mask_x.reshape(shape), valid[:, :-1])
    np.testing.assert_array_equal(batch.sequences, np.repeat(np.arange(N), T - 1))
    first = windows.grid.label(batch.x[0, ..., 0].float(), ("time",))
    picks = {d: [0] for d in da.dims if d not in first.dims}
    stored = da.isel(time=[0], **picks).squeeze(list(picks), drop=True)
    stored = stored.transpose(*first.dims).astype("f4")
    filled = stored.fillna(0)
    np.testing.assert_array_equal(first, filled)
