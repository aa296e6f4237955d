"""From settings to the text of a LAMMPS deck: for each kind of run a module in `kinds/` and a template in `templates/`.

A deck runs in one folder that holds `start.data` (or a restart file) and takes all that the run writes:
`log.lammps`, `traj.dump`, `model_devi.out`, `values.txt`, `restart.<step>`, `final.data`: what its kind
writes of these.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from jinja2 import Environment, PackageLoader, StrictUndefined

from aiida_liheal.lammps.kinds import DECKS, DeckKind
from aiida_liheal.lammps.potentials import PotentialSpec
from aiida_liheal.lammps.settings import CHECK_EVERY, RestartableSettings, RunSettings
from aiida_liheal.sampling.seeds import derive_seed

_TEMPLATES = Environment(
    loader=PackageLoader('aiida_liheal.lammps'),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    autoescape=False,  # noqa: S701 (decks are no HTML; what comes from outside is checked by the settings)
)
_RUN_DIRECTORY = re.compile(r'[A-Za-z0-9_]{1,64}')


def validate(kind: str, values: Mapping[str, Any], filled: Mapping[str, Any] | None = None) -> RunSettings:
    """Settings of a kind of run; `filled` are those that follow from something else and are refused in `values`.

    Raises ValueError saying what is wrong and what is allowed.
    """
    return _kind(kind).settings.read(values, filled)


def check(kind: str, settings: RunSettings, atoms: Atoms, potential: PotentialSpec) -> None:
    """Refuse settings that do not fit the structure or the potential, with a ValueError that says why."""
    _check_elements(atoms, potential)
    _kind(kind).context(settings, atoms, potential)


def render(
    kind: str,
    settings: RunSettings,
    atoms: Atoms,
    potential: PotentialSpec,
    *,
    run_directory: str | None = None,
    restart_step: int | None = None,
    walltime_s: float | None = None,
) -> str:
    """The deck of one run.

    Parameters
    ----------
    kind : str
        A key of `DECKS`.
    settings : RunSettings
        From `validate`.
    atoms : Atoms
        The very start of the run, also if it is gone on with: cell, number of atoms and surface are taken from it.
    potential : PotentialSpec
        Its files lie in the run's folder or, with `run_directory`, in the one above it.
    run_directory : str, optional
        Folder that LAMMPS changes to first.
    restart_step : int, optional
        Go on from `restart.<step>` to the end that the settings say.
    walltime_s : float, optional
        Stop in good order after this time in s, with a restart file.

    Raises
    ------
    ValueError
        If something does not fit.
    """
    _check_elements(atoms, potential)
    if run_directory is not None and not _RUN_DIRECTORY.fullmatch(run_directory):
        raise ValueError(f'run_directory {run_directory!r}: only letters, digits and _ are allowed')
    if restart_step is not None and not 0 <= restart_step < settings.n_steps:
        raise ValueError(f'restart_step = {restart_step}: must be from 0 to {settings.n_steps - 1}, the run ends then')
    if walltime_s is not None and walltime_s < 1:
        raise ValueError(f'walltime_s = {walltime_s} s: must be 1 s or more')
    context = {
        'restart_every': (
            settings.steps(settings.restart_every_ps) if isinstance(settings, RestartableSettings) else None
        ),
        # six digits are 1e-3 Å or better in cells of up to 100 nm, at half the bytes of full precision
        'dump_format': '%.6g',
        **_kind(kind).context(settings, atoms, potential),
    }
    folder = '../' if run_directory else ''
    member_lines = [member.lines(folder) for member in potential.members]
    # at the steps of the dump, so that row i of the deviations belongs to frame i; none where there is no dump
    deviation_every = context.get('dump_every') if potential.is_committee else None
    # a restarted run must not repeat the thermal noise it began with; the falling atoms' stream is in the restart file
    part = 'start' if restart_step is None else restart_step
    return _TEMPLATES.get_template(f'{kind}.in.j2').render(
        settings=settings,
        boundary=' '.join('p' if periodic else 'f' for periodic in atoms.pbc),
        run_directory=run_directory,
        restart_step=restart_step,
        walltime=_clock(walltime_s),
        check_every=CHECK_EVERY,
        n_start=len(atoms),
        potential_lines=potential.lines(folder, deviation_every) if deviation_every else member_lines[0],
        member_lines=member_lines,
        seeds={
            'velocity': derive_seed(settings.seed, 'velocity'),
            'langevin': derive_seed(settings.seed, 'langevin', part),
            'source': derive_seed(settings.seed, 'source'),
        },
        **context,
    )


def write_data(atoms: Atoms, path: str | Path, elements: tuple[str, ...]) -> None:
    """Write `start.data`: units metal, masses of ASE, types numbered in the order of `elements`."""
    ase.io.write(
        path, atoms, format='lammps-data', units='metal', atom_style='atomic', masses=True, specorder=list(elements)
    )


def _kind(kind: str) -> DeckKind:
    if kind not in DECKS:
        raise ValueError(f'kind of run {kind!r}: known are {", ".join(DECKS)}')
    return DECKS[kind]


def _check_elements(atoms: Atoms, potential: PotentialSpec) -> None:
    strange = sorted(set(atoms.symbols) - set(potential.elements))
    if strange:
        raise ValueError(
            f'the structure holds {", ".join(strange)}; the potential knows {", ".join(potential.elements)} only'
        )
    if len(atoms) == 0 or not np.isfinite(atoms.positions).all():
        raise ValueError(f'the structure has {len(atoms)} atoms, or positions that are not finite')


def _clock(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    minutes, rest = divmod(int(seconds), 60)
    return f'{minutes // 60}:{minutes % 60:02d}:{rest:02d}'
