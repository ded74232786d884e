"""Make sets of pictures with as many of each value of an attribute as requested.

``balance`` makes them of generated pictures, ``balance_from`` of real ones, which it edits.
"""

from ganvas.balance.generated import balance
from ganvas.balance.real import Inverter, PictureSource, balance_from, load_inverter, open_pictures
from ganvas.balance.sets import BalanceRequest

__all__ = [
    "BalanceRequest",
    "Inverter",
    "PictureSource",
    "balance",
    "balance_from",
    "load_inverter",
    "open_pictures",
]
