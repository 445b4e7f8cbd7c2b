"""Fixtures shared by all tests."""

import os
import tempfile

import pytest

# Before anything imports JAX. Many tests start processes, and these compile the same few programs again.
_programs = tempfile.TemporaryDirectory(prefix="mmjax-programs-")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", _programs.name)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")

from mmjax.data.worlds import openmoji  # noqa: E402


@pytest.fixture(scope="session")
def tiny_world(tmp_path_factory) -> str:
    """Directory of an OpenMoji world of about 200 pictures at 32 px, with a held-out split."""
    return openmoji.build(tmp_path_factory.mktemp("worlds") / "openmoji", size=32, limit=200).directory
