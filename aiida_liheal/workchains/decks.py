"""The LAMMPS decks of a verb, to be read before anything is run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aiida.engine import ProcessBuilder

from aiida_liheal.calculations.lammps import JobSettings, members_in_order, run_folder
from aiida_liheal.data.potential import committee_spec
from aiida_liheal.lammps.decks import render, write_data
from aiida_liheal.sampling.seeds import derive_seed
from aiida_liheal.structures.frames import Frames
from aiida_liheal.workchains.packed import Planned
from aiida_liheal.workchains.simulate import SimulationWorkChain
from aiida_liheal.workchains.start import start_of

__all__ = ('write_decks',)


def write_decks(builder: ProcessBuilder, folder: Path) -> int:
    """Write `in.lmp` and `start.data` of every run of a verb, as its jobs would, but without the potential's files.

    A search such as that of `melt` has the runs of its first round. The seeds of runs that are packed in jobs are not
    those of the run itself.

    Parameters
    ----------
    builder : ProcessBuilder
        Inputs of a verb that runs LAMMPS, complete and checked.
    folder : Path
        Made if it is not there; each run gets a folder in it, as in a job.

    Returns
    -------
    int
        The number of runs.
    """
    potential = committee_spec(members_in_order(dict(builder.potentials)))
    number = 0
    for kind, runs, starts in _planned(builder):
        job = JobSettings.read({'kind': kind, 'runs': runs})
        for structure, settings in map(job.run, range(len(runs))):
            atoms = starts.to_atoms(structure)
            target = folder / run_folder(number)
            target.mkdir(parents=True, exist_ok=True)
            deck = render(kind, settings, atoms, potential, run_directory=run_folder(number))
            (target / 'in.lmp').write_text(deck, encoding='utf-8')
            write_data(atoms, target / 'start.data', potential.elements)
            number += 1
    return number


def _planned(builder: ProcessBuilder) -> Iterator[Planned]:
    process: Any = builder.process_class
    if issubclass(process, SimulationWorkChain):
        kind = process._kind
        run = {**builder.settings.get_dict(), 'seed': derive_seed(builder.seed.value, kind)}
        yield Planned(kind, [run], Frames.from_atoms([start_of(kind, builder)]))
    else:
        yield from process.planned(builder._inputs(prune=True))
