"""Process trees for the tests of the report, which only read them."""

from __future__ import annotations

import pytest
from trees import localhost, quickstart, simulation, some_frames


@pytest.fixture(scope='module')
def healed(aiida_profile):
    """A finished healing run, with a label that would do harm in a page that does not escape it."""
    return simulation(localhost(), 'heal', label='<script>alert(1)</script>')


@pytest.fixture(scope='module')
def whole_chain(aiida_profile):
    """The root of a finished quickstart, and its labelled shard."""
    return quickstart(localhost(), some_frames())
