"""Compare editors on faces that none learned from, and write the report."""
