"""`aiida-liheal launch campaign FILE`: what a campaign would run and cost, or run it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import yaml
from aiida.cmdline.utils import echo

from aiida_liheal.cli.params import fail, load_potentials, settings_option
from aiida_liheal.cli.verbs import code_rows, common_options, start_process

if TYPE_CHECKING:
    from aiida.engine import ProcessBuilder

    from aiida_liheal.data.potential import PotentialData
    from aiida_liheal.sampling.campaign import Campaign, Cost, Point
    from aiida_liheal.workchains.points import Earlier

__all__ = ('campaign',)


@click.command('campaign')
@click.argument('file', metavar='FILE|NAME')
@click.option(
    '--potential',
    'potentials',
    multiple=True,
    metavar='[NAME=]PK',
    help='What a name of a potential in the campaign stands for: a pk, a UUID or `builtin`. A name given several times '
    'is a committee, the first one drives. Without NAME, the only one that the campaign has. `builtin` is known.',
)
@settings_option
@click.option('--max-at-once', type=click.IntRange(min=1), help='Most runs under way at once; else as in the file.')
@click.option('--max-attempts', type=click.IntRange(min=1), help='Times that a point is tried in all; as in the file.')
@click.option(
    '--katom-step-per-s',
    type=click.FloatRange(min=0, min_open=True),
    help='Measured speed, for the estimate of hours: thousands of atoms times steps a second. If not given, that of '
    'earlier runs in the profile with the same code and potential, else that of the file.',
)
@click.option(
    '--decks',
    type=click.Path(file_okay=False, path_type=Path),
    help='A folder, made if it is not there, for the LAMMPS input and start of every run, to be read; runs nothing.',
)
@common_options(['lmp', 'python'], has_protocol=False)
def campaign(
    file: str,
    potentials: tuple[str, ...],
    max_at_once: int | None,
    max_attempts: int | None,
    katom_step_per_s: float | None,
    decks: Path | None,
    common: Any,
) -> None:
    """Run the series of a campaign file, or of a campaign that ships with the package: laptop, classical or paper.

    Points that an earlier campaign finished are taken over, so a campaign that was stopped or extended is launched
    again with the same command. --dry-run shows atoms, steps and estimated hours of each point, and runs nothing.
    """
    from aiida.orm import Int

    from aiida_liheal.sampling.campaign import lay_over, read_campaign
    from aiida_liheal.workchains.campaign import CampaignWorkChain
    from aiida_liheal.workchains.points import earlier_runs, point_key, read_points

    values = lay_over(_read(file), common.overrides)
    if common.options:
        values = lay_over(values, {'options': common.options})
    try:
        content = read_campaign(values)
        members = _potentials(content, potentials)
        content, built = read_points(values, common.codes, members)
    except ValueError as error:
        fail(f'{file}:\n{error}')
    keys = {name: point_key(builder) for name, (_, builder) in built.items()}
    before = earlier_runs(sorted(set(keys.values())))
    if decks is not None:
        from aiida_liheal.workchains.decks import write_decks

        try:
            n_runs = sum(write_decks(builder, decks / name) for name, (_, builder) in built.items())
        except OSError as error:
            fail(f'--decks {decks}: {error}')
        echo.echo_success(f'wrote the LAMMPS inputs of {n_runs} runs into {decks}; nothing was stored or run')
        if not common.dry_run:
            return
    if common.dry_run:
        speeds = _speeds(content, common.codes['lmp'], members, katom_step_per_s)
        for line in code_rows(common.codes):
            echo.echo('  '.join(line))
        states = {name: before[key] for name, key in keys.items()}
        _show_points(content, built, states, keys, speeds, max_at_once or content.max_at_once)
        echo.echo_success('the inputs are fine; nothing was stored or run')
        return
    for name, key in keys.items():
        if (process := before[key].under_way) is not None:
            fail(
                f'{name} is under way: {process.process_label}<{process.pk}>; wait for it, or end it with '
                f'`verdi process kill {process.pk}`'
            )
    builder = CampaignWorkChain.get_builder()
    from aiida.orm import Dict

    builder.campaign = Dict(values)
    builder.codes = common.codes
    builder.potentials = members
    for name, value in (('max_at_once', max_at_once), ('max_attempts', max_attempts)):
        if value is not None:
            setattr(builder, name, Int(value))
    start_process(builder, replace(common, label=common.label or content.title))


def _read(file: str) -> dict[str, Any]:
    """The content of a campaign file, or of the shipped campaign of this name."""
    from aiida_liheal.workchains.points import shipped_campaigns

    shipped = shipped_campaigns()
    path = Path(file)
    if path.is_file():
        try:
            text = path.read_text(encoding='utf-8')
        except (OSError, UnicodeDecodeError) as error:
            fail(f'{file} cannot be read: {error}')
    elif file in shipped:
        text = shipped[file]
    else:
        fail(f'{file}: there is no such file, nor a campaign of this name that ships with the package; those are '
             f'{", ".join(shipped)}')  # fmt: skip
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        fail(f'{file} cannot be read as YAML: {error}')
    if not isinstance(content, dict):
        fail(f'{file} holds a {type(content).__name__}; a campaign is a mapping with title and series')
    return content


def _potentials(content: Campaign, texts: tuple[str, ...]) -> dict[str, dict[str, PotentialData]]:
    """Members of each potential that the campaign names."""
    from aiida_liheal.sampling.campaign import points

    names = list(dict.fromkeys(point.potential for point in points(content)))
    given: dict[str, list[str]] = {}
    for text in texts:
        name, equals, identifier = text.rpartition('=')
        if not equals and len(names) > 1:
            fail(f'potential {text!r}: the campaign names several, {", ".join(names)}; write NAME={text}')
        given.setdefault(name if equals else names[0], []).append(identifier)
    unknown = sorted(set(given) - set(names))
    if unknown:
        fail(f'potential {", ".join(unknown)}: the campaign names {", ".join(names)}')
    found = {}
    for name in names:
        if name not in given and name != 'builtin':
            fail(f'no potential given for {name!r}: say which one that is with --potential {name}=PK')
        found[name] = load_potentials(given.get(name, ['builtin']))
    return found


def _speeds(
    content: Campaign, code: Any, members: dict[str, dict[str, PotentialData]], given: float | None
) -> dict[str, tuple[float, str]]:
    """Speed in katom-step/s by potential, and where it was measured; what is not known is left out."""
    from aiida_liheal.workchains.points import measured_speed

    speeds = {}
    for name, potential in members.items():
        if given is not None:
            speeds[name] = given, 'given on the command line'
        elif (measured := measured_speed(code, potential['m0'])) is not None:
            speeds[name] = measured
        elif content.throughput is not None and content.throughput.potential in (None, name):
            speeds[name] = content.throughput.katom_step_per_s, f'in the file: {content.throughput.measured_on}'
    return speeds


def _show_points(
    content: Campaign,
    built: dict[str, tuple[Point, ProcessBuilder]],
    before: dict[str, Earlier],
    keys: dict[str, str],
    speeds: dict[str, tuple[float, str]],
    max_at_once: int,
) -> None:
    """A table for each series, and totals."""
    from aiida_liheal.workchains.points import cost_of, packs_of

    echo.echo(f'{content.title}\n')
    totals: dict[str, Cost] = {}
    left: dict[str, Cost] = {}
    seen: dict[str, str] = {}
    for series, about in content.series.items():
        echo.echo(f'{series}: {about.verb}' + (f'. {about.note}' if about.note else ''))
        if about.source:
            echo.echo(f'  source: {about.source}')
        rows = []
        for name, (point, builder) in built.items():
            if point.series != series:
                continue
            cost = cost_of(builder)
            same = seen.setdefault(keys[name], name)
            state = f'same as {same}' if same != name else _state(before[name])
            if same == name:
                totals[point.potential] = totals[point.potential] + cost if point.potential in totals else cost
                if before[name].finished is None:
                    left[point.potential] = left[point.potential] + cost if point.potential in left else cost
            rows.append([name, cost.atoms, cost.steps, f'{cost.atom_steps:.3g}', _hours(cost, point, speeds), state])
        echo.echo_tabulate(rows, headers=['point', 'atoms', 'steps', 'atom-steps', 'hours', ''], disable_numparse=True)
        echo.echo('')
    for potential, cost in totals.items():
        rest = left.get(potential)
        line = f'{potential}: {cost.steps:,} steps, {cost.atom_steps:.3g} atom-steps'
        if potential in speeds:
            speed, source = speeds[potential]
            line += f', {cost.hours(speed):.3g} hours at {speed:.3g} katom-step/s ({source})'
            line += f'; left to run {rest.hours(speed):.3g} hours' if rest else '; nothing is left to run'
        else:
            line += '; hours are not known: give a measured speed with --katom-step-per-s'
        echo.echo(line)
    to_run = {seen[key]: None for name, key in keys.items() if before[name].finished is None}
    jobs = packs_of(content, built, to_run)
    packed = [names for names in jobs if len(names) > 1]
    line = f'{len(to_run)} points are left to run, in {len(jobs)} job{"" if len(jobs) == 1 else "s"}'
    if packed:
        line += f'; {sum(map(len, packed))} of them share {len(packed)}, at most {max(map(len, packed))} in each'
    echo.echo(f'{line}; at most {max_at_once} at once')
    if speeds:
        echo.echo('Hours are those of the machine, core or GPU, that the speed was measured on, one run at a time.')


def _hours(cost: Cost, point: Point, speeds: dict[str, tuple[float, str]]) -> str:
    return f'{cost.hours(speeds[point.potential][0]):.3g}' if point.potential in speeds else '?'


def _state(before: Earlier) -> str:
    """What became of a point so far."""
    if before.finished is not None:
        return f'finished, pk {before.finished.pk}'
    if before.under_way is not None:
        return f'under way, pk {before.under_way.pk}'
    if before.failed:
        return f'failed {len(before.failed)} times, last pk {before.failed[-1].pk}'
    return f'goes on, pk {before.broken_off[-1].pk}' if before.broken_off else 'to run'
