"""CelebA's 40 face attributes, read linearly from dlib's face embedding network: a judge of another make than ``celeba40``.

Another architecture, other pretraining (three million faces and their identities, no ImageNet), no augmentation, and no generated
faces. It shares CelebA's faces and labels with ``celeba40``, and its features with ``identity``. It needs ``ganvas[faces]``.
"""

from ganvas.scorers.celeba40 import load as load
