"""DICOM objects by the Basic Application Level Confidentiality Profile of PS3.15, and stricter: an allow-list rules."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from edgewise.frames._cannot import CannotMakePrivate
from edgewise.frames._dicom_clean import Cleaner, patient_shift
from edgewise.frames._dicom_pixels import burned_in, check_encoding
from edgewise.frames._dicom_table import EDITION
from edgewise.frames._hide import KEY_BYTES_MIN
from edgewise.wire import NotValid

METHOD = ["edgewise", f"{EDITION} Basic Application Confidentiality Profile", "and an allow-list"]
OWN_CLASS_UID = "2.25.225189061934529713250447209172283254113"  # names this program as the writer; made once, at random
# PS3.16, context group 7050.
PROFILE = ("113100", "Basic Application Confidentiality Profile")
MODIFIED_DATES = ("113107", "Retain Longitudinal Temporal Information Modified Dates Option")


@dataclass(frozen=True, kw_only=True, slots=True)
class DicomOptions:
    """Where the profile leaves a choice."""

    dates: Literal["remove", "shift"] = "remove"
    burned_in: Literal["refuse", "warn"] = "refuse"


@dataclass(frozen=True, kw_only=True, slots=True)
class MadeDicom:
    """A private object: its bytes, its name as study and instance, what was done, and what a person should look at."""

    data: bytes
    names: tuple[str, str]
    done: tuple[str, ...]
    found: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def private_dicom(data: bytes, options: DicomOptions, *, key: bytes) -> MadeDicom:
    """A DICOM file without what names a patient, a person or a place.

    Every attribute of the profile's table is removed, emptied or replaced; UIDs become others, the same under the same
    key, so that a series stays a series; private attributes, overlays and curves go; and so does every attribute that
    neither the table nor our list of harmless ones knows. Pixels are never changed: where they may show text the object
    is refused, or comes with a warning.

    Args:
        data: a file with a preamble (PS3.10).
        options: dates removed or moved; pixels that may show text refused or warned of.
        key: of UIDs, pseudonyms and the shift; whoever has it can try values against them.
    Raises:
        CannotMakePrivate: no DICOM file, pixels that may show text, or an encoding that is not looked into.
        NotValid: the key has fewer than 16 bytes.
    """
    if len(key) < KEY_BYTES_MIN:
        raise NotValid(f"the key has {len(key)} bytes, needs at least {KEY_BYTES_MIN}", code="key_invalid")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of odd values, and quotes them
        dataset = _read(data)
        check_encoding(dataset)
        seen = tuple(burned_in(dataset))
        if seen and options.burned_in == "refuse":
            raise CannotMakePrivate("; ".join(seen), code="burned_in")
        shift = patient_shift(dataset, key) if options.dates == "shift" else None
        cleaner = Cleaner(key=key, shift=shift)
        cleaner.clean(dataset)
        _sign(dataset, shifted=shift is not None)
        names = (str(dataset.get("StudyInstanceUID", "no-study")), f"{dataset.SOPInstanceUID}.dcm")
        written = _written(dataset)
    done = ("dicom-basic", "shift-dates") if shift is not None else ("dicom-basic",)
    return MadeDicom(data=written, names=names, done=done, found=dict(cleaner.found), warnings=seen)


def _read(data: bytes) -> Any:
    try:
        import pydicom
    except ImportError as error:
        raise CannotMakePrivate("DICOM needs pydicom: pip install 'edgewise[clinic]'", code="extra_missing") from error
    logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)  # it quotes odd values, and a log is a way out
    try:
        dataset = pydicom.dcmread(io.BytesIO(data))
        if not dataset.SOPInstanceUID or not dataset.file_meta.TransferSyntaxUID:
            raise ValueError("no instance, or no encoding")
        for _ in dataset.iterall():  # values are decoded when they are looked at: a broken one must show now
            pass
    except Exception as error:  # hostile bytes make pydicom raise almost anything
        raise CannotMakePrivate("this is no DICOM file that can be read", code="unreadable") from error
    return dataset


def _sign(dataset: Any, *, shifted: bool) -> None:
    """Say in the object what was done to it (PS3.15 E.1.1, PS3.3 C.7.1.1)."""
    from pydicom.dataset import Dataset

    codes = []
    for value, meaning in (PROFILE, MODIFIED_DATES) if shifted else (PROFILE,):
        code = Dataset()
        code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "DCM", meaning
        codes.append(code)
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = METHOD
    dataset.DeidentificationMethodCodeSequence = codes
    dataset.LongitudinalTemporalInformationModified = "MODIFIED" if shifted else "REMOVED"


def _written(dataset: Any) -> bytes:
    """The object as a file with a header of our own: the old one may name the machine that sent it."""
    from pydicom.dataset import FileMetaDataset

    meta: Any = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", "")
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    meta.ImplementationClassUID = OWN_CLASS_UID
    meta.ImplementationVersionName = "EDGEWISE"
    dataset.file_meta, dataset.preamble = meta, bytes(128)
    file = io.BytesIO()
    try:
        dataset.save_as(file, enforce_file_format=True)
    except Exception as error:  # a value that pydicom reads and cannot write
        raise CannotMakePrivate("what is left of it cannot be written", code="unreadable") from error
    return file.getvalue()
