"""One AiiDA profile (SQLite) for the test session, and factories for nodes that many tests need."""

from __future__ import annotations

import pytest
from ase.build import bulk

pytest_plugins = 'aiida.tools.pytest_fixtures'


@pytest.fixture(scope='session', autouse=True)
def _one_profile(aiida_profile):
    """Load the session's profile for every test."""


@pytest.fixture
def li_frames():
    """Two bcc lithium frames of 2 and 4 atoms without labels."""
    from aiida_liheal.structures.frames import Frames

    cell = bulk('Li', 'bcc', a=3.44, cubic=True)
    return Frames.from_atoms([cell, cell * (2, 1, 1)])
