"""Settings, potentials and the text of the decks; what LAMMPS makes of them is in `test_lammps_engine.py`."""

import ase.io
import numpy as np
import pytest
from ase import Atoms

from aiida_liheal.lammps.decks import check, render, validate, write_data
from aiida_liheal.lammps.potentials import potential_spec
from aiida_liheal.structures.bcc import SlabSettings, bcc_bulk, bcc_slab
from aiida_liheal.structures.perturb import perturbed_bulk

#: Enough to write a deck with.
MEAM = potential_spec('meam', ['Li'], ['library.meam'])
SLAB = SlabSettings(size=(6, 4), n_layers=6, n_fixed_layers=2, height_above_A=60)


def line(deck, start):
    found = [text for text in deck.splitlines() if text.startswith(start)]
    assert len(found) == 1, found
    return found[0]


class TestSettings:
    def test_the_paper(self):
        """80 x 4 cells, 5 Li/ps, 3 ns: an atom every 200 steps, 15,000 atoms."""
        slab = SlabSettings(size=(80, 4), n_layers=18, n_fixed_layers=8, height_above_A=150)
        settings = validate(
            'deposit', {'duration_ps': 3000, 'rate_Li_per_ps': 5, 'fixed_below_A': slab.fixed_below_A, 'seed': 1}
        )
        assert settings.rate(39.4) == 5
        schedule = settings.schedule(28.08 * 1.404)
        assert (schedule.every_steps, schedule.n_insert) == (200, 15000)
        flux = validate('deposit', {'duration_ps': 3000, 'fixed_below_A': 10, 'seed': 1})
        assert flux.flux_Li_per_ps_nm2 == 0.127
        assert flux.schedule(28.08 * 1.404).every_steps == 200

    def test_schedule_by_step(self):
        schedule = validate(
            'deposit', {'duration_ps': 1, 'rate_Li_per_ps': 4, 'fixed_below_A': 1, 'seed': 1, 'near_A': 1}
        ).schedule(5)
        assert [schedule.inserted_at(step) for step in (0, 1, 250, 251, 500, 501, 1000, 5000)] == [
            0,
            1,
            1,
            2,
            2,
            3,
            4,
            4,
        ]

    @pytest.mark.parametrize('kind', ['explore', 'deposit', 'heal'])
    def test_settings_survive_a_dictionary(self, kind):
        more = {'fixed_below_A': 3.0, 'source_patches': [{'x_A': [1, 2]}]} if kind == 'deposit' else {}
        settings = validate(kind, {'duration_ps': 5, 'seed': 1, **more})
        assert validate(kind, settings.model_dump(mode='json')) == settings

    @pytest.mark.parametrize(
        ('kind', 'changes', 'message'),
        [
            ('deposit', {'rate_Li_per_ps': -5}, r'rate_Li_per_ps = -5: .*greater than 0 \[.*1/ps'),
            ('deposit', {'flux_Li_per_ps_nm2': 0.1, 'rate_Li_per_ps': 5}, r'give one of them, not both'),
            ('deposit', {'speed_m_per_s': 0}, r'speed_m_per_s = 0: .*greater than 0 .*m/s'),
            ('deposit', {'element': 'Lithium'}, "'Lithium' is no chemical element"),
            ('deposit', {'fixed_below_A': None}, 'fixed_below_A = None.*Å'),
            ('heal', {'temperature_K': 0}, r'temperature_K = 0: .*greater than 0 .*K'),
            ('heal', {'heating_ps': 6}, r'heating_ps = 6.0 ps: must not be longer than duration_ps = 5.0 ps'),
            ('heal', {'box': 'round'}, r"box = 'round': .*'iso' or 'aniso'"),
            ('explore', {'timestep_fs': 'long'}, 'timestep_fs = .*number.*fs'),
            ('explore', {'seed': 0}, 'seed = 0'),
            ('explore', {'seed': 900_000_001}, 'less than or equal to 900000000'),
            ('explore', {'temperature': 300}, 'temperature: no such setting; known are .*temperature_K'),
        ],
    )
    def test_refused(self, kind, changes, message):
        values = {'duration_ps': 5, 'seed': 1, **({'fixed_below_A': 3.0} if kind == 'deposit' else {}), **changes}
        with pytest.raises(ValueError, match=message):
            validate(kind, values)

    def test_rates_that_steps_cannot_stand_for(self):
        values = {'duration_ps': 1, 'fixed_below_A': 1, 'seed': 1, 'near_A': 0.1}
        with pytest.raises(ValueError, match=r'700 atoms/ps are one every 1.429 steps .*would be 1000 atoms/ps'):
            validate('deposit', {**values, 'rate_Li_per_ps': 700}).schedule(100)
        with pytest.raises(ValueError, match='more than 5% off'):
            validate('deposit', {**values, 'rate_Li_per_ps': 5000}).schedule(100)

    def test_a_stream_without_room(self):
        slab, meam = SLAB.build(), MEAM
        values = {'duration_ps': 0.5, 'fixed_below_A': 1, 'seed': 1, 'rate_Li_per_ps': 10}
        with pytest.raises(
            ValueError, match=r'near_A = 6.0 Å: at 3.38 atoms/ps/nm\^2 and 500.0 m/s .* take at most 3.05 Å'
        ):
            check('deposit', validate('deposit', values), slab, meam)
        # the same stream from a quarter of the width is four times as dense
        strip = {'rate_Li_per_ps': 2.5, 'source_patches': [{'x_A': [0, 21.06 / 4]}]}
        with pytest.raises(ValueError, match=r'near_A = 6.0 Å: at 3.38 atoms/ps/nm\^2 .* or a larger source'):
            check('deposit', validate('deposit', {**values, **strip}), slab, meam)
        slow = {**values, 'rate_Li_per_ps': 1, 'near_A': 5}
        check('deposit', validate('deposit', slow), slab, meam)

    def test_unknown_kind(self):
        with pytest.raises(ValueError, match="kind of run 'boil': known are explore, deposit, heal"):
            validate('boil', {})


class TestPotentials:
    def test_kinds(self):
        assert potential_spec('deepmd', ['Li'], ['m0.pb']).lines() == ['pair_style deepmd m0.pb', 'pair_coeff * * Li']
        committee = potential_spec('deepmd', ['Li', 'Na'], ['m0.pb', 'm1.pb'])
        assert committee.lines('../', 10) == [
            'pair_style deepmd ../m0.pb ../m1.pb out_file model_devi.out out_freq 10',
            'pair_coeff * * Li Na',
        ]
        meam = potential_spec('meam', ['Li'], ['Li.meam', 'library.meam'])
        assert meam.lines('../')[1] == 'pair_coeff * * ../library.meam Li ../Li.meam Li'
        snap = potential_spec('snap', ['Li'], ['Li.snapparam', 'Li.snapcoeff'])
        assert snap.lines() == ['pair_style snap', 'pair_coeff * * Li.snapcoeff Li.snapparam Li']
        eam = potential_spec('generic', ['Li'], ['Li.eam.alloy'], 'eam/alloy', ['* * Li.eam.alloy Li'])
        assert eam.lines('../') == ['pair_style eam/alloy', 'pair_coeff * * ../Li.eam.alloy Li']

    @pytest.mark.parametrize(
        'name',
        [
            'a b.pb',
            '../m.pb',
            '/m.pb',
            'm.pb; rm x',
            'm$(x).pb',
            'm&.pb',
            '"m".pb',
            '',
            '.',
            '..',
            '-v',
            'm\n.pb',
            'm.pb\n',
        ],
    )
    def test_file_names(self, name):
        with pytest.raises(ValueError, match='only letters, digits'):
            potential_spec('deepmd', ['Li'], [name])

    @pytest.mark.parametrize(
        'words', ['lj/cut 5.0\nshell rm x', 'lj/cut $(5)', 'lj/cut "5"', 'table ../x', 'lj/cut /etc', 'a & b']
    )
    def test_words(self, words):
        with pytest.raises(ValueError, match=r'one line only|no path upwards'):
            potential_spec('generic', ['Li'], [], words, ['* *'])
        with pytest.raises(ValueError, match=r'one line only|no path upwards'):
            potential_spec('generic', ['Li'], [], 'lj/cut 5', [words])

    @pytest.mark.parametrize(
        ('arguments', 'message'),
        [
            (('deepmd', ['Li'], []), 'one frozen model or more'),
            (('deepmd', ['Li'], ['a.pb', 'a.pb']), 'a name of its own'),
            (('deepmd', ['Li', 'Li'], ['a.pb']), 'each once'),
            (('deepmd', ['Lx'], ['a.pb']), 'no chemical element'),
            (('meam', ['Li'], ['Li.meam']), r'one file named library\*'),
            (('snap', ['Li'], ['Li.snapcoeff']), r'\*.snapcoeff and one \*.snapparam'),
            (('generic', ['Li'], []), 'needs pair_style'),
            (('deepmd', ['Li'], ['a.pb'], 'lj/cut 5'), 'belong to kind generic'),
            (('eam', ['Li'], []), "kind of potential 'eam': known are deepmd, meam, snap, generic"),
        ],
    )
    def test_refused(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            potential_spec(*arguments)

    def test_deviation_needs_a_committee(self):
        with pytest.raises(ValueError, match='needs a committee'):
            potential_spec('deepmd', ['Li'], ['m0.pb']).lines(deviation_every=10)


class TestDecks:
    committee = potential_spec('deepmd', ['Li'], ['m0.pb', 'm1.pb'])

    def test_explore_writes_frames_and_deviations_together(self):
        settings = validate('explore', {'duration_ps': 1, 'timestep_fs': 2, 'every_ps': 0.05, 'seed': 1})
        deck = render('explore', settings, bcc_bulk(), self.committee, run_directory='run_003')
        assert deck.splitlines()[1] == 'shell cd run_003'
        assert line(deck, 'pair_style') == 'pair_style deepmd ../m0.pb ../m1.pb out_file model_devi.out out_freq 25'
        assert line(deck, 'dump ').startswith('dump traj all custom 25 traj.dump id type x y z vx vy vz c_pe')
        assert line(deck, 'run ') == 'run 500 upto'
        assert line(deck, 'fix move') == 'fix move all nve'
        assert settings.n_frames == 21
        pressed = validate('explore', {'duration_ps': 1, 'pressure_bar': 1000, 'seed': 1})
        assert line(render('explore', pressed, bcc_bulk(), self.committee), 'fix move').startswith(
            'fix move all nph iso 1000'
        )

    def test_deposit(self, slab, meam, deposit_settings):
        deck = render('deposit', deposit_settings(), slab, meam)
        assert line(deck, 'boundary') == 'boundary p p f'
        assert line(deck, 'fix source').startswith('fix source mobile deposit 24 1 250 ')
        assert line(deck, 'fix source').endswith('region source id next near 2.5 attempt 1000 vz -5.0 -5.0 units box')
        assert line(deck, 'region source') == 'region source block EDGE EDGE EDGE EDGE 64.775 66.775 units box'
        assert 'timer' not in deck

    def test_restart_keeps_groups_and_the_falling_atoms(self, slab, meam, deposit_settings):
        settings = deposit_settings()
        first = render('deposit', settings, slab, meam)
        later = render('deposit', settings, slab, meam, restart_step=3000, walltime_s=3700.5)
        assert line(later, 'read_restart') == 'read_restart restart.3000'
        assert line(later, 'timer') == 'timer timeout 1:01:40 every 100'
        assert 'velocity' not in later
        assert 'group fixed' not in later
        assert line(first, 'fix source') == line(later, 'fix source')
        assert line(first, 'variable ceiling') == line(later, 'variable ceiling')
        # but other thermal noise than the one it began with
        assert line(first, 'fix thermostat') != line(later, 'fix thermostat')

    def test_heal_a_slab_on_fixed_layers(self, slab, meam):
        """Surface relaxation: nothing falls, the lowest layers stay, walls keep the atoms in."""
        values = {'duration_ps': 5, 'seed': 1, 'pressure_bar': None, 'fixed_below_A': SLAB.fixed_below_A}
        settings = validate('heal', values)
        first = render('heal', settings, slab, meam)
        assert line(first, 'boundary') == 'boundary p p f'
        assert line(first, 'group mobile') == 'group mobile subtract all fixed'
        assert line(first, 'fix move') == 'fix move mobile nve'
        assert line(first, 'fix walls') == 'fix walls mobile wall/reflect zlo EDGE zhi EDGE'
        assert line(first, 'fix hold') == 'fix hold fixed setforce 0 0 0'
        assert line(first, 'thermo_style').endswith(' v_target c_mobile_temp')
        # the total momentum of what hangs on fixed atoms is not kept
        assert not line(first, 'fix thermostat').endswith('zero yes')
        again = render('heal', settings, slab, meam, restart_step=100)
        assert not [text for text in again.splitlines() if text.startswith(('group', 'velocity'))]
        # a crystal without fixed atoms and sides has none of this
        free = render('heal', validate('heal', {'duration_ps': 5, 'seed': 1}), bcc_bulk(), meam)
        assert not [text for text in free.splitlines() if 'walls' in text or 'fixed' in text or 'mobile' in text]

    def test_heals_that_do_not_fit(self, slab, meam):
        with pytest.raises(ValueError, match=r'fixed_below_A = 3.0 Å, pressure_bar = 0.0 bar: .* give null for one'):
            validate('heal', {'duration_ps': 5, 'seed': 1, 'fixed_below_A': 3})
        values = {'duration_ps': 5, 'seed': 1, 'pressure_bar': None, 'fixed_below_A': 50}
        with pytest.raises(ValueError, match=r'fixed_below_A = 50.0 Å fixes 144 of 144 atoms'):
            check('heal', validate('heal', values), slab, meam)

    def test_seeds(self, meam):
        decks = [render('heal', validate('heal', {'duration_ps': 5, 'seed': s}), bcc_bulk(), meam) for s in (1, 1, 2)]
        assert decks[0] == decks[1] != decks[2]

    @pytest.mark.parametrize(
        ('changes', 'message'),
        [
            (
                {'duration_ps': 2000},
                r'the cell is 68.8 Å high; the slab \(8.8 Å\), 8000 atoms \(584.4 Å\).* need 607.2 Å',
            ),
            ({'fixed_below_A': 50}, r'fixed_below_A = 50.0 Å fixes 144 of 144 atoms, which lie from 0.00 to 8.77 Å'),
            ({'thermostat_depth_A': 7}, r'thermostat_depth_A = 7.0 Å below the surface at 8.77 Å: no atom'),
            ({'element': 'Na'}, r"element = 'Na': the potential knows Li"),
        ],
    )
    def test_depositions_that_do_not_fit(self, slab, meam, deposit_settings, changes, message):
        with pytest.raises(ValueError, match=message):
            check('deposit', deposit_settings(**changes), slab, meam)

    def test_starts_that_do_not_fit(self, slab, meam, deposit_settings):
        with pytest.raises(ValueError, match='needs a slab, periodic along x and y and not along z'):
            check('deposit', deposit_settings(), bcc_bulk(size=(4, 4, 4)), meam)
        with pytest.raises(ValueError, match='holds Na; the potential knows Li only'):
            check('heal', validate('heal', {'duration_ps': 5, 'seed': 1}), bcc_bulk('Na'), meam)
        for kind in ('heal', 'explore'):
            with pytest.raises(ValueError, match=r'pressure_bar = 0\.0 bar: needs a cell that is periodic'):
                check(kind, validate(kind, {'duration_ps': 5, 'seed': 1, 'pressure_bar': 0}), slab, meam)
        with pytest.raises(ValueError, match='0 atoms'):
            check('heal', validate('heal', {'duration_ps': 5, 'seed': 1}), Atoms(cell=[5, 5, 5], pbc=True), meam)

    @pytest.mark.parametrize(
        ('options', 'message'),
        [
            ({'run_directory': '../x'}, 'only letters, digits and _'),
            ({'run_directory': 'x; ls'}, 'only letters, digits and _'),
            ({'restart_step': 6000}, 'must be from 0 to 5999'),
            ({'restart_step': -1}, 'must be from 0 to 5999'),
            ({'walltime_s': 0.5}, 'walltime_s = 0.5 s: must be 1 s or more'),
        ],
    )
    def test_options(self, slab, meam, deposit_settings, options, message):
        with pytest.raises(ValueError, match=message):
            render('deposit', deposit_settings(), slab, meam, **options)

    def test_data_file(self, tmp_path):
        atoms = perturbed_bulk(1, 1)[0]
        write_data(atoms, tmp_path / 'start.data', ('Na', 'Li'))
        text = (tmp_path / 'start.data').read_text()
        assert '2 atom types' in text
        read = ase.io.read(tmp_path / 'start.data', format='lammps-data', units='metal', atom_style='atomic')
        assert set(read.symbols) == {'Li'}
        # turned, but the same: all distances within the cell are kept
        assert read.get_all_distances(mic=True) == pytest.approx(atoms.get_all_distances(mic=True))
        slab = bcc_slab('Li', 3.51, (2, 2), 4, 20.0)
        write_data(slab, tmp_path / 'slab.data', ('Li',))
        again = ase.io.read(tmp_path / 'slab.data', format='lammps-data', units='metal', atom_style='atomic')
        assert np.allclose(again.positions, slab.positions)
