"""The numbers that a person wants first: one list for the page and for the terminal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from aiida.orm import ArrayData

from aiida_liheal.analysis.reproduction import counts_text
from aiida_liheal.data.frames import FramesData
from aiida_liheal.report.tree import Step, Tree
from aiida_liheal.structures.label_errors import digits, sentences

__all__ = ('Fact', 'beyond_limits', 'conclusions', 'duration', 'facts', 'next_step', 'outcome', 'simulations', 'why')

#: What runs of a coexistence did.
_VERDICTS = {'freezes': 'froze', 'melts': 'melted', 'undecided': 'undecided', 'failed': 'failed'}
#: Limits of a run in words, with their units.
_LIMITS = {
    'max_temperature_K': ('temperature', ' K'),
    'max_lost_atoms': ('atoms lost', ''),
    'max_deviation_eV_per_A': ('deviation of forces', ' eV/Å'),
}
#: Most dendrites of a run that are told of.
_MOST_DENDRITES = 3
#: Times of a pair of dendrites, and from when on they count; see `analysis.contacts`.
_OF_A_PAIR = (
    ('contact_ps', 'contact of the pair', 'from then on one piece above the layers next to the substrate'),
    ('fused_ps', 'the pair fused', 'from then on the neck is nearly as thick as they are at their axes'),
    ('flat_ps', 'surface flat again', 'from then on the roughness is a small share of its largest value'),
)
#: Jobs that label a batch of frames.
_LABEL_JOBS = ('GpawCalculation', 'VaspBatchCalculation', 'AseCalculation')
#: Most frames without labels that are told one by one, and most shards that are named.
_MOST_FRAMES = 5
#: Most flags of one job that are listed.
_MOST_FLAGS = 5


@dataclass(frozen=True)
class Fact:
    """One line of the short table: the stage, what it is, its value with unit, and a remark."""

    stage: str
    name: str
    value: str
    remark: str = ''


def facts(tree: Tree) -> list[Fact]:
    """The short table of a process, in the order of the chain. Stages without results are left out."""
    found: list[Fact] = []
    found += _labels(tree)
    for step in _outermost(tree, 'TrainWorkChain', 'DpTrainCalculation'):
        found += _training(tree, step)
    for step in tree.named('ExploreWorkChain'):
        found += _exploration(step)
    for step in tree.named('LearnWorkChain'):
        summary = step.result('summary')
        if summary:
            found.append(Fact('learn', 'outcome', str(summary['outcome']), plural(summary['n_rounds'], 'round')))
    if not tree.named('CampaignWorkChain'):
        for name, told in (
            ('ValleyWorkChain', _valleys),
            ('DiffuseWorkChain', _diffusion),
            ('MeltWorkChain', _melting),
            ('ValidateWorkChain', _validation),
        ):
            for step in tree.named(name):
                found += told(step)
    for step in simulations(tree):
        found += _simulation(step)
    return found + _limits(tree)


def plural(number: int, noun: str) -> str:
    """A number with its noun."""
    return f'{number} {noun}' if number == 1 else f'{number} {noun}s'


def with_error(value: float, error: float) -> str:
    """A small or large number with its error, both of one power of ten, the error with two digits."""

    def first_digit(number: float) -> int:
        # so that rounding takes no 1 for 0.99…
        return int(np.floor(np.log10(number) + 1e-9))

    power = first_digit(abs(value)) if value else 0
    places = max(0, 1 - first_digit(error / 10.0**power)) if error > 0 else 2
    raised = str(power).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))
    return f'({value / 10.0**power:.{places}f} ± {error / 10.0**power:.{places}f})·10{raised}'


def duration(seconds: float | None) -> str:
    """A time span for people."""
    if seconds is None:
        return ''
    if seconds < 60:
        return f'{seconds:.1f} s'
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours} h {minutes:02d} min' if hours else f'{minutes} min {rest:02d} s'


def simulations(tree: Tree) -> list[Step]:
    """The steps that ran one simulation each: the verbs, or a bare run or analysis if there is no verb.

    Those of a campaign are left out, as its table has a row for each, and so are those of verbs that tell of many runs.
    """
    if tree.named('CampaignWorkChain', 'ValleyWorkChain', 'DiffuseWorkChain', 'MeltWorkChain', 'ValidateWorkChain'):
        return []
    verbs = tree.named('DepositWorkChain', 'HealWorkChain')
    if verbs:
        return verbs
    bare = tree.named('MdWorkChain') or [
        step for step in tree.named('LammpsCalculation') if step.result('results').get('kind') in ('deposit', 'heal')
    ]
    return bare or tree.named('AnalyseCalculation')


def _outermost(tree: Tree, *names: str) -> list[Step]:
    """Steps of the first of these names that there are any of."""
    return next((steps for name in names if (steps := tree.named(name))), [])


def _labels(tree: Tree) -> list[Fact]:
    made = dropped = not_tried = 0
    causes: list[str] = []
    seconds = 0.0
    steps = [step for step in _outermost(tree, 'LabelWorkChain', *_LABEL_JOBS) if step.result('summary')]
    for step in steps:
        summary = step.result('summary')
        made += summary['n_made']
        dropped += summary['n_dropped']
        not_tried += summary.get('n_not_tried', 0)
        causes += [str(frame['cause']) for frame in summary.get('dropped', [])]
        seconds += (summary.get('seconds_per_frame') or 0.0) * summary['n_made']
    if not steps:
        return []
    pace = f'{seconds / made:.0f} s a frame on one core' if made and seconds else ''
    found = [
        Fact('label', 'labels made', str(made), pace),
        Fact('label', 'labels dropped', str(dropped), '; '.join(dict.fromkeys(causes))),
    ]
    if not_tried:
        found.append(Fact('label', 'frames not tried', str(not_tried)))
    return found


def _dropped_frames(tree: Tree) -> list[str]:
    """The first frames that have no labels in what came out, each with its place and cause, and how many more."""
    said: list[str] = []
    more = 0
    for step in _outermost(tree, 'LabelWorkChain', *_LABEL_JOBS):
        entries = step.result('summary').get('dropped', [])
        shown = entries[: _MOST_FRAMES - len(said)]
        more += len(entries) - len(shown)
        # cut into batches, a frame has another index in what was given
        cut = {
            name: node.get_array('extra.source_index')
            for other in (tree.below(step) if shown else [])
            if other.name == 'split_frames'
            for name, node in other.outputs.items()
            if isinstance(node, FramesData)
        }
        given = step.inputs.get('frames')
        for entry in shown:
            batch, index = entry.get('batch'), entry['index']
            place = f'frame {index}' + (f' of {batch}' if batch else '')
            if given is not None:
                source = cut.get(batch)
                place += f' (--index {index if source is None else int(source[index])} of pk {given.pk})'
            said.append(f'Left out: {place}: {entry["cause"]}.')
    if more:
        said.append(f'Left out besides: {plural(more, "frame")}; `summary` has them all.')
    return said


def _labelled_shards(root: Step) -> list[str]:
    """Where the labels of a process are, in a sentence; nothing if there are none."""
    found = [
        f'pk {node.pk} ({plural(len(node), "frame")})'
        for name, node in root.outputs.items()
        if name.startswith('frames') and isinstance(node, FramesData)
    ]
    if not found:
        return []
    more = f' and {len(found) - _MOST_FRAMES} more' if len(found) > _MOST_FRAMES else ''
    return [f'Labelled frames are in {", ".join(found[:_MOST_FRAMES])}{more}.']


def _training(tree: Tree, step: Step) -> list[Fact]:
    summary = step.result('summary')
    if not summary:
        return []
    stage = step.title if step.depth else 'train'
    members = summary.get('n_members', 1)
    found = [
        Fact(
            stage,
            'trained on',
            plural(summary['n_train'], 'frame'),
            f'{plural(members, "member")}, {summary["n_steps"]} steps; {summary["n_holdout"]} frames held out',
        )
    ]
    ends = [end for other in tree.below(step) if (end := _end_of_curve(other)) is not None]
    if ends:
        energy, force = np.sqrt(np.mean(np.square(ends), axis=0)) * 1000
        found.append(
            Fact(
                stage,
                'training RMSE',
                f'{digits(energy)} meV/atom, {digits(force)} meV/Å',
                'batches of the last tenth of the learning curve, over the members',
            )
        )
    for domain, errors in summary['holdout'].items():
        parts, worst = [], []
        for key, unit in (('energy_rmse_meV_per_atom', 'meV/atom'), ('force_rmse_meV_per_A', 'meV/Å')):
            if key not in errors:
                continue
            value = errors[key]
            if isinstance(value, dict):
                parts.append(f'{digits(value["mean"])} {unit}')
                worst.append(f'{digits(value["worst"])} {unit}')
            else:
                parts.append(f'{digits(value)} {unit}')
        remark = plural(errors['n_frames'], 'frame') + (f'; worst member {", ".join(worst)}' if members > 1 else '')
        found.append(Fact(stage, f'held-out RMSE, {domain}', ', '.join(parts), remark))
    return found


def _end_of_curve(step: Step) -> tuple[float, float] | None:
    """Training RMSE of energy (eV/atom) and force (eV/Å) over the last tenth of the learning curve of a job."""
    node = step.outputs.get('learning_curve')
    if step.name != 'DpTrainCalculation' or not isinstance(node, ArrayData):
        return None
    names = node.get_arraynames()
    # without held-out frames the columns carry no suffix
    suffix = '_trn' if 'rmse_f_trn' in names else ''
    if f'rmse_f{suffix}' not in names:
        return None
    pair = []
    for what in 'ef':
        column = node.get_array(f'rmse_{what}{suffix}')
        column = column[-max(1, len(column) // 10) :]
        pair.append(float(np.sqrt(np.mean(np.square(column)))))
    return pair[0], pair[1]


def _exploration(step: Step) -> list[Fact]:
    summary = step.result('summary')
    if not summary:
        return []
    stage = step.title if step.depth else 'explore'
    counts = {key: summary[f'n_{key}'] for key in ('accurate', 'candidate', 'failed', 'missing')}
    total = sum(counts.values())
    found = [
        Fact(
            stage,
            'frames seen',
            str(total),
            ', '.join(f'{count} {key}' for key, count in counts.items() if count),
        )
    ]
    for name, system in summary['systems'].items():
        mean, largest = system['mean_max_devi_f_eV_per_A'], system['max_devi_f_eV_per_A']
        if mean is not None and largest is not None:
            remark = f'largest of a frame, mean of the frames; largest of all {largest:.3f} eV/Å'
            found.append(Fact(stage, f'deviation of forces, {name}', f'{mean:.3f} eV/Å', remark))
    found.append(Fact(stage, 'chosen to label', str(summary['n_chosen']), f'{summary["n_left_out"]} left out'))
    return found


def analysis_of(step: Step) -> dict[str, Any]:
    """Summary of the analysis of a simulation; empty if there is none."""
    return step.result('analysis__summary') or (step.result('summary') if step.name == 'AnalyseCalculation' else {})


def kind_of(step: Step) -> str:
    """`deposit`, `heal`, or what the step is called."""
    return {'DepositWorkChain': 'deposit', 'HealWorkChain': 'heal'}.get(
        step.name, step.result('results').get('kind', step.verb)
    )


def share_key(series: Any, structure: str = 'bcc') -> str:
    """Name of the share of a structure over all atoms: of averaged positions where there are any."""
    averaged = f'{structure}_share_averaged'
    return averaged if averaged in series else f'{structure}_share'


def _void(analysis: dict[str, Any]) -> str:
    """What became of a void."""
    end = analysis['end']
    if analysis.get('healed_at_ps') is not None:
        return f'closed at {analysis["healed_at_ps"]:.2f} ps, and stayed so to the end at {end["time_ps"]:.2f} ps'
    # below the volume of an atom there is no void; see `analysis.voids.healed_at_ps`
    lattice = analysis.get('settings', {}).get('lattice_constant_A')
    if lattice is not None and end['void_volume_A3'] < lattice**3 / 2:
        return f'closed at the end, {end["time_ps"]:.2f} ps, for too short a time to call it healed'
    return f'open at the end, {end["time_ps"]:.2f} ps'


def _simulation(step: Step) -> list[Fact]:
    stage = kind_of(step)
    found: list[Fact] = []
    runs = step.result('results').get('runs', [])
    if runs and 'n_final' in runs[0]:
        run = runs[0]
        if stage == 'deposit':
            landed = run['n_inserted'] - run['n_lost']
            in_flight = (analysis_of(step).get('end') or {}).get('atoms_in_flight')
            remark = f'{run["n_inserted"]} inserted, {run["n_lost"]} lost'
            if in_flight is not None:
                landed -= in_flight
                remark += f', {in_flight} still in flight'
            found.append(Fact(stage, 'atoms deposited', str(landed), remark))
        balance = f'{run["n_start"]} + {run["n_inserted"]} - {run["n_lost"]} = {run["n_final"]}'
        found.append(Fact(stage, 'atom balance', balance, 'start + inserted - lost = end'))
    if runs and runs[0].get('n_steps'):
        run = runs[0]
        remark = f'{run["katom_step_per_s"]:.1f} katom-step/s' if run.get('katom_step_per_s') else ''
        found.append(Fact(stage, 'MD steps', f'{run["last_step"]} of {run["n_steps"]}', remark))
    analysis = analysis_of(step)
    start, end = analysis.get('start', {}), analysis.get('end', {})
    if stage != 'deposit' and start.get('void_volume_A3') is not None:
        volumes = f'{start["void_volume_A3"]:.0f} → {end["void_volume_A3"]:.0f} Å³'
        found.append(Fact(stage, 'void volume', volumes, _void(analysis)))
    if stage == 'deposit' and start.get('film_height_A') is not None and end.get('film_height_A') is not None:
        found.append(Fact(stage, 'height of the film', f'{start["film_height_A"]:.1f} → {end["film_height_A"]:.1f} Å'))
    for key, name in (('roughness_A', 'roughness of the surface'), ('defect_depth_A', 'depth of its deepest defect')):
        if start.get(key) is not None and end.get(key) is not None:
            found.append(Fact(stage, name, f'{start[key]:.1f} → {end[key]:.1f} Å'))
    tips, valleys = (start.get(f'potential_energy_{site}_eV_per_atom') for site in ('tips', 'valleys'))
    if tips is not None and valleys is not None:
        counts = f'{start["atoms_tips"]} atoms at tips, {start["atoms_valleys"]} in valleys, at the start'
        found.append(Fact(stage, 'energy at tips less that in valleys', f'{tips - valleys:.2f} eV', counts))
    for frame in analysis.get('site_energies') or []:
        less = frame['differences'].get('tips_less_valleys')
        if less:
            name = f'tips less valleys at {frame["time_ps"]:.4g} ps, by the committee'
            value = f'{less["mean_eV"]:.3f} ± {less["spread_eV"]:.3f} eV'
            found.append(Fact(stage, name, value, f'standard deviation over {frame["members"]} members'))
    found += _deposit(stage, analysis)
    key = share_key(end)
    if key in end and key in start:
        remark = 'a-CNA, all atoms' + (', positions averaged' if key.endswith('averaged') else '')
        found.append(Fact(stage, 'BCC share', f'{start[key]:.2f} → {end[key]:.2f}', remark))
    return found


def _deposit(stage: str, analysis: dict[str, Any]) -> list[Fact]:
    """Where the current landed, what stands on the substrate at the end, and what became of a pair."""
    found = []
    current = analysis.get('local_current')
    if current:
        error = '' if current.get('vlcd_error') is None else f' ± {current["vlcd_error"]:.3f}'
        landed = f'{current["atoms_landed"]} atoms in {current["duration_ps"]:.4g} ps'
        found.append(Fact(stage, 'mean current density', f'{current["mean_A_per_cm2"]:.3g} A/cm²', landed))
        n_patches = sum(len(row) for row in current['density_A_per_cm2'])
        # on a surface of one patch nothing can vary, and 0 would be taken for a finding
        if n_patches > 1:
            remark = 'variance of the local current density by the square of the mean, shot noise taken off; '
            found.append(Fact(stage, 'VLCD', f'{current["vlcd"]:.3f}{error}', f'{remark}{n_patches} patches'))
    for number, one in enumerate((analysis.get('dendrites') or [])[:_MOST_DENDRITES], start=1):
        found.append(
            Fact(stage, f'form of dendrite {number}', one['form'] if one['form'] != 'none' else 'no form', why(one))
        )
    contacts = analysis.get('contacts') or {}
    for key, name, remark in _OF_A_PAIR if contacts.get('pair') else ():
        value = 'not seen' if contacts.get(key) is None else f'{contacts[key]:.4g} ps'
        found.append(Fact(stage, name, value, remark))
    return found


def why(dendrite: dict[str, Any]) -> str:
    """The numbers that led to the form of a dendrite, and how near it is to another."""
    told = str(dendrite['form_reason'])
    if dendrite.get('form_margin_A') is not None:
        unsure = '' if dendrite['form_is_clear'] else ', less than a row of atoms on each side'
        told += f'; {dendrite["form_margin_A"]:.1f} Å from a {dendrite["form_next"]}{unsure}'
    return told


def _valleys(step: Step) -> list[Fact]:
    summary = step.result('summary')
    found: list[Fact] = []
    if summary:
        told = summary['removal_energy']
        angles = sorted(
            (angle, rise, spread)
            for angle, rise, spread in zip(
                summary['angles_deg'], told['rise_mean_eV'], told['rise_spread_eV'], strict=True
            )
            if rise is not None
        )
        if angles:
            (first, _, _), (last, rise, spread) = angles[0], angles[-1]
            error = f' ± {spread:.3f}' if summary['n_members'] > 1 else ''
            rank = told['rank_correlation_with_angle']
            remark = f'energy with the atom less without; {plural(summary["n_members"], "potential")}'
            remark += '' if rank is None else f'; rank correlation with the angle {rank:.2f}'
            found.append(Fact('valley', f'energy at {last:g}° above {first:g}°', f'{rise:.3f}{error} eV', remark))
        for key, name in (('failed', 'failed'), ('not_relaxed_deg', 'not relaxed')):
            if summary.get(key):
                found.append(
                    Fact('valley', f'angles {name}', ', '.join(f'{float(angle):g}°' for angle in summary[key]))
                )
    return found + _slides(step.result('slide__summary'))


def _slides(summary: dict[str, Any]) -> list[Fact]:
    """What the atoms on a slope did; a node made when there was one slide only holds it as its summary."""
    slides = summary.get('slides', [summary])
    found = []
    if len(slides) > 1:
        came = f'reached by {summary["n_reached"]} of {summary["n_slides"]}; {summary["n_stay"]} stayed'
        found.append(Fact('slide', 'bottom of the valley', came, f'within {summary["reach_A"]:g} Å of its bottom'))
    for number, slide in enumerate(slides):
        if 'reached_at_ps' not in slide:
            continue
        reached = slide['reached_at_ps']
        value = 'not reached' if reached is None else f'reached at {reached:.2f} ps'
        stayed = '' if reached is None else ('; stayed' if slide['stays'] else '; did not stay')
        ends = f'{slide["start_A"]:.1f} Å from it at first, {slide["end_A"]:.1f} Å at {slide["duration_ps"]:.1f} ps'
        name = f'slide {number}' if len(slides) > 1 else 'bottom of the valley'
        found.append(Fact('slide', name, value + stayed, ends))
    return found


def _diffusion(step: Step) -> list[Fact]:
    found = []
    for row in step.result('summary').get('temperatures', []):
        for group in ('surface', 'bulk'):
            told = row.get(group, {})
            if told.get('is_resolved'):
                value = f'{with_error(told["D_m2_per_s"], told["D_error_m2_per_s"])} m²/s'
            elif told.get('D_bound_m2_per_s') is not None:
                value = f'below {told["D_bound_m2_per_s"]:.2g} m²/s'
            else:
                continue
            remark = (
                f'{told["n_moved"]} of {plural(told["n_atoms"], "atom")} left their site in {told["length_ps"]:g} ps'
            )
            found.append(Fact('diffuse', f'D of the {group}, {row["asked_temperature_K"]:g} K', value, remark))
    return found


def _melting(step: Step) -> list[Fact]:
    summary = step.result('summary')
    if not summary:
        return []
    verdicts = [run.get('verdict', 'failed') for run in summary['runs']]
    counts = ', '.join(f'{verdicts.count(name)} {word}' for name, word in _VERDICTS.items() if name in verdicts)
    limits = [('?' if summary[key] is None else f'{summary[key]:g}') for key in ('low_K', 'high_K')]
    small = '' if summary['is_large_enough_to_quote'] else '; too small a crystal for a value to quote'
    found = [
        Fact('melt', 'runs', str(len(verdicts)), f'{plural(summary["rounds"], "round")}: {counts}'),
        Fact('melt', 'bracket', f'{limits[0]} to {limits[1]} K', plural(summary['n_atoms'], 'atom') + small),
    ]
    if summary['outcome'] == 'bracketed':
        point = f'{summary["melting_point_K"]:g} ± {summary["half_width_K"]:g} K'
        found.append(Fact('melt', 'melting point', point, 'middle of the bracket and half its width'))
    return found


def _validation(step: Step) -> list[Fact]:
    # phonopy takes its time to import
    from aiida_liheal.analysis.validation import reference_text

    found = []
    for row in step.result('table').get('rows', []):
        value = 'not measured'
        if row['value'] is not None:
            # tables of before had no error
            uncertainty = row.get('error') if row['spread'] is None else row['spread']
            spread = '' if uncertainty is None else f' ± {uncertainty:.2g}'
            value = f'{row["value"]:.4g}{spread} {row["unit"]}'.rstrip()
        told = [row['verdict']] if row['verdict'] in ('pass', 'fail', 'not at this size') else []
        if row['passes_from'] is not None:
            told.append(f'limits {row["passes_from"]:.4g} to {row["passes_to"]:.4g}')
        told += [
            f'{name} {text}'
            for name, key in (('PBE', 'pbe'), ('experiment', 'experiment'))
            if (text := reference_text(row[key]))
        ]
        found.append(
            Fact('validate', row['property'], value, '; '.join([*told, row['remark']] if row['remark'] else told))
        )
    return found


def _of_validation(counts: dict[str, int]) -> str:
    """How many limits were kept, and what was left out."""
    judged = sum(counts.get(verdict, 0) for verdict in ('pass', 'fail', 'undecided', 'not at this size'))
    return (
        f'Validation: {counts.get("pass", 0)} of {judged} limits kept; {plural(counts.get("no limit", 0), "value")} '
        f'without a limit, {counts.get("not measured", 0)} not measured.'
    )


def beyond_limits(step: Step) -> list[str]:
    """What limits the runs of a job went beyond, a sentence each."""
    runs = step.result('results').get('runs', [])
    said = []
    for number, run in enumerate(runs):
        for flag in run.get('flags', []):
            name, unit = _LIMITS.get(flag['limit'], (flag['limit'], ''))
            # what was not a number is None in the database
            value, largest = (None if flag[key] is None else f'{flag[key]:.6g}{unit}' for key in ('value', 'largest'))
            at_most = '' if largest in (value, None) else f', {largest} at most'
            which = f'run {number}: ' if len(runs) > 1 else ''
            said.append(
                f'{which}{name} {value or "not a number"} at step {flag["step"]}{at_most}; '
                f'allowed {flag["allowed"]:g}{unit}'
            )
    return said


def _limits(tree: Tree) -> list[Fact]:
    """Jobs that were held to limits: what they went beyond, or that they kept them."""
    held = [
        step
        for step in tree.named('LammpsCalculation')
        if any('flags' in run for run in step.result('results').get('runs', []))
    ]
    found = []
    for step in held:
        said = beyond_limits(step)
        shown = said[:_MOST_FLAGS] + ([f'{len(said) - _MOST_FLAGS} more'] if len(said) > _MOST_FLAGS else [])
        stopped = any(run['status'] == 'stopped' for run in step.result('results')['runs'])
        value = plural(len(said), 'limit') + (' passed, stopped' if stopped else ' passed')
        if said:
            found.append(Fact(f'LAMMPS, pk {step.pk}', 'beyond limits', value, '. '.join(shown)))
    if held and not found:
        found.append(Fact('LAMMPS', 'limits', 'kept', f'by {plural(len(held), "job")}'))
    return found


def outcome(step: Step) -> str:
    """How a process stands beyond its state, in one sentence; empty if there is nothing to add."""
    match step.state:
        case 'finished':
            return 'Taken from an equal process that ran before.' if step.is_cached else ''
        case 'failed':
            kind = {2: 'bad inputs', 3: 'unrecoverable', 4: 'can be gone on with', 5: 'did not converge'}
            known = kind.get((step.node.exit_status or 0) // 100)
            return f'Ended with exit code {step.node.exit_status}' + (f' ({known})' if known else '') + '.'
        case 'killed':
            return 'Killed before its end.'
        case 'excepted':
            return 'Stopped by an exception in the workflow itself.'
        case _:
            return f'Not over yet: {step.state}.'


def next_step(tree: Tree) -> str:
    """What to do next, for a process that did not end well; empty if it did."""
    root = tree.root
    pk = root.pk
    match root.state:
        case 'failed':
            return f'{root.message[:1].upper()}{root.message[1:]}.' if root.message else ''
        case 'killed':
            restart = f' or go on with `aiida-liheal launch {root.verb} --restart {pk}`'
            return 'Run it again; with caching on, what was finished is not done twice' + (
                f'{restart}.' if root.name in ('DepositWorkChain', 'HealWorkChain') else '.'
            )
        case 'excepted':
            return f'{root.message}. `verdi process report {pk}` has the whole trace; please report it.'
        case 'finished' | 'unknown':
            return ''
        case _:
            return f'`aiida-liheal status {pk}` shows how far it is; make this page again when it is over.'


def _of_valleys(summary: dict[str, Any]) -> str:
    angles, energies = summary['angles_deg'], summary['removal_energy']['mean_eV']
    known = sorted((angle, energy) for angle, energy in zip(angles, energies, strict=True) if energy is not None)
    listed = ', '.join(f'{energy:.3f} eV at {angle:g}°' for angle, energy in known)
    return f'Energy of an atom in a valley, less that without it: {listed or "none"}.'


def _of_diffusion(summary: dict[str, Any]) -> list[str]:
    said = []
    for row in summary['temperatures']:
        parts = []
        for group in ('surface', 'bulk'):
            told = row.get(group, {})
            if told.get('is_resolved'):
                parts.append(f'{group} {with_error(told["D_m2_per_s"], told["D_error_m2_per_s"])} m²/s')
            elif told.get('D_bound_m2_per_s') is not None:
                parts.append(f'{group} below {told["D_bound_m2_per_s"]:.2g} m²/s')
        said.append(f'Diffusion at {row["asked_temperature_K"]:g} K: {", ".join(parts) or row["status"]}.')
    return said


def _of_melting(summary: dict[str, Any]) -> str:
    size = plural(summary['n_atoms'], 'atom')
    if summary['outcome'] == 'bracketed':
        return f'Melting point: {summary["melting_point_K"]:g} ± {summary["half_width_K"]:g} K ({size}).'
    low, high = (('?' if summary[key] is None else f'{summary[key]:g}') for key in ('low_K', 'high_K'))
    return f'Melting point: not bracketed, between {low} and {high} K ({size}).'


def conclusions(tree: Tree) -> list[str]:
    """What came out, a sentence a stage."""
    said = [counts_text(table) for step in tree.named('ReproduceWorkChain') if (table := step.result('reproduction'))]
    for step in tree.named('ConvergenceWorkChain'):
        said += sentences(table) if (table := step.result('table')) else []
    for step in tree.named('CampaignWorkChain'):
        counts = step.result('table').get('counts')
        if counts:
            failed = f', {counts["failed"]} failed' if counts['failed'] else ''
            said.append(f'Campaign: {counts["finished"]} of {plural(counts["points"], "point")} finished{failed}.')
    for step in tree.named('LearnWorkChain'):
        summary = step.result('summary')
        if summary:
            said.append(
                f'Learning: {summary["outcome"]} ({plural(summary["n_rounds"], "round")}, '
                f'{plural(summary["n_labels_made"], "label")} made, {summary["n_labels_dropped"]} dropped).'
            )
    if not said and tree.root.name in ('LabelWorkChain', *_LABEL_JOBS, 'TrainWorkChain', 'ExploreWorkChain'):
        said += [f'{fact.name[:1].upper()}{fact.name[1:]}: {fact.value}.' for fact in facts(tree)]
        if tree.root.name in ('LabelWorkChain', *_LABEL_JOBS):
            said += _dropped_frames(tree) + _labelled_shards(tree.root)
    if not tree.named('CampaignWorkChain'):
        said += [_of_valleys(s.result('summary')) for s in tree.named('ValleyWorkChain') if s.result('summary')]
        for step in tree.named('DiffuseWorkChain'):
            said += _of_diffusion(step.result('summary')) if step.result('summary') else []
        said += [_of_melting(s.result('summary')) for s in tree.named('MeltWorkChain') if s.result('summary')]
        for step in tree.named('ValidateWorkChain'):
            said += [_of_validation(step.result('table')['counts'])] if step.result('table') else []
    for step in simulations(tree):
        analysis, stage = analysis_of(step), kind_of(step)
        start, end = analysis.get('start', {}), analysis.get('end', {})
        if stage == 'heal' and start.get('void_volume_A3') is not None:
            volumes = f'{start["void_volume_A3"]:.0f} Å³ at the start, {end["void_volume_A3"]:.0f} Å³ at the end'
            said.append(f'The void: {_void(analysis)} ({volumes}).')
        runs = step.result('results').get('runs', [])
        if stage == 'deposit' and runs and 'n_final' in runs[0]:
            run = runs[0]
            heights = [value.get('film_height_A') for value in (start, end)]
            film = (
                '' if None in heights else f'; height of the film {heights[0]:.1f} Å before, {heights[1]:.1f} Å after'
            )
            said.append(f'Sent onto the slab: {plural(run["n_inserted"], "atom")}, {run["n_lost"]} lost{film}.')
    flagged = [step for step in tree.named('LammpsCalculation') if beyond_limits(step)]
    if flagged:
        said.append(f'Beyond its limits: {plural(len(flagged), "job")}; the table of numbers says where.')
    return said
