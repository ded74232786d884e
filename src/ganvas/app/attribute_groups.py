"""Groups of sliders: which attribute belongs to which group."""

from __future__ import annotations

from collections.abc import Iterable

GROUPS: dict[str, tuple[str, ...]] = {
    "Age and gender": ("Age", "Young", "Male"),
    "Expression": ("Smiling", "Mouth_Slightly_Open"),
    "Hair": (
        "Long_Hair",
        "Hair_Lightness",
        "Bald",
        "Bangs",
        "Black_Hair",
        "Blond_Hair",
        "Brown_Hair",
        "Gray_Hair",
        "Receding_Hairline",
        "Straight_Hair",
        "Wavy_Hair",
        "5_o_Clock_Shadow",
        "Goatee",
        "Mustache",
        "No_Beard",
        "Sideburns",
    ),
    "Face": (
        "Weight",
        "Skin_Lightness",
        "Arched_Eyebrows",
        "Attractive",
        "Bags_Under_Eyes",
        "Big_Lips",
        "Big_Nose",
        "Bushy_Eyebrows",
        "Chubby",
        "Double_Chin",
        "High_Cheekbones",
        "Narrow_Eyes",
        "Oval_Face",
        "Pale_Skin",
        "Pointy_Nose",
        "Rosy_Cheeks",
    ),
    "Accessories": (
        "Eyeglasses",
        "Sunglasses",
        "Heavy_Makeup",
        "Wearing_Earrings",
        "Wearing_Hat",
        "Wearing_Lipstick",
        "Wearing_Necklace",
        "Wearing_Necktie",
    ),
}
"""The attributes of ``face_attributes`` without Blurry, which describes the picture and not the face."""
OTHER_GROUP = "Other"
"""The group of the attributes that are in no other."""
OPEN_GROUPS = ("Age and gender", "Expression", "Hair", OTHER_GROUP)
"""Groups that are open when the page opens."""
RARE_ATTRIBUTES = frozenset(
    "5_o_Clock_Shadow Attractive Bags_Under_Eyes Bald Big_Lips Blurry Bushy_Eyebrows Chubby Double_Chin Goatee Mustache"
    " Narrow_Eyes Oval_Face Pointy_Nose Receding_Hairline Rosy_Cheeks Sideburns Straight_Hair Wearing_Necklace"
    " Wearing_Necktie".split()
)
"""Attributes that the page shows on demand."""


def group_attributes(attributes: Iterable[str]) -> dict[str, list[str]]:
    """Return the attributes by group, both in the order of ``GROUPS``, the rest last; empty groups are left out."""
    remaining = list(dict.fromkeys(attributes))
    grouped = {group: [name for name in names if name in remaining] for group, names in GROUPS.items()}
    members = {name for names in grouped.values() for name in names}
    grouped[OTHER_GROUP] = [name for name in remaining if name not in members]
    return {group: names for group, names in grouped.items() if names}
