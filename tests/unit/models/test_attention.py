"""Cuboid attention against independent routes to the same numbers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from xearth.errors import ConfigError
from xearth.models.cuboid.attention import CuboidSelfAttention
from xearth.models.cuboid.blocks import SelfBlock
from xearth.models.cuboid.cross_attention import CuboidCrossAttention
from xearth.models.cuboid.kernel import attend, softmax_masked
from xearth.models.cuboid.patterns import CrossLayer, CuboidLayer, axial, parse
from xearth.models.cuboid.relative import relative_index
from xearth.models.cuboid.settings import AttentionSettings, BlockSettings, GlobalMode

SETTINGS = AttentionSettings(heads=2)
GLOBALS = [
    GlobalMode(),
    GlobalMode(self_attention=True),
    GlobalMode(separate=True),
    GlobalMode(separate=True, self_attention=True, ratio=2),
]


def randomize(module: nn.Module) -> nn.Module:
    """Give every parameter a value that is not trivial."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.4)
    return module.double().eval()


def plain_attention(
    layer: CuboidSelfAttention, x: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    """Softmax attention over tokens (B, L, C) with a bias (heads, L, L), by torch alone."""
    B, L, C = x.shape
    heads = layer.heads
    q, k, v = layer.qkv(layer.norm(x)).view(B, L, 3, heads, C // heads).permute(2, 0, 3, 1, 4)
    y = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    return layer.proj(y.transpose(1, 2).reshape(B, L, C))


def bias_by_loops(layer: CuboidSelfAttention, cells: list[tuple[int, int, int]]) -> torch.Tensor:
    """Look the relative bias up position by position."""
    bt, bh, bw = layer.relative.table
    table = layer.relative.bias_table.view(2 * bt - 1, 2 * bh - 1, 2 * bw - 1, -1)
    L = len(cells)
    bias = torch.empty(table.shape[-1], L, L, dtype=table.dtype)
    for i, (ti, hi, wi) in enumerate(cells):
        for j, (tj, hj, wj) in enumerate(cells):
            bias[:, i, j] = table[ti - tj + bt - 1, hi - hj + bh - 1, wi - wj + bw - 1]
    return bias


def cells_of(T: int, H: int, W: int) -> list[tuple[int, int, int]]:
    return [(t, h, w) for t in range(T) for h in range(H) for w in range(W)]


@pytest.mark.parametrize("strategy", ["lll", "ddd", "ldl"])
def test_one_cuboid_is_plain_attention(strategy):
    T, H, W = 2, 3, 4
    layer = randomize(CuboidSelfAttention(8, (T, H, W), CuboidLayer((T, H, W), strategy), SETTINGS))
    x = torch.randn(2, T, H, W, 8, dtype=torch.float64)
    expected = plain_attention(layer, x.flatten(1, 3), bias_by_loops(layer, cells_of(T, H, W)))
    torch.testing.assert_close(layer(x)[0].flatten(1, 3), expected)


def test_axial_is_three_attentions_along_one_axis():
    T, H, W = 3, 4, 5
    layers = axial((T, H, W))
    settings = BlockSettings(attention=SETTINGS)
    block = randomize(SelfBlock(8, (T, H, W), layers, settings))
    x = torch.randn(2, T, H, W, 8, dtype=torch.float64)
    expected = x
    orders = [(0, 2, 3, 1, 4), (0, 1, 3, 2, 4), (0, 1, 2, 3, 4)]
    for k, (order, n) in enumerate(zip(orders, (T, H, W), strict=True)):
        lines = expected.permute(order)
        cells = [tuple(i if a == k else 0 for a in range(3)) for i in range(n)]
        attention = block.attn_l[k]
        y = plain_attention(attention, lines.flatten(0, 2), bias_by_loops(attention, cells))
        back = y.view(lines.shape).permute([order.index(a) for a in range(5)])
        expected = block.ffn_l[k](expected + back)
    torch.testing.assert_close(block(x)[0], expected)


def test_shift_commutes_with_rolling_a_periodic_grid():
    """Without the border mask, a shifted layer is: roll, plain layer, roll back."""
    shape, shift = (4, 6, 6), (1, 2, 1)
    shifted = CuboidSelfAttention(8, shape, CuboidLayer((2, 3, 3), shift=shift), SETTINGS)
    plain = CuboidSelfAttention(8, shape, CuboidLayer((2, 3, 3)), SETTINGS)
    randomize(shifted)
    plain.load_state_dict(shifted.state_dict())
    plain.double().eval()
    shifted.mask = None
    x = torch.randn(1, *shape, 8, dtype=torch.float64)
    rolled = torch.roll(x, [-s for s in shift], dims=(1, 2, 3))
    expected = torch.roll(plain(rolled)[0], shift, dims=(1, 2, 3))
    torch.testing.assert_close(shifted(x)[0], expected)


def test_shifted_cells_see_only_their_region():
    """A change in one corner never reaches the opposite border."""
    layer = randomize(
        CuboidSelfAttention(8, (1, 8, 1), CuboidLayer((1, 4, 1), shift=(0, 2, 0)), SETTINGS)
    )
    x = torch.randn(1, 1, 8, 1, 8, dtype=torch.float64, requires_grad=True)
    layer(x)[0][0, 0, 0].sum().backward()
    touched = x.grad.abs().sum(-1).flatten() > 0
    assert touched.tolist() == [True, True, False, False, False, False, False, False]


@pytest.mark.parametrize("mode", GLOBALS)
@pytest.mark.parametrize("padding", ["ignore", "zeros"])
def test_global_vectors_see_every_cell_once(mode, padding):
    """With one cuboid and a one-cuboid-per-line layer the update of g is the same."""
    shape, C, G = (2, 3, 4), 8, 3
    settings = AttentionSettings(heads=2, padding=padding, relative=False)
    wide = mode.ratio * C
    whole = randomize(CuboidSelfAttention(C, shape, CuboidLayer(shape), settings, mode))
    lines = CuboidSelfAttention(C, shape, CuboidLayer((1, 1, 4)), settings, mode)
    lines.load_state_dict(whole.state_dict())
    lines.double().eval()
    x = torch.randn(2, *shape, C, dtype=torch.float64)
    g = torch.randn(2, G, wide, dtype=torch.float64)
    torch.testing.assert_close(whole(x, g)[1], lines(x, g)[1])


@pytest.mark.parametrize("mode", GLOBALS)
def test_padding_with_ignore_is_invisible_to_global_vectors(mode):
    """Cuboids that need padding give g the same update as cuboids that need none."""
    shape, C = (2, 3, 5), 8
    settings = AttentionSettings(heads=2, relative=False)
    exact = randomize(CuboidSelfAttention(C, shape, CuboidLayer((2, 3, 1)), settings, mode))
    padded = CuboidSelfAttention(C, shape, CuboidLayer((2, 2, 2)), settings, mode)
    padded.load_state_dict(exact.state_dict())
    padded.double().eval()
    x = torch.randn(2, *shape, C, dtype=torch.float64)
    g = torch.randn(2, 3, mode.ratio * C, dtype=torch.float64)
    torch.testing.assert_close(padded(x, g)[1], exact(x, g)[1])


def test_padding_with_ignore_is_invisible_to_cells():
    """A line of 5 cells in cuboids of 3: the last cuboid attends among 2 cells."""
    layer = randomize(CuboidSelfAttention(8, (1, 1, 5), CuboidLayer((1, 1, 3)), SETTINGS))
    x = torch.randn(1, 1, 1, 5, 8, dtype=torch.float64)
    bias = bias_by_loops(layer, [(0, 0, 0), (0, 0, 1)])
    expected = plain_attention(layer, x[0, 0, :, 3:], bias)
    torch.testing.assert_close(layer(x)[0][0, 0, :, 3:], expected)


def test_shrunken_cuboid_keeps_its_relative_positions():
    """A cuboid larger than the grid acts as the grid's own cuboid with the inner table."""
    shape = (2, 2, 3)
    layer = randomize(CuboidSelfAttention(8, shape, CuboidLayer((4, 4, 4)), SETTINGS))
    x = torch.randn(1, *shape, 8, dtype=torch.float64)
    expected = plain_attention(layer, x.flatten(1, 3), bias_by_loops(layer, cells_of(*shape)))
    torch.testing.assert_close(layer(x)[0].flatten(1, 3), expected)
    sliced = CuboidSelfAttention(
        8, shape, CuboidLayer((4, 4, 4)), AttentionSettings(heads=2, relative_index="sliced")
    ).double()
    sliced.load_state_dict(layer.state_dict())
    assert (sliced.eval()(x)[0] - layer(x)[0]).abs().max() > 1e-3


def test_cross_attention_over_everything_is_plain_attention():
    T_x, T_m, H, W, C, heads = 3, 2, 2, 3, 8, 2
    layer = randomize(CuboidCrossAttention(C, (T_x, T_m, H, W), CrossLayer((H, W)), SETTINGS))
    x = torch.randn(2, T_x, H, W, C, dtype=torch.float64)
    mem = torch.randn(2, T_m, H, W, C, dtype=torch.float64)
    M = T_x + T_m
    table = layer.relative.bias_table.view(2 * M - 1, 2 * H - 1, 2 * W - 1, heads)
    rows, columns = cells_of(T_x, H, W), cells_of(T_m, H, W)
    bias = torch.stack(
        [
            torch.stack(
                [
                    table[a[0] - b[0] + M - 1, a[1] - b[1] + H - 1, a[2] - b[2] + W - 1]
                    for b in columns
                ]
            )
            for a in rows
        ]
    ).permute(2, 0, 1)
    q = layer.q_proj(layer.norm(x)).view(2, -1, heads, C // heads).transpose(1, 2)
    k, v = layer.kv_proj(mem).view(2, -1, 2, heads, C // heads).permute(2, 0, 3, 1, 4)
    y = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    expected = layer.proj(y.transpose(1, 2).reshape(2, -1, C)).view(x.shape)
    torch.testing.assert_close(layer(x, mem), expected)


@pytest.mark.parametrize("padding", ["zeros", "nearest", "ignore"])
def test_padded_cross_attention_masks_with_any_padding(padding):
    """The reference crashes here unless padding is 'ignore'."""
    settings = AttentionSettings(heads=2, padding=padding)
    reference = AttentionSettings(heads=2, padding="ignore")
    layer = randomize(CuboidCrossAttention(8, (3, 2, 5, 3), CrossLayer((2, 2)), settings))
    masked = CuboidCrossAttention(8, (3, 2, 5, 3), CrossLayer((2, 2)), reference).double().eval()
    masked.load_state_dict(layer.state_dict())
    x = torch.randn(1, 3, 5, 3, 8, dtype=torch.float64)
    mem = torch.randn(1, 2, 5, 3, 8, dtype=torch.float64)
    torch.testing.assert_close(layer(x, mem), masked(x, mem))


def test_cross_attention_reads_only_the_last_frames():
    layer = randomize(
        CuboidCrossAttention(8, (2, 4, 2, 2), CrossLayer((1, 1)), SETTINGS, last_frames=1)
    )
    mem = torch.randn(1, 4, 2, 2, 8, dtype=torch.float64, requires_grad=True)
    layer(torch.randn(1, 2, 2, 2, 8, dtype=torch.float64), mem).sum().backward()
    assert [bool(mem.grad[0, t].abs().sum() > 0) for t in range(4)] == [False, False, False, True]


def test_too_short_span_is_refused():
    with pytest.raises(ConfigError, match="too short"):
        CuboidCrossAttention(8, (4, 4, 2, 2), CrossLayer((1, 1)), SETTINGS, span=3)


def test_empty_rows_are_zero_with_finite_gradients():
    raw = torch.randn(2, 3, 4, requires_grad=True)
    mask = torch.ones(3, 4, dtype=torch.bool)
    mask[1] = False
    weights = softmax_masked(raw, mask)
    assert torch.equal(weights[:, 1], torch.zeros(2, 4))
    (weights**2).sum().backward()
    assert torch.isfinite(raw.grad).all()
    assert torch.equal(raw.grad[:, 1], torch.zeros(2, 4))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_masked_softmax_in_every_precision(dtype):
    raw = torch.full((1, 2, 4), 30.0, dtype=dtype)
    mask = torch.tensor([[True, True, False, False], [False] * 4])
    assert softmax_masked(raw, mask).tolist() == [[[0.5, 0.5, 0.0, 0.0], [0.0] * 4]]


def test_fused_and_written_out_attention_agree():
    q, k, v = torch.randn(3, 5, 2, 96, 8, dtype=torch.float64)
    bias = torch.randn(2, 1, 96, 96, dtype=torch.float64)
    with torch.no_grad():
        fused = attend(q, k, v, scale=0.3, bias=bias, mask=None)
    with torch.enable_grad():
        written = attend(q, k, v, scale=0.3, bias=bias, mask=None)
    torch.testing.assert_close(fused, written)


def test_relative_index_is_the_official_formula():
    bt, bh, bw = 2, 3, 2
    index = relative_index((bt, bh, bw), (bt, bh, bw), (bt, bh, bw))
    cells = cells_of(bt, bh, bw)
    for i, a in enumerate(cells):
        for j, b in enumerate(cells):
            dt, dh, dw = (p - q for p, q in zip(a, b, strict=True))
            expected = (dt + bt - 1) * (2 * bh - 1) * (2 * bw - 1)
            expected += (dh + bh - 1) * (2 * bw - 1) + dw + bw - 1
            assert index[i, j] == expected
    assert index.max() == math.prod(2 * b - 1 for b in (bt, bh, bw)) - 1


@pytest.mark.parametrize("name", ["video_swin_2x2", "spatial_lg_2", "axial_space_dilate_2"])
@pytest.mark.parametrize("padding", ["ignore", "zeros", "nearest"])
def test_gradients_by_finite_differences(name, padding):
    shape = (3, 3, 2)
    settings = BlockSettings(
        attention=AttentionSettings(heads=2, padding=padding), global_mode=GlobalMode()
    )
    block = randomize(SelfBlock(4, shape, parse(name)(shape)[:2], settings))
    x = torch.randn(1, *shape, 4, dtype=torch.float64, requires_grad=True)
    g = torch.randn(1, 2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(block, (x, g), fast_mode=True)


def test_inference_then_training():
    """What is kept under inference mode never reaches a backward pass."""
    layer = CuboidSelfAttention(8, (4, 4, 4), CuboidLayer((2, 2, 2), shift=(1, 1, 1)), SETTINGS)
    layer.eval()
    x = torch.randn(1, 4, 4, 4, 8)
    with torch.inference_mode():
        first = layer(x)[0]
    layer.train()
    layer(x)[0].sum().backward()
    layer.eval()
    frozen = layer.requires_grad_(False)
    y = x.clone().requires_grad_()
    with torch.no_grad():
        torch.testing.assert_close(frozen(x)[0], first.clone())
    frozen(y)[0].sum().backward()
    assert torch.isfinite(y.grad).all()


def test_bias_follows_its_table():
    layer = CuboidSelfAttention(8, (2, 2, 2), CuboidLayer((2, 2, 2)), SETTINGS).eval()
    x = torch.randn(1, 2, 2, 2, 8)
    with torch.no_grad():
        before = layer(x)[0]
        layer.relative.bias_table.add_(torch.randn_like(layer.relative.bias_table))
        after = layer(x)[0]
        assert (after - before).abs().max() > 1e-4
        state = {k: v.clone() for k, v in layer.state_dict().items()}
        state["relative.bias_table"].zero_()
        layer.load_state_dict(state)
        torch.testing.assert_close(layer.relative(), torch.zeros(2, 1, 8, 8))
        layer.double()
        assert layer.relative().dtype == torch.float64


def test_a_compiled_layer_gives_the_same_numbers():
    layer = randomize(CuboidSelfAttention(8, (2, 4, 4), CuboidLayer((2, 2, 2)), SETTINGS))
    x = torch.randn(1, 2, 4, 4, 8, dtype=torch.float64)
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x)[0], layer(x)[0])


def test_heads_must_divide_channels():
    with pytest.raises(ConfigError, match="3 heads do not divide 8"):
        CuboidSelfAttention(8, (2, 2, 2), CuboidLayer((2, 2, 2)), AttentionSettings(heads=3))
    with pytest.raises(ConfigError, match="separate"):
        CuboidSelfAttention(8, (2, 2, 2), CuboidLayer((2, 2, 2)), SETTINGS, GlobalMode(ratio=2))


def test_recomputing_gives_the_same_gradients():
    shape = (2, 3, 4)
    results = []
    for how in ("none", "ffn", "all"):
        torch.manual_seed(0)
        settings = BlockSettings(attention=SETTINGS, global_mode=GlobalMode(), checkpoint=how)
        block = SelfBlock(8, shape, axial(shape), settings).train()
        x = torch.randn(1, *shape, 8, requires_grad=True)
        y, g = block(x, torch.randn(1, 2, 8))
        (y.sum() + g.sum()).backward()
        results.append(x.grad)
    torch.testing.assert_close(results[1], results[0])
    torch.testing.assert_close(results[2], results[0])
