"""Scorecards, intervals, the gate's judgement, sequential tests and additive histograms; pure."""

from edgewise.measure._detector import ShareDetector
from edgewise.measure._histogram import Histogram
from edgewise.measure._intervals import auc, group_bootstrap, wilson
from edgewise.measure._judge import judge
from edgewise.measure._scores import score_sites
from edgewise.measure._sequential import E_MAX, Pair, better_e_value, count_pairs, worse_e_value

__all__ = [
    "E_MAX",
    "Histogram",
    "Pair",
    "ShareDetector",
    "auc",
    "better_e_value",
    "count_pairs",
    "group_bootstrap",
    "judge",
    "score_sites",
    "wilson",
    "worse_e_value",
]
