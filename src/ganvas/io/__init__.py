"""Files, pictures and downloads."""
