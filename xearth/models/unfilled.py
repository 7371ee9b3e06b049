"""Networks as they would be, without values: to compare shapes and to count.

Tensors on the device "meta" have no values, so there is nothing to fill them with. PyTorch fills
them all the same, by ways that import its compiler: seconds, where reading a file takes tenths of
one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

__all__ = ["unfilled"]

_DRAWS = ("normal_", "uniform_")


class _Undrawn(TorchFunctionMode):
    """Leaves tensors that would be filled as they are."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return the tensor that was to be filled, else what the function returns."""
        named = kwargs or {}
        if getattr(func, "__name__", "") in _DRAWS:
            return args[0] if args else named["tensor"]
        if func is torch.eye:
            return torch.empty(args[0], args[-1])
        return func(*args, **named)


@contextmanager
def unfilled() -> Iterator[None]:
    """Build networks without memory for their values.

    Examples
    --------
    >>> with unfilled():
    ...     layer = torch.nn.Linear(2, 3)
    >>> layer.weight.device.type, tuple(layer.weight.shape)
    ('meta', (3, 2))
    """
    with torch.device("meta"), _Undrawn():
        yield
