"""Which attributes of faces are part of others: a smile lifts cheeks, and age greys hair.

An edit of an attribute isn't made to hold what it entails, and what is entailed doesn't count as a side effect.
"""

_AGE = ("Gray_Hair", "Bald", "Receding_Hairline", "Bags_Under_Eyes", "Double_Chin", "Attractive")
_BEARD = ("5_o_Clock_Shadow", "Goatee", "Mustache", "No_Beard", "Sideburns")
_MAKEUP = ("Heavy_Makeup", "Wearing_Lipstick", "Rosy_Cheeks", "Arched_Eyebrows")
ENTAILED: dict[str, tuple[str, ...]] = {
    "Smiling": ("High_Cheekbones", "Mouth_Slightly_Open", "Narrow_Eyes", "Bags_Under_Eyes"),
    "Eyeglasses": ("Narrow_Eyes", "Bags_Under_Eyes", "Arched_Eyebrows"),
    "Sunglasses": ("Eyeglasses", "Narrow_Eyes", "Bags_Under_Eyes", "Arched_Eyebrows"),
    "Male": (*_BEARD, *_MAKEUP, "Bushy_Eyebrows", "Wearing_Earrings", "Wearing_Necklace"),
    "Young": (*_AGE, "Age"),
    "Age": (*_AGE, "Young"),
    "Pale_Skin": ("Skin_Lightness",),
    "Skin_Lightness": ("Pale_Skin",),
}
"""Attribute -> what is part of it."""
