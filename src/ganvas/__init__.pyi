from .checkpoints.load import load_generator as load_generator
from .data.dataset import LatentDataset as LatentDataset
from .data.label import label as label
from .editors import fit as fit
from .editors import load_editor as load_editor
from .editors.base import Editor as Editor
from .errors import GanvasError as GanvasError
from .generators.base import Generator as Generator
from .generators.base import sample as sample
from .generators.regions import draw_edit as draw_edit
from .io.images import save_image as save_image
from .photo.files import edit_photo as edit_photo
from .scorers import load_scorer as load_scorer
from .scorers.base import Scorer as Scorer

__version__: str
