"""Draw the figures of `gallery.md` and print its tables of costs, from the archives of its runs.

python docs/make_gallery.py examples/gallery.aiida [FOLDER]     the campaign `laptop`
python docs/make_gallery.py examples/checks.aiida [FOLDER]      some of the checks of `reproduce`
python docs/make_gallery.py examples/classical.aiida [FOLDER]   slides, and classical potentials
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use('Agg')
import matplotlib.pyplot as plt
import numpy as np
from aiida import load_profile
from aiida.orm import CalcJobNode, QueryBuilder, WorkChainNode, load_node
from aiida.storage.sqlite_zip.backend import SqliteZipBackend
from ase import Atoms
from ase.neighborlist import neighbor_list
from drawing import draw_circles, save_small
from matplotlib.axes import Axes

from aiida_liheal.analysis.dendrites import deposit_row
from aiida_liheal.analysis.surface import HeightMap, height_map
from aiida_liheal.report.figures import STRUCTURE_COLOURS
from aiida_liheal.report.pictures import ENERGY_SCALE

IMAGES = Path(__file__).parent / 'images'
#: Told apart without colour too.
LINES = ('-', '--', '-.', ':')
MARKERS = ('o', 's', '^', 'D')
COLOURS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7')  # Okabe and Ito
SURFACES = ('none', 'rectangular', 'triangular', 'inverted_triangular')

mpl.rcParams.update({'font.size': 8, 'axes.spines.top': False, 'axes.spines.right': False, 'legend.frameon': False})


def campaign_of() -> WorkChainNode:
    """The campaign of the archive; the last one, which has all, if it was launched again."""
    query = QueryBuilder().append(WorkChainNode, filters={'process_type': {'like': '%liheal.campaign'}})
    return max(query.all(flat=True), key=lambda node: node.ctime)


def points_of(campaign: WorkChainNode) -> dict[str, WorkChainNode]:
    """The runs of a campaign by the names of their points, also those that it took over."""
    return {row['point']: load_node(row['run']) for row in campaign.outputs.table['rows']}


def jobs_of(node: WorkChainNode) -> list[CalcJobNode]:
    """The LAMMPS jobs of a run."""
    return [job for job in node.called_descendants if job.process_label == 'LammpsCalculation']


def series_of(node: WorkChainNode) -> dict[str, Any]:
    """Series of the analysis of a run."""
    series = node.outputs.analysis.series
    return {name: series.get_array(name) for name in series.get_arraynames()}


def cost_table(points: dict[str, WorkChainNode]) -> str:
    """Size, length and cost of every point, as Markdown."""
    lines = ['| point | atoms | runs | MD steps | LAMMPS, min | katom-step/s |', '|---|---|---|---|---|---|']
    for name, node in points.items():
        runs = [run for job in jobs_of(node) for run in job.outputs.results['runs']]
        atoms = [run['n_final'] for run in runs if run.get('n_final')]
        span = f'{min(atoms):,}' if min(atoms) == max(atoms) else f'{min(atoms):,} to {max(atoms):,}'
        steps = sum(run['n_steps_done'] for run in runs)
        minutes = sum(run['wall_time_s'] for run in runs) / 60
        work = sum(run['n_final'] * run['n_steps_done'] for run in runs)
        speed = work / sum(run['loop_time_s'] for run in runs) / 1000
        lines.append(f'| {name} | {span} | {len(runs)} | {steps:,} | {minutes:.1f} | {speed:.0f} |')
    return '\n'.join(lines)


def save(figure: Any, folder: Path, name: str) -> None:
    """Write a figure, with few colours: these pictures are kept with the documentation."""
    path = folder / f'gallery_{name}.png'
    save_small(figure, path, dpi=160)
    plt.close(figure)
    print(f'wrote {path}', file=sys.stderr)


def smooth(values: np.ndarray, width: int) -> np.ndarray:
    """Running mean over `width` values; at the ends over those that there are."""
    kernel = np.ones(width)
    return np.convolve(values, kernel, 'same') / np.convolve(np.ones(len(values)), kernel, 'same')


def draw_voids(points: dict[str, WorkChainNode], folder: Path) -> None:
    """Volume of the void, share of bcc, and energy after heating against time."""
    figure, axes = plt.subplots(3, 1, figsize=(4.2, 5.4), sharex=True, layout='constrained')
    for number, temperature in enumerate((100, 300)):
        node = points[f'void_temperature_K_{temperature}']
        series = series_of(node)
        time = series['time_ps']
        style = {'ls': LINES[number], 'color': COLOURS[number]}
        axes[0].plot(time, series['void_volume_A3'], lw=1.2, label=f'{temperature} K', **style)
        axes[1].plot(time, series['bcc_share_averaged'], lw=1.2, **style)
        heated = time > node.inputs.settings['heating_ps']
        energy = 1000 * series['potential_energy_eV_per_atom'][heated]
        energy -= energy[:4].mean()
        axes[2].plot(time[heated], energy, lw=0.4, **{**style, 'ls': '-'})
        axes[2].plot(time[heated], smooth(energy, 5), lw=1.2, **style)
    titles = ('void volume (Å³)', 'share of bcc (a-CNA)', 'energy since heating\n(meV/atom)')
    for panel, title in zip(axes, titles, strict=True):
        panel.set_ylabel(title)
    axes[0].legend()
    axes[-1].set_xlabel('time (ps)')
    save(figure, folder, 'voids')


def draw_atoms(panel: Axes, snapshots: Any, which: str, colours: np.ndarray) -> None:
    """A frame seen along y, the nearer atoms over those behind."""
    positions = snapshots.get_array(f'{which}_position_A')
    draw_circles(panel, positions, colours)
    panel.set_xlim(positions[:, 0].min() - 2, positions[:, 0].max() + 2)


def by_structure(snapshots: Any, which: str) -> np.ndarray:
    """Colours of atoms by their structure type."""
    from aiida_liheal.analysis.phases import STRUCTURES

    palette = np.array([mpl.colors.to_rgb(STRUCTURE_COLOURS[name]) for name in STRUCTURES])
    return palette[snapshots.get_array(f'{which}_structure')]


def landed(snapshots: Any, which: str) -> tuple[Atoms, np.ndarray]:
    """A frame, and which of its atoms are not in flight: those that have three neighbours or more."""
    frame = {key: snapshots.get_array(f'{which}_{key}') for key in ('position_A', 'cell_A', 'pbc')}
    atoms = Atoms(positions=frame['position_A'], cell=frame['cell_A'], pbc=frame['pbc'])
    neighbours = np.bincount(neighbor_list('i', atoms, 1.207 * 3.51), minlength=len(atoms))
    return atoms, neighbours >= 3


def surface_of(snapshots: Any, which: str) -> HeightMap:
    """Height map of a frame."""
    atoms, matter = landed(snapshots, which)
    return height_map(atoms.positions, atoms.cell.array, matter)


def scale_bar(panel: Axes, height: float) -> None:
    """A bar of 1 nm at the left edge."""
    left = panel.get_xlim()[0] + 1
    panel.plot([left, left], [height, height + 10], color='black', lw=2)
    panel.text(left + 1.5, height + 5, '1 nm', va='center')


def draw_surfaces(points: dict[str, WorkChainNode], folder: Path) -> None:
    """First and last frame of the four surfaces."""
    figure, axes = plt.subplots(4, 2, figsize=(5.2, 5.6), layout='constrained')
    for row, name in zip(axes, SURFACES, strict=True):
        node = points[f'surfaces_defect_{name}']
        snapshots = node.outputs.analysis.snapshots
        series = series_of(node)
        for panel, which, time in zip(row, ('first', 'last'), series['time_ps'][[0, -1]], strict=True):
            draw_atoms(panel, snapshots, which, by_structure(snapshots, which))
            panel.set_ylim(-2, 48)
            roughness = surface_of(snapshots, which).roughness_A
            title = f'{name.replace("_", " ") if name != "none" else "flat"}, {time:g} ps, w = {roughness:.1f} Å'
            panel.set_title(title, fontsize=8)
    scale_bar(axes[0, 0], 32)
    save(figure, folder, 'surfaces')


def draw_valleys(points: dict[str, WorkChainNode], folder: Path) -> None:
    """Energy of the atom against the angle of its valley, and the way of the atom down the slope."""
    node = points['valleys']
    energies = node.outputs.energies
    figure, (left, right) = plt.subplots(1, 2, figsize=(6.2, 2.6), layout='constrained')
    left.errorbar(
        energies.get_array('angle_deg'),
        energies.get_array('atom_energy_mean_eV'),
        energies.get_array('atom_energy_spread_eV'),
        marker='o',
        ms=4,
        lw=1,
        capsize=3,
        color=COLOURS[0],
    )
    left.set_xlabel('angle of the valley (°)')
    left.set_ylabel('energy of the atom (eV)')
    left.set_xticks(energies.get_array('angle_deg'))
    course = node.outputs.slide.course
    right.plot(course.get_array('time_ps'), np.atleast_2d(course.get_array('distance_A')).T, color=COLOURS[0], lw=1)
    right.axhline(node.inputs.reach_A.value, color='grey', ls=':', lw=1)
    right.set_xlabel('time (ps)')
    right.set_ylabel('distance from the bottom (Å)')
    save(figure, folder, 'valleys')


def draw_dendrites(points: dict[str, WorkChainNode], folder: Path) -> None:
    """The four deposits of one strip at their end, coloured by the energy of the atoms."""
    figure, axes = plt.subplots(2, 2, figsize=(5.2, 4.2), layout='constrained')
    scale = mpl.colors.LinearSegmentedColormap.from_list('energy', ENERGY_SCALE)
    nodes = {
        (temperature, rate): points[f'dendrites_temperature_K_{temperature}_rate_{rate}']
        for temperature in (200, 400)
        for rate in (1, 5)
    }
    energies = np.concatenate(
        [node.outputs.analysis.snapshots.get_array('last_potential_energy_eV') for node in nodes.values()]
    )
    norm = mpl.colors.Normalize(*np.percentile(energies, (2, 98)))
    for panel, ((temperature, rate), node) in zip(axes.flat, nodes.items(), strict=True):
        snapshots = node.outputs.analysis.snapshots
        draw_atoms(panel, snapshots, 'last', scale(norm(snapshots.get_array('last_potential_energy_eV'))))
        panel.set_ylim(-2, 36)
        atoms, matter = landed(snapshots, 'last')
        ground = snapshots.get_array('first_position_A')[:, 2].max()
        row = deposit_row(atoms.positions, atoms.cell.array, atoms.pbc, matter, ground)
        panel.set_title(
            f'{temperature} K, {rate} Li/ps, {series_of(node)["time_ps"][-1]:.0f} ps\n'
            f'{row["deposit_height_A"]:.0f} Å high, {row["deposit_width_A"]:.0f} Å wide',
            fontsize=8,
        )
    scale_bar(axes[0, 0], 24)
    figure.colorbar(mpl.cm.ScalarMappable(norm, scale), ax=axes, shrink=0.6, label='energy of an atom (eV)')
    save(figure, folder, 'dendrites')


def draw_mobility(points: dict[str, WorkChainNode], folder: Path) -> None:
    """Mean square displacements of surface and bulk."""
    node = points['mobility']
    figure, panel = plt.subplots(figsize=(4.2, 2.8), layout='constrained')
    for number, row in enumerate(node.outputs.summary['temperatures']):
        mobility = node.outputs.mobility[f't{number:03d}']
        for group, line in (('surface', '-'), ('bulk', '--')):
            panel.plot(
                mobility.get_array('lag_ps'),
                mobility.get_array(f'msd_{group}_A2'),
                line,
                color=COLOURS[number],
                lw=1.2,
                label=f'{group}, {row["asked_temperature_K"]:g} K',
            )
    panel.set_yscale('log')
    panel.set_xlabel('lag (ps)')
    panel.set_ylabel('mean square displacement (Å²)')
    panel.legend(fontsize=7)
    save(figure, folder, 'mobility')


def draw_recovery(runs: dict[str, WorkChainNode], folder: Path) -> None:
    """Void volume, share of bcc and energy of the crystal that lacks a whole layer, and its first and last frame."""
    node = runs['recovery_temperature_K_300']
    series, snapshots = series_of(node), node.outputs.analysis.snapshots
    figure, axes = plt.subplot_mosaic(
        [
            ['void', 'first'],
            ['void', 'first'],
            ['bcc', 'first'],
            ['bcc', 'last'],
            ['energy', 'last'],
            ['energy', 'last'],
        ],
        figsize=(6.2, 5.0),
        width_ratios=[1.6, 1],
        layout='constrained',
    )
    time = series['time_ps']
    axes['void'].plot(time, series['void_volume_A3'], color=COLOURS[0], lw=1.2)
    axes['void'].set_ylabel('void volume (Å³)')
    axes['bcc'].plot(time, series['bcc_share_averaged'], color=COLOURS[0], lw=1.2)
    axes['bcc'].set_ylabel('share of bcc (a-CNA)')
    axes['bcc'].set_ylim(0, 1.05)
    heated = time > node.inputs.settings['heating_ps']
    energy = 1000 * series['potential_energy_eV_per_atom'][heated]
    energy -= energy[:4].mean()
    axes['energy'].plot(time[heated], energy, color='grey', lw=0.4)
    axes['energy'].plot(time[heated], smooth(energy, 5), color=COLOURS[0], lw=1.2)
    axes['energy'].set_ylabel('energy since heating\n(meV/atom)')
    axes['energy'].set_xlabel('time (ps)')
    for name in ('void', 'bcc', 'energy'):
        axes[name].set_xlim(0, time[-1])
    for which, moment in (('first', time[0]), ('last', time[-1])):
        positions = snapshots.get_array(f'{which}_position_A')
        behind = positions[:, 1] > snapshots.get_array(f'{which}_cell_A')[1, 1] / 2
        draw_circles(axes[which], positions[behind], by_structure(snapshots, which)[behind])
        axes[which].set_xlim(-2, 30)
        axes[which].set_ylim(-2, 30)
        axes[which].set_title(f'{moment:g} ps, the half behind', fontsize=8)
    scale_bar(axes['first'], 24)
    save(figure, folder, 'recovery')


def draw_melting(runs: dict[str, WorkChainNode], folder: Path) -> None:
    """Share of solid atoms of a crystal half molten, against time."""
    node = runs['melting']
    courses = node.outputs.courses['r000']
    figure, panel = plt.subplots(figsize=(4.2, 2.6), layout='constrained')
    for number, run in enumerate(node.outputs.summary['runs']):
        time, share = (courses.get_array(f'run_{number:03d}_{name}') for name in ('time_ps', 'solid_share'))
        label = f'{run["temperature_K"]:g} K: {run["verdict"]}'
        panel.plot(time, share, ls=LINES[number], color=COLOURS[number], lw=1.2, label=label)
    panel.set_ylim(0, 1.02)
    panel.set_xlabel('time (ps)')
    panel.set_ylabel('share of solid atoms')
    panel.legend()
    save(figure, folder, 'melting')


def draw_slides(runs: dict[str, WorkChainNode], folder: Path) -> None:
    """Distance from the bottom of an atom on a slope, for each seed."""
    node = runs['slides']
    course = node.outputs.slide.course
    figure, panel = plt.subplots(figsize=(4.2, 2.6), layout='constrained')
    styles = [(colour, line) for line in ('-', '--') for colour in (*COLOURS, 'black')]
    for number, distance in enumerate(course.get_array('distance_A')):
        colour, line = styles[number]
        panel.plot(course.get_array('time_ps'), distance, color=colour, ls=line, lw=0.8)
    panel.axhline(node.inputs.reach_A.value, color='grey', ls=':', lw=1)
    panel.set_ylim(0, None)
    panel.set_xlabel('time (ps)')
    panel.set_ylabel('distance from the bottom (Å)')
    save(figure, folder, 'slides')


#: What is drawn of an archive, by the title of its campaign.
DRAWN: dict[str, tuple[Callable[[dict[str, WorkChainNode], Path], None], ...]] = {
    'The gallery, at the size of a laptop': (draw_voids, draw_surfaces, draw_valleys, draw_dendrites, draw_mobility),
    'Some of the checks of the paper, at the size of a laptop': (draw_recovery, draw_melting),
    'Classical potentials': (draw_slides,),
}


def main(archive: str, folder: str | Path = IMAGES) -> None:
    """Draw all figures of an archive and print its table."""
    load_profile(SqliteZipBackend.create_profile(archive))
    campaign = campaign_of()
    runs = points_of(campaign)
    in_points = [node.uuid for node in runs.values()]
    for name, verb in (('slides', 'valley'), ('pair', 'heal')):
        apart = QueryBuilder().append(
            WorkChainNode, filters={'process_type': {'like': f'%liheal.{verb}'}, 'uuid': {'!in': in_points}}
        )
        for node in apart.all(flat=True):
            if node.caller is None:
                runs[name] = node
    print(cost_table(runs))
    for draw in DRAWN[campaign.outputs.table['title']]:
        draw(runs, Path(folder))


if __name__ == '__main__':
    main(*sys.argv[1:])
