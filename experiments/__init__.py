"""Scripts that make what ships and rebuild the papers' tables and figures; not part of the wheel."""
