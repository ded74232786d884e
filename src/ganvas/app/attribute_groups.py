"""Which slider stands where: attributes as people call them, in groups."""

from __future__ import annotations

from collections.abc import Iterable

GROUPS: dict[str, tuple[str, ...]] = {
    "Age and gender": ("Young", "Male"),
    "Expression": ("Smiling", "Mouth_Slightly_Open"),
    "Hair": (
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
        "Heavy_Makeup",
        "Wearing_Earrings",
        "Wearing_Hat",
        "Wearing_Lipstick",
        "Wearing_Necklace",
        "Wearing_Necktie",
    ),
}
"""CelebA's 40 attributes but for Blurry, which says something of the picture."""
OTHER_GROUP = "Other"
"""The group of all that no group names."""
OPEN_GROUPS = ("Age and gender", "Expression", OTHER_GROUP)
"""Groups that are open at first."""


def group_attributes(attributes: Iterable[str]) -> dict[str, list[str]]:
    """Attributes by group, groups and attributes in the order above, then the rest in their own; empty groups are left out."""
    left = list(dict.fromkeys(attributes))
    found = {group: [name for name in names if name in left] for group, names in GROUPS.items()}
    known = {name for names in found.values() for name in names}
    found[OTHER_GROUP] = [name for name in left if name not in known]
    return {group: names for group, names in found.items() if names}


def label_of(attribute: str) -> str:
    """``Mouth_Slightly_Open`` as ``Mouth slightly open``."""
    text = attribute.replace("_", " ").strip()
    return (text[:1].upper() + text[1:].lower().replace("o clock", "o'clock")) if text else attribute


def matches(attribute: str, group: str, search: str) -> bool:
    """Whether each word of what is searched for is in the attribute's or its group's name."""
    text = f"{attribute} {label_of(attribute)} {group}".lower()
    return all(word in text for word in search.lower().split())
