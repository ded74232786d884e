"""The type checker of the test run: beartype, with 1 as good a float as 1.0."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
