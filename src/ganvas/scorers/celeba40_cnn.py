"""CelebA's 40 face attributes, read by another network: a small residual one, from chance, with other augmentation.

A judge beside ``celeba40`` for editors that learned from its labels: it shares the faces, and nothing else.
"""

from ganvas.scorers.celeba40 import load as load
