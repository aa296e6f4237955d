"""What an analysis gives, the names and units of its quantities, and its files; reading them needs no OVITO."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SERIES_FILE = 'series.npz'
PROFILES_FILE = 'profiles.npz'
SNAPSHOTS_FILE = 'snapshots.npz'
MOBILITY_FILE = 'mobility.npz'
SUMMARY_FILE = 'summary.json'

#: Unit and meaning of what `deposit_row` gives, of any deposit, be it too low for a dendrite.
DEPOSIT_QUANTITIES: dict[str, tuple[str, str]] = {
    'deposit_atoms': ('', 'atoms that have landed above the surface of the substrate at the start'),
    'deposit_height_A': ('Å', 'highest place of the deposit above the surface of the substrate at the start'),
    'deposit_width_A': ('Å', 'width of a bar, or diameter of a disc, that is spread out as the deposit is'),
}
#: Unit and meaning of what `dendrite_row` gives; all are of the dendrite with the most atoms.
DENDRITE_QUANTITIES: dict[str, tuple[str, str]] = {
    'dendrites': ('', 'dendrites that stand on the substrate'),
    'dendrite_atoms': ('', 'atoms of the largest dendrite'),
    'dendrite_height_A': ('Å', 'height of the largest dendrite above what it stands on'),
    'dendrite_bottom_A': ('Å', 'width of the largest dendrite at 1 nm'),
    'dendrite_top_A': ('Å', 'mean width of the largest dendrite from 0.8 to 0.9 of its height'),
    'dendrite_widest_A': ('Å', 'largest width of the largest dendrite'),
    'dendrite_overhang': ('', 'largest width less that at 1 nm, by that at 1 nm'),
    'dendrite_form': ('', 'form of the largest dendrite: 0 none or too small, 1 needle, 2 mushroom, 3 hemisphere'),
    'dendrite_tilt_deg': ('°', 'angle between the axis of the largest dendrite and the normal'),
    'dendrite_arms': ('', 'arms of the largest dendrite beside each other'),
    'dendrite_kinks': ('', 'kinks of the centre line of the largest dendrite'),
}
#: Unit and meaning of what `Contacts.arrays` gives.
CONTACT_QUANTITIES: dict[str, tuple[str, str]] = {
    'pair_joined': ('', 'whether the two dendrites of the pair are one: 1 yes, 0 no'),
    'pair_neck_share': ('', 'narrowest cross-section between the axes of the pair by the smaller one at an axis'),
    'pair_meets_image': ('', 'whether the largest dendrite meets its image through the side of the cell: 1 yes, 0 no'),
    'column_roughness_A': ('Å', 'standard deviation of the heights to which columns are filled from below'),
    'pair_gap_A': ('Å', 'narrowest distance between the outlines of the dendrites of the pair; 0 where they are one'),
    'pair_neck_A': ('Å', 'narrowest cross-section between the axes of the pair above what joins no dendrites'),
}
#: Unit and meaning of every array of `series`, `profiles` and `mobility`.
QUANTITIES: dict[str, tuple[str, str]] = {
    'step': ('', 'MD step'),
    'time_ps': ('ps', 'time'),
    'n_atoms': ('', 'atoms in the frame'),
    'atoms_in_flight': ('', 'atoms that have not landed, or have left'),
    'potential_energy_eV': ('eV', 'potential energy of all atoms'),
    'potential_energy_eV_per_atom': ('eV/atom', 'potential energy of all atoms, or those of a slice, by their number'),
    'temperature_K': ('K', 'temperature without common motion, fixed atoms and atoms in flight'),
    'void_volume_A3': ('Å^3', 'volume of internal voids between the centres of the atoms around them'),
    'void_regions': ('', 'number of internal voids'),
    'largest_void_volume_A3': ('Å^3', 'volume of the largest internal void'),
    **{
        f'{key}{site}{unit_of_key}': (unit, f'{what} {where}')
        for site, where in (
            ('surface', 'at the outer surface'),
            ('tips', 'at the outer surface with 7 neighbours or fewer: tips, ridges, kinks'),
            ('valleys', 'at the outer surface with 11 neighbours or more: in valleys'),
            ('bulk', 'away from all surfaces'),
        )
        for key, unit_of_key, unit, what in (
            ('atoms_', '', '', 'mobile atoms'),
            ('potential_energy_', '_eV_per_atom', 'eV/atom', 'mean potential energy of mobile atoms'),
        )
    },
    **{
        f'amorphous_share{suffix}': ('', f'share of «other» by a-CNA over the atoms away from all surfaces{meaning}')
        for suffix, meaning in (('', ''), ('_averaged', ', positions averaged over some frames'))
    },
    'film_height_A': ('Å', 'mean height of the surface above the lowest atom'),
    'roughness_A': (
        'Å',
        'roughness of the surface, corrugation of its atoms included: 0.3-0.4 on a flat (100) of Li',
    ),
    'defect_depth_A': ('Å', 'depth of the deepest defect of the surface, mean of three lines; 0: no defect that deep'),
    **DEPOSIT_QUANTITIES,
    **DENDRITE_QUANTITIES,
    **CONTACT_QUANTITIES,
    'height_A': ('Å', 'middle of a slice along the height'),
    'atoms': ('', 'mean number of atoms in a slice'),
    'density_g_per_cm3': ('g/cm^3', 'density of a slice'),
    'lag_ps': ('ps', 'time between two frames'),
    'pairs': ('', 'pairs of an origin and a frame that lie a lag apart'),
    'msd_surface_A2': ('Å^2', 'mean square displacement along the surface of the atoms that began there'),
    'msd_bulk_A2': ('Å^2', 'mean square displacement of the atoms that began inside'),
    **{
        f'{structure}_share{suffix}': ('', f'share of {structure} by a-CNA{meaning}')
        for structure in ('bcc', 'fcc', 'hcp', 'ico', 'other')
        for suffix, meaning in (
            ('', ' over all atoms, or those of a slice'),
            ('_inside', ' over the atoms that began inside'),
            ('_averaged', ' over all atoms, or those of a slice, positions averaged over some frames'),
            ('_inside_averaged', ' over the atoms that began inside, positions averaged over some frames'),
        )
    },
}


@dataclass(frozen=True)
class AnalysisResult:
    """The analysis of one run.

    Parameters
    ----------
    series : dict of str to (n_frames,) array
        Quantities against time; names and units in `QUANTITIES`. What cannot be measured is absent.
    profiles : dict of str to (n_slices,) array
        Quantities by height, averaged over the last frames.
    snapshots : dict of str to array
        First and last frame, names beginning with `first_` and `last_`: `step`, `id` (n,), `type` (n,),
        `position_A` (n, 3) float32, `potential_energy_eV` (n,) float32, `structure` (n,) int8 (index into
        `phases.STRUCTURES`), `cell_A` (3, 3), `origin_A` (3,), `pbc` (3,); of a slab its height map as well,
        `surface_height_A` (n_a, n_b) float32 along the first two cell vectors.
    summary : dict
        Plain numbers and texts: counts of frames, values at start and end, time of healing, D, settings, units;
        `site_energies`, if the run asked its committee: at the start and at the end what `members.site_energies` gives.
    mobility : dict of str to (n_lags,) array
        Mean square displacements by lag; empty if they were not asked for.
    """

    series: dict[str, NDArray]
    profiles: dict[str, NDArray]
    snapshots: dict[str, NDArray]
    summary: dict[str, Any]
    mobility: dict[str, NDArray] = field(default_factory=dict)


def save_result(result: AnalysisResult, folder: str | Path) -> None:
    """Write the arrays as compressed npz files and the summary as JSON into a folder that exists."""
    folder = Path(folder)
    files = {SERIES_FILE: result.series, PROFILES_FILE: result.profiles, SNAPSHOTS_FILE: result.snapshots}
    if result.mobility:
        files[MOBILITY_FILE] = result.mobility
    for name, arrays in files.items():
        np.savez_compressed(folder / name, allow_pickle=False, **arrays)
    summary = json.dumps(result.summary, indent=1, allow_nan=False, ensure_ascii=False)
    (folder / SUMMARY_FILE).write_text(summary, encoding='utf-8')


def load_result(folder: str | Path) -> AnalysisResult:
    """Read what `save_result` wrote; pickled objects are refused.

    Raises
    ------
    FileNotFoundError
        If a file is missing; that of mobility may be.
    ValueError
        If a file is damaged.
    """
    folder = Path(folder)
    arrays = {}
    for name in (SERIES_FILE, PROFILES_FILE, SNAPSHOTS_FILE):
        with np.load(folder / name, allow_pickle=False) as archive:
            arrays[name] = dict(archive)
    mobility = {}
    if (folder / MOBILITY_FILE).is_file():
        with np.load(folder / MOBILITY_FILE, allow_pickle=False) as archive:
            mobility = dict(archive)
    summary = json.loads((folder / SUMMARY_FILE).read_text(encoding='utf-8'))
    return AnalysisResult(arrays[SERIES_FILE], arrays[PROFILES_FILE], arrays[SNAPSHOTS_FILE], summary, mobility)
