"""What is asked of a forecaster, checked: leads and members."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ConfigError, LeadError

if TYPE_CHECKING:
    from ..reference.protocol import Forecaster

__all__ = ["checked_leads", "checked_members"]


def checked_leads(leads: int, forecaster: Forecaster) -> int:
    """Return ``leads`` if the forecaster has as many.

    Raises
    ------
    LeadError
        It has not, or ``leads`` is no whole number of at least 1.
    """
    whole = isinstance(leads, int | np.integer) and not isinstance(leads, bool)
    if not whole or not 1 <= leads <= forecaster.horizon:
        raise LeadError(
            f"leads={leads!r}: expected a whole number from 1 to {forecaster.horizon}, the horizon "
            f"of {forecaster.name!r}. Ask for fewer leads, or train with a longer horizon."
        )
    return int(leads)


def checked_members(members: Any) -> int | None:
    """Return the number of members that was asked for, None for one forecast without any.

    Raises
    ------
    ConfigError
        It is no whole number of at least 1.

    Examples
    --------
    >>> checked_members(20), checked_members(None)
    (20, None)
    """
    if members is None:
        return None
    whole = isinstance(members, int | np.integer) and not isinstance(members, bool)
    if not whole or members < 1:
        raise ConfigError(
            f"members={members!r}: expected a whole number of at least 1, or None for one forecast "
            "for each start."
        )
    return int(members)
