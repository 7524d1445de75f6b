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
from edgewise.measure._judge_site import judge_site_variant, of_site_alone
from edgewise.measure._light import LIGHT_SIDE, light_of, lights_together
from edgewise.measure._macro import macro_mean
from edgewise.measure._marks import marks_differ
from edgewise.measure._noise import BudgetSpent, NoiseBudget, gaussian_sums, noisy_counts, noisy_sums
from edgewise.measure._noisy_channels import ClippedSums, NoisySums, noisy_channel
from edgewise.measure._norms import SITE_FRAMES_MIN, SITE_SHARE, in_deviations, norm_sum, read_norm_sum, site_norm
from edgewise.measure._paired import compare, mcnemar
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
    "LIGHT_SIDE",
    "MEAN_DAYS",
    "OTHER",
    "SITE_FRAMES_MIN",
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
    "compare",
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
    "in_deviations",
    "judge",
    "judge_backstop",
    "judge_shadow",
    "judge_site_variant",
    "judge_variant",
    "largest_gap",
    "learning_curve",
    "light_of",
    "lights_together",
    "macro_mean",
    "marks_differ",
    "mcnemar",
    "merge_small",
    "noisy_channel",
    "noisy_counts",
    "noisy_sums",
    "norm_sum",
    "of_site_alone",
    "pinball",
    "read_norm_sum",
    "score_sites",
    "score_values",
    "site_norm",
    "tells_of_few",
    "wilson",
    "worse_e_value",
    "yardstick",
]
