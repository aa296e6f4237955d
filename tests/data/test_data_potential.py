"""What makes a potential and what is refused as one."""

import io
import json
import zipfile

import pytest
from aiida.common.exceptions import ValidationError
from aiida.orm import load_node

from aiida_liheal.data.builtin import builtin_card, builtin_committee
from aiida_liheal.data.potential import PotentialData, check_frozen_model, committee_spec, type_map


@pytest.fixture
def frozen(tiny_committee):
    return tiny_committee['m0'].read('frozen')


@pytest.fixture
def compressed(tiny_committee):
    return tiny_committee['m0'].read('compressed')


def test_real_models_are_accepted(frozen, compressed):
    check_frozen_model(frozen)
    check_frozen_model(compressed)


def zip_archive():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w') as archive:
        archive.writestr('data.pkl', 'x')
    return buffer.getvalue()


@pytest.mark.parametrize(
    ('content', 'cause'),
    [
        (b'', "starting with b''"),
        (b'Li 6.94\n', 'is not a frozen DeePMD-kit model'),
        (zip_archive(), 'a PyTorch model'),
        (b'\x0a\x05hello', 'no DeePMD-kit model: it lacks model_attr/tmap'),
    ],
)
def test_what_is_no_model_is_refused(content, cause):
    with pytest.raises(ValueError, match=cause) as caught:
        check_frozen_model(content, 'm0.pb')
    assert str(caught.value).startswith('m0.pb')
    assert '`dp --tf freeze`' in str(caught.value)


@pytest.mark.parametrize('share', [0.1, 0.5, 0.9, 0.9999])
def test_a_model_that_was_cut_off_is_refused(frozen, compressed, share):
    for content in (frozen, compressed):
        with pytest.raises(ValueError, match=r'm0\.pb (was cut off or damaged|is a protobuf file)'):
            check_frozen_model(content[: int(share * len(content))], 'm0.pb')


def test_a_model_with_something_behind_it_is_refused(frozen):
    for more in (b'<html>', b'\x00', frozen[:100]):
        with pytest.raises(ValueError, match='was cut off or damaged'):
            check_frozen_model(frozen + more)


def test_deepmd_potential(frozen, compressed, tmp_path):
    path = tmp_path / 'whatever.pb'
    path.write_bytes(frozen)
    content = json.dumps({'model': {'type_map': ['Li']}}).encode()
    node = PotentialData(
        kind='deepmd', elements=['Li'], files={'frozen': path, 'compressed': compressed, 'input': content}
    ).store()
    read = load_node(node.pk)
    assert (read.kind, read.elements, read.model_role) == ('deepmd', ('Li',), 'compressed')
    assert read.roles == {'frozen': 'frozen.pb', 'compressed': 'compressed.pb', 'input': 'input.json'}
    assert read.read('frozen') == frozen
    assert read.training_input == {'model': {'type_map': ['Li']}}
    with pytest.raises(KeyError):
        read.read('library.meam')
    bare = PotentialData(kind='deepmd', elements=['Li'], files={'frozen': frozen})
    assert (bare.model_role, bare.training_input) == ('frozen', None)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'kind': 'deepmd', 'files': {}}, 'needed is frozen'),
        ({'kind': 'deepmd', 'files': {'frozen': 'whole', 'graph': 'whole'}}, 'allowed are'),
        ({'kind': 'deepmd', 'files': {'frozen': b'text'}}, 'the frozen model is not a frozen DeePMD-kit model'),
        ({'kind': 'deepmd', 'files': {'frozen': 'whole', 'compressed': b'text'}}, 'the compressed model is not'),
        ({'kind': 'deepmd', 'files': {'frozen': 'whole', 'input': b'{"model":'}}, 'the training input is no JSON'),
        ({'kind': 'deepmd', 'elements': ['Lx'], 'files': {'frozen': 'whole'}}, "'Lx' is no chemical element"),
        ({'kind': 'deepmd', 'elements': [], 'files': {'frozen': 'whole'}}, 'at least one'),
        ({'kind': 'reaxff', 'files': {}}, 'known are deepmd, meam, snap, generic'),
        ({'kind': 'meam', 'files': {'li.meam': b''}}, r'needs one file named library\*'),
        ({'kind': 'meam', 'elements': ['X'], 'files': {'library.meam': b''}}, "'X' is no chemical element"),
        ({'kind': 'meam', 'files': {'library.meam; rm -rf x': b''}}, 'only letters, digits'),
        ({'kind': 'meam', 'files': {'library.meam': b''}, 'pair_style': 'meam'}, 'belong to kind generic'),
        ({'kind': 'snap', 'files': {'Li.snapcoeff': b''}}, r'one \*\.snapparam'),
        ({'kind': 'generic', 'files': {}, 'pair_style': 'lj/cut 8.0'}, 'at least one pair_coeff'),
        (
            {'kind': 'generic', 'files': {}, 'pair_style': 'lj/cut 8.0', 'pair_coeff': ['* * 1 1\nshell rm x']},
            'one line only',
        ),
        ({'kind': 'generic', 'files': {}, 'pair_style': 'lj/cut $x', 'pair_coeff': ['* *']}, r'\$x'),
    ],
)
def test_what_makes_no_potential_is_refused(frozen, arguments, message):
    files = {role: frozen if content == 'whole' else content for role, content in arguments['files'].items()}
    with pytest.raises(ValueError, match=message):
        PotentialData(**{'elements': ['Li'], **arguments, 'files': files})


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'nowhere\.pb'):
        PotentialData(kind='deepmd', elements=['Li'], files={'frozen': tmp_path / 'nowhere.pb'})


def test_nothing_is_not_stored():
    with pytest.raises(ValidationError, match='no potential'):
        PotentialData().store()


def test_classical_potentials(meam_potential):
    spec = committee_spec([meam_potential.store()])
    assert spec.lines('../') == ['pair_style meam', 'pair_coeff * * ../library.meam Li NULL Li']
    assert b'Li' in meam_potential.read('library.meam')
    assert meam_potential.training_input is None
    generic = PotentialData(kind='generic', elements=['Li'], files={}, pair_style='lj/cut 8.0', pair_coeff=['* * 1 3'])
    assert committee_spec([generic.store()]).lines() == ['pair_style lj/cut 8.0', 'pair_coeff * * 1 3']


def test_committee(tiny_committee, meam_potential, frozen):
    members = list(tiny_committee.values())
    spec = committee_spec(members)
    assert spec.is_committee
    assert spec.lines(deviation_every=10)[0] == ('pair_style deepmd m0.pb m1.pb out_file model_devi.out out_freq 10')
    assert not committee_spec(members[:1]).is_committee
    with pytest.raises(ValueError, match='deepmd potentials only, got deepmd, meam'):
        committee_spec([members[0], meam_potential])
    sodium = PotentialData(kind='deepmd', elements=['Na'], files={'frozen': of_sodium(frozen)})
    with pytest.raises(ValueError, match=r"differ in elements: \[\['Li'\], \['Na'\]\]"):
        committee_spec([members[0], sodium])


def of_sodium(frozen):
    """The same model with another symbol in its list of elements."""
    changed = frozen.replace(b'\x00B\x02Li', b'\x00B\x02Na')
    assert changed != frozen
    return changed


def test_the_types_of_a_model(frozen, compressed):
    """Read from the graph: LAMMPS takes them in any order, and only some of them."""
    assert type_map(frozen) == type_map(compressed) == ('Li',)
    # one symbol more, and the lengths of all messages around it
    two = builtin_committee()['m0'].read('frozen')
    two = two.replace(
        b'\n:\n\x0fmodel_attr/tmap\x12\x05Const*\x13\n\x05value\x12\nB\x08\x08\x07\x12\x00B\x02Li',
        b'\n=\n\x0fmodel_attr/tmap\x12\x05Const*\x16\n\x05value\x12\x0dB\x0b\x08\x07\x12\x00B\x05Na Li',
    )
    check_frozen_model(two)
    assert type_map(two) == ('Na', 'Li')
    for elements in (['Li'], ['Li', 'Na']):
        assert PotentialData(kind='deepmd', elements=elements, files={'frozen': two}).elements == tuple(elements)
    with pytest.raises(ValueError, match=r"knows Na, Li, not K: elements = \['Li', 'K'\]"):
        PotentialData(kind='deepmd', elements=['Li', 'K'], files={'frozen': two})
    for content in builtin_committee().values():
        assert type_map(content.read('frozen')) == ('Li',)


def test_a_model_of_other_elements_is_refused(frozen):
    """LAMMPS takes it without a word as a member of a committee that does not drive."""
    with pytest.raises(ValueError, match=r"the frozen model knows Na, not Li: elements = \['Li'\]"):
        PotentialData(kind='deepmd', elements=['Li'], files={'frozen': of_sodium(frozen)})
    with pytest.raises(ValueError, match='the compressed model knows Na, not Li'):
        PotentialData(kind='deepmd', elements=['Li'], files={'frozen': frozen, 'compressed': of_sodium(frozen)})


def test_a_committee_that_is_not_shipped():
    for read in (builtin_card, builtin_committee):
        with pytest.raises(ValueError, match="no shipped potential 'na'; there are li"):
            read('na')
