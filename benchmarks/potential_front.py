"""The front of error against speed of Deep Potentials for lithium: one short training and one LAMMPS run a point.

Sub-commands: `split` (a seeded tenth of each system held out), `point` (train, freeze, compress, evaluate and time one
set of settings; one JSON line is appended), `table` (Markdown table of the points). `results/front.jsonl` holds the
points that the shipped committee's settings were chosen from.
"""

import argparse
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

SEED = 2022
ONE_THREAD = {
    'OMP_NUM_THREADS': '1',
    'TF_INTRA_OP_PARALLELISM_THREADS': '1',
    'TF_INTER_OP_PARALLELISM_THREADS': '1',
    'DP_INTRA_OP_PARALLELISM_THREADS': '1',
    'DP_INTER_OP_PARALLELISM_THREADS': '1',
    'TF_CPP_MIN_LOG_LEVEL': '3',
}


def find_systems(root):
    """Return the DeePMD npy systems below ``root``, sorted."""
    return sorted(p.parent for p in Path(root).rglob('type.raw'))


def split(source, out, fraction=0.1):
    """Write ``out``/train and ``out``/holdout; the held-out frames are seeded."""
    source, out = Path(source), Path(out)
    held = {}
    for index, system in enumerate(find_systems(source)):
        sets = sorted(system.glob('set.*'))
        data = {
            name: np.concatenate([np.load(s / f'{name}.npy', allow_pickle=False) for s in sets])
            for name in ('box', 'coord', 'energy', 'force', 'virial')
        }
        frames = len(data['energy'])
        rng = np.random.default_rng(SEED + index)
        picked = np.sort(rng.choice(frames, round(fraction * frames), replace=False))
        mask = np.zeros(frames, bool)
        mask[picked] = True
        rel = system.relative_to(source)
        held[str(rel)] = picked.tolist()
        for part, keep in (('train', ~mask), ('holdout', mask)):
            target = out / part / rel / 'set.000'
            target.mkdir(parents=True, exist_ok=True)
            for raw in ('type.raw', 'type_map.raw'):
                shutil.copyfile(system / raw, target.parent / raw)
            for name, array in data.items():
                np.save(target / f'{name}.npy', array[keep])
    (out / 'holdout.json').write_text(json.dumps(held))
    return held


def make_input(a, systems, steps):
    """Build the DeePMD input dictionary from the parsed settings ``a``."""
    fitting = {
        'neuron': a.fitting,
        'resnet_dt': a.resnet_dt,
        'precision': 'float32',
        'activation_function': a.activation,
        'seed': a.seed + 1,
    }
    descriptor = {
        'type': 'se_e2_a',
        'rcut': a.rcut,
        'rcut_smth': a.rcut_smth,
        'sel': [a.sel],
        'neuron': a.neuron,
        'axis_neuron': a.axis,
        'resnet_dt': False,
        'activation_function': a.emb_activation,
        'precision': 'float32',
        'seed': a.seed,
    }
    return {
        'model': {'type_map': ['Li'], 'descriptor': descriptor, 'fitting_net': fitting},
        'learning_rate': {
            'type': 'exp',
            'start_lr': a.lr,
            'stop_lr': a.stop_lr,
            'decay_steps': max(1, min(a.decay_steps, steps // 50 or 1)),
        },
        'loss': {
            'type': 'ener',
            'start_pref_e': a.pe[0],
            'limit_pref_e': a.pe[1],
            'start_pref_f': a.pf[0],
            'limit_pref_f': a.pf[1],
            'start_pref_v': a.pv[0],
            'limit_pref_v': a.pv[1],
        },
        'training': {
            'training_data': {'systems': [str(s) for s in systems], 'batch_size': a.batch, 'auto_prob': a.prob},
            'numb_steps': steps,
            'seed': a.seed + 2,
            'disp_file': 'lcurve.out',
            'disp_freq': max(1, steps // 40),
            'save_freq': max(1, steps),
            'max_ckpt_keep': 1,
        },
    }


def call(command, cwd, log, env, timeout=3600):
    """Run a command with its output in ``log``; return (wall seconds, processor seconds)."""
    start, before = time.time(), resource.getrusage(resource.RUSAGE_CHILDREN)
    with open(Path(cwd) / log, 'w') as handle:
        subprocess.run(command, cwd=cwd, env=env, stdout=handle, stderr=subprocess.STDOUT, check=True, timeout=timeout)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.time() - start, used


BENCH = """units metal
atom_style atomic
boundary p p f
lattice bcc {a0}
region box block 0 8 0 8 -3 13 units lattice
create_box 1 box
region slab block 0 8 0 8 0 8.9 units lattice
create_atoms 1 region slab
mass 1 6.94
displace_atoms all random 0.15 0.15 0.15 777
pair_style deepmd {model}
pair_coeff * * Li
neighbor {skin} bin
neigh_modify every {every} delay 0 check yes
velocity all create {temp} 4711
timestep {dt}
fix nve all nve
thermo 50
run {warm}
run {steps}
"""


def bench(model, cwd, env, skin=1.0, steps=60, dt=1e-6, repeats=2, temp=300.0, every=10):
    """Return the best katom-step/s of ``model`` on the 1,152-atom slab with lmp."""
    best, atoms = 0.0, 0
    for _ in range(repeats):
        (Path(cwd) / 'bench.in').write_text(
            BENCH.format(model=model, a0=3.44, skin=skin, steps=steps, warm=5, dt=dt, temp=temp, every=every)
        )
        done = subprocess.run(
            ['lmp', '-in', 'bench.in', '-log', 'bench.log'],
            cwd=cwd,
            env=env,
            capture_output=True,
            check=False,
            text=True,
            timeout=300,
        )
        hits = re.findall(r'Loop time of (\S+) on .* for (\d+) steps with (\d+) atoms', done.stdout)
        if len(hits) < 2:
            print(done.stdout[-1500:], done.stderr[-1500:], file=sys.stderr)
            return 0.0, 0
        seconds, n, atoms = float(hits[-1][0]), int(hits[-1][1]), int(hits[-1][2])
        best = max(best, n * atoms / seconds / 1000)
    return best, atoms


EVAL = """
import sys, json, numpy as np
from deepmd.infer import DeepPot
from pathlib import Path
model, root, stride, out = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
pot = DeepPot(model, auto_batch_size=4096)
result = {}
for kind in ('bulk', 'surf'):
    ee, ff, per = [], [], {}
    for s in sorted((root / kind).rglob('type.raw')):
        s = s.parent
        t = np.loadtxt(s / 'type.raw', dtype=int).ravel()
        d = {k: np.load(s / 'set.000' / (k + '.npy'))[::stride] for k in ('box', 'coord', 'energy', 'force')}
        e, f, v = pot.eval(d['coord'], d['box'], t)
        de = (e.ravel() - d['energy'].ravel()) / len(t)
        df = (f.reshape(len(e), -1) - d['force']).ravel()
        ee.append(de); ff.append(df)
        per[str(s.relative_to(root))] = [1e3 * float(np.sqrt((de**2).mean())), 1e3 * float(np.sqrt((df**2).mean()))]
    e, f = np.concatenate(ee), np.concatenate(ff)
    result[kind] = {'e': 1e3 * float(np.sqrt((e**2).mean())), 'f': 1e3 * float(np.sqrt((f**2).mean())), 'systems': per,
                    'e_max': 1e3 * float(abs(e).max())}
json.dump(result, open(out, 'w'))
"""


def point(a):
    """Measure one set of settings and append it to the results file."""
    work = Path(a.work) / a.name
    work.mkdir(parents=True, exist_ok=True)
    env = {**os.environ, **ONE_THREAD}
    env['PATH'] = str(Path(sys.executable).parent) + os.pathsep + env['PATH']
    for key in ('OMP_NUM_THREADS', 'TF_INTRA_OP_PARALLELISM_THREADS', 'DP_INTRA_OP_PARALLELISM_THREADS'):
        env[key] = str(a.threads)
    systems = [s.resolve() for s in find_systems(Path(a.data) / 'train')]
    if a.steps <= 1:
        systems = systems[-1:]
    (work / 'input.json').write_text(json.dumps(make_input(a, systems, a.steps), indent=1))
    record = {k: v for k, v in vars(a).items() if k not in ('func', 'work', 'data', 'results', 'command')}
    record['train_s'], record['train_cpu_s'] = call(
        ['dp', '--tf', 'train', '--skip-neighbor-stat', 'input.json'], work, 'train.log', env
    )
    steps = re.findall(r'average training time: ([\d.]+) s/batch', (work / 'train.log').read_text())
    record['ms_step'] = 1000 * float(steps[-1]) if steps else None
    env.update(ONE_THREAD)
    call(['dp', '--tf', 'freeze', '-o', 'g.pb'], work, 'freeze.log', env)
    record['frozen_mb'] = (work / 'g.pb').stat().st_size / 1e6
    if a.compress:
        call(
            ['dp', '--tf', 'compress', '-i', 'g.pb', '-o', 'gc.pb', '-t', 'input.json', '-s', str(a.table_step)],
            work,
            'compress.log',
            env,
        )
        record['compressed_mb'] = (work / 'gc.pb').stat().st_size / 1e6
    model = 'gc.pb' if a.compress else 'g.pb'
    if a.steps > 1:
        (work / 'evaluate.py').write_text(EVAL)
        record['eval_s'], record['eval_cpu_s'] = call(
            [
                sys.executable,
                'evaluate.py',
                'g.pb',
                str((Path(a.data) / 'holdout').resolve()),
                str(a.stride),
                'eval.json',
            ],
            work,
            'eval.log',
            env,
        )
        record['rmse'] = json.loads((work / 'eval.json').read_text())
    if a.bench:
        for skin in a.skins:
            record[f'katom_s_skin{skin:g}'], record['atoms'] = bench(model, work, env, skin=skin)
    with open(a.results, 'a') as handle:
        handle.write(json.dumps(record) + '\n')
    print(row(record), flush=True)


def row(r):
    """Return one Markdown table row of a record."""
    rm = r.get('rmse')
    acc = ' | '.join(f'{rm[k][q]:.1f}' for k in ('bulk', 'surf') for q in 'ef') if rm else ' |  |  | '
    speed = ' / '.join(f'{k[12:]}: {v:.1f}' for k, v in r.items() if k.startswith('katom_s_skin'))
    arch = f'{r["rcut"]}/{r["rcut_smth"]} sel {r["sel"]} {r["neuron"]} ax {r["axis"]} fit {r["fitting"]}'
    ms = f'{r["ms_step"]:.1f}' if r.get('ms_step') else ''
    return (
        f'| {r["name"]} | {arch} | lr {r["lr"]:g}->{r["stop_lr"]:g} pe {r["pe"]} pf {r["pf"]} b {r["batch"]} | '
        f'{r["steps"]} | {r["train_s"]:.0f} | {r.get("train_cpu_s") or 0:.0f} | {ms} | {acc} | {speed} | '
        f'{r["frozen_mb"]:.2f} |'
    )


def main():
    """Parse the command line and run the sub-command."""
    parser = argparse.ArgumentParser(description=__doc__)
    sub = parser.add_subparsers(dest='command', required=True)
    p = sub.add_parser('split')
    p.add_argument('source')
    p.add_argument('out')
    p = sub.add_parser('table')
    p.add_argument('results')
    p = sub.add_parser('point')
    p.add_argument('name')
    p.add_argument('--data', required=True)
    p.add_argument('--work', default='points')
    p.add_argument('--results', default='points.jsonl')
    p.add_argument('--steps', type=int, default=1)
    p.add_argument('--rcut', type=float, default=6.0)
    p.add_argument('--rcut-smth', type=float, default=1.5)
    p.add_argument('--sel', type=int, default=120)
    p.add_argument('--neuron', type=int, nargs='+', default=[8, 16, 32])
    p.add_argument('--axis', type=int, default=8)
    p.add_argument('--fitting', type=int, nargs='+', default=[80, 80, 80])
    p.add_argument('--resnet-dt', type=int, default=1)
    p.add_argument('--activation', default='tanh')
    p.add_argument('--emb-activation', default='tanh')
    p.add_argument('--lr', type=float, default=3e-3)
    p.add_argument('--stop-lr', type=float, default=3e-6)
    p.add_argument('--decay-steps', type=int, default=200)
    p.add_argument('--pe', type=float, nargs=2, default=[0.02, 2])
    p.add_argument('--pf', type=float, nargs=2, default=[1000, 2])
    p.add_argument('--pv', type=float, nargs=2, default=[0.02, 0.2])
    p.add_argument('--batch', default=1, type=lambda x: int(x) if x.isdigit() else x)
    p.add_argument('--prob', default='prob_sys_size')
    p.add_argument('--seed', type=int, default=1)
    p.add_argument('--threads', type=int, default=1)
    p.add_argument('--table-step', type=float, default=0.01)
    p.add_argument('--compress', type=int, default=1)
    p.add_argument('--stride', type=int, default=2)
    p.add_argument('--bench', type=int, default=1)
    p.add_argument('--skins', type=float, nargs='+', default=[1.0])
    a = parser.parse_args()
    if a.command == 'split':
        held = split(a.source, a.out)
        print(sum(map(len, held.values())), 'frames held out')
    elif a.command == 'table':
        for line in Path(a.results).read_text().splitlines():
            print(row(json.loads(line)))
    else:
        a.resnet_dt = bool(a.resnet_dt)
        point(a)


if __name__ == '__main__':
    main()
