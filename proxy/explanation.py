"""What ``explain=1`` answers: how an address is read, by what right it is answered, and with what. Pure."""

from __future__ import annotations

from typing import Any

from proxy.access import Admission
from proxy.delivery import Plan
from proxy.ports import ObjectMeta


def explained(admission: Admission, reads: str, transforms: str, source: ObjectMeta, plan: Plan | None) -> dict[str, Any]:
    """The JSON of one address; *plan* is None for an original. *reads* and *transforms* are the modes of the deployment."""
    preset = admission.preset
    return {
        "key": source.key,
        "source": {"etag": source.etag, "contentType": source.content_type, "size": source.size},
        "said": admission.said.text,
        "preset": None
        if preset is None
        else {
            "name": preset.name,
            "revision": preset.revision,
            "query": preset.query.text,
            "allow": sorted(preset.allow),
        },
        "asked": admission.asked.without("explain").text,
        "canonical": admission.transform.canonical,
        "access": {"reads": str(reads), "transforms": str(transforms), "right": str(admission.right)},
        "private": admission.terms.private,
        "vary": list(admission.terms.vary),
        "degraded": list(admission.terms.degraded),
        "rendition": None if plan is None else _rendition(plan),
    }


def _rendition(plan: Plan) -> dict[str, Any]:
    settled = plan.settled
    return {
        "width": settled.width,
        "height": settled.height,
        "format": settled.format,
        "canonical": settled.canonical,
        "variant": plan.name,
        "etag": str(plan.version.etag),
        "found": plan.found,
    }
