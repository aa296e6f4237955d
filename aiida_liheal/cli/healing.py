"""`aiida-liheal healing`: when the voids of many runs healed, against size and temperature, and the laws of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click
from aiida.cmdline.utils import echo

from aiida_liheal.cli.params import fail, load, with_profile

if TYPE_CHECKING:
    from aiida_liheal.analysis.healing import HealingTime

__all__ = ('healing',)


@click.command('healing')
@click.argument('processes', nargs=-1, required=True, metavar='PK...')
@click.option('--json', 'as_json', is_flag=True, help='Write runs, laws and what was left out as JSON.')
@click.option(
    '--confidence',
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.68,
    show_default=True,
    help='Probability with which the intervals of a law cover the truth.',
)
@with_profile
def healing(processes: tuple[str, ...], as_json: bool, confidence: float) -> None:
    """Tell when the voids of runs healed, against size and temperature, with the laws that these times allow.

    PK is that of a run of `heal`, or of a campaign, all of whose voids count. Laws are fitted to the logarithms of the
    times: Arrhenius at each size, a power law at each temperature, and both at once. A run whose void had not healed
    is a bound. A law needs one more healed run than it has unknowns, so that there is an uncertainty.
    """
    from aiida.orm import WorkChainNode

    from aiida_liheal.analysis.healing import fit_laws

    times: dict[str, HealingTime] = {}
    left_out: dict[str, str] = {}
    for identifier in processes:
        for label, node in _runs(load(identifier, WorkChainNode, 'healing')):
            try:
                times[node.uuid] = _time_of(node, label)
            except ValueError as error:
                left_out[label] = str(error)
    laws = fit_laws(list(times.values()), confidence)
    if as_json:
        told = {'runs': [asdict(time) for time in times.values()], 'laws': laws, 'left_out': left_out}
        echo.echo(json.dumps(told, indent=1, ensure_ascii=False))
        return
    for label, cause in left_out.items():
        echo.echo_warning(f'{label} is left out: {cause}')
    if not times:
        fail('no run with a void that was analysed')
    rows = [
        (
            time.label,
            f'{time.size_A:.1f}',
            f'{time.temperature_K:g}',
            f'> {time.time_ps:g}' if time.is_bound else f'{time.time_ps:g}',
        )
        for time in sorted(times.values(), key=lambda time: (time.size_A, time.temperature_K))
    ]
    echo.echo_tabulate(rows, headers=['run', 'diameter (Å)', 'T (K)', 'healed at (ps)'], disable_numparse=True)
    for law in laws:
        echo.echo('')
        echo.echo(_sentence(law))
    if not laws:
        echo.echo('')
        echo.echo('one size and one temperature: no law can be told')


def _runs(node: Any) -> Iterator[tuple[str, Any]]:
    """Runs of `heal` by their names: the process itself, or the points of a campaign."""
    from aiida.common.exceptions import NotExistent
    from aiida.orm import load_node

    if node.process_label == 'HealWorkChain':
        yield node.label or f'<{node.pk}>', node
        return
    if node.process_label not in ('CampaignWorkChain', 'ReproduceWorkChain') or 'table' not in node.outputs:
        fail(f'{node.process_label}<{node.pk}>: give runs of heal, or campaigns that are over')
    for row in node.outputs.table['rows']:
        try:
            run = load_node(row['run'])
        except NotExistent:
            echo.echo_warning(f'{row["point"]} is left out: its run is not in this profile')
            continue
        if run.process_label == 'HealWorkChain':
            yield row['point'], run


def _time_of(node: Any, label: str) -> HealingTime:
    """When the void of a run had healed. Raises ValueError if that cannot be told."""
    from aiida_liheal.analysis.healing import HealingTime, equivalent_diameter

    if 'analysis' not in node.outputs or 'summary' not in node.outputs.analysis:
        raise ValueError('it was not analysed')
    summary = node.outputs.analysis.summary.get_dict()
    volume = summary.get('start', {}).get('void_volume_A3')
    if not volume:
        raise ValueError('there is no void at its start')
    healed = summary.get('healed_at_ps')
    if healed is None and not node.is_finished_ok:
        raise ValueError(f'it ended with exit code {node.exit_status} before its void had healed')
    time = summary['end']['time_ps'] if healed is None else healed
    if not time > 0:
        raise ValueError('its void was gone at the first frame')
    temperature = node.inputs.settings.get_dict()['temperature_K']
    return HealingTime(equivalent_diameter(volume), float(temperature), float(time), healed is None, label)


def _sentence(law: dict[str, Any]) -> str:
    where = f' at {law["size_A"]:.1f} Å' if 'size_A' in law else ''
    where += f' at {law["temperature_K"]:g} K' if 'temperature_K' in law else ''
    head = f'{law["law"]}{where}, {law["healed"]} of {law["runs"]} runs healed: '
    if 'cause' in law:
        return head + f'no law ({law["cause"]})'
    numbers = ', '.join(
        f'{name} = {one["value"]:.3g} [{one["low"]:.3g}, {one["high"]:.3g}]' for name, one in law['parameters'].items()
    )
    broken = f'; {law["bounds_violated"]} runs that had not healed contradict it' if law['bounds_violated'] else ''
    return f'{head}{numbers} ({law["confidence"]:.0%}), scatter of the logarithm {law["scatter"]:.2g}{broken}'
