"""ganvas: give any pretrained GAN named, independent controls.

The public names are listed in ``__init__.pyi`` and imported when they are first used, since importing PyTorch is slow.
"""

import lazy_loader

__version__ = "0.2.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
