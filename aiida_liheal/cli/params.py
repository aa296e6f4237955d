"""What several commands share: options, and reading of nodes, codes and overrides with messages for people."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click
import yaml
from aiida.cmdline.utils import decorators, echo

if TYPE_CHECKING:
    from aiida.orm import Node

    from aiida_liheal.data.potential import PotentialData

__all__ = (
    'content_hash',
    'fail',
    'load',
    'load_codes',
    'load_named',
    'load_potentials',
    'options_of',
    'pairs',
    'read_options',
    'read_overrides',
    'settings_option',
    'stored_twin',
    'with_profile',
)

NodeType = TypeVar('NodeType')

#: An option that may be given several times: `-s settings.duration_ps=50`.
settings_option: Callable[..., Any] = click.option(
    '-s',
    '--set',
    'changes',
    multiple=True,
    metavar='KEY=VALUE',
    help='Change one setting; dots lead into nested ones, values are YAML. May be given several times.',
)

#: Options of AiiDA that our jobs settle themselves.
_OWN_OPTIONS = ('input_filename', 'output_filename', 'parser_name')


def fail(message: str) -> NoReturn:
    """End the command with one message and exit code 1."""
    echo.echo_critical(message)
    raise AssertionError('unreachable')  # AiiDA's helper ends the program, which its types do not say


def with_profile(function: Callable[..., Any]) -> Callable[..., Any]:
    """Load the profile before a command; where there is none, say how to make it."""
    loaded = decorators.with_dbenv()(function)

    @functools.wraps(function)
    def command(*args: Any, **kwargs: Any) -> Any:
        from aiida.manage import get_config, get_manager

        if get_manager().get_profile() is None and get_config().default_profile_name is None:
            names = ', '.join(get_config().profile_names)
            fail(
                f'no profile is the default one: give one of {names} by `aiida-liheal -p NAME …`'
                if names
                else 'there is no AiiDA profile yet: `verdi presto` makes one, then `aiida-liheal setup` its codes'
            )
        return loaded(*args, **kwargs)

    return command


def pairs(texts: Iterable[str], what: str) -> dict[str, str]:
    """`NAME=VALUE` texts as a mapping; fails for others and for a name given twice."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition('=')
        if not equals or not name or not value:
            fail(f'{what} {text!r}: write NAME=VALUE')
        if name in found:
            fail(f'{what} {name!r} is given twice')
        found[name] = value
    return found


def read_overrides(file: Path | None, changes: Sequence[str]) -> dict[str, Any]:
    """Overrides of a protocol: those of a YAML file, with single settings laid over them."""
    overrides = _read_yaml(file, 'settings')
    for key, text in pairs(changes, 'setting').items():
        _set(overrides, 'setting', key, _read_value('setting', key, text))
    return overrides


def read_options(file: Path | None, changes: Sequence[str], jobs: Sequence[str] = ()) -> dict[str, Any]:
    """Options of jobs for the scheduler: those of a YAML file, with single ones laid over them, checked as AiiDA will.

    Parameters
    ----------
    file : Path, optional
        A YAML file with options by name, and under the name of a kind of job those of its own.
    changes : sequence of str
        `KEY=VALUE`, with dots into nested ones.
    jobs : sequence of str
        Kinds of jobs that may have options of their own; what is given without a kind goes to all of them.

    Returns
    -------
    dict
        Options as they were given; see `options_of`.
    """
    from aiida.engine import CalcJob

    ports = CalcJob.spec().inputs['metadata']['options']
    given = _read_yaml(file, 'options')
    for key, text in pairs(changes, 'option').items():
        parts = key.split('.')
        name = parts[1] if parts[0] in jobs and len(parts) > 1 else parts[0]
        # a text is taken as it is: YAML would make a number of an account, and a truth value of a queue
        is_text = name == 'environment_variables' or (name in ports and str in _types(ports[name]))
        _set(given, 'option', key, text if is_text else _read_value('option', key, text))
    for job in jobs:
        if not isinstance(given.get(job, {}), dict):
            fail(f'option {job}: {given[job]!r} is no group of options; write {job}.NAME=VALUE')
    common = {name: value for name, value in given.items() if name not in jobs}
    for job, options in (('', common), *((job, given.get(job, {})) for job in jobs)):
        for name, value in options.items():
            where = f'{job}.{name}' if job else name
            if name not in ports or name in _OWN_OPTIONS:
                allowed = ', '.join(sorted(set(ports) - set(_OWN_OPTIONS)))
                kinds = f'; for one kind of job {" or ".join(f"{job}.NAME" for job in jobs)}' if jobs else ''
                fail(f'option {where}: there is no such option of jobs; allowed are {allowed}{kinds}')
            types = _types(ports[name])
            if types and (not isinstance(value, types) or (isinstance(value, bool) and bool not in types)):
                allowed = ' or '.join(kind.__name__ for kind in types if kind is not type(None))
                fail(f'option {where} = {value!r} is of type {type(value).__name__}; allowed is {allowed}')
            if name.startswith('max_') and value is not None and value < 1:
                unit = 's' if name.endswith('seconds') else 'kB'
                fail(f'option {where} = {value} {unit}; allowed is 1 {unit} or more')
    return given


def _types(port: Any) -> tuple[type, ...]:
    """The types that a port takes; none if it takes any."""
    valid = port.valid_type
    return valid if isinstance(valid, tuple) else () if valid is None else (valid,)


def options_of(given: dict[str, Any], job: str, jobs: Sequence[str]) -> dict[str, Any]:
    """Options of one kind of job: those for all of them, with its own laid over them."""
    from aiida_liheal.workchains.protocol import merge

    return merge({name: value for name, value in given.items() if name not in jobs}, given.get(job, {}))


def _read_yaml(file: Path | None, what: str) -> dict[str, Any]:
    """The mapping in a YAML file, empty without a file; fails with a message if it holds none."""
    if file is None:
        return {}
    try:
        content = yaml.safe_load(file.read_text(encoding='utf-8')) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        fail(f'{file} cannot be read as YAML: {error}')
    if not isinstance(content, dict):
        fail(f'{file} holds a {type(content).__name__}; it must hold {what} by name')
    return content


def _read_value(what: str, key: str, text: str) -> Any:
    """The value of one setting, as YAML."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        fail(f'{what} {key}: the value {text!r} cannot be read as YAML: {getattr(error, "problem", error)}')
    # YAML 1.1 takes 1e-3 for a text, as it has no point
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = float(value)
    return value


def _set(place: dict[str, Any], what: str, key: str, value: Any) -> None:
    """Set one value; dots in its key lead into nested mappings."""
    *parts, last = key.split('.')
    for part in parts:
        place = place.setdefault(part, {})
        if not isinstance(place, dict):
            fail(f'{what} {key}: {part} is no group of {what}s')
    place[last] = value


def load(identifier: str, classes: type[NodeType] | tuple[type[NodeType], ...], what: str) -> NodeType:
    """A node by pk, UUID or its beginning; fails with a message if there is none or it is something else."""
    from aiida.common.exceptions import MultipleObjectsError, NotExistent
    from aiida.orm import load_node

    try:
        node: Any = load_node(identifier)
    except (NotExistent, ValueError):
        fail(f'{what}: there is no node {identifier!r} in this profile; give a pk or a UUID')
    except MultipleObjectsError:
        fail(f'{what}: several nodes have a UUID that begins with {identifier!r}; give more of it')
    allowed = classes if isinstance(classes, tuple) else (classes,)
    if not isinstance(node, allowed):
        wanted = ' or '.join(kind.__name__ for kind in allowed)
        fail(f'{what}: node {node.pk} is of type {type(node).__name__}; needed is {wanted}')
    return node


def load_named(
    texts: Sequence[str], classes: type[NodeType] | tuple[type[NodeType], ...], what: str
) -> dict[str, NodeType]:
    """Nodes given as `[NAME=]PK`; one without a name gets its domain, with a number if that is taken."""
    found: dict[str, NodeType] = {}
    for text in texts:
        name, equals, identifier = text.rpartition('=')
        node = load(identifier, classes, what)
        base = name or getattr(node, 'domain', None) or 'frames'
        if not base.isidentifier():
            fail(f'{what}: {base!r} is no name; use letters, digits and _')
        key, number = base, 1
        while key in found:
            if equals:
                fail(f'{what}: the name {name!r} is given twice')
            key, number = f'{base}_{number}', number + 1
        found[key] = node
    return found


def load_codes(texts: Sequence[str], names: Sequence[str], optional: Sequence[str] = ()) -> dict[str, Any]:
    """The codes of a verb: `NAME=LABEL` as given, else `NAME@localhost` as `setup` makes them.

    Those in `optional` are left out where there is none.
    """
    from aiida.common.exceptions import MultipleObjectsError, NotExistent
    from aiida.orm import load_code

    given = pairs(texts, 'code')
    unknown = sorted(set(given) - {*names, *optional})
    if unknown:
        fail(f'code {", ".join(unknown)}: this verb runs {", ".join((*names, *optional))}')
    codes: dict[str, Any] = {}
    for name in (*names, *optional):
        label = given.get(name, f'{name}@localhost')
        try:
            codes[name] = load_code(label)
        except (NotExistent, ValueError):
            if name in optional and name not in given:
                continue
            fail(
                f'there is no code {label!r}: `aiida-liheal setup` makes those of this machine; name another one with '
                f'--code {name}=LABEL'
            )
        except MultipleObjectsError:
            fail(f'several codes are called {label!r}; give the pk: --code {name}=PK')
    return codes


def load_potentials(texts: Sequence[str]) -> dict[str, PotentialData]:
    """Potentials m0, m1, … in the order given; `builtin` stands for the shipped committee."""
    from aiida_liheal.data.builtin import builtin_committee
    from aiida_liheal.data.potential import PotentialData

    members: list[PotentialData] = []
    for text in texts:
        if text == 'builtin':
            members += [stored_twin(node) for node in builtin_committee().values()]
        else:
            members.append(load(text, PotentialData, 'potential'))
    for number, member in enumerate(members):
        if any(member.uuid == other.uuid for other in members[:number]):
            fail(f'potential {member.label or text} (pk {member.pk}) is given twice; a committee is of different ones')
    return {f'm{number}': member for number, member in enumerate(members)}


def content_hash(node: Node) -> str:
    """The hash by which AiiDA knows equal nodes, of a node that may not be stored yet."""
    from aiida.common.hashing import make_hash

    return str(make_hash(node.base.caching.get_objects_to_hash()))


def stored_twin(node: Node) -> Any:
    """A stored node of the same content if there is one, else the node itself, so that nothing is stored twice."""
    from aiida.orm import QueryBuilder

    query = QueryBuilder().append(type(node), filters={'extras._aiida_hash': content_hash(node)})
    twin = query.order_by({type(node): {'id': 'asc'}}).first(flat=True)
    return node if twin is None else twin
