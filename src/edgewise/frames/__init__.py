"""Pixels, rows, windows of series: ONE implementation for training and devices, so that they cannot differ. Pure."""

from edgewise.frames._boxes import find_boxes, map_means
from edgewise.frames._cannot import CannotMakePrivate
from edgewise.frames._clock import CLOCK, clock_columns
from edgewise.frames._crop import BadBox, crop, prepare_crop
from edgewise.frames._decide import BadScores, Decided, decide, differ, good_labels, is_alarm, scores_of
from edgewise.frames._dicom import DicomOptions, MadeDicom, private_dicom
from edgewise.frames._documents import DocumentKind, private_document
from edgewise.frames._fingerprint import fingerprint, likeness, near_from, usual
from edgewise.frames._golden import golden_frames, golden_inputs
from edgewise.frames._hide import Hider, masked
from edgewise.frames._image import IMAGE_BYTES_MAX, PIXELS_MAX, BadPicture, decode_image, prepare_image
from edgewise.frames._past import past_takes
from edgewise.frames._prepare import BadFrame, Preparer, input_shape, prepare, prepare_many, preparer
from edgewise.frames._private import ROW_TYPE, Made, made_private, make_private
from edgewise.frames._series import SERIES_TYPE, BadSeries, Windower, prepare_series, series_bytes
from edgewise.frames._stated import baseline_of
from edgewise.frames._table import BadRow, prepare_row
from edgewise.frames._true_boxes import mask_boxes, true_boxes

__all__ = [
    "CLOCK",
    "IMAGE_BYTES_MAX",
    "PIXELS_MAX",
    "ROW_TYPE",
    "SERIES_TYPE",
    "BadBox",
    "BadFrame",
    "BadPicture",
    "BadRow",
    "BadScores",
    "BadSeries",
    "CannotMakePrivate",
    "Decided",
    "DicomOptions",
    "DocumentKind",
    "Hider",
    "Made",
    "MadeDicom",
    "Preparer",
    "Windower",
    "baseline_of",
    "clock_columns",
    "crop",
    "decide",
    "decode_image",
    "differ",
    "find_boxes",
    "fingerprint",
    "golden_frames",
    "golden_inputs",
    "good_labels",
    "input_shape",
    "is_alarm",
    "likeness",
    "made_private",
    "make_private",
    "map_means",
    "mask_boxes",
    "masked",
    "near_from",
    "past_takes",
    "prepare",
    "prepare_crop",
    "prepare_image",
    "prepare_many",
    "prepare_row",
    "prepare_series",
    "preparer",
    "private_dicom",
    "private_document",
    "scores_of",
    "series_bytes",
    "true_boxes",
    "usual",
]
