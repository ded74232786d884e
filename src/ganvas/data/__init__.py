"""Labelled codes: how they are made, stored and read, and the statistics that are fitted on them alone."""
