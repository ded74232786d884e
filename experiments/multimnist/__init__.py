"""Counts on MultiMNIST: the tables and figures of Doubinsky et al. (RFIAP 2022), and what goes beyond them."""
