"""The count report: Doubinsky et al., RFIAP 2022, rebuilt and taken further, on a generator whose scorer counts objects.

A section is a module with ``run(stage: Stage) -> Section``; ``run`` runs them in order, ``report`` writes what they found.
"""
