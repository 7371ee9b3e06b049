r"""Distance between two laws of features: how near a set of forecasts is to a set of observations.

.. math::
    d^2 = \lVert \mu_1 - \mu_2 \rVert^2
          + \operatorname{tr}\big(C_1 + C_2 - 2 (C_1^{1/2} C_2 C_1^{1/2})^{1/2}\big),

the squared 2-Wasserstein distance of Gaussian laws with the means and unbiased covariances of the
two sets. With features of a network that was trained to tell videos apart it is the Frechet video
distance (FVD). Which network counts for the number: name it beside it. None is part of this
package, as their weights may not be passed on.

Sources: Dowson and Landau (1982), *The Frechet distance between multivariate normal
distributions*; Unterthiner et al. (2018), *Towards Accurate Generative Models of Video*.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt

from ..errors import DataTypeError, MissingDataError

__all__ = ["Features", "frechet_distance", "frechet_video_distance"]

Array = npt.NDArray[np.float64]

#: Videos (N, T, H, W, C) with values from 0 to 1 -> features (N, d).
Features = Callable[[npt.NDArray[np.float32]], npt.ArrayLike]


def _checked(name: str, values: npt.ArrayLike) -> Array:
    features = np.asarray(values, dtype=np.float64)
    if features.ndim != 2 or len(features) < 2:
        raise DataTypeError(
            f"{name} must be a table (samples, features) of 2 or more samples; got shape "
            f"{features.shape}"
        )
    bad = int((~np.isfinite(features)).sum())
    if bad:
        raise MissingDataError(
            f"{name} holds {bad} of {features.size} features that are not finite: fill or leave "
            "out missing frames before features are made of them"
        )
    return features


def frechet_distance(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Return the squared distance of the Gaussian laws of two sets of features.

    Parameters
    ----------
    first, second : array
        (samples, features); as many features in both, samples may differ in number.

    Returns
    -------
    float
        0 for the same mean and covariance; it is biased upwards where samples are few.

    Raises
    ------
    DataTypeError
        If the tables do not fit.
    MissingDataError
        If a feature is not finite.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> a = rng.normal(size=(500, 3))
    >>> round(frechet_distance(a, a + [2.0, 0.0, 0.0]), 9)
    4.0
    """
    a, b = _checked("the first set", first), _checked("the second set", second)
    if a.shape[1] != b.shape[1]:
        raise DataTypeError(
            f"the sets have {a.shape[1]} and {b.shape[1]} features; make them with one network"
        )
    covariances = [np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b)]
    values, vectors = np.linalg.eigh(covariances[0])
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    cross = np.linalg.eigvalsh(root @ covariances[1] @ root)
    shift = np.square(a.mean(0) - b.mean(0)).sum()
    spread = sum(np.trace(c) for c in covariances) - 2 * np.sqrt(np.maximum(cross, 0.0)).sum()
    return float(max(shift + spread, 0.0))


def frechet_video_distance(
    forecasts: Iterable[npt.ArrayLike], observations: Iterable[npt.ArrayLike], *, features: Features
) -> float:
    """Return the Frechet distance of two sets of videos, given a network of features.

    Parameters
    ----------
    forecasts, observations : iterable of array
        Batches of videos (N, T, H, W, C) with values from 0 to 1; read one after the other.
    features : callable
        (N, T, H, W, C) -> (N, d), such as :class:`xearth.models.video_features.VideoFeatures`.

    Raises
    ------
    DataTypeError
        If a batch is no videos, or there are fewer than two.
    MissingDataError
        If a feature is not finite.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> videos = [rng.random((20, 3, 4, 4, 1)) for _ in range(2)]
    >>> mean_and_spread = lambda v: np.stack([v.mean((1, 2, 3, 4)), v.std((1, 2, 3, 4))], axis=1)
    >>> frechet_video_distance(videos, videos[::-1], features=mean_and_spread) < 1e-12
    True
    """
    sets = (("forecasts", forecasts), ("observations", observations))
    tables = [_features(name, batches, features) for name, batches in sets]
    return frechet_distance(*tables)


def _features(name: str, batches: Iterable[npt.ArrayLike], features: Features) -> Array:
    tables = []
    for batch in batches:
        videos = np.asarray(batch, dtype=np.float32)
        if videos.ndim != 5:
            raise DataTypeError(
                f"a batch of {name} must be videos (N, T, H, W, C); got shape {videos.shape}"
            )
        tables.append(np.asarray(features(videos), dtype=np.float64).reshape(len(videos), -1))
    if not tables:
        raise DataTypeError(f"there are no {name}: give one or more batches of videos")
    return np.concatenate(tables)
