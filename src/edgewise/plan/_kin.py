"""Whether a bundle is a variant of another: the same decisions in other numbers or statistics, and nothing else."""

from __future__ import annotations

from edgewise.wire import Manifest, site_of_variant

SAME = ("name", "task", "graphs", "labels", "good_label", "good_labels", "defect_threshold", "states")
SAME_ORIGIN = ("order", "revision", "parent", "seed")


def variant_faults(variant: Manifest, name: str, source: Manifest, source_digest: str) -> list[str]:
    """What keeps a bundle from being this variant of another, each a sentence; empty when it is one.

    A variant is gated on its own, but it is released, prepared for and decided on as the bundle it was made of: labels,
    threshold and input must be the same, and where it comes from must be traceable (invariant 13).

    Args:
        name: of the variant, such as int8 or site:north.
        source, source_digest: the bundle as trained.
    """
    made, origin = variant.provenance, source.provenance
    faults = []
    site = site_of_variant(name)
    if (made.variant, made.site) != (None if site else name, site):
        said = f"the variant of site {made.site}" if made.site else f"variant {made.variant}"
        faults.append(f"its manifest says that it is {said}, not {name}")
    if made.variant_of != source_digest:
        faults.append(f"its manifest says that it was made of {str(made.variant_of)[:12]}…, not {source_digest[:12]}…")
    if origin.variant is not None or origin.site is not None:
        faults.append(f"what it was made of is itself the variant {origin.variant or origin.site} of another bundle")
    differing = [field for field in SAME if getattr(variant, field) != getattr(source, field)]
    differing += [f"provenance.{field}" for field in SAME_ORIGIN if getattr(made, field) != getattr(origin, field)]
    if variant.golden.seed != source.golden.seed or variant.golden.count != source.golden.count:
        differing.append("golden inputs")
    if differing:
        faults.append(f"it differs in {', '.join(differing)} from what it was made of")
    return faults
