"""Make sets of pictures with as many of each value as asked for."""

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
