"""Every installed engine keeps the contract that `liheal.label` relies on; one that does not is refused by name."""

from importlib.metadata import EntryPoint

import pytest

from aiida_liheal.engines import GROUP, contract, engine, engines
from aiida_liheal.workchains.label import LabelWorkChain


@pytest.mark.parametrize('name', engines())
def test_job(name):
    """Ports and exit codes of the job."""
    job = engine(name).job
    spec = job.spec()
    assert {'code', 'frames', 'settings', 'parent_folder'} <= set(spec.inputs)
    assert not spec.inputs['parent_folder'].required
    assert {'frames', 'summary', 'remote_folder'} <= set(spec.outputs)
    assert not spec.outputs['frames'].required
    assert job.exit_codes.ERROR_INTERRUPTED.status == 400
    assert job.exit_codes.ERROR_NOTHING_CONVERGED.status == 500
    assert job.exit_codes.ERROR_INTERRUPTED.invalidates_cache


@pytest.mark.parametrize('name', engines())
def test_alone(name):
    """Ports of the work chain for single frames, of engines that have one."""
    found = engine(name)
    if found.alone is None:
        assert found.prepare_alone({}, None) == {}
        return
    spec = found.alone.spec()
    assert {'frames', 'summary', 'max_frames', 'options'} <= set(spec.inputs)
    assert {'frames', 'summary'} <= set(spec.outputs)
    assert not spec.outputs['frames'].required


@pytest.mark.parametrize('name', engines())
def test_protocols(name):
    """Each protocol gives settings within their limits, and nothing beside what the engine says it has."""
    found = engine(name)
    for protocol in LabelWorkChain.get_available_protocols():
        inputs = LabelWorkChain.get_protocol_inputs(protocol)[name]
        assert set(inputs) == {'settings', *found.further}
        # no calculator of ASE would do for any element, so that one is a person's to name
        named = {'calculator': 'lj'} if name == 'ase' else {}
        found.settings.read({**inputs['settings'], **named})


def test_engine_of_another_package(monkeypatch):
    """An entry point of the group is all it takes; its name is the engine's, and what it names is an engine."""
    ours = EntryPoint('gpaw', 'aiida_liheal.engines.gpaw:ENGINE', GROUP)
    monkeypatch.setattr(contract, 'entry_points', lambda group: [ours])
    assert list(contract.engines.__wrapped__()) == ['gpaw']
    for name, value in (('siesta', 'aiida_liheal.engines.gpaw:ENGINE'), ('gpaw', 'math:pi')):
        wrong = EntryPoint(name, value, GROUP)
        monkeypatch.setattr(contract, 'entry_points', lambda group, wrong=wrong: [wrong])
        with pytest.raises(TypeError, match='no Engine named'):
            contract.engines.__wrapped__()


def test_unknown_engine():
    with pytest.raises(ValueError, match=r"'siesta'; allowed are .*gpaw"):
        engine('siesta')
