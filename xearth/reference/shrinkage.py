r"""Ridge penalties for the seasonal operators of a few indices.

Notation
--------
An equation is regressed on terms :math:`f` (the indices, and products of them) times harmonics
:math:`h` of the year (a constant, then cosines and sines). With the coefficients :math:`c_{fh}`,
:math:`N` months and the variance :math:`s_f^2` of each term, least squares becomes

.. math::

   \min_c \; \sum_t \Bigl(y_t - \sum_{fh} c_{fh} f_t h_t\Bigr)^2
   + \lambda N \sum_{fh} w_f\, u_h\, s_f^2\, c_{fh}^2 .

:math:`u_h` is 1 for the constant and half of ``seasonal`` for the waves (whose mean square is a
half). :math:`w_f` is 1 for products and for the couplings inside the ``core``, ``remote`` for
those with the other indices. What an index does to itself and the couplings inside the core are
free in the mean over the year, :math:`w_f u_h = 0`: the recharge oscillation itself is not shrunk,
only what twenty years of months cannot tell from chance.

Source: Hoerl, A. E. and R. W. Kennard (1970): Ridge regression. Technometrics 12, 55-67.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import ConfigError
from .training import Floats

__all__ = ["Shrinkage"]


@dataclass(frozen=True)
class Shrinkage:
    """How strongly the coefficients of seasonal operators are drawn to zero.

    Attributes
    ----------
    weight : float
        Of all penalties; 0 is least squares.
    remote : float
        Relative weight of couplings with indices outside the core.
    seasonal : float
        Relative weight of the annual cycle of the coefficients.
    core : tuple of str
        Indices whose couplings with each other are free in the mean over the year.

    Raises
    ------
    ConfigError
        A weight that is negative or not finite.

    Examples
    --------
    >>> Shrinkage(0.1).core
    ('Nino34', 'WWV')
    """

    weight: float
    remote: float = 3.0
    seasonal: float = 3.0
    core: tuple[str, ...] = ("Nino34", "WWV")

    def __post_init__(self) -> None:
        for name in ("weight", "remote", "seasonal"):
            value = getattr(self, name)
            if not 0 <= value < np.inf:
                raise ConfigError(
                    f"Shrinkage({name}={value!r}): expected a finite number of at least 0."
                )

    def weights(
        self, names: Sequence[str], equation: int, terms: Sequence[int], harmonics: int
    ) -> Floats:
        """Return :math:`w_f u_h` of one equation, (terms, 1 + 2 J).

        Parameters
        ----------
        names : sequence of str
            The K indices.
        equation : int
            Position of the index whose equation it is.
        terms : sequence of int
            Positions of its terms: below K an index, from there on a product.
        harmonics : int
            Orders of the annual cycle, J.
        """
        inside = [name in self.core for name in names]
        relative = np.ones((len(terms), 1 + 2 * harmonics))
        relative[:, 1:] *= 0.5 * self.seasonal
        for row, term in enumerate(terms):
            if term >= len(names):
                continue
            if term == equation or (inside[term] and inside[equation]):
                relative[row, 0] = 0.0
            else:
                relative[row] *= self.remote
        return relative

    def solve(self, design: Floats, target: Floats, scale: Floats, relative: Floats) -> Floats:
        """Return the coefficients (F * W,) of one equation.

        Parameters
        ----------
        design : ndarray (N, F * W)
            Terms times harmonics, harmonics fastest.
        target : ndarray (N,)
        scale : ndarray (F,)
            Standard deviation of each term, s.
        relative : ndarray (F, W)
            From :meth:`weights`.
        """
        penalty = self.weight * len(design) * relative * scale[:, None] ** 2
        # as rows of the design: the normal equations would square its condition
        rows = np.diag(np.sqrt(penalty.ravel()))
        whole = np.concatenate([design, rows])
        aim = np.concatenate([target, np.zeros(len(rows))])
        return np.asarray(np.linalg.lstsq(whole, aim, rcond=None)[0])
