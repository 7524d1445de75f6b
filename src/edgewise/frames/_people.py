"""Faces and plates in a picture: blurred where they are found, or the whole picture refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from edgewise.frames._cannot import CannotMakePrivate
from edgewise.frames._detect import Cascade, Finds, find
from edgewise.frames._pixels import Pixels, blur_boxes, grown
from edgewise.wire import NotValid, PrivateSettings


def blurred(
    pixels: Pixels, cascades: Sequence[Cascade], what: str, settings: PrivateSettings, found: Counter[str]
) -> Pixels:
    """The picture with every find unreadable, the unsure ones too; ``found`` counts them.

    Raises:
        CannotMakePrivate: no detector (``detector_missing``), or an unsure find where the settings say to drop it.
    """
    return treated(pixels, finds(pixels, cascades), what, settings, found)


def treated(pixels: Pixels, seen: Finds, what: str, settings: PrivateSettings, found: Counter[str]) -> Pixels:
    """The picture with these finds unreadable. CannotMakePrivate (``uncertain``): as `blurred`."""
    if seen.unsure and settings.uncertain == "drop":
        raise CannotMakePrivate(
            f"{len(seen.unsure)} places may be a {what}, and data.private.uncertain is drop; the frame is not kept",
            code="uncertain",
        )
    if seen.all:
        found[what] += len(seen.all)
    return blur_boxes(pixels, [grown(box, settings.box_margin, pixels.shape) for box in seen.all])


def without(pixels: Pixels, cascades: Sequence[Cascade], what: str) -> Pixels:
    """The picture itself when nothing is found in it. CannotMakePrivate (``face_found``): it must not be kept."""
    if seen := finds(pixels, cascades).all:
        raise CannotMakePrivate(
            f"{len(seen)} places may be a {what}; the policy keeps no frame with one", code=f"{what}_found"
        )
    return pixels


def finds(pixels: Pixels, cascades: Sequence[Cascade]) -> Finds:
    """As `find`. CannotMakePrivate (``detector_missing``): without a detector nothing can be made private."""
    try:
        return find(pixels, cascades)
    except NotValid as error:
        raise CannotMakePrivate(str(error), code=error.code) from error
