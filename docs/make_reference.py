"""Write `docs/reference.md` from the code: commands, verbs, jobs, settings, exit codes.

python docs/make_reference.py
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import click
from aiida.engine import InputPort, PortNamespace
from aiida.orm import Data, Dict
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

TARGET = Path(__file__).parent / 'reference.md'
#: Verbs in the order of the chain; entry points that are not here follow by name.
ORDER = (
    'label',
    'convergence',
    'train',
    'explore',
    'learn',
    'validate',
    'deposit',
    'heal',
    'campaign',
    'md',
    'quickstart',
)
#: Options that every command has.
COMMON_OPTIONS = ('help', 'verbosity', 'profile', 'version')
HEAD = """<!-- Made by docs/make_reference.py: change the code, not this file. -->
# Reference

[Commands](#commands) · [Verbs](#verbs) · [Jobs](#jobs) · [Settings](#settings)

Exit codes: 2xx bad inputs, 3xx unrecoverable, 4xx restartable, 5xx did not converge; those below 200 are AiiDA's own.
What AiiDA itself gives to every process is left out: `code` of a job; `metadata.options` of a job, with `resources`,
`max_wallclock_seconds`, `queue_name`, `custom_scheduler_commands` and others; `remote_folder` and `retrieved`; and
`max_iterations` of the work chains that restart their job.
"""


def models() -> dict[type[BaseModel], str]:
    """Every model of settings, with the places where it is used."""
    from aiida_liheal.analysis.judges import (
        Coexistence,
        Compared,
        DipsAndRecovers,
        ExpectedForm,
        Faster,
        Forms,
        Happens,
        Properties,
        Reading,
        Reference,
        Rises,
        Within,
    )
    from aiida_liheal.analysis.reproduction import Check, Part
    from aiida_liheal.analysis.settings import AnalysisSettings, ContactSettings, DendriteAnalysisSettings
    from aiida_liheal.analysis.validation import Limit, PropertyReference, ReferenceValue
    from aiida_liheal.calculations.dp_settings import DpTrainSettings
    from aiida_liheal.calculations.lammps import JobSettings
    from aiida_liheal.engines.ase.calculation import AseSettings
    from aiida_liheal.engines.gpaw.calculation import GpawSettings
    from aiida_liheal.engines.vasp.settings import VaspSettings
    from aiida_liheal.lammps.kinds import (
        DepositSettings,
        DiffuseSettings,
        ExploreSettings,
        HealSettings,
        LiquidSettings,
        MeltSettings,
        RelaxSettings,
        SlideSettings,
        ValleyRunSettings,
    )
    from aiida_liheal.lammps.limits import Limits
    from aiida_liheal.lammps.sources import SourcePatch
    from aiida_liheal.sampling.campaign import Campaign, FigureSettings, Series, Throughput
    from aiida_liheal.sampling.convergence import ConvergenceSettings
    from aiida_liheal.sampling.stages import SystemStage
    from aiida_liheal.sampling.trust import TrustLevels
    from aiida_liheal.structures.bcc import SlabSettings, VoidCrystalSettings
    from aiida_liheal.structures.dendrites import DendriteSettings
    from aiida_liheal.structures.label_errors import Tolerances
    from aiida_liheal.structures.perturb import PerturbSettings
    from aiida_liheal.structures.quality import QualityRules
    from aiida_liheal.structures.reference import ReferenceSettings
    from aiida_liheal.structures.valleys import SlopeSettings, ValleySettings
    from aiida_liheal.workchains.melt import CrystalSettings, SearchSettings
    from aiida_liheal.workchains.quickstart import StructureSettings

    return {
        GpawSettings: '`gpaw.settings` of `liheal.label`; `settings` of `liheal.gpaw`',
        AseSettings: '`ase.settings` of `liheal.label`; `settings` of `liheal.ase`',
        QualityRules: '`quality` of `liheal.label`',
        Tolerances: '`tolerances` of `liheal.convergence`',
        VaspSettings: '`vasp.settings` of `liheal.label`; `settings` of `liheal.vasp`',
        DpTrainSettings: '`settings` of `liheal.train` (without `seed`) and of `liheal.dp_train`',
        SystemStage: 'for each system in `stage` of `liheal.explore`',
        TrustLevels: '`trust` of `liheal.explore`',
        ConvergenceSettings: '`convergence` of `liheal.learn`',
        SlabSettings: '`crystal` of `liheal.deposit`',
        DepositSettings: '`settings` of `liheal.deposit` (without `seed`)',
        SourcePatch: 'each of the `source_patches` of `DepositSettings`',
        VoidCrystalSettings: '`crystal` of `liheal.heal`',
        DendriteSettings: '`crystal` of shape `dendrites`',
        ValleySettings: '`crystal` of shape `valley`',
        SlopeSettings: '`crystal` of shape `slope`',
        HealSettings: '`settings` of `liheal.heal` (without `seed`)',
        AnalysisSettings: '`settings` of `liheal.analyse`; `analysis` in the overrides of `deposit` and `heal`',
        DendriteAnalysisSettings: '`dendrites` of `AnalysisSettings`',
        ContactSettings: '`contacts` of `AnalysisSettings`',
        ValleyRunSettings: '`settings` of `liheal.valley` (without `seed` and `fixed_below_A`)',
        SlideSettings: '`slide` of `liheal.valley` (without `seed` and `fixed_below_A`)',
        DiffuseSettings: '`settings` of `liheal.diffuse` (without `seed` and `temperature_K`)',
        CrystalSettings: '`crystal` of `liheal.melt`',
        SearchSettings: '`search` of `liheal.melt`',
        MeltSettings: '`settings` of `liheal.melt` (without `seed` and `temperature_K`)',
        ReferenceSettings: '`settings` of `liheal.validate`',
        LiquidSettings: '`liquid` of `liheal.validate` (without `seed` and `neighbour_cutoff_A`)',
        PropertyReference: 'by property in `references` of `liheal.validate`',
        ReferenceValue: '`pbe` and `experiment` of `PropertyReference`',
        Limit: '`limit` of `PropertyReference`',
        RelaxSettings: 'each of the `runs` of `liheal.lammps`, kind `relax`',
        JobSettings: '`settings` of `liheal.lammps`',
        Limits: '`limits` in the overrides of `deposit` and `heal`; `kwargs` of the monitor `liheal.limits`',
        ExploreSettings: 'each of the `runs` of `liheal.lammps`, kind `explore`',
        Campaign: '`campaign` of `liheal.campaign`; campaign files',
        Series: 'each of the `series` of `Campaign`',
        FigureSettings: '`figure` of `Series`',
        Throughput: '`throughput` of `Campaign`',
        Check: 'each of the `checks` of `liheal.reproduce`',
        Part: 'each of the `parts` of `Check`',
        Reading: 'a number of a judge that is not just at a path',
        **{
            judge: f'`judge` of `Part`, kind `{judge.model_fields["kind"].default}`'
            for judge in (
                Within,
                Compared,
                Happens,
                Rises,
                DipsAndRecovers,
                Forms,
                Properties,
                Coexistence,
                Faster,
            )
        },
        Reference: '`to` of `Compared`, `reference` of `DipsAndRecovers`',
        ExpectedForm: 'each of the `expected` of `Forms`',
        StructureSettings: '`structures` of `liheal.quickstart`',
        PerturbSettings: '`perturbation` of `StructureSettings`',
    }


def ours(group: str) -> dict[str, Any]:
    """The entry points of this package in a group, loaded, in the order of the chain."""
    found = {e.name: e.load() for e in entry_points(group=group) if e.value.startswith('aiida_liheal.')}
    rank = {f'liheal.{verb}': number for number, verb in enumerate(ORDER)}
    return dict(sorted(found.items(), key=lambda item: (rank.get(item[0], len(rank)), item[0])))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; nothing if there are no rows."""
    lines = [' | '.join(' '.join(str(cell).split()).replace('|', '\\|') for cell in row) for row in rows]
    if not lines:
        return ''
    return '\n'.join(f'| {line} |' for line in (' | '.join(head), ' | '.join('---' for _ in head), *lines)) + '\n'


def names(classes: Any) -> str:
    """The names of the types that a port takes."""
    listed = classes if isinstance(classes, tuple) else (classes,)
    return ' or '.join(sorted({c.__name__ for c in listed if c not in (None, type(None))}))


def default_of(port: Any) -> str:
    """The default of a port, if a person can read it."""
    if not isinstance(port, InputPort) or not port.has_default():
        return ''
    value = port.default() if callable(port.default) else port.default
    if isinstance(value, Dict):
        return '`{}`' if not value.get_dict() else 'as in the settings'
    return f'`{getattr(value, "value", value)}`' if isinstance(value, Data | str | int | float | bool) else ''


def inherited(process: Any, direction: str) -> set[str]:
    """Ports that a process has from AiiDA or another plugin, as they are there."""
    base: Any = next(c for c in process.mro() if not c.__module__.startswith('aiida_liheal'))
    mine, theirs = (getattr(p.spec(), direction) for p in (process, base))
    return {name for name, port in mine.items() if name in theirs and theirs[name].help == port.help} | {'metadata'}


def ports(
    namespace: PortNamespace, left_out: set[str], exposed: dict[str, str], prefix: str = ''
) -> Iterator[tuple[str, str, str, str]]:
    """Name, type, default and help of each port below a namespace; those of exposed processes are one line each."""
    for name, port in namespace.items():
        full = f'{prefix}{name}'
        if name in left_out:
            continue
        needed = 'required' if port.required else ''
        if full in exposed:
            yield f'`{full}.`', '', needed, exposed[full]
        elif isinstance(port, PortNamespace) and len(port):
            yield from ports(port, left_out, exposed, f'{full}.')
        elif isinstance(port, PortNamespace):
            yield f'`{full}.*`', names(port.valid_type), needed, port.help or ''
        else:
            yield f'`{full}`', names(port.valid_type), default_of(port) or needed, port.help or ''


def exposed_by(process: Any, direction: str, known: dict[Any, str]) -> dict[str, str]:
    """For each namespace that exposes ports of a process described here, which ports of which process they are."""
    found = {}
    for namespace, processes in getattr(process.spec(), f'_exposed_{direction}').items():
        for other, which in processes.items():
            if namespace and other in known:
                shown = sorted(set(which) - (inherited(other, direction) - {'code'}))
                listed = ', '.join(f'`{name}`' for name in shown)
                found[namespace] = f'{direction} of [{known[other]}](#{anchor(known[other])}): {listed}'
    return found


def anchor(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return heading.lower().replace('.', '').replace(' ', '-')


def describe_process(name: str, process: Any, known: dict[Any, str]) -> Iterator[str]:
    """The section of a verb or a job."""
    spec = process.spec()
    yield f'### {name}\n\n{inspect.cleandoc(process.__doc__)}\n'
    if hasattr(process, 'get_available_protocols'):
        chosen = process.get_default_protocol()
        rows = [
            (f'`{key}`' + ' (default)' * (key == chosen), text)
            for key, text in process.get_available_protocols().items()
        ]
        yield table(('protocol', ''), rows)
    inputs = ports(spec.inputs, inherited(process, 'inputs'), exposed_by(process, 'inputs', known))
    yield table(('input', 'type', 'default', ''), inputs)
    outputs = ports(spec.outputs, inherited(process, 'outputs'), exposed_by(process, 'outputs', known))
    yield table(('output', 'type', ''), ((key, kind, text) for key, kind, _, text in outputs))
    base: Any = next(c for c in process.mro() if not c.__module__.startswith('aiida_liheal'))
    theirs = {code.message for code in base.spec().exit_codes.values()}
    codes = sorted((c.status, label, c.message) for label, c in spec.exit_codes.items() if c.message not in theirs)
    yield table(('exit code', '', 'message'), ((str(status), f'`{label}`', text) for status, label, text in codes))


def type_of(annotation: Any) -> str:
    """A type as it is written in code."""
    text = (
        annotation.__name__ if isinstance(annotation, type) and not hasattr(annotation, '__args__') else str(annotation)
    )
    return re.sub(r'\b(?:typing|aiida_liheal(?:\.\w+)*)\.(?=\w)', '', text)


def describe_model(model: type[BaseModel], where: str) -> Iterator[str]:
    """The section of a model of settings."""
    signs = {'gt': '>', 'ge': '≥', 'lt': '<', 'le': '≤'}
    rows = []
    for name, field in model.model_fields.items():
        limits = [
            f'{sign} {getattr(part, key)}'
            for part in field.metadata
            for key, sign in signs.items()
            if hasattr(part, key)
        ]
        value = field.get_default(call_default_factory=True)
        default = 'required' if value is PydanticUndefined else f'`{value}`'
        if isinstance(value, BaseModel):
            default = 'its defaults'
        rows.append(
            (f'`{name}`', f'`{type_of(field.annotation)}`', default, ', '.join(limits), field.description or '')
        )
    yield f'### {model.__name__}\n\n{inspect.cleandoc(model.__doc__ or "")}\n\nUsed in: {where}.\n'
    yield table(('key', 'type', 'default', 'limits', ''), rows)


def describe_command(command: click.Command, path: str, parent: click.Context | None) -> Iterator[str]:
    """The sections of a command and of those below it."""
    context = click.Context(command, info_name=path.rsplit(' ', 1)[-1], parent=parent)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None, name  # noqa: S101 (the group itself named it)
            yield from describe_command(inner, f'{path} {name}', context)
        return
    arguments = ' '.join(
        name if p.required else f'[{name}]'
        for p in command.params
        if isinstance(p, click.Argument) and (name := p.metavar or str(p.name).upper())
    )
    text = inspect.cleandoc(command.help or '').replace('\b', '')
    usage = ' '.join(part for part in (path, '[OPTIONS]', arguments) if part)
    yield f'### {path}\n\n`{usage}`\n\n{text}\n'
    options = [
        p for p in command.params if isinstance(p, click.Option) and p.name not in COMMON_OPTIONS and not p.hidden
    ]
    yield table(('option', 'default', ''), map(option_row, options))


def option_row(option: click.Option) -> tuple[str, str, str]:
    """Names, default and help of an option; not as click writes them, which differs between its versions."""
    value = '' if option.is_flag else option.metavar or _value_name(option.type)
    text = ', '.join(option.opts) + ''.join(f' / {name}' for name in option.secondary_opts) + ' ' * bool(value) + value
    if option.required:
        default = 'required'
    elif option.is_flag or option.multiple or not isinstance(option.default, str | int | float | Path):
        default = ''
    else:
        default = f'`{option.default}`' if str(option.default) else ''
    return f'`{text}`', default, option.help or ''


def _value_name(kind: click.ParamType) -> str:
    return '|'.join(kind.choices) if isinstance(kind, click.Choice) else kind.name.upper().removesuffix(' RANGE')


def make_reference() -> str:
    """The whole page. Needs a loaded profile, as defaults of inputs are nodes (none is stored)."""
    from aiida_liheal.cli.root import root

    verbs, jobs = ours('aiida.workflows'), ours('aiida.calculations')
    known = {process: name for name, process in (verbs | jobs).items()}
    parts: list[str] = [HEAD, '## Commands\n']
    parts += describe_command(root, 'aiida-liheal', None)
    sections: tuple[tuple[str, dict[str, Any], Callable[..., Iterator[str]]], ...] = (
        ('Verbs', verbs, describe_process),
        ('Jobs', jobs, describe_process),
    )
    for title, processes, describe in sections:
        parts.append(f'## {title}\n')
        for name, process in processes.items():
            parts += describe(name, process, known)
    parts.append('## Settings\n')
    for model, where in models().items():
        parts += describe_model(model, where)
    return '\n'.join(part for part in parts if part)


def main() -> None:
    """Write the page."""
    from aiida import load_profile
    from aiida.storage.sqlite_temp import SqliteTempBackend

    # a profile in memory: the page is the same whoever makes it
    load_profile(SqliteTempBackend.create_profile('reference'))
    TARGET.write_text(make_reference(), encoding='utf-8')
    print(f'wrote {TARGET}')


if __name__ == '__main__':
    main()
