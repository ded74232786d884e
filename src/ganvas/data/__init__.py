"""Labelled codes, how they are made and kept, and what is fitted on them alone."""
