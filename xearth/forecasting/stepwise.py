r"""The part of a first guess that is made step by step: a cyclostationary inverse model.

Notation: :math:`p_t` are components of the last observed field, :math:`\theta` one of :math:`S`
times of year, one step apart. The operator :math:`G_\theta` is the least-squares regression of
:math:`p_{t+1}` on :math:`[1, p_t]` over the samples of that time of year and of its two neighbors,
and the forecast is the product of the operators on the way,

.. math:: \hat p_n = G_{\theta + n - 1} \cdots G_{\theta}\, [1, p_0].

It has fewer free numbers than a regression for each lead, so it is the better one at short leads
in short records. Source: Shin et al. 2021, J. Climate 34, 171-193.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import ConfigError

__all__ = ["Stepwise", "stepped"]


@dataclass(frozen=True)
class Stepwise:
    """Which stepwise part a first guess has.

    Parameters
    ----------
    share : float
        Of the guess at the first lead; it falls linearly.
    leads : int
        How many leads have a share.
    components : int
        Number of components of the state.
    phases : int
        S; a step is so much of a year, 12 for monthly data.

    Raises
    ------
    ConfigError
        If a number is out of range.

    Examples
    --------
    >>> Stepwise(share=0.5, leads=2).shares(3).tolist()
    [0.5, 0.25, 0.0]
    """

    share: float = 0.5
    leads: int = 6
    components: int = 15
    phases: int = 12

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1 or min(self.leads, self.components, self.phases) < 1:
            raise ConfigError(
                f"{self}: expected a share from 0 to 1 and at least 1 lead, component and phase"
            )

    def shares(self, leads: int) -> np.ndarray:
        """Return the share at each lead, (L,)."""
        return self.share * np.clip(1 - np.arange(leads) / self.leads, 0.0, 1.0)

    def fit(
        self,
        before: np.ndarray,
        after: np.ndarray,
        season: np.ndarray,
        splits: list[tuple[slice, np.ndarray]],
    ) -> tuple[np.ndarray, np.ndarray]:
        """Fit to all samples, and forecast each without its stretch of time.

        Parameters
        ----------
        before : array (N, K)
            Components at the init.
        after : array (N, L, K)
            Components at the leads.
        season : array (N,)
            Time of year of the init, in [0, 1).
        splits : list of (slice, array of int)
            Stretches of time, and the samples to learn from without each.

        Returns
        -------
        array (N, L, K)
            Held-out forecasts.
        array (S, L, 1 + K, K)
            Operators from the init to each lead.

        Raises
        ------
        ConfigError
            If a time of year has fewer samples than an operator has rows.
        """
        held = np.empty_like(after)
        for part, kept in splits:
            operators = self._operators(before[kept], after[kept], season[kept])
            held[part] = stepped(operators, before[part], season[part])
        return held, self._operators(before, after, season)

    def _operators(self, before: np.ndarray, after: np.ndarray, season: np.ndarray) -> np.ndarray:
        k, phase = min(self.components, before.shape[1]), _phase(season, self.phases)
        state = np.concatenate([np.ones((len(before), 1)), before[:, :k]], 1)
        single = np.zeros((self.phases, 1 + k, 1 + k))
        single[:, 0, 0] = 1.0
        half = self.phases // 2
        for s in range(self.phases):
            apart = np.abs((phase - s + half) % self.phases - half)
            rows = np.flatnonzero(apart <= 1)
            if rows.size <= 1 + k:
                raise ConfigError(
                    f"{self}: {rows.size} samples around phase {s}, too few for an operator of "
                    f"{k} components. Give a longer training period or ask for fewer components."
                )
            single[s, :, 1:] = np.linalg.lstsq(state[rows], after[rows, 0, :k], rcond=None)[0]
        L, K = after.shape[1:]
        found = np.zeros((self.phases, L, 1 + K, K))
        for s in range(self.phases):
            product = np.eye(1 + k)
            for n in range(L):
                product = product @ single[(s + n) % self.phases]
                found[s, n, : 1 + k, :k] = product[:, 1:]
        return found


def stepped(operators: np.ndarray, before: np.ndarray, season: np.ndarray) -> np.ndarray:
    """Return the forecasts (N, L, K) of components (N, K) by operators (S, L, 1 + K, K)."""
    phase = _phase(season, len(operators))
    state = np.concatenate([np.ones((len(before), 1)), before], 1)
    found = np.empty((len(before), operators.shape[1], operators.shape[3]))
    for s in np.unique(phase):
        rows = phase == s
        found[rows] = np.einsum("nf,lfk->nlk", state[rows], operators[s])
    return found


def _phase(season: np.ndarray, phases: int) -> np.ndarray:
    return np.rint(np.asarray(season) * phases).astype(np.int64) % phases
