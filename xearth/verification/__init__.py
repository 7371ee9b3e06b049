"""Verification: scores, protocols, significance and leaks, in one pass over any chunks.

Examples
--------
>>> import xarray as xr
>>> from xearth.verification import rmse
>>> rmse(xr.DataArray([1.0, 5.0]), xr.DataArray([1.0, 1.0])).round(4).item()
2.8284
"""

from .align import observations_at
from .facts import ScoreFacts
from .leaks.leakage import Leak, find_leaks, guard
from .leaks.provenance import Judged, Period, Provenance, Smoothing
from .one_pass.intervals import differences, intervals
from .one_pass.results import finish
from .one_pass.state import State
from .one_pass.verify import accumulate, verify
from .protocols.explain import PROTOCOLS, Protocol, combine, explain, protocol
from .score import Score
from .scores.brier import brier, brier_decomposition, brier_skill, rps, rps_skill
from .scores.categorical import (
    accuracy,
    categorical_scores,
    csi,
    ets,
    f1,
    far,
    frequency_bias,
    hss,
    odds_ratio,
    orss,
    pod,
    pofd,
    pss,
    sedi,
    sucr,
)
from .scores.categories import categories
from .scores.climate import c_nino34, correlation_by_start, useful_lead
from .scores.contingency import contingency
from .scores.decisions import expected_yes
from .scores.deterministic import (
    acc,
    acc_temporal,
    bias,
    correlation,
    kge,
    mae,
    mse,
    msess,
    rank_correlation,
    rmse,
    slope,
)
from .scores.distributions import (
    crps_distribution,
    crps_gaussian,
    crps_quadrature,
    crps_quantile,
    log_score,
    log_score_gaussian,
    quantile_score,
)
from .scores.ensembles import Ensemble, Vote, combine_members
from .scores.indices import nino3, nino4, nino12, nino34, nino_index, relative_nino34, running_mean
from .scores.multivariate import energy_score, variogram_score
from .scores.pooling import pool
from .scores.probabilistic import (
    crps_components,
    crps_ensemble,
    skill,
    spread,
    spread_skill_ratio,
    threshold_weighted_crps,
    unbiased_spread_skill,
)
from .scores.ranks import interval_coverage, interval_width, rank_flatness, rank_histogram
from .scores.reliability import reliability, roc, roc_area
from .scores.spatial import fss, neighborhood_contingency
from .scores.table import SCORES, Parameters, facts, names, row
from .significance.accuracy_tests import diebold_mariano, field_significance, sign_test
from .significance.bootstrap import bootstrap, compare, distinguishable, paired_losses, verdicts
from .significance.field_tests import hering_genton

__all__ = [
    "PROTOCOLS",
    "SCORES",
    "Ensemble",
    "Judged",
    "Leak",
    "Parameters",
    "Period",
    "Protocol",
    "Provenance",
    "Score",
    "ScoreFacts",
    "Smoothing",
    "State",
    "Vote",
    "acc",
    "acc_temporal",
    "accumulate",
    "accuracy",
    "bias",
    "bootstrap",
    "brier",
    "brier_decomposition",
    "brier_skill",
    "c_nino34",
    "categorical_scores",
    "categories",
    "combine",
    "combine_members",
    "compare",
    "contingency",
    "correlation",
    "correlation_by_start",
    "crps_components",
    "crps_distribution",
    "crps_ensemble",
    "crps_gaussian",
    "crps_quadrature",
    "crps_quantile",
    "csi",
    "diebold_mariano",
    "differences",
    "distinguishable",
    "energy_score",
    "ets",
    "expected_yes",
    "explain",
    "f1",
    "facts",
    "far",
    "field_significance",
    "find_leaks",
    "finish",
    "frequency_bias",
    "fss",
    "guard",
    "hering_genton",
    "hss",
    "interval_coverage",
    "interval_width",
    "intervals",
    "kge",
    "log_score",
    "log_score_gaussian",
    "mae",
    "mse",
    "msess",
    "names",
    "neighborhood_contingency",
    "nino3",
    "nino4",
    "nino12",
    "nino34",
    "nino_index",
    "observations_at",
    "odds_ratio",
    "orss",
    "paired_losses",
    "pod",
    "pofd",
    "pool",
    "protocol",
    "pss",
    "quantile_score",
    "rank_correlation",
    "rank_flatness",
    "rank_histogram",
    "relative_nino34",
    "reliability",
    "rmse",
    "roc",
    "roc_area",
    "row",
    "rps",
    "rps_skill",
    "running_mean",
    "sedi",
    "sign_test",
    "skill",
    "slope",
    "spread",
    "spread_skill_ratio",
    "sucr",
    "threshold_weighted_crps",
    "unbiased_spread_skill",
    "useful_lead",
    "variogram_score",
    "verdicts",
    "verify",
]
