"""The command line under test, on an empty profile with made-up processes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

# the made-up process trees live with the tests of the report
sys.path.insert(0, str(Path(__file__).parents[1] / 'report'))

from trees import code, lennard_jones, simulation


@pytest.fixture
def invoke():
    """Run `aiida-liheal` with these arguments; gives the exit code and what was written, on both streams."""
    from aiida_liheal.cli.root import root

    def run(*arguments):
        result = CliRunner().invoke(root, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert 'Traceback' not in result.output
        return result.exit_code, result.output

    return run


@pytest.fixture
def codes(aiida_profile_clean, aiida_localhost):
    """All codes of the package, whose executables are there and do nothing."""
    return {name: code(aiida_localhost, name) for name in ('dp', 'lmp', 'gpaw', 'python')}


@pytest.fixture
def potential(aiida_profile_clean):
    """A stored classical potential."""
    return lennard_jones().store()


@pytest.fixture
def healed(aiida_profile_clean, aiida_localhost):
    """A finished healing run."""
    return simulation(aiida_localhost, 'heal')


@pytest.fixture
def n_nodes():
    """How many nodes there are."""
    from aiida.orm import Node, QueryBuilder

    return lambda: QueryBuilder().append(Node).count()
