"""Where atoms fall from, how fast and how many; what stops a deposition; what has a thermostat."""

import re

import numpy as np
import pytest

from aiida_liheal.lammps.decks import check, render, validate
from aiida_liheal.lammps.kinds import DepositSettings
from aiida_liheal.lammps.potentials import potential_spec
from aiida_liheal.lammps.sources import (
    Patch,
    SourcePatch,
    check_table,
    flux_variance,
    highest_flux,
    lay_out,
    region_lines,
)
from aiida_liheal.structures.bcc import SlabSettings

#: The area of the paper's cell in nm^2.
PAPER_AREA = 28.08 * 1.404
MEAM = potential_spec('meam', ['Li'], ['library.meam'])
SLAB = SlabSettings(size=(6, 4), n_layers=6, n_fixed_layers=2, height_above_A=60)


def settings(**changes):
    values = {'duration_ps': 6, 'fixed_below_A': SLAB.fixed_below_A, 'near_A': 2.5, 'seed': 7, **changes}
    if not {'flux_Li_per_ps_nm2', 'current_density_A_per_cm2'} & set(changes):
        values.setdefault('rate_Li_per_ps', 4)
    read = validate('deposit', values)
    assert isinstance(read, DepositSettings)
    return read


def deck(given, **options):
    return render('deposit', given, SLAB.build(), MEAM, **options).splitlines()


def volumes(lines):
    """Volume of each block among the lines of a deck, in a cell of 100 x 20 Å^2."""
    found = {}
    for line in lines:
        if match := re.fullmatch(r'region (\w+) block (.+) units box', line):
            words = match[2].split()
            edges = [{'EDGE': edge}.get(word) for word, edge in zip(words, (0, 100, 0, 20, None, None), strict=True)]
            x0, x1, y0, y1, z0, z1 = (
                float(word) if edge is None else edge for word, edge in zip(words, edges, strict=True)
            )
            found[match[1]] = (x1 - x0) * (y1 - y0) * (z1 - z0)
    return found


class TestPatches:
    def test_the_whole_surface(self):
        (patch,) = lay_out(None, None, (100, 20))
        assert (patch.area_nm2, flux_variance([patch], 20)) == (20, pytest.approx(0))
        assert region_lines([patch], (100, 20), 90.0, 2.0) == [
            'region source block EDGE EDGE EDGE EDGE 90.0 92.0 units box'
        ]

    def test_a_strip(self):
        """Only its place is given: all along the other direction."""
        patches = lay_out([SourcePatch(x_A=(40, 50))], None, (100, 20))
        assert patches == (Patch((40, 0), (50, 20), 1),)
        assert flux_variance(patches, 20) == pytest.approx(100 / 10 - 1)
        # 3 atoms in 1 ps on 2 nm^2
        assert highest_flux(patches, 3) == pytest.approx(1.5)
        assert region_lines(patches, (100, 20), 90.0, 2.0) == [
            'region source block 40.000000 50.000000 EDGE EDGE 90.0 92.0 units box'
        ]

    def test_chance_is_area_times_flux(self):
        """LAMMPS draws evenly over the volume of a region: the volume of a block is the chance of its patch."""
        given = [SourcePatch(x_A=(0, 20)), SourcePatch(x_A=(60, 100), y_A=(5, 10), relative_flux=0.5)]
        lines = region_lines(lay_out(given, None, (100, 20)), (100, 20), 90, 2)
        assert lines[-1] == 'region source union 2 source_0 source_1'
        assert 'block EDGE 20.000000 EDGE EDGE ' in lines[0]
        assert 'block 60.000000 EDGE 5.000000 10.000000 ' in lines[1]
        assert volumes(lines) == {'source_0': pytest.approx(20 * 20 * 2), 'source_1': pytest.approx(40 * 5 * 1)}

    def test_table(self):
        table = ((1.0, 0.0), (3.0, 0.25))
        check_table(table)
        patches = lay_out(None, table, (100, 20))
        assert [(p.low, p.high) for p in patches] == [
            ((0, 0), (50, 10)),
            ((50, 0), (100, 10)),
            ((50, 10), (100, 20)),
        ]
        found = volumes(region_lines(patches, (100, 20), 90, 2))
        assert np.array(list(found.values())) / sum(found.values()) == pytest.approx(np.array([1, 3, 0.25]) / 4.25)
        # four patches of one quarter each
        assert flux_variance(patches, 20) == pytest.approx(np.var([1, 0, 3, 0.25]) / np.mean([1, 0, 3, 0.25]) ** 2)

    @pytest.mark.parametrize(
        ('changes', 'message'),
        [
            ({'source_patches': []}, r'source_patches = \[\]: .*at least 1 item'),
            (
                {'source_patches': [{'x_A': [1, 2]}], 'source_table': [[1.0]]},
                'source_patches and source_table: .* not both',
            ),
            ({'source_patches': [{'x_A': [1, 2], 'relative_flux': 0}]}, 'relative_flux.*greater than 0'),
            (
                {'source_patches': [{'x': [1, 2]}]},
                r'source_patches.0.x: no such setting; known are relative_flux, x_A, y_A\n',
            ),
            ({'source_table': [[1.0, 2.0], [1.0]]}, r'source_table: rows of \[1, 2\] numbers: all need the same'),
            ({'source_table': []}, 'source_table: rows'),
            ({'source_table': [[0.0, 0.0]]}, 'source_table: no flux is greater than 0'),
            ({'source_table': [[1.0, -1.0]]}, r'source_table: -1.0: a flux must be finite, and 0 or more'),
            ({'source_table': [[1.0, float('nan')]]}, 'source_table: nan: a flux must be finite'),
            ({'source_table': [[1.0] * 51] * 50}, 'source_table: 50 x 51 patches: at most 2500'),
        ],
    )
    def test_refused(self, changes, message):
        with pytest.raises(ValueError, match=message):
            settings(**changes)

    @pytest.mark.parametrize(
        ('patches', 'message'),
        [
            ([{'x_A': [10, 22]}], r'source_patches\[0\].x_A = \[10.0, 22.0\] Å: .* from 0 to 21.060 Å'),
            ([{'y_A': [5, 5]}], r'source_patches\[0\].y_A = \[5.0, 5.0\] Å: must rise'),
            ([{'x_A': [-1, 5]}], r'source_patches\[0\].x_A = .*; give one that crosses the border of the cell as two'),
            ([{'x_A': [1, 6]}, {'x_A': [5, 9]}], 'source_patches 0 and 1, .* overlap: x from 1 to 6 and from 5 to 9 Å'),
            (
                [{'x_A': [1, 6], 'relative_flux': 1e7}, {'x_A': [7, 9]}],
                'relative_flux is from 1 to 1e.07; at most 1e.06',
            ),
        ],
    )
    def test_that_do_not_fit_the_cell(self, patches, message):
        with pytest.raises(ValueError, match=message):
            check('deposit', settings(source_patches=patches), SLAB.build(), MEAM)


class TestRateAndSpeed:
    def test_current_density_of_the_paper(self):
        """«5 Li ps-1» on 28.07 x 1.40 nm^2 are 2.04e6 A/cm^2, one charge an atom."""
        given = settings(current_density_A_per_cm2=2.04e6)
        assert given.rate(PAPER_AREA) == pytest.approx(5, rel=5e-3)
        assert given.rate(1.0) == pytest.approx(0.127, rel=5e-3)
        # in whole steps of 1 fs that is one atom every 199, not 200: four figures of the paper's are two too few
        assert given.schedule(PAPER_AREA).every_steps in (199, 200)
        assert given.flux_Li_per_ps_nm2 is None

    def test_one_rate(self):
        with pytest.raises(
            ValueError, match=r'rate_Li_per_ps = 4 1/ps and current_density_A_per_cm2 = 1.0 A/cm\^2: give'
        ):
            settings(rate_Li_per_ps=4, current_density_A_per_cm2=1.0)
        with pytest.raises(ValueError, match='not all'):
            settings(rate_Li_per_ps=4, current_density_A_per_cm2=1.0, flux_Li_per_ps_nm2=1)
        with pytest.raises(ValueError, match=r'current_density_A_per_cm2 = -1: .*greater than 0 .*A/cm\^2'):
            settings(current_density_A_per_cm2=-1)

    @pytest.mark.parametrize(('rate', 'speed'), [(0.5, 500), (1, 1000), (5, 5000)])
    def test_speed_in_proportion_to_the_rate(self, rate, speed):
        """The paper, Figure 3: 500 m/s at 0.5 Li/ps and 1000 m/s at 1 Li/ps."""
        given = settings(rate_Li_per_ps=rate, speed_per_rate_m_per_s_per_Li_per_ps=1000)
        assert given.speed(PAPER_AREA) == pytest.approx(speed)
        assert f'vz -{speed / 100} -{speed / 100} units box' in next(
            x for x in deck(given) if x.startswith('fix source')
        )

    def test_one_speed(self):
        assert settings().speed(PAPER_AREA) == 500
        with pytest.raises(ValueError, match=r'speed_m_per_s = 500 m/s and speed_per_rate_.* = 1000: give one of them'):
            settings(speed_m_per_s=500, speed_per_rate_m_per_s_per_Li_per_ps=1000)
        with pytest.raises(ValueError, match=r'at 4 atoms/ps atoms would fall at 80000 m/s; at most 50000 m/s'):
            check('deposit', settings(speed_per_rate_m_per_s_per_Li_per_ps=20_000), SLAB.build(), MEAM)


class TestStopRules:
    def test_time(self):
        assert (settings().last_step(1), settings().ended_by(1, '')) == (6000, 'time')

    def test_atoms(self):
        """One every 250 steps: the tenth comes at step 2251, and the run ends there, or after it settled."""
        given = settings(stop_after_atoms=10)
        schedule = given.schedule(1)
        assert (schedule.n_insert, schedule.step_of(10), given.last_step(1)) == (10, 2251, 2251)
        assert [schedule.inserted_at(step) for step in (2250, 2251, 6000)] == [9, 10, 10]
        assert given.ended_by(1, '') == 'atoms'
        assert settings(stop_after_atoms=10, settle_ps=1).last_step(1) == 3251
        assert 'run 3251 upto' in deck(settings(stop_after_atoms=10, settle_ps=1))
        # the time is up before they have come
        late = settings(stop_after_atoms=10, settle_ps=10)
        assert (late.last_step(1), late.ended_by(1, '')) == (6000, 'time')
        many = settings(stop_after_atoms=1000)
        assert (many.schedule(1).n_insert, many.last_step(1), many.ended_by(1, '')) == (24, 6000, 'time')

    def test_height(self):
        lines = deck(settings(stop_at_height_A=20, duration_ps=2000))
        assert 'fix height all halt 1000 v_height >= 20.0 error soft' in lines
        assert f'variable height equal "c_top - {round(SLAB.top_A, 6)}"' in lines
        assert settings(stop_at_height_A=20).ended_by(1, 'height') == 'height'
        with pytest.raises(ValueError, match=r'stop_at_height_A = 50.0 Å above the surface at 8.8 Å: .* 4.0 Å higher'):
            check('deposit', settings(stop_at_height_A=50), SLAB.build(), MEAM)

    def test_a_patch_ends_before_the_film_reaches_it(self):
        """What grows below a strip grows faster than an even film."""
        lines = deck(settings(source_patches=[{'x_A': [5, 12]}]))
        assert 'fix clearance all halt 1000 v_height >= 46.0 error soft' in lines
        assert not [line for line in deck(settings()) if ' halt ' in line]

    def test_refused(self):
        with pytest.raises(ValueError, match=r'settle_ps = 1.0 ps: belongs to stop_after_atoms'):
            settings(settle_ps=1)
        with pytest.raises(ValueError, match=r'stop_after_atoms = 0: .*greater than or equal to 1'):
            settings(stop_after_atoms=0)
        with pytest.raises(ValueError, match=r'stop_at_height_A = -1: .*Å'):
            settings(stop_at_height_A=-1)


class TestThermostats:
    def test_film(self):
        lines = deck(settings())
        assert 'group thermostatted dynamic mobile var bound every 100' in lines
        assert 'variable bound atom "(z < v_ceiling) && (c_bonds >= 4)"' in lines

    def test_substrate(self):
        """A group that stays as it is: it comes with the restart file, and nothing counts neighbours."""
        lines = deck(settings(thermostat='substrate'))
        ceiling = round(SLAB.top_A - 3.5, 6)
        assert f'region substrate block INF INF INF INF {SLAB.fixed_below_A} {ceiling} units box' in lines
        assert 'group thermostatted region substrate' in lines
        assert not [line for line in lines if 'coord/atom' in line or 'dynamic mobile' in line or 'v_ceiling' in line]
        again = deck(settings(thermostat='substrate'), restart_step=3000)
        assert not [line for line in again if line.startswith(('group', 'velocity', 'region substrate'))]

    def test_all(self):
        lines = deck(settings(thermostat='all'))
        assert 'variable bound atom "c_bonds >= 4"' in lines
        assert 'group thermostatted dynamic mobile var bound every 100' in lines
        # in flight there is nobody around
        assert next(x for x in lines if x.startswith('fix thermostat')).startswith(
            'fix thermostat thermostatted langevin'
        )

    def test_unknown(self):
        with pytest.raises(ValueError, match=r"thermostat = 'top': .*'film', 'substrate' or 'all'"):
            settings(thermostat='top')

    def test_level_of_a_rough_surface(self):
        """Of a surface with trenches the level counts that it would have if it were even."""
        rough = SlabSettings(
            size=(12, 4),
            n_layers=12,
            n_fixed_layers=2,
            height_above_A=60,
            defect='rectangular',
            defect_depth_A=8.775,
            defect_width_A=21.06,
        )
        atoms = rough.build()
        lines = render('deposit', settings(), atoms, MEAM).splitlines()
        level = len(atoms) * 21.6 / (42.12 * 14.04)
        assert rough.top_A - 8.775 < level < rough.top_A
        assert next(x for x in lines if x.startswith('variable ceiling')).startswith(
            f'variable ceiling equal "{round(level - 3.5, 6)} +'
        )
