"""DICOM objects for tests: chest pictures with invented names in every attribute that may hold one."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pydicom
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from edgewise.frames._dicom_table import ACTIONS

CR = "1.2.840.10008.5.1.4.1.1.1"
SECRET = "XQZW7PLANTED"
# A value that says of itself that it was planted, for each way of writing values.
PLANTED: dict[str, Any] = {
    "DA": "18151210", "TM": "235917", "DT": "18151210235917", "AS": "097Y", "IS": "1815121", "DS": "1815.1210",
    "UI": "1.2.826.0.1.3680043.1815.1210", "OB": b"XQZW7PLANTED", "OW": b"XQZW7PLANTED", "UN": b"XQZW7PLANTED",
    "US": 18151, "SS": 18151, "UL": 18151210, "SL": 18151210, "FL": 18151.25, "FD": 18151.25,
}  # fmt: skip
TELLING = [b"XQZW7PLANTED", b"18151210", b"235917", b"097Y", b"1815121", b"1815.1210", b"3680043.1815.1210"]

# Sequences that may stay, so that what lies in them must be gone through: references and coded terms.
GONE_INTO = (0x00081140, 0x00082112, 0x00081115, 0x00082218)


def picture(pixels: np.ndarray | None = None, **values: Any) -> Dataset:
    """A plain chest picture, without any identity."""
    pixels = np.tile(np.arange(64, dtype=np.uint8), (48, 1)) if pixels is None else pixels
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = CR, "1.2.3.4.5"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = "1.2.3", "1.2.3.4", "1.2.9"
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = "Doe^Jane", "P-1815", "18151210"
    dataset.Modality, dataset.BodyPartExamined, dataset.StudyDate, dataset.StudyTime = "CR", "CHEST", "20260301", "1200"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelSpacing, dataset.KVP, dataset.WindowCenter, dataset.WindowWidth = [0.5, 0.5], "120", "128", "256"
    dataset.PixelData = pixels.tobytes()
    for name, value in values.items():
        setattr(dataset, name, value)
    return dataset


def to_bytes(dataset: Dataset) -> bytes:
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def read(data: bytes) -> Dataset:
    return pydicom.dcmread(io.BytesIO(data))


def plant(dataset: Dataset, depth: int = 1) -> Dataset:
    """A planted value in every attribute of the profile's table, in sequences, private ones, overlays and curves."""
    for tag in ACTIONS:
        representation = dictionary_VR(tag) if keyword_for_tag(tag) else "LO"
        # The header is made anew, trailing padding ends a data set, and commands are no part of a file.
        if tag >> 16 in (0x0002, 0xFFFC) or tag >> 16 == 0x0000 or int(tag) == 0x00080018:
            continue
        if representation == "SQ":
            dataset.add_new(tag, "SQ", [_short()])
        else:
            dataset.add_new(tag, representation, PLANTED.get(representation, SECRET))
    for tag in GONE_INTO if depth else ():
        dataset.add_new(tag, "SQ", [plant(Dataset(), depth - 1), _short()])
    block = dataset.private_block(0x0099, "PLANTED BY A TEST", create=True)
    block.add_new(0x01, "LO", SECRET)
    block.add_new(0x02, "SQ", [_short()])
    dataset.add_new(0x60003000, "OW", PLANTED["OW"])
    dataset.add_new(0x60004000, "LT", SECRET)
    dataset.add_new(0x50003000, "OW", PLANTED["OW"])
    dataset.add_new(0x00081198, "SQ", [_short()])  # a sequence that no list names
    dataset.add_new(0x00100099, "LO", SECRET)  # an attribute that nobody knows
    return dataset


def _short() -> Dataset:
    item = Dataset()
    item.PatientName, item.PatientID, item.PatientBirthDate = SECRET, SECRET, PLANTED["DA"]
    item.ReferencedSOPInstanceUID = PLANTED["UI"]
    return item
