"""Tests of the loop compile the same few programs again and again, so they are kept for the session."""

import jax
import pytest


@pytest.fixture(scope="module", autouse=True)
def compiled_programs(tmp_path_factory):
    settings = {
        "jax_compilation_cache_dir": str(tmp_path_factory.getbasetemp() / "compiled"),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            jax.config.update(name, value)
            patch.setenv(name.upper(), str(value))  # for the processes that tests start
        yield
    for name, value in before.items():
        jax.config.update(name, value)
