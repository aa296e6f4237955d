"""A stand-in for VASP in tests: reads POSCAR, INCAR and KPOINTS, writes OUTCAR and vasprun.xml in VASP's formats.

It is no VASP: energy, forces and stress are those of a Morse potential of bcc lithium, computed here in plain Python.
The texts are written from the formats as VASP 6 has them, with our own numbers. No licensed text is in it. The POTCAR
is looked at only to see that it is there.

What goes wrong is asked for by a JSON file that the environment variable STAND_IN_FAULTS names: by the name of the
folder it runs in, or `*` for all, one of FAULTS, `sleep:SECONDS` or `first:FAULT` (the first time only).
"""

import json
import math
import os
import signal
import sys
import time
from collections import namedtuple
from itertools import product
from pathlib import Path

FAULTS = (
    'unconverged',
    'truncated_xml',
    'truncated_outcar',
    'killed',
    'no_stress',
    'wrong_atoms',
    'not_finite',
    'status',
    'nothing',
)
#: eV, 1/Å, Å
DEPTH, WIDTH, DISTANCE, CUTOFF = 0.2, 1.5, 3.1, 6.0
#: eV/Å^3 in kB
KILOBAR = 1602.1766208
#: What smearing to zero would add to the energy: e_0_energy is not e_fr_energy
EXTRAPOLATION = 0.0125

#: What a run tells beside its labels: who computed it, the free energy, the one without entropy and the one extrapolated
#: to no smearing after each electronic step, divisions and shift of the k-points, the Fermi level, occupied bands
Run = namedtuple('Run', 'program steps mesh shift fermi bands')

#: Stands in the place of the numbers of a potential: an exported archive must not hold it.
SECRET = 'NUMBERS-OF-THE-POTENTIAL'  # noqa: S105
#: The head of a POTCAR as aiida-vasp reads it, with our own words and no numbers of a potential.
POTCAR = """  PAW_PBE {symbol} stand-in
   1.00000000000000
 parameters from PSCTR are:
   VRHFIN ={symbol}: stand-in
   LEXCH  = PE
   EATOM  =     1.0000 eV
   TITEL  = PAW_PBE {symbol} stand-in
   LULTRA =        F    use ultrasoft PP ?
   POMASS =    7.010; ZVAL   =    1.000    mass and valenz
   ENMAX  =  100.000; ENMIN  =   80.000 eV
END of PSCTR-controll parameters
 local part
 NUMBERS-OF-THE-POTENTIAL {symbol}
 End of Dataset
"""


def read_poscar(text):
    lines = text.splitlines()
    scale = float(lines[1])
    cell = [[scale * float(x) for x in line.split()[:3]] for line in lines[2:5]]
    symbols = [s for s, n in zip(lines[5].split(), lines[6].split()) for _ in range(int(n))]  # noqa: B905
    rows = [[float(x) for x in line.split()[:3]] for line in lines[8 : 8 + len(symbols)]]
    if lines[7].strip()[:1] in 'CcKk':
        inverse = invert(cell)
        rows = [times(row, inverse) for row in rows]
    return cell, symbols, rows


def determinant(m):
    return (
        m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1])
        - m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0])
        + m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0])
    )


def invert(m):
    d = determinant(m)
    return [
        [
            (m[(j + 1) % 3][(i + 1) % 3] * m[(j + 2) % 3][(i + 2) % 3]
             - m[(j + 1) % 3][(i + 2) % 3] * m[(j + 2) % 3][(i + 1) % 3]) / d
            for j in range(3)
        ]
        for i in range(3)
    ]  # fmt: skip


def times(row, m):
    return [sum(row[k] * m[k][j] for k in range(3)) for j in range(3)]


def morse(cell, scaled):
    """Energy in eV, forces in eV/Å, stress in kB as VASP has it (positive under compression), of a Morse potential."""
    positions = [times(row, cell) for row in scaled]
    volume = abs(determinant(cell))
    inverse = invert(cell)
    reach = [1 + int(CUTOFF * math.sqrt(sum(inverse[k][axis] ** 2 for k in range(3)))) for axis in range(3)]
    shifts = [times(n, cell) for n in product(*(range(-r, r + 1) for r in reach))]
    energy, virial = 0.0, [[0.0] * 3 for _ in range(3)]
    forces = [[0.0] * 3 for _ in positions]
    for i, a in enumerate(positions):
        for b in positions:
            for shift in shifts:
                d = [b[k] + shift[k] - a[k] for k in range(3)]
                r2 = d[0] * d[0] + d[1] * d[1] + d[2] * d[2]
                if 1e-12 < r2 < CUTOFF * CUTOFF:
                    r = math.sqrt(r2)
                    e = math.exp(-WIDTH * (r - DISTANCE))
                    energy += 0.5 * DEPTH * (e * e - 2 * e)
                    slope = DEPTH * 2 * WIDTH * (e - e * e)  # dE/dr of the pair
                    for k in range(3):
                        forces[i][k] += slope * d[k] / r
                        for m in range(3):
                            virial[k][m] -= 0.5 * slope * d[k] * d[m] / r
    return energy, forces, [[KILOBAR * v / volume for v in row] for row in virial]


def incar_tags(text):
    pairs = (line.split('=', 1) for line in text.splitlines() if '=' in line)
    return {name.strip().upper(): value.strip() for name, value in pairs}


def row(numbers, pattern='%16.8f'):
    return '<v>' + ' '.join(pattern % x for x in numbers) + ' </v>'


def structure(name, cell, scaled):
    label = ' name="%s"' % name if name else ''
    return '\n'.join(
        [' <structure%s >' % label, '  <crystal>', '   <varray name="basis" >']
        + ['    ' + row(v) for v in cell]
        + ['   </varray>', '   <i name="volume">%16.8f </i>' % abs(determinant(cell)), '   <varray name="rec_basis" >']
        + ['    ' + row(column) for column in zip(*invert(cell))]  # noqa: B905
        + ['   </varray>', '  </crystal>', '  <varray name="positions" >']
        + ['   ' + row(v) for v in scaled]
        + ['  </varray>', ' </structure>']
    )


def made_up(n_steps, energy):
    """A run of n steps that comes nearer to its energy from step to step."""
    energies = [energy + 10.0 ** (1 - 2 * (step + 1)) for step in range(n_steps - 1)] + [energy]
    steps = [(e, e + 0.02, e + EXTRAPOLATION) for e in energies]
    return Run('stand-in of the tests of aiida-liheal', steps, (1, 1, 1), (0.0, 0.0, 0.0), 0.0, 4)


def kpoints_and_weights(mesh, shift):
    """Points of a mesh in units of the reciprocal cell, of k and -k the first one only, with their weights."""
    points = {}
    for numbers in product(*(range(n) for n in mesh)):
        point = [(i + s) / n for i, s, n in zip(numbers, shift, mesh)]  # noqa: B905
        opposite = tuple(round(-x % 1.0, 9) % 1.0 for x in point)
        name = opposite if opposite in points else tuple(round(x % 1.0, 9) for x in point)
        points[name] = points.get(name, 0) + 1
    total = mesh[0] * mesh[1] * mesh[2]
    return [([x - (x > 0.5) for x in point], n / total) for point, n in points.items()]


def energies(step, indent):
    """The three energies of a step as vasprun.xml has them."""
    names = ('e_fr_energy', 'e_wo_entrp', 'e_0_energy')
    return [indent + '<i name="%s">%16.8f </i>' % pair for pair in zip(names, step)]  # noqa: B905


def vasprun_text(cell, symbols, scaled, tags, n_steps, result, run=None):
    """A vasprun.xml of one ionic step; what is not told of the run is made up."""
    energy, forces, stress = result
    run = run or made_up(n_steps, energy)
    kpoints = kpoints_and_weights(run.mesh, run.shift)
    integer = ' <i type="int" name="%s">%6d</i>'
    names = list(dict.fromkeys(symbols))
    lines = ['<?xml version="1.0" encoding="ISO-8859-1"?>', '<modeling>', ' <generator>']
    lines += ['  <i name="program" type="string">vasp </i>', '  <i name="version" type="string">6.3.0  </i>']
    lines += ['  <i name="subversion" type="string">%s </i>' % run.program, ' </generator>', ' <incar>']
    lines += ['  <i type="string" name="PREC">accura</i>', '  <i name="EDIFF">%16.8f</i>' % float(tags['EDIFF'])]
    lines += [' ' + integer % ('NELM', int(tags['NELM'])), ' </incar>', ' <kpoints>', '  <generation param="Gamma">']
    lines += ['   <v type="int" name="divisions">%8d %8d %8d </v>' % tuple(run.mesh)]
    lines += ['   <v name="usershift">' + row(run.shift)[3:], '  </generation>', '  <varray name="kpointlist" >']
    lines += ['   ' + row(point) for point, _ in kpoints] + ['  </varray>', '  <varray name="weights" >']
    lines += ['   <v>%16.8f </v>' % weight for _, weight in kpoints]
    lines += ['  </varray>', ' </kpoints>', ' <parameters>', '  <separator name="electronic" >']
    lines += [integer % ('NELM', int(tags['NELM'])), '  <i name="EDIFF">%16.8f</i>' % float(tags['EDIFF'])]
    lines += [integer % ('ISPIN', 1), integer % ('NBANDS', max(4, run.bands)), '  </separator>']
    lines += ['  <separator name="ionic" >']
    lines += [integer % ('NSW', 0), integer % ('IBRION', -1), integer % ('ISIF', 2), '  </separator>', ' </parameters>']
    lines += [' <atominfo>', '  <atoms>%8d </atoms>' % len(symbols), '  <types>%8d </types>' % len(names)]
    lines += [
        '  <array name="atoms" >',
        '   <dimension dim="1">ion</dimension>',
        '   <field type="string">element</field>',
    ]
    lines += ['   <field type="int">atomtype</field>', '   <set>']
    lines += ['    <rc><c>%-2s</c><c>%4d</c></rc>' % (s, names.index(s) + 1) for s in symbols]
    lines += ['   </set>', '  </array>', '  <array name="atomtypes" >', '   <dimension dim="1">type</dimension>']
    lines += [
        '   <field type="int">atomspertype</field>',
        '   <field type="string">element</field>',
        '   <field>mass</field>',
    ]
    lines += ['   <field>valence</field>', '   <field type="string">pseudopotential</field>', '   <set>']
    lines += [
        '    <rc><c>%4d</c><c>%-2s</c><c>      7.01000000</c><c>      1.00000000</c><c>  PAW_PBE %s </c></rc>'
        % (symbols.count(s), s, s)
        for s in names
    ]
    lines += ['   </set>', '  </array>', ' </atominfo>', structure('initialpos', cell, scaled), ' <calculation>']
    for step in run.steps:
        lines += ['  <scstep>', '   <time name="total">    0.01    0.01</time>', '   <energy>']
        lines += [*energies(step, '    '), '   </energy>', '  </scstep>']
    lines += [structure('', cell, scaled), '  <varray name="forces" >']
    lines += ['   ' + row(f) for f in forces] + ['  </varray>']
    if stress is not None:
        lines += ['  <varray name="stress" >'] + ['   ' + row(s) for s in stress] + ['  </varray>']
    lines += ['  <energy>', *energies(run.steps[-1], '   '), '  </energy>']
    if run.bands:
        lines += ['  <eigenvalues>', '   <array>', '    <dimension dim="1">band</dimension>']
        lines += ['    <dimension dim="2">kpoint</dimension>', '    <dimension dim="3">spin</dimension>']
        lines += ['    <field>eigene</field>', '    <field>occ</field>', '    <set>', '     <set comment="spin 1">']
        lines += ['      <set comment="kpoint 1">']
        lines += ['       <r>%10.4f %10.4f </r>' % (band - 2.0, float(band < 2)) for band in range(run.bands)]
        lines += ['      </set>', '     </set>', '    </set>', '   </array>', '  </eigenvalues>']
    lines += ['  <dos>']
    lines += ['   <i name="efermi">%16.8f </i>' % run.fermi, '  </dos>', ' </calculation>']
    lines += [structure('finalpos', cell, scaled), '</modeling>', '']
    return '\n'.join(lines)


def outcar_text(cell, symbols, scaled, tags, n_steps, result, converged=True, run=None):
    """An OUTCAR of one ionic step; what is not told of the run is made up."""
    energy, forces, stress = result
    run = run or made_up(n_steps, energy)
    names = list(dict.fromkeys(symbols))
    lines = [' vasp.6.3.0 %s' % run.program, ' executed on stand-in', '']
    lines += [' POTCAR:   PAW_PBE %s' % s for s in names * 2]
    lines += ['   VRHFIN =%s: stand-in' % s for s in names] + ['   TITEL  = PAW_PBE %s' % s for s in names]
    lines += ['   ions per type =            %s' % ' '.join('%3d' % symbols.count(s) for s in names)]
    lines += ['   number of dos      NEDOS =    301   number of ions     NIONS = %6d' % len(symbols)]
    n = len(kpoints_and_weights(run.mesh, run.shift))
    counts = '   k-points           NKPTS = %6d   k-points in BZ     NKDIM = %6d   number of bands    NBANDS= %6d'
    lines += [counts % (n, n, max(4, run.bands))]
    lines += ['   NELM   = %6d;   NELMIN=  4; NELMDL= -5     # of ELM steps' % int(tags['NELM'])]
    lines += [
        '   EDIFF  = %s   stopping-criterion for ELM' % tags['EDIFF'],
        '   NSW    =      0    number of steps for IOM',
    ]
    lines += [
        '   IBRION =     -1    ionic relax: 0-MD 1-quasi-New 2-CG',
        '   ISIF   =      2    stress and relaxation',
        '',
    ]
    for number, step in enumerate(run.steps):
        title = ' Iteration %6d(%4d)  ' % (1, number + 1)
        lines += ['', '-' * 39 + title + '-' * 39, '', '  free energy    TOTEN  = %18.8f eV' % step[0], '']
    verdict = (
        'aborting loop because EDIFF is reached' if converged else 'aborting loop EDIFF was not reached (unconverged)'
    )
    lines += ['', '-' * 24 + ' ' + verdict + ' ' + '-' * 40, '']
    if stress is not None:
        (xx, xy, _), (_, yy, yz), (zx, _, zz) = stress
        total = [abs(determinant(cell)) * x / KILOBAR for x in (xx, yy, zz, xy, yz, zx)]
        parts = ('Alpha Z', 'Ewald', 'Hartree', 'E(xc)', 'Local', 'n-local', 'augment', 'Kinetic', 'Fock')
        lines += ['  FORCE on cell =-STRESS in cart. coord.  units (eV):']
        lines += ['  Direction    XX          YY          ZZ          XY          YZ          ZX', '  ' + '-' * 86]
        lines += ['  %-8s' % part + ''.join('%12.5f' % 0 for _ in total) for part in parts]
        lines += ['  ' + '-' * 85, '  Total  ' + ''.join('%12.5f' % x for x in total)]
        lines += ['  in kB  ' + ''.join('%12.5f' % x for x in (xx, yy, zz, xy, yz, zx))]
        lines += ['  external pressure = %11.2f kB  Pullay stress =        0.00 kB' % ((xx + yy + zz) / 3), '']
    lines += [' VOLUME and BASIS-vectors are now :', ' ' + '-' * 77]
    lines += ['  energy-cutoff  : %11.2f' % float(tags['ENCUT'])]
    lines += ['  volume of cell : %11.2f' % abs(determinant(cell))]
    lines += ['      direct lattice vectors                 reciprocal lattice vectors']
    for vector, other in zip(cell, zip(*invert(cell))):  # noqa: B905
        lines.append('   ' + ''.join('%13.9f' % x for x in (*vector, *other)))
    lines += ['', ' POSITION                                       TOTAL-FORCE (eV/Angst)', ' ' + '-' * 83]
    lines += [
        ' ' + ''.join('%13.5f' % x for x in times(s, cell)) + '   ' + ''.join('%14.6f' % x for x in f)
        for s, f in zip(scaled, forces)  # noqa: B905
    ]
    lines += [' ' + '-' * 83, '  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)', '  ' + '-' * 51]
    lines += ['  free  energy   TOTEN  = %18.8f eV' % energy, '']
    lines += ['  energy  without entropy= %17.8f  energy(sigma->0) = %17.8f' % run.steps[-1][1:], '']
    lines += [' General timing and accounting informations for this job:', ' ' + '=' * 56, '']
    lines += ['                  Total CPU time used (sec):        0.010']
    lines += ['                            User time (sec):        0.010']
    lines += ['                          System time (sec):        0.000']
    lines += ['                         Elapsed time (sec):        0.010', '']
    lines += ['                   Maximum memory used (kb):       10000.']
    lines += ['                   Average memory used (kb):           0.', '']
    lines += ['                          Minor page faults:            0']
    lines += ['                          Major page faults:            0']
    lines += ['                 Voluntary context switches:            0', '']
    return '\n'.join(lines)


def fault_of(folder):
    """The fault that is asked for in this folder, or nothing."""
    path = os.environ.get('STAND_IN_FAULTS')
    if path is None:
        return ''
    asked = json.loads(Path(path).read_text())
    fault = asked.get(folder, asked.get('*', ''))
    if fault.startswith('first:'):
        been = Path(path).with_name('been-' + folder)
        fault = '' if been.exists() else fault.split(':', 1)[1]
        been.touch()
    return fault


def main():
    fault = fault_of(Path.cwd().name)
    if fault == 'nothing':
        print('stand-in: error while loading shared libraries')
        return 127
    if not Path('POTCAR').stat().st_size:
        print('stand-in: POTCAR is empty')
        return 1
    cell, symbols, scaled = read_poscar(Path('POSCAR').read_text())
    tags = incar_tags(Path('INCAR').read_text())
    if fault.startswith('sleep:'):
        Path('OUTCAR').write_text(' vasp.6.3.0 stand-in\n')
        time.sleep(float(fault.split(':')[1]))
    energy, forces, stress = morse(cell, scaled)
    if fault == 'wrong_atoms':
        symbols, scaled, forces = symbols[:-1], scaled[:-1], forces[:-1]
    if fault == 'no_stress':
        stress = None
    if fault == 'not_finite':
        forces[0][0] = math.nan
    n_steps = int(tags['NELM']) if fault == 'unconverged' else min(7, int(tags['NELM']) - 1)
    common = (cell, symbols, scaled, tags, n_steps, (energy, forces, stress))
    outcar, vasprun = outcar_text(*common, converged=fault != 'unconverged'), vasprun_text(*common)
    if fault in ('truncated_outcar', 'killed'):
        outcar = outcar[: len(outcar) // 2]
    if fault in ('truncated_xml', 'killed'):
        vasprun = vasprun[: 2 * len(vasprun) // 3]
    Path('OUTCAR').write_text(outcar)
    Path('vasprun.xml').write_text(vasprun)
    Path('CONTCAR').write_text(Path('POSCAR').read_text())
    print(' running stand-in of the tests\n   1 F= %.8E E0= %.8E' % (energy, energy + EXTRAPOLATION), flush=True)
    if fault == 'killed':
        os.kill(os.getpid(), signal.SIGKILL)
    return 1 if fault == 'status' else 0


if __name__ == '__main__':
    sys.exit(main())
