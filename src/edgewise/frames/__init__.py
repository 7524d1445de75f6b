"""Pixels and rows: ONE implementation that training and devices both run, so that they cannot differ. Pure."""

from edgewise.frames._cannot import CannotMakePrivate
from edgewise.frames._decide import BadScores, decide, good_labels, is_alarm
from edgewise.frames._golden import golden_inputs
from edgewise.frames._hide import Hider, masked
from edgewise.frames._image import IMAGE_BYTES_MAX, PIXELS_MAX, BadPicture, decode_image, prepare_image
from edgewise.frames._prepare import BadFrame, input_shape, prepare, prepare_many
from edgewise.frames._private import ROW_TYPE, Made, made_private, make_private
from edgewise.frames._table import BadRow, prepare_row

__all__ = [
    "IMAGE_BYTES_MAX",
    "PIXELS_MAX",
    "ROW_TYPE",
    "BadFrame",
    "BadPicture",
    "BadRow",
    "BadScores",
    "CannotMakePrivate",
    "Hider",
    "Made",
    "decide",
    "decode_image",
    "golden_inputs",
    "good_labels",
    "input_shape",
    "is_alarm",
    "made_private",
    "make_private",
    "masked",
    "prepare",
    "prepare_image",
    "prepare_many",
    "prepare_row",
]
