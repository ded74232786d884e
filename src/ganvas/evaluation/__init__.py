"""Comparison of editors on faces that none learned from, and its report."""
