"""Energies of sites by each member of a committee: what is read beside a dump, and what gauges do not change."""

import numpy as np
import pytest
from analysis_synthetic import A, crystal, dump_text, write_dump
from test_analysis_sites import grooved, sites

from aiida_liheal.analysis.members import MEMBERS_FILE, member_frames, site_energies
from aiida_liheal.analysis.series import analyse_trajectory
from aiida_liheal.analysis.settings import AnalysisSettings

#: Of each member: tips, valleys, other surface and bulk above its own zero, in eV.
ABOVE = {'tips': (0.30, 0.34), 'valleys': (0.05, 0.03), 'surface': (0.15, 0.17), 'bulk': (0.0, 0.0)}
GAUGES = (-1.65, -2.9)


def drawn(found, member):
    """Energies of the atoms by one member."""
    energies = np.full(len(found['bulk']), GAUGES[member] + 0.02)
    for name in ('bulk', 'surface', 'tips', 'valleys'):
        energies[found[name]] = GAUGES[member] + ABOVE[name][member]
    return energies


def test_differences_of_sites_do_not_depend_on_gauges(tmp_path):
    """Two members that share their energy out in ways of their own agree on tips and valleys, within their spread."""
    atoms = grooved()
    found = sites(atoms)
    path = write_dump(tmp_path / 'traj.dump', dump_text(0, atoms), dump_text(50, atoms))
    frames = [dump_text(step, atoms, energies=drawn(found, m)) for step in (50, 0) for m in range(2)]
    write_dump(tmp_path / MEMBERS_FILE, *frames)
    start, end = analyse_trajectory([path], AnalysisSettings()).summary['site_energies']
    assert (start['step'], end['step'], end['time_ps'], end['members']) == (0, 50, 0.05, 2)
    assert end['by_member_eV_per_atom']['bulk'] == pytest.approx(GAUGES)
    told = end['differences']
    assert told['tips_less_bulk']['by_member_eV'] == pytest.approx(ABOVE['tips'])
    assert told['tips_less_bulk']['mean_eV'] == pytest.approx(0.32)
    assert told['tips_less_bulk']['spread_eV'] == pytest.approx(0.02)
    assert told['tips_less_valleys']['by_member_eV'] == pytest.approx([0.25, 0.31])
    assert told['valleys_less_bulk']['spread_eV'] == pytest.approx(0.01)
    assert end['atoms']['tips'] == found['tips'].sum()
    profile = end['profile']
    assert len(set(map(len, profile.values()))) == 1
    assert sum(profile['atoms']) == len(atoms)
    # the top slice holds the ridge, the middle of the slab is bulk
    assert profile['above_bulk_eV_per_atom'][-1] == pytest.approx(0.32)
    assert profile['spread_eV_per_atom'][-1] == pytest.approx(0.02)
    middle = len(profile['atoms']) // 3
    assert profile['above_bulk_eV_per_atom'][middle] == pytest.approx(0, abs=0.01)


def test_the_run_is_analysed_without_them(tmp_path):
    atoms = grooved()
    path = write_dump(tmp_path / 'traj.dump', dump_text(0, atoms))
    assert analyse_trajectory([path]).summary['site_energies'] is None
    # of one member alone, and of a job that was killed before the second
    write_dump(tmp_path / MEMBERS_FILE, dump_text(0, atoms, energies=np.zeros(len(atoms))))
    assert list(member_frames([path])) == []


def test_links_and_restarts(tmp_path):
    """A job that analyses links to the dumps: the file lies beside what they link to; the last segment has the end."""
    crystals = crystal(3)
    n = len(crystals)
    links = []
    for number, steps in enumerate(((0,), (20,), ())):
        folder = tmp_path / f'segment_{number}'
        folder.mkdir()
        dump = write_dump(folder / 'traj.dump', dump_text(10 * number, crystals))
        if steps:
            texts = [dump_text(s, crystals, energies=np.full(n, m + 0.5 * number)) for s in steps for m in range(2)]
            # one that broke off in the middle of a third member's frame
            write_dump(folder / MEMBERS_FILE, *texts, texts[0][: len(texts[0]) // 2])
        link = tmp_path / f's{number:03d}.dump'
        link.symlink_to(dump)
        links.append(link)
    found = [(frame.step, energies[:, 0].tolist()) for frame, energies in member_frames(links)]
    assert found == [(0, [0, 1]), (20, [0.5, 1.5])]


def test_sites_without_atoms():
    """A crystal has no surface: no difference to tell. Without bulk there is nothing to compare a profile with."""
    n, everything = 4, np.ones(4, dtype=bool)
    nowhere = dict.fromkeys(('surface', 'tips', 'valleys', 'bulk'), ~everything)
    energies = np.arange(8.0).reshape(2, n)
    slices = np.array([0, 0, 1, 3])
    bulk = site_energies(energies, {**nowhere, 'bulk': everything}, slices, A, everything)
    assert bulk['differences'] == {}
    assert bulk['profile']['height_A'] == pytest.approx([A / 2, 1.5 * A, 3.5 * A])
    assert bulk['profile']['above_bulk_eV_per_atom'] == pytest.approx([-1, 0.5, 1.5])
    thin = site_energies(energies, {**nowhere, 'surface': everything}, slices, A, everything)
    assert (thin['profile'], thin['differences'], thin['atoms']['surface']) == (None, {}, n)
