"""Fixtures shared by all tests."""

import pytest

from mmjax.data.worlds import openmoji


@pytest.fixture(scope="session")
def tiny_world(tmp_path_factory) -> str:
    """Directory of an OpenMoji world of about 200 pictures at 32 px, with a held-out split."""
    return openmoji.build(tmp_path_factory.mktemp("worlds") / "openmoji", size=32, limit=200).directory
