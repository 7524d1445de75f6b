"""What of a DICOM object may stay: numbers about the picture, and a short list of words. All else goes.

The confidentiality profile names what to take away; this names what to leave, so that an attribute which nobody thought
of is taken away too.
"""

from __future__ import annotations

# Numbers of these groups say how a picture was made and lies in space: acquisition, relationship, image, nuclear
# medicine, functional groups. What the profile's table names of them goes all the same.
NUMBER_GROUPS = frozenset({0x0018, 0x0020, 0x0028, 0x0054, 0x5200})
NUMBERS = frozenset({"US", "SS", "UL", "SL", "UV", "SV", "FL", "FD", "DS", "IS", "AT"})
# Sequences of these groups are gone into; what lies in them is judged as at the top.
SEQUENCE_GROUPS = NUMBER_GROUPS | {0x0008}
SEQUENCES = frozenset({"PurposeOfReferenceCodeSequence", "ConceptNameCodeSequence", "RealWorldValueMappingSequence"})
PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
STANDARD_UID = "1.2.840.10008."  # of the standard itself: classes and encodings, never an instance

# Codes of defined terms, and the few words that a reader of the picture needs.
_WORDS = """
    SpecificCharacterSet ImageType Modality ConversionType PresentationIntentType Manufacturer ManufacturerModelName
    SoftwareVersions BodyPartExamined ViewPosition Laterality ImageLaterality PatientPosition PatientOrientation
    ScanningSequence SequenceVariant ScanOptions MRAcquisitionType AngioFlag InPlanePhaseEncodingDirection
    FieldOfViewShape RotationDirection TypeOfFilters FilterType FilterMaterial CollimatorShape ConvolutionKernel
    ExposureModulationType AnodeTargetMaterial Grid DetectorType DetectorConfiguration PositionerType
    ExposureControlMode ExposureStatus RectificationType AcquisitionType FrameType PixelPresentation
    VolumetricProperties VolumeBasedCalculationTechnique ComplexImageComponent AcquisitionContrast
    ContentQualification PhotometricInterpretation PixelIntensityRelationship RescaleType PresentationLUTShape
    LossyImageCompression LossyImageCompressionMethod BurnedInAnnotation RecognizableVisualFeatures
    QualityControlImage CorrectedImage CountsSource Units SeriesType ReprojectionMethod RandomsCorrectionMethod
    AttenuationCorrectionMethod DecayCorrection ReconstructionMethod ScatterCorrectionMethod
    PositionReferenceIndicator
"""
WORDS = frozenset(_WORDS.split())
# A coded term is kept whole where a public dictionary defines it; a local one may be anything.
CODE_WORDS = frozenset({"CodeValue", "CodingSchemeDesignator", "CodeMeaning", "LongCodeValue"})
CODING_SCHEMES = frozenset({"DCM", "SCT", "SRT", "SNM3", "LN", "UCUM", "RADLEX", "FMA", "ACR", "NCIt", "I10"})

# Dates and times that the option to shift leaves, moved; all others go as the profile says.
_SHIFTED = """
    StudyDate StudyTime SeriesDate SeriesTime AcquisitionDate AcquisitionTime AcquisitionDateTime ContentDate
    ContentTime FrameAcquisitionDateTime FrameReferenceDateTime StartAcquisitionDateTime EndAcquisitionDateTime
    DateOfSecondaryCapture TimeOfSecondaryCapture PerformedProcedureStepStartDate PerformedProcedureStepStartTime
"""
SHIFTED = frozenset(_SHIFTED.split())
