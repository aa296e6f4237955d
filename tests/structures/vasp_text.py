"""OUTCAR and vasprun.xml as VASP lays them out, from our own numbers: no run of VASP, no text of a potential."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

DASHES = '-' * 104
#: Rows of the table of the stress.
TERMS = ('Alpha Z', 'Ewald', 'Hartree', 'E(xc)', 'Local', 'n-local', 'augment', 'Kinetic', 'Fock')


@dataclass(frozen=True)
class Run:
    """What is written: a cell, positions, labels, and what the run says of itself."""

    symbols: tuple[str, ...]
    cells: np.ndarray
    positions: np.ndarray
    free: np.ndarray
    forces: np.ndarray
    kilobar: np.ndarray
    n_electronic: tuple[int, ...]
    nelm: int = 8
    isif: int = 2
    version: int = 5
    learned: tuple[int, ...] = ()
    vdw: bool = False

    def with_(self, **changes) -> Run:
        return replace(self, **changes)


def make_run(symbols=('Li', 'Li', 'O'), n_steps=3, seed=0, triclinic=False, **changes) -> Run:
    """Steps whose numbers are those that the columns of an OUTCAR hold."""
    rng = np.random.default_rng(seed)
    n_atoms = len(symbols)
    cell = np.diag([6.0, 7.0, 8.5])
    if triclinic:
        cell = np.array([[0.5, 4.0, 4.0], [4.0, 0.25, 4.0], [4.0, 4.0, 0.125]])
        cell = cell if np.linalg.det(cell) > 0 else cell[[1, 0, 2]]
    stress = np.round(rng.normal(size=(n_steps, 3, 3)) * 10, 5)
    return Run(
        symbols=tuple(symbols),
        cells=np.round(np.tile(cell, (n_steps, 1, 1)), 9),
        positions=np.round(rng.random((n_steps, n_atoms, 3)) * 6, 5),
        free=np.round(-3.7 * n_atoms + rng.normal(size=n_steps), 8),
        forces=np.round(rng.normal(size=(n_steps, n_atoms, 3)), 6),
        kilobar=np.round(stress + stress.transpose(0, 2, 1), 5),
        n_electronic=(4,) * n_steps,
    ).with_(**changes)


def _species(run):
    """Elements and counts, as runs of equal symbols."""
    found = []
    for symbol in run.symbols:
        if found and found[-1][0] == symbol:
            found[-1][1] += 1
        else:
            found.append([symbol, 1])
    return found


def _lattice(cell):
    inverse = np.linalg.inv(cell).T
    lines = ['      direct lattice vectors                 reciprocal lattice vectors']
    return lines + [
        ' ' * 3 + ''.join(f'{x:13.9f}' for x in a) + ' ' * 3 + ''.join(f'{x:13.9f}' for x in b)
        for a, b in zip(cell, inverse, strict=True)
    ]


def _table(positions, forces):
    rows = [
        ''.join(f'{x:13.5f}' for x in p) + ' ' * 3 + ''.join(f'{x:14.6f}' for x in f)
        for p, f in zip(positions, forces, strict=True)
    ]
    return [' ' + '-' * 83, *rows, ' ' + '-' * 83]


def _position_table(run, step):
    """The table of forces, with those without dispersion behind them where there is one."""
    head = ' POSITION                                       TOTAL-FORCE (eV/Angst)'
    table = _table(run.positions[step], run.forces[step])
    if run.vdw:
        head += ',                                   FORCE-w/o vdW (eV/Angst)'
        table = [row if row[1] == '-' else row + '   ' + '      0.500000           NaN     -0.302265' for row in table]
    return [head, *table]


def outcar(run: Run) -> str:
    """The text of an OUTCAR."""
    species = _species(run)
    if run.version == 5:
        out = [' vasp.5.4.4.18Apr17-6-g9f103f2a35 (build made up) complex']
        out += [f' POTCAR:    PAW_PBE {symbol}_sv made up' for symbol, _ in species] * 2
        out += [f'   TITEL  = PAW_PBE {symbol}_sv made up' for symbol, _ in species]
    else:
        out = [' vasp.6.4.2 20Jul23 (build made up) complex', ' INCAR:', f'   NELM = {run.nelm}']
        out += [f' POTCAR:    PAW_PBE {symbol} made up' for symbol, _ in species] * 2
    out += [
        '   number of dos      NEDOS =    301   number of ions     NIONS = ' + f'{len(run.symbols):6d}',
        '   ions per type =          ' + ''.join(f'{count:6d}' for _, count in species),
        f'   NELM   ={run.nelm:7d};   NELMIN=  2; NELMDL= -5     # of ELM steps ',
        f'   ISIF   ={run.isif:7d}    stress and relaxation',
        '                                     Primitive cell',
        *_lattice(run.cells[0] / 2),
        '  volume of cell :      100.00',
        *_lattice(run.cells[0]),
        '',
    ]
    for step in range(len(run.free)):
        cell, free = run.cells[step], run.free[step]
        if run.learned:
            out += [
                '  ML FORCE on cell =-STRESS in cart. coord. units (eV/cell)',
                '  Direction    XX          YY          ZZ          XY          YZ          ZX',
                '  in kB  ' + '     1.00000' * 6,
                *_lattice(cell),
                '  POSITION                                       TOTAL-FORCE (eV/Angst) (ML)',
                *_table(run.positions[step], run.forces[step] + 1),
                '  ML FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)',
                f'  free  energy ML TOTEN  = {free + 1:18.8f} eV',
            ]
            if step in run.learned:
                continue
        for number in range(1, run.n_electronic[step] + 1):
            out += [
                '',
                f'{DASHES[:39]} Iteration {step + 1:6d}({number:4d})  {DASHES[:39]}',
                f'  free energy    TOTEN  = {free + 10 - number:18.8f} eV',
                f'  energy without entropy = {free + 11:17.8f}  energy(sigma->0) = {free + 11:17.8f}',
            ]
        if run.n_electronic[step] < run.nelm:
            out += [f'{DASHES[:24]} aborting loop because EDIFF is reached {DASHES[:40]}']
        if run.isif:
            (xx, xy, zx), (_, yy, yz), (_, _, zz) = run.kilobar[step]
            out += [
                '  FORCE on cell =-STRESS in cart. coord.  units (eV):',
                '  Direction    XX          YY          ZZ          XY          YZ          ZX',
                '  ' + '-' * 86,
                *(f'  {name:<8}' + '     0.10000' * 6 for name in TERMS),
                '  ' + '-' * 86,
                '  Total  ' + '     0.20000' * 6,
                '  in kB  ' + ''.join(f'{x:12.5f}' for x in (xx, yy, zz, xy, yz, zx)),
                '  external pressure =        1.00 kB  Pullay stress =        0.00 kB',
            ]
        out += [
            '',
            ' VOLUME and BASIS-vectors are now :',
            ' ' + '-' * 77,
            '  energy-cutoff  :      380.00',
            f'  volume of cell :{abs(np.linalg.det(cell)):12.2f}',
            *_lattice(cell),
            '',
            *_position_table(run, step),
            '    total drift:                                0.000000      0.000000      0.000000',
            '',
            '  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)',
            '  ---------------------------------------------------',
            f'  free  energy   TOTEN  = {free:18.8f} eV' + (f'    w/o vdW = {free + 3:18.8f} eV' if run.vdw else ''),
            '',
            f'  energy  without entropy= {free + 0.02:17.8f}  energy(sigma->0) = {free + 0.01:17.8f}',
            '',
        ]
    return '\n'.join([*out, ' General timing and accounting informations for this job:', '']) + '\n'


def vasprun(run: Run) -> str:
    """The text of a vasprun.xml."""

    def rows(array):
        return ''.join('<v>' + ' '.join(f'{x:.8f}' for x in row) + '</v>\n' for row in array)

    kinds = [(symbol, number) for number, (symbol, count) in enumerate(_species(run), 1) for _ in range(count)]
    atoms = ''.join(f'<rc><c>{symbol:<2}</c><c>{number:4d}</c></rc>\n' for symbol, number in kinds)
    text = (
        '<?xml version="1.0" encoding="ISO-8859-1"?>\n<modeling>\n'
        f'<parameters><separator name="electronic"><i type="int" name="NELM">{run.nelm}</i></separator>\n'
        '<separator name="response functions"><i type="int" name="NELM">1</i></separator>\n'
        f'<i type="logical" name="ML_LMLFF"> {"T" if run.learned else "F"} </i></parameters>\n'
        f'<atominfo><array name="atoms"><set>\n{atoms}</set></array></atominfo>\n'
    )
    for step in range(len(run.free)):
        scaled = run.positions[step] @ np.linalg.inv(run.cells[step])
        n_electronic = 0 if step in run.learned else run.n_electronic[step]
        text += '<calculation>\n' + '<scstep><energy><i name="e_fr_energy">1.0</i></energy></scstep>\n' * n_electronic
        text += (
            f'<structure><crystal><varray name="basis">\n{rows(run.cells[step])}</varray></crystal>\n'
            f'<varray name="positions">\n{rows(scaled)}</varray></structure>\n'
            f'<varray name="forces">\n{rows(run.forces[step])}</varray>\n'
        )
        if run.isif:
            text += f'<varray name="stress">\n{rows(run.kilobar[step])}</varray>\n'
        text += (
            f'<energy><i name="e_fr_energy">{run.free[step]:.8f}</i>'
            f'<i name="e_wo_entrp">{run.free[step] + 0.02:.8f}</i><i name="e_0_energy">{run.free[step] + 0.01:.8f}</i>'
            '</energy>\n</calculation>\n'
        )
    return text + '</modeling>\n'
