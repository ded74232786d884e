"""Experiments on ffhq: what ships for it, the tables and figures of Lesné et al., and what was tried."""
