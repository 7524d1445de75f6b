"""DICOM PS3.15: nothing that was planted in any attribute survives, and what is left is still a series of pictures."""

from __future__ import annotations

import io
import zipfile
from itertools import pairwise

import numpy as np
import pytest

pytest.importorskip("pydicom", reason="the extra `clinic` brings pydicom")

from PIL import Image, ImageDraw, ImageFont
from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate

from dicom_world import CR, SECRET, TELLING, picture, plant, read, to_bytes
from edgewise.frames import CannotMakePrivate, DicomOptions, private_dicom
from edgewise.frames import _dicom_keep as keep
from edgewise.frames._dicom_pixels import looks_like_text
from edgewise.frames._dicom_table import ACTIONS
from edgewise.wire import NotValid

KEY = b"k" * 32
REFUSE, WARN = DicomOptions(), DicomOptions(burned_in="warn")


def private(dataset: Dataset, options: DicomOptions = REFUSE, key: bytes = KEY) -> Dataset:
    return read(private_dicom(to_bytes(dataset), options, key=key).data)


def test_nothing_planted_in_any_attribute_of_the_table_survives_in_the_bytes():
    data = to_bytes(plant(picture()))
    assert all(word in data for word in TELLING)
    made = private_dicom(data, WARN, key=KEY)
    assert [word for word in TELLING if word in made.data] == []
    assert made.found["private"] >= 1
    assert made.found["overlays"] > 3
    assert made.found["unlisted"] >= 1
    after = read(made.data)
    assert np.array_equal(after.pixel_array, picture().pixel_array)
    assert not any(element.tag.is_private for element in after.iterall())
    left = {int(element.tag) for element in after.iterall()} & set(ACTIONS)
    assert all(ACTIONS[tag] != "X" or tag == 0x00082111 for tag in left)


def test_dates_that_are_kept_are_moved_and_no_planted_one_is_left():
    made = private_dicom(to_bytes(plant(picture())), DicomOptions(dates="shift", burned_in="warn"), key=KEY)
    # Times of the day stay with their dates under this option; everything else that was planted goes.
    assert [word for word in TELLING if word in made.data and word != b"235917"] == []


def test_the_object_says_what_was_done_to_it():
    after = private(picture())
    codes = [(item.CodeValue, item.CodingSchemeDesignator) for item in after.DeidentificationMethodCodeSequence]
    assert after.PatientIdentityRemoved == "YES"
    assert codes == [("113100", "DCM")]  # and not 113101: pixels are never cleaned here
    assert after.LongitudinalTemporalInformationModified == "REMOVED"
    assert after.DeidentificationMethod
    assert after.file_meta.MediaStorageSOPInstanceUID == after.SOPInstanceUID != "1.2.3.4.5"
    shifted = private(picture(), DicomOptions(dates="shift"))
    assert [item.CodeValue for item in shifted.DeidentificationMethodCodeSequence] == ["113100", "113107"]


def test_a_picture_keeps_what_its_reader_needs():
    before, after = picture(Manufacturer="Maker"), private(picture(Manufacturer="Maker"))
    for name in ("Modality", "BodyPartExamined", "PixelSpacing", "KVP", "WindowCenter", "Rows", "Manufacturer"):
        assert after[name].value == before[name].value
    assert (after.PatientName, after.PatientBirthDate, after.StudyDate) == ("", "", "")
    assert after.PatientID
    assert after.PatientID != "P-1815"


def test_a_series_stays_a_series_and_another_key_gives_other_names():
    slices = [
        picture(SOPInstanceUID=f"1.2.3.4.{number}", InstanceNumber=number, PatientID="P-1") for number in range(4)
    ]
    for one, other in pairwise(slices):
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CR, one.SOPInstanceUID
        other.ReferencedImageSequence = [item]
    after = [private(one) for one in slices]
    assert len({one.SeriesInstanceUID for one in after}) == len({one.StudyInstanceUID for one in after}) == 1
    assert len({one.PatientID for one in after}) == 1
    assert len({one.SOPInstanceUID for one in after}) == 4
    for one, other in pairwise(after):
        assert other.ReferencedImageSequence[0].ReferencedSOPInstanceUID == one.SOPInstanceUID
        assert other.ReferencedImageSequence[0].ReferencedSOPClassUID == CR
    assert all(one.SOPInstanceUID.is_valid and one.SOPInstanceUID.startswith("2.25.") for one in after)
    assert private(slices[0], key=b"o" * 32).SOPInstanceUID != after[0].SOPInstanceUID


def test_moved_dates_keep_their_distances_for_each_patient():
    shift = DicomOptions(dates="shift")
    first = private(picture(StudyDate="20260301", AcquisitionDateTime="20260304120000.5"), shift)
    later = private(picture(StudyDate="20260311"), shift)
    other = private(picture(StudyDate="20260301", PatientID="P-2"), shift)
    days = [np.datetime64(f"{text[:4]}-{text[4:6]}-{text[6:8]}") for text in (first.StudyDate, later.StudyDate)]
    assert (days[1] - days[0]).astype(int) == 10
    assert first.StudyDate < "20260301"
    assert other.StudyDate != first.StudyDate
    assert first.AcquisitionDateTime.endswith("120000.5")
    assert first.PatientBirthDate == ""
    assert "StudyDate" not in private(picture(StudyDate="00010101"), shift)  # would leave the calendar


def test_the_list_of_what_stays_names_nothing_that_the_profile_takes_away():
    listed = keep.WORDS | keep.CODE_WORDS | keep.SEQUENCES
    assert {name for name in listed if tag_for_keyword(name) is None} == set()
    assert {name for name in listed if tag_for_keyword(name) in ACTIONS} == set()
    assert {name for name in keep.SHIFTED if tag_for_keyword(name) not in ACTIONS} == set()
    assert all(dictionary_VR(tag_for_keyword(name)) in ("DA", "TM", "DT") for name in keep.SHIFTED)
    for tag, action in ACTIONS.items():  # a slip of the pen in the table would show here
        if keyword_for_tag(tag) and action == "U":
            assert dictionary_VR(tag) == "UI"


def test_words_in_fields_that_should_hold_numbers_or_codes_go():
    dataset = picture(ManufacturerModelName="call ada@example.com")
    dataset.add_new(0x00181190, "DS", None)
    local = Dataset()
    local.CodeValue, local.CodingSchemeDesignator, local.CodeMeaning = "X1", "99LOCAL", SECRET
    public = Dataset()
    public.CodeValue, public.CodingSchemeDesignator, public.CodeMeaning = "51185008", "SCT", "Chest"
    dataset.AnatomicRegionSequence = [local, public]
    data = to_bytes(dataset).replace(b"120 ", b"Ada ")  # KVP, written by a careless program
    made = private_dicom(data, REFUSE, key=KEY)
    after = read(made.data)
    assert after.ManufacturerModelName == "call [email]"
    assert SECRET.encode() not in made.data
    assert b"Ada" not in made.data
    assert [dict(item.items()) == {} for item in after.AnatomicRegionSequence] == [True, False]
    assert after.AnatomicRegionSequence[1].CodeMeaning == "Chest"


@pytest.mark.parametrize(
    "values",
    [
        {"BurnedInAnnotation": "YES"},
        {"Modality": "US"},
        {"Modality": "SC"},
        {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"},
        {"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]},
    ],
)
def test_pixels_that_may_show_a_name_are_refused_or_warned_of(values):
    data = to_bytes(picture(**values))
    with pytest.raises(CannotMakePrivate) as refused:
        private_dicom(data, REFUSE, key=KEY)
    assert refused.value.code == "burned_in"
    made = private_dicom(data, WARN, key=KEY)
    assert made.warnings
    assert [item.CodeValue for item in read(made.data).DeidentificationMethodCodeSequence] == ["113100"]


def written_on(pixels: np.ndarray, text: str = "DOE^JANE 1815-12-10", size: int = 12) -> np.ndarray:
    image = Image.fromarray(pixels)
    ImageDraw.Draw(image).text((6, 6), text, fill=255, font=ImageFont.load_default(size))
    return np.asarray(image)


def test_text_in_the_pixels_is_seen_even_where_the_object_denies_it():
    smooth = (np.hypot(*np.mgrid[-1:1:224j, -1:1:224j]) * 120).astype(np.uint8)
    assert not looks_like_text(smooth)
    assert looks_like_text(written_on(smooth))
    with pytest.raises(CannotMakePrivate):
        private_dicom(to_bytes(picture(written_on(smooth), BurnedInAnnotation="NO")), REFUSE, key=KEY)


@pytest.mark.parametrize("site", ["site_a_children", "site_b_adults"])
def test_real_chest_pictures_pass_and_the_same_ones_with_a_name_do_not(data_root, site):
    with zipfile.ZipFile(data_root / "healthcare" / site / "images.zip") as archive:
        names = [name for name in archive.namelist() if name.endswith((".jpg", ".jpeg", ".png"))]
        chosen = [np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("L")) for name in names[::60]]
    wrong = sum(looks_like_text(pixels) for pixels in chosen)
    seen = sum(looks_like_text(written_on(pixels)) for pixels in chosen)
    assert wrong == 0
    assert seen >= 0.85 * len(chosen)
    after = private(picture(chosen[0], PatientName="Doe^Jane"))
    assert np.array_equal(after.pixel_array, chosen[0])


def jpeg(comment: bytes = b"") -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture().pixel_array).save(file, "JPEG", **({"comment": comment} if comment else {}))
    return file.getvalue()


def encoded(fragment: bytes, encoding: str) -> Dataset:
    dataset = picture()
    dataset.file_meta.TransferSyntaxUID = encoding
    dataset.PixelData = encapsulate([fragment])
    dataset["PixelData"].is_undefined_length = True
    return dataset


def test_words_between_encoded_pixels_and_unknown_encodings_are_refused():
    baseline = "1.2.840.10008.1.2.4.50"
    assert private(encoded(jpeg(), baseline), WARN).SOPInstanceUID
    for dataset in (
        encoded(jpeg(SECRET.encode()), baseline),
        encoded(b"\xff\x4f" + bytes(40), "1.2.840.10008.1.2.4.90"),
    ):
        with pytest.raises(CannotMakePrivate) as refused:
            private_dicom(to_bytes(dataset), WARN, key=KEY)
        assert refused.value.code == "pixels_forbidden"


@pytest.mark.parametrize("data", [b"", b"DICM", bytes(128) + b"DICM", bytes(128) + b"DICM" + b"\xff" * 99, b"no" * 200])
def test_what_is_no_dicom_file_is_refused(data):
    with pytest.raises(CannotMakePrivate) as refused:
        private_dicom(data, REFUSE, key=KEY)
    assert refused.value.code == "unreadable"


def test_a_broken_file_is_refused_or_private_wherever_it_breaks():
    data = to_bytes(plant(picture(), depth=0))
    for place in range(130, len(data), len(data) // 15):
        for broken in (data[:place], data[:place] + b"\xff\xff" + data[place + 2 :]):
            try:
                made = private_dicom(broken, WARN, key=KEY)
            except CannotMakePrivate:
                continue
            assert SECRET.encode() not in made.data


def test_a_short_key_is_refused():
    with pytest.raises(NotValid, match="at least 16"):
        private_dicom(to_bytes(picture()), REFUSE, key=b"short")
