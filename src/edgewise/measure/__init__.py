"""Scorecards, intervals, the gate's judgement, sequential tests, additive histograms and private counts; pure."""

from edgewise.measure._detector import ShareDetector
from edgewise.measure._drift import ChannelSums, WindowDetector
from edgewise.measure._histogram import Histogram
from edgewise.measure._intervals import auc, group_bootstrap, wilson
from edgewise.measure._judge import judge
from edgewise.measure._noise import BudgetSpent, NoiseBudget, gaussian_sums, noisy_counts, noisy_sums
from edgewise.measure._noisy_channels import ClippedSums, NoisySums, noisy_channels
from edgewise.measure._scores import score_sites
from edgewise.measure._sequential import E_MAX, Pair, better_e_value, count_pairs, worse_e_value
from edgewise.measure._small_counts import OTHER, merge_small, tells_of_few

__all__ = [
    "E_MAX",
    "OTHER",
    "BudgetSpent",
    "ChannelSums",
    "ClippedSums",
    "Histogram",
    "NoiseBudget",
    "NoisySums",
    "Pair",
    "ShareDetector",
    "WindowDetector",
    "auc",
    "better_e_value",
    "count_pairs",
    "gaussian_sums",
    "group_bootstrap",
    "judge",
    "merge_small",
    "noisy_channels",
    "noisy_counts",
    "noisy_sums",
    "score_sites",
    "tells_of_few",
    "wilson",
    "worse_e_value",
]
