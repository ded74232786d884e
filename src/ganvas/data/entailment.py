"""What is known of attributes of faces beforehand: which are part of others, and which show in colours and texture alone.

A smile lifts cheeks, and age greys hair: an edit of an attribute isn't made to hold what it entails, and what is entailed doesn't
count as a side effect.
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

DETAILS = (
    *("5_o_Clock_Shadow", "Goatee", "Mustache", "No_Beard", "Sideburns", "Bushy_Eyebrows"),
    *("Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair", "Hair_Lightness"),
    *("Pale_Skin", "Skin_Lightness", "Rosy_Cheeks", "Heavy_Makeup", "Wearing_Lipstick"),
    *("Age", "Young", "Attractive", "Blurry"),
)
"""Attributes that show in colours and texture: to change them, the pose and the shapes of a picture can stay."""
