"""Make sets of pictures with as many of each value as asked for."""

from ganvas.balance.generated import BalanceRequest, balance
from ganvas.balance.real import Inverter, PictureSource, balance_from, load_inverter, open_pictures

__all__ = [
    "BalanceRequest",
    "Inverter",
    "PictureSource",
    "balance",
    "balance_from",
    "load_inverter",
    "open_pictures",
]
