"""Attributes in words that people use: names, what both ends of a slider mean, and further words that a search finds."""

from __future__ import annotations

from typing import NamedTuple


class AttributeWords(NamedTuple):
    """How the page speaks of an attribute."""

    label: str
    less: str
    """What a face with little of it is."""
    more: str
    synonyms: str = ""
    """Further words to find it by."""


REVERSED = frozenset({"No_Beard"})
"""Attributes that the page shows with the sign turned, since they say what is missing."""
REPLACEMENTS = {"Young": "Age"}
"""Attribute -> the one that is shown in its place where an editor has both."""
UNIT_NAMES = {"y": "years"}
"""Symbols of units, in words."""
HAIR_COLOUR = "colour color dye"
BEARD = "beard facial hair"

WORDS = {
    "5_o_Clock_Shadow": AttributeWords("Stubble", "clean-shaven", "unshaven", f"{BEARD} 5 o'clock shadow shave"),
    "Age": AttributeWords("Age", "younger", "older", "old young elderly child wrinkles"),
    "Arched_Eyebrows": AttributeWords("Arched eyebrows", "straight", "arched", "brows"),
    "Attractive": AttributeWords("Attractive", "plainer", "more attractive", "beauty beautiful pretty handsome"),
    "Bags_Under_Eyes": AttributeWords("Bags under eyes", "rested", "tired", "tired sleepy"),
    "Bald": AttributeWords("Bald", "more hair", "bald", "hairless"),
    "Bangs": AttributeWords("Bangs", "free forehead", "bangs", "fringe forehead"),
    "Big_Lips": AttributeWords("Full lips", "thin", "full", "big mouth"),
    "Big_Nose": AttributeWords("Big nose", "small", "big", "large"),
    "Black_Hair": AttributeWords("Black hair", "less black", "black", f"{HAIR_COLOUR} dark"),
    "Blond_Hair": AttributeWords("Blond hair", "less blond", "blond", f"{HAIR_COLOUR} blonde fair yellow"),
    "Blurry": AttributeWords("Blur", "sharp", "blurred", "focus soft sharpness"),
    "Brown_Hair": AttributeWords("Brown hair", "less brown", "brown", f"{HAIR_COLOUR} brunette dark"),
    "Bushy_Eyebrows": AttributeWords("Bushy eyebrows", "thin", "bushy", "brows thick"),
    "Chubby": AttributeWords("Chubby", "slim", "chubby", "fat thin plump weight"),
    "Double_Chin": AttributeWords("Double chin", "firm", "double", "fat weight jaw"),
    "Eyeglasses": AttributeWords("Glasses", "none", "glasses", "spectacles"),
    "Goatee": AttributeWords("Goatee", "none", "goatee", BEARD),
    "Gray_Hair": AttributeWords("Gray hair", "less gray", "gray", f"{HAIR_COLOUR} grey white silver old"),
    "Hair_Lightness": AttributeWords("Hair lightness", "darker", "lighter", f"{HAIR_COLOUR} dark light bright"),
    "Heavy_Makeup": AttributeWords("Makeup", "none", "heavy", "make-up cosmetics mascara"),
    "High_Cheekbones": AttributeWords("High cheekbones", "flat", "high", "cheeks"),
    "Long_Hair": AttributeWords("Long hair", "short", "long", "length haircut"),
    "Male": AttributeWords("Masculine", "feminine", "masculine", "female woman man girl boy sex"),
    "Mouth_Slightly_Open": AttributeWords("Open mouth", "closed", "open", "teeth lips"),
    "Mustache": AttributeWords("Mustache", "none", "mustache", f"{BEARD} moustache"),
    "Narrow_Eyes": AttributeWords("Narrow eyes", "wide open", "narrow", "squint"),
    "No_Beard": AttributeWords("Beard", "none", "beard", "facial hair clean shave"),
    "Oval_Face": AttributeWords("Oval face", "less oval", "oval", "shape"),
    "Pale_Skin": AttributeWords("Pale skin", "tanned", "pale", "complexion tan light"),
    "Pointy_Nose": AttributeWords("Pointed nose", "rounder", "pointed", "sharp"),
    "Receding_Hairline": AttributeWords("Receding hairline", "low", "receding", "forehead bald"),
    "Rosy_Cheeks": AttributeWords("Rosy cheeks", "pale", "rosy", "blush red"),
    "Sideburns": AttributeWords("Sideburns", "none", "sideburns", BEARD),
    "Skin_Lightness": AttributeWords("Skin lightness", "darker", "lighter", "complexion colour color dark light tan"),
    "Smiling": AttributeWords("Smile", "serious", "smiling", "smiling laugh grin happy sad mood"),
    "Straight_Hair": AttributeWords("Straight hair", "less straight", "straight", "smooth sleek"),
    "Sunglasses": AttributeWords("Sunglasses", "none", "sunglasses", "shades dark glasses"),
    "Wavy_Hair": AttributeWords("Wavy hair", "less wavy", "wavy", "curly curls"),
    "Wearing_Earrings": AttributeWords("Earrings", "none", "earrings", "jewellery jewelry"),
    "Wearing_Hat": AttributeWords("Hat", "none", "hat", "cap"),
    "Wearing_Lipstick": AttributeWords("Lipstick", "none", "lipstick", "makeup make-up"),
    "Wearing_Necklace": AttributeWords("Necklace", "none", "necklace", "jewellery jewelry chain"),
    "Wearing_Necktie": AttributeWords("Tie", "none", "tie", "necktie suit"),
    "Weight": AttributeWords("Weight", "slimmer", "heavier", "fat thin slim chubby"),
    "Young": AttributeWords("Young", "older", "younger", "age old elderly youth"),
}
"""The words of the attributes of ``face_attributes``."""


def get_words(attribute: str) -> AttributeWords:
    """Return the words of an attribute; for ``Striped_Wall``, which is in no table, they are made from its name."""
    if attribute in WORDS:
        return WORDS[attribute]
    text = attribute.replace("_", " ").strip()
    return AttributeWords(text[:1].upper() + text[1:].lower() if text else attribute, "less", "more")


def format_attribute(attribute: str) -> str:
    """Format an attribute as a label: ``Mouth_Slightly_Open`` becomes ``Open mouth``."""
    return get_words(attribute).label


def format_search_words(attribute: str, group: str) -> str:
    """Format the words of which a search for the attribute begins some: its name, its label, synonyms and its group."""
    words = get_words(attribute)
    return f"{attribute} {words.label} {words.synonyms} {group}".replace("_", " ").lower()


def get_sign(attribute: str) -> float:
    """Return what a value of the attribute is multiplied by to be shown: -1 for those of ``REVERSED``."""
    return -1.0 if attribute in REVERSED else 1.0
