"""A liquid from its radial distribution: shells of crystals and of drawn curves, the ideal gas, blocks of time."""

import numpy as np
import pytest
from ase.build import bulk
from ase.neighborlist import neighbor_list

from aiida_liheal.analysis.liquid import RadialDistribution, block_mean, means_of_blocks

REACH_A, N_BINS = 8.0, 160
EDGES = np.linspace(0, REACH_A, N_BINS + 1)
VOLUMES = 4 / 3 * np.pi * np.diff(EDGES**3)


def of_curves(*curves, samples=None):
    """A distribution whose blocks are functions of r."""
    radii = (EDGES[1:] + EDGES[:-1]) / 2
    blocks = np.array([curve(radii) for curve in curves])
    return RadialDistribution(EDGES, blocks, np.ones(len(curves)) if samples is None else np.array(samples))


def liquid(peak_A, height):
    """A curve as a liquid has it: nothing within, a peak, a minimum at 1.45 and a low second peak at 1.9 of it."""

    def curve(r):
        x = r / peak_A
        first = (height - 1) * np.exp(-(((x - 1) / 0.12) ** 2))
        trough = -0.4 * np.exp(-(((x - 1.45) / 0.15) ** 2))
        second = 0.25 * np.exp(-(((x - 1.9) / 0.15) ** 2))
        return np.where(x > 0.75, 1 + first + trough + second, first)

    return curve


@pytest.mark.parametrize(('peak_A', 'height'), [(2.87, 2.2), (3.0, 2.6), (3.41, 3.0)])
def test_a_drawn_curve_comes_back(peak_A, height):
    density = 0.0445
    curve = liquid(peak_A, height)
    shell = of_curves(curve).first_shell(density)
    assert shell.peak_A == pytest.approx(peak_A, abs=0.02)
    assert shell.peak_height == pytest.approx(height, rel=0.03)
    assert shell.minimum_A == pytest.approx(1.45 * peak_A, rel=0.03)
    r = np.linspace(0, shell.minimum_A, 20_001)
    assert shell.coordination == pytest.approx(np.trapezoid(density * 4 * np.pi * r**2 * curve(r), r), rel=0.01)


@pytest.mark.parametrize(('phase', 'a', 'neighbours'), [('bcc', 3.51, 14), ('fcc', 4.4, 12)])
def test_shells_of_a_crystal_are_counted(phase, a, neighbours):
    """The first two shells of bcc lie together before the gap, the first of fcc alone."""
    crystal = bulk('Li', phase, a=a, cubic=True) * (4, 4, 4)
    # thermal motion makes a shell of each distance
    crystal.rattle(0.12, seed=5)
    n, density = len(crystal), (len(crystal) - 1) / crystal.get_volume()
    distances = neighbor_list('d', crystal, REACH_A)
    g = np.histogram(distances, EDGES)[0] / n / VOLUMES / density
    found = RadialDistribution(EDGES, g[None], np.ones(1))
    shell = found.first_shell(density)
    assert shell.peak_A == pytest.approx(a * (3**0.5 / 2 if phase == 'bcc' else 2**-0.5), abs=0.06)
    assert shell.coordination == pytest.approx(neighbours, abs=0.15)
    assert found.coordination(density)[-1] == pytest.approx(len(distances) / n)


def test_an_ideal_gas_has_no_shell():
    gas = of_curves(np.ones_like)
    with pytest.raises(ValueError, match='no first shell of a liquid within 8 Å'):
        gas.first_shell(0.04)
    # its neighbours are those of the volume
    assert gas.coordination(0.04)[-1] == pytest.approx(0.04 * 4 / 3 * np.pi * REACH_A**3)


def test_blocks_count_by_their_samples():
    found = of_curves(np.ones_like, lambda r: np.full_like(r, 2.0), samples=[3, 1])
    assert found.mean == pytest.approx(1.25)
    assert found.error == pytest.approx(0.5)
    assert np.isnan(of_curves(np.ones_like).error).all()


def test_what_a_run_printed():
    values = {f'block_{b}_g_{n:03d}': float(10 * b + n) for b in range(2) for n in range(3)}
    values |= {'block_0_samples': 4.0, 'block_1_samples': 2.0}
    found = RadialDistribution.from_values(values, 6.0, 3, 2)
    assert found.blocks.tolist() == [[0, 1, 2], [10, 11, 12]]
    assert found.radii_A.tolist() == [1, 3, 5]
    # a run that was gone on with in its second block
    later = {name: value for name, value in values.items() if name.startswith('block_1')}
    assert RadialDistribution.from_values(later, 6.0, 3, 2).blocks.tolist() == [[10, 11, 12]]
    with pytest.raises(ValueError, match='no block of its radial distribution'):
        RadialDistribution.from_values({}, 6.0, 3, 2)
    with pytest.raises(ValueError, match='no block_1_g_001'):
        RadialDistribution.from_values({k: v for k, v in values.items() if k != 'block_1_g_001'}, 6.0, 3, 2)


def test_errors_of_blocks():
    """Noise whose blocks are independent has the error of its mean."""
    values = np.random.default_rng(2).normal(5.0, 1.0, 10_000)
    times = np.arange(10_000) / 10
    blocks = means_of_blocks(times, values, 499.95, 20)
    assert len(blocks) == 20
    mean, error = block_mean(blocks)
    assert mean == pytest.approx(5, abs=4 / 5000**0.5)
    assert error == pytest.approx(1 / 5000**0.5, rel=0.5)
    with pytest.raises(ValueError, match=r'3 values after 999.65 ps: too few for 4 blocks'):
        means_of_blocks(times, values, 999.65, 4)
