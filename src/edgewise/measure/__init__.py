"""Scorecards, intervals, the gate's judgement, sequential tests, additive histograms and private counts; pure."""

from edgewise.measure._agreement import Agreement, PairAgreement, agreement
from edgewise.measure._calibration import calibration
from edgewise.measure._causes import Cause, find_causes
from edgewise.measure._change import (
    CALIBRATION_DAYS,
    MEAN_DAYS,
    Change,
    cohort_days,
    find_change,
)
from edgewise.measure._curve import Curve, Need, learning_curve
from edgewise.measure._days import Yardstick, features_of, yardstick
from edgewise.measure._detector import ShareDetector
from edgewise.measure._did import BackstopVerdict, Counts, ProxyResult, judge_backstop
from edgewise.measure._drift import ChannelSums, WindowDetector
from edgewise.measure._enough import Enough, Gain, enough
from edgewise.measure._field import Audited, FieldResult, field_result
from edgewise.measure._helped import Helped, did_it_help
from edgewise.measure._histogram import Histogram
from edgewise.measure._intervals import auc, group_bootstrap, wilson
from edgewise.measure._judge import judge, judge_variant
from edgewise.measure._macro import macro_mean
from edgewise.measure._marks import marks_differ
from edgewise.measure._noise import BudgetSpent, NoiseBudget, gaussian_sums, noisy_counts, noisy_sums
from edgewise.measure._noisy_channels import ClippedSums, NoisySums, noisy_channels
from edgewise.measure._norms import SITE_SHARE, site_norm
from edgewise.measure._scores import largest_gap, score_sites
from edgewise.measure._sequential import (
    E_MAX,
    Pair,
    better_e_value,
    count_apart_ties,
    count_pairs,
    worse_e_value,
)
from edgewise.measure._shadow import ShadowVerdict, disagreement_max, judge_shadow
from edgewise.measure._sketch import Sketcher, confidence_of_bin
from edgewise.measure._small_counts import OTHER, merge_small, tells_of_few
from edgewise.measure._values import correction, groups_needed, pinball, score_values

__all__ = [
    "CALIBRATION_DAYS",
    "E_MAX",
    "MEAN_DAYS",
    "OTHER",
    "SITE_SHARE",
    "Agreement",
    "Audited",
    "BackstopVerdict",
    "BudgetSpent",
    "Cause",
    "Change",
    "ChannelSums",
    "ClippedSums",
    "Counts",
    "Curve",
    "Enough",
    "FieldResult",
    "Gain",
    "Helped",
    "Histogram",
    "Need",
    "NoiseBudget",
    "NoisySums",
    "Pair",
    "PairAgreement",
    "ProxyResult",
    "ShadowVerdict",
    "ShareDetector",
    "Sketcher",
    "WindowDetector",
    "Yardstick",
    "agreement",
    "auc",
    "better_e_value",
    "calibration",
    "cohort_days",
    "confidence_of_bin",
    "correction",
    "count_apart_ties",
    "count_pairs",
    "did_it_help",
    "disagreement_max",
    "enough",
    "features_of",
    "field_result",
    "find_causes",
    "find_change",
    "gaussian_sums",
    "group_bootstrap",
    "groups_needed",
    "judge",
    "judge_backstop",
    "judge_shadow",
    "judge_variant",
    "largest_gap",
    "learning_curve",
    "macro_mean",
    "marks_differ",
    "merge_small",
    "noisy_channels",
    "noisy_counts",
    "noisy_sums",
    "pinball",
    "score_sites",
    "score_values",
    "site_norm",
    "tells_of_few",
    "wilson",
    "worse_e_value",
    "yardstick",
]
