"""The verb `reproduce`: runs the checks of the paper at a size that its protocol names, and judges them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from aiida.common.links import LinkType
from aiida.engine import ExitCode, ProcessBuilder, ProcessSpec, ToContext, WorkChain, calcfunction
from aiida.orm import AbstractCode, ArrayData, Data, Dict, ProcessNode

from aiida_liheal.analysis.judges import Run
from aiida_liheal.analysis.reproduction import Check, judge_checks, paths_of, read_checks
from aiida_liheal.calculations.dp_test import DpTestCalculation
from aiida_liheal.data.frames import FramesData
from aiida_liheal.data.potential import PotentialData
from aiida_liheal.sampling.campaign import lay_over, nested, read_campaign
from aiida_liheal.workchains.campaign import CampaignWorkChain
from aiida_liheal.workchains.points import failure_of, read_points, shipped_campaigns
from aiida_liheal.workchains.protocol import ProtocolMixin, set_options
from aiida_liheal.workchains.trained import is_same_model, known_frames

__all__ = ('ReproduceWorkChain', 'judge_points', 'needed_outputs', 'outputs_by_point', 'read_runs')

#: Name of the only potential of the campaign.
TESTED = 'tested'
#: Series that stands for the test of the potential on labelled frames.
TEST = 'test'


def needed_outputs(checks: Mapping[str, Check], outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the outputs of a run, by dotted name, that a check looks into."""
    paths = paths_of(checks)
    return {name: node for name, node in outputs.items() if any(path.startswith(f'{name}.') for path in paths)}


def _flat(nodes: Mapping[str, Any], prefix: str = '') -> dict[str, Data]:
    """Nodes of nested namespaces by dotted name."""
    found: dict[str, Data] = {}
    for name, value in nodes.items():
        if isinstance(value, Mapping) and not isinstance(value, Data):
            found |= _flat(value, f'{prefix}{name}.')
        else:
            found[f'{prefix}{name}'] = value
    return found


def _nested(nodes: Mapping[str, Data]) -> dict[str, Any]:
    """The other way round."""
    found: dict[str, Any] = {}
    for path, node in nodes.items():
        *outer, last = path.split('.')
        place = found
        for part in outer:
            place = place.setdefault(part, {})
        place[last] = node
    return found


def _content(name: str, node: Data, paths: set[str]) -> dict[str, Any]:
    """What checks see of an output: a Dict as it is, arrays that a path names, the size of frames."""
    if isinstance(node, Dict):
        return dict(node.get_dict())
    if isinstance(node, FramesData):
        lengths = node.get_atoms(0).cell.lengths() if len(node) else []
        return {'n_atoms': node.base.attributes.get('n_atoms_max'), 'cell_nm': [float(a) / 10 for a in lengths]}
    if isinstance(node, ArrayData):
        wanted = {path.removeprefix(f'{name}.').split('.')[0] for path in paths if path.startswith(f'{name}.')}
        return {key: node.get_array(key).tolist() for key in node.get_arraynames() if key in wanted}
    return {}


def read_runs(checks: Mapping[str, Check], table: Dict, points: Mapping[str, Mapping[str, Data]]) -> list[Run]:
    """The points of a campaign as checks see them.

    Parameters
    ----------
    checks : mapping of str to Check
        What will be judged: nothing else is read.
    table : Dict
        Of the campaign.
    points : mapping of str to mapping of str to Data
        Outputs by dotted name, by the name of the point.
    """
    paths = paths_of(checks)
    rows = table.get_dict()
    return [
        Run(
            point=row['point'],
            series=row['series'],
            verb=rows['series'][row['series']]['verb'],
            grid=row['grid'],
            state=row['state'],
            cause=row['cause'],
            results={name: _content(name, node, paths) for name, node in points.get(row['point'], {}).items()},
        )
        for row in rows['rows']
    ]


@calcfunction
def judge_points(checks: Dict, table: Dict, absent: Dict, remarks: Dict, **nodes: Any) -> Dict:
    """The reproduction table: every check by what the points of a campaign gave, with the reason for its outcome.

    Parameters
    ----------
    checks : Dict
        By name, as `Check`.
    table : Dict
        Of the campaign.
    absent : Dict
        Why there is nothing of a series.
    remarks : Dict
        What is to be said of all that is judged by a series.
    **nodes : Data
        `points`: outputs of each point by its name; `test`: errors of the potential on labelled frames.
    """
    known = read_checks(checks.get_dict())
    runs = read_runs(known, table, {name: _flat(outputs) for name, outputs in nodes.get('points', {}).items()})
    if 'test' in nodes:
        for domain, errors in nodes['test']['by_domain'].items():
            runs.append(Run(f'{TEST}_{domain}', TEST, TEST, {'domain': domain}, results={'summary': errors}))
    return Dict({'title': table['title'], **judge_checks(known, runs, absent.get_dict(), remarks.get_dict())})


class ReproduceWorkChain(ProtocolMixin, WorkChain):
    """Run what the checks of the paper need, as a campaign, or take a finished one; then judge every check."""

    _protocol_name = 'reproduce'

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:
        """Inputs, outputs, outline and exit codes."""
        super().define(spec)
        spec.input(
            'checks',
            valid_type=Dict,
            validator=cls._validate_checks,
            help='What is judged and how, by name (see `Check` of the analysis).',
        )
        spec.input(
            'campaign',
            valid_type=Dict,
            required=False,
            help=f'The runs that the checks need, as in a campaign file; its potential is called `{TESTED}`. Points '
            'that finished before are taken over.',
        )
        spec.input(
            'table',
            valid_type=Dict,
            required=False,
            validator=cls._validate_table,
            help='In place of `campaign`: the table of one that is over, which is judged as it is.',
        )
        spec.input_namespace(
            'points', dynamic=True, required=False, help='Outputs of the points of that campaign, by their names.'
        )
        spec.input_namespace(
            'codes', valid_type=AbstractCode, dynamic=True, required=False, help='`lmp` and `python`, of the campaign.'
        )
        spec.input_namespace(
            'potentials',
            valid_type=PotentialData,
            dynamic=True,
            required=False,
            help='The potential, or a committee m0, m1, …: the first one drives.',
        )
        spec.expose_inputs(
            DpTestCalculation,
            namespace='test',
            include=('code', 'frames', 'metadata'),
            namespace_options={
                'required': False,
                'populate_defaults': False,
                'help': 'Test of the first potential on labelled frames that it was not trained on.',
            },
        )
        # complete only with the potential: see the checks of all inputs
        spec.inputs['test'].validator = None
        spec.input(
            'test_summary',
            valid_type=Dict,
            required=False,
            validator=cls._validate_test_summary,
            help='In place of `test`: `summary` of an earlier test (`liheal.dp_test`) of this potential.',
        )
        spec.inputs.validator = cls._validate_inputs
        spec.outline(cls.run_all, cls.judge)
        spec.output('table', valid_type=Dict, required=False, help='The table of the campaign.')
        spec.output(
            'reproduction',
            valid_type=Dict,
            required=False,
            help='`checks`: each with the value of the paper, ours, the size that it was run at, the outcome (pass, '
            'fail, not at this size, not run) and its reason; `counts` by outcome.',
        )
        spec.exit_code(
            330,
            'ERROR_NO_TABLE',
            message='the campaign gave no table: {cause}; mend that and launch it again: it takes over what finished',
        )
        spec.exit_code(
            430,
            'ERROR_RUNS_FAILED',
            message='{causes}: the checks that need them count as not run; mend that and launch it again: it does only '
            'what is missing',
        )

    @staticmethod
    def _validate_checks(node: Dict, _: Any) -> str | None:
        try:
            read_checks(node.get_dict())
        except ValueError as error:
            return f'checks: {error}'
        return None

    @staticmethod
    def _validate_table(node: Dict | None, _: Any) -> str | None:
        if node is not None and not {'title', 'series', 'rows'} <= set(node.get_dict()):
            return 'table: no title, series and rows in it; give the output `table` of a campaign'
        return None

    @staticmethod
    def _validate_test_summary(node: Dict | None, _: Any) -> str | None:
        if node is not None and not isinstance(node.get_dict().get('by_domain'), dict):
            return 'test_summary: no errors by_domain in it; give the output `summary` of `liheal.dp_test`'
        return None

    @classmethod
    def _validate_inputs(cls, inputs: Mapping[str, Any], _: Any) -> str | None:
        given = [name for name in ('campaign', 'table') if name in inputs]
        if len(given) != 1:
            return f'{" and ".join(given) or "neither campaign nor table"} given; needed is exactly one of them'
        members = dict(inputs.get('potentials', {}))
        if 'test' in inputs and 'frames' in inputs['test']:
            if 'test_summary' in inputs:
                return 'test and test_summary given; allowed is one of them'
            if 'm0' not in members:
                return 'test: no potential m0 given to be tested'
            if members['m0'].kind != 'deepmd':
                return f'test: the potential is of kind {members["m0"].kind!r}; dp test runs deepmd potentials only'
            frames = dict(inputs['test']['frames'])
            fault = DpTestCalculation._validate_inputs({'frames': frames, 'potential': members['m0']}, None)
            if not fault and (seen := known_frames(members['m0'], frames)[0]):
                fault = f'm0 was trained on {seen}, which tell nothing of others; leave those out'
            if fault:
                return f'test: {fault}'
        if 'test_summary' in inputs:
            tested, frames = _test_of(inputs['test_summary'])
            if tested is not None and 'm0' in members and not is_same_model(tested, members['m0']):
                return (
                    f'test_summary: it is of the potential {tested.uuid}, and m0 is {members["m0"].uuid}; give the '
                    'test of m0'
                )
            if tested is not None and (seen := known_frames(tested, frames)[0]):
                return f'test_summary: the potential was trained on {seen}, which tell nothing of others; test it anew'
        if 'campaign' in inputs:
            if not members:
                return 'potentials: none given; one is needed, or a committee m0, m1, …'
            try:
                read_points(inputs['campaign'].get_dict(), inputs.get('codes', {}), {TESTED: members})
            except (ValueError, KeyError) as error:
                return f'codes: {error.args[0]} is missing' if isinstance(error, KeyError) else str(error)
        return None

    @classmethod
    def get_protocol_inputs(
        cls, protocol: str | None = None, overrides: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Campaign and checks of a protocol with overrides laid over them, and series of shipped campaigns filled in.

        Raises ValueError for an unknown protocol, override, or series that another one is taken from.
        """
        inputs = super().get_protocol_inputs(protocol, overrides)
        series = inputs['campaign']['series']
        inputs['campaign']['series'] = {name: _filled(name, content) for name, content in series.items()}
        return inputs

    @classmethod
    def get_builder_from_protocol(
        cls,
        codes: Mapping[str, AbstractCode],
        potentials: Mapping[str, PotentialData] | PotentialData,
        seed: int = 0,
        protocol: str | None = None,
        overrides: dict[str, Any] | None = None,
        options: dict[str, Any] | None = None,
        frames: Mapping[str, FramesData] | None = None,
    ) -> ProcessBuilder:
        """A builder with the settings of a protocol; see `ProtocolMixin` for what all of them take.

        Parameters
        ----------
        codes : mapping of str to Code
            `lmp`, `python` with OVITO for the analysis, and `dp` if there are `frames`.
        overrides : dict, optional
            Laid over the protocol: `campaign`, `checks`.
        frames : mapping of str to FramesData, optional
            Labelled shards that the potential was not trained on, of the domains bulk and surface.

        Raises
        ------
        ValueError
            For an unknown protocol or override, or naming everything in the campaign or the checks that is wrong.
        """
        inputs = cls.get_protocol_inputs(protocol, overrides)
        campaign = {**inputs['campaign'], 'seed': seed}
        if options:
            campaign = lay_over(campaign, {'options': options})
        read_campaign(campaign)
        read_checks(inputs['checks'])
        builder = cls.get_builder()
        builder.campaign = Dict(campaign)
        builder.checks = Dict(inputs['checks'])
        builder.codes = {name: code for name, code in codes.items() if name != 'dp'}
        builder.potentials = {'m0': potentials} if isinstance(potentials, PotentialData) else dict(potentials)
        if frames:
            builder.test.frames = dict(frames)
            builder.test.code = codes['dp']
            set_options(builder.test, options)
        return builder

    @classmethod
    def get_builder_from_campaign(
        cls,
        campaign: ProcessNode,
        protocol: str | None = None,
        overrides: dict[str, Any] | None = None,
        potentials: Mapping[str, PotentialData] | None = None,
    ) -> ProcessBuilder:
        """A builder that judges a campaign that is over, and runs nothing.

        Parameters
        ----------
        campaign : ProcessNode
            A campaign that came to a table, such as a shipped one.
        protocol, overrides
            Whose checks are taken; overrides of `checks` only.
        potentials : mapping of str to PotentialData, optional
            The potential that it is to have been run with; that of the campaign if not given.

        Raises
        ------
        ValueError
            If it is no campaign, has no table, or ran with another potential, or with several.
        """
        if campaign.process_label != 'CampaignWorkChain' or 'table' not in campaign.outputs:
            raise ValueError(f'{campaign.process_label}<{campaign.pk}> has no table; give a campaign that came to one')
        checks = cls.get_protocol_inputs(protocol, overrides)['checks']
        known = read_checks(checks)
        builder = cls.get_builder()
        builder.checks = Dict(checks)
        builder.table = campaign.outputs.table
        if members := _potential_of(campaign, potentials or {}):
            builder.potentials = members
        points = {
            name: _nested(kept)
            for name, outputs in outputs_by_point(campaign).items()
            if (kept := needed_outputs(known, outputs))
        }
        if points:
            builder.points = points
        return builder

    def run_all(self) -> Any:
        """Run the campaign, and the test of the potential beside it."""
        awaited = {}
        if 'campaign' in self.inputs:
            awaited['campaign'] = self.submit(
                CampaignWorkChain,
                campaign=self.inputs.campaign,
                codes=dict(self.inputs.codes),
                potentials={TESTED: dict(self.inputs.potentials)},
                metadata={'call_link_label': 'campaign'},
            )
        if 'frames' in self.inputs.get('test', {}):
            inputs = self.exposed_inputs(DpTestCalculation, 'test')
            inputs['potential'] = self.inputs.potentials['m0']
            inputs['metadata'] = {**inputs.get('metadata', {}), 'call_link_label': 'test'}
            awaited['test'] = self.submit(DpTestCalculation, **inputs)
        for name, child in awaited.items():
            self.report(f'{name}: {child.process_label}<{child.pk}>')
        return ToContext(**awaited)

    def judge(self) -> ExitCode | None:
        """Judge all checks by what there is, whatever became of some of the runs."""
        causes = []
        checks = read_checks(self.inputs.checks.get_dict())
        absent = {TEST: 'no labelled frames given to test the potential on'}
        remarks = {}
        nodes: dict[str, Any] = {}
        if 'campaign' in self.inputs:
            child = self.ctx.campaign
            if 'table' not in child.outputs:
                cause = f'{child.process_label}<{child.pk}>: {failure_of(child)}'
                return self.exit_codes.ERROR_NO_TABLE.format(cause=cause)
            table = child.outputs.table
            points = outputs_by_point(child)
            if not child.is_finished_ok:
                causes.append(failure_of(child).removesuffix('.'))
        else:
            table = self.inputs.table
            points = {name: _flat(outputs) for name, outputs in self.inputs.get('points', {}).items()}
        kept = {name: _nested(needed_outputs(checks, outputs)) for name, outputs in points.items()}
        if kept := {name: outputs for name, outputs in kept.items() if outputs}:
            nodes['points'] = kept
        if 'test_summary' in self.inputs:
            nodes['test'] = self.inputs.test_summary
            remarks[TEST] = _unseen_text(*_test_of(self.inputs.test_summary))
        elif 'test' in self.ctx:
            child = self.ctx.test
            if child.is_finished_ok:
                nodes['test'] = child.outputs.summary
                remarks[TEST] = _unseen_text(self.inputs.potentials['m0'], dict(self.inputs.test.frames))
            else:
                absent[TEST] = f'{child.process_label}<{child.pk}>: {failure_of(child)}'
                causes.append(absent[TEST])
        told = judge_points(self.inputs.checks, table, Dict(absent), Dict(remarks), **nodes)
        self.out('table', table)
        self.out('reproduction', told)
        self.report('; '.join(f'{number} {outcome}' for outcome, number in told['counts'].items()))
        return self.exit_codes.ERROR_RUNS_FAILED.format(causes='; '.join(causes)) if causes else None


def _test_of(summary: Dict) -> tuple[PotentialData | None, dict[str, FramesData]]:
    """The potential that a test was of, and its frames; None and nothing if the summary does not come from one."""
    creator = summary.creator if summary.is_stored else None
    if creator is None or 'potential' not in creator.inputs:
        return None, {}
    return creator.inputs.potential, dict(creator.inputs.frames) if 'frames' in creator.inputs else {}


def _unseen_text(potential: PotentialData | None, frames: Mapping[str, FramesData]) -> str:
    """What is not known of a test: whose it is, or whether its potential was trained on its frames."""
    if potential is None or not frames:
        return 'of which potential and frames this test is, its provenance does not tell'
    _, unknown = known_frames(potential, frames)
    if not unknown:
        return ''
    names = ', '.join(one.label or one.uuid for one in unknown)
    return f'whether {names} was trained on these frames is not known: its training is not in this profile'


def _potential_of(campaign: ProcessNode, given: Mapping[str, PotentialData]) -> dict[str, PotentialData]:
    """The potential that a campaign ran with, the largest committee that has its driver.

    Raises
    ------
    ValueError
        If it ran with several, or with another one than is given.
    """
    used = {row.get('potential') for row in campaign.outputs.table['rows']}
    known = dict(campaign.inputs.potentials) if 'potentials' in campaign.inputs else {}
    found = {name: dict(members) for name, members in known.items() if name in used}
    first = next(iter(found.values()), {})
    for name, members in found.items():
        if not is_same_model(members['m0'], first['m0']):
            raise ValueError(
                f'the campaign ran with several potentials: {", ".join(found)} ({name} is another one than '
                f'{next(iter(found))}); a table of checks is of one: give a campaign of one'
            )
    if 'm0' in given and first and not is_same_model(given['m0'], first['m0']):
        raise ValueError(
            f'the potential given is {given["m0"].uuid}, and the campaign ran with {first["m0"].uuid}; give that one, '
            'or none'
        )
    return max(found.values(), key=len, default={})


def outputs_by_point(campaign: ProcessNode) -> dict[str, dict[str, Data]]:
    """Outputs of the points of a campaign, by the name of the point, by dotted name."""
    found: dict[str, dict[str, Data]] = {}
    for link in campaign.base.links.get_outgoing(link_type=LinkType.RETURN).all():
        first, _, rest = link.link_label.partition('__')
        if first == 'points':
            point, _, path = rest.partition('__')
            found.setdefault(point, {})[path.replace('__', '.')] = link.node
    return found


def _filled(name: str, content: Any) -> Any:
    """A series with what it takes from a shipped campaign. Raises ValueError if there is no such series."""
    if not isinstance(content, Mapping) or 'from' not in content:
        return content
    source, _, series = str(content['from']).partition('.')
    shipped = shipped_campaigns()
    known = yaml.safe_load(shipped[source])['series'] if source in shipped else {}
    if series not in known:
        raise ValueError(
            f'campaign.series.{name}.from = {content["from"]!r}: no series of a shipped campaign; write NAME.SERIES '
            f'with one of {", ".join(shipped)}'
        )
    changes = {key: value for key, value in content.items() if key not in ('from', 'overrides')}
    base = {key: value for key, value in known[series].items() if key != 'potential'}
    overrides = lay_over(nested(base.get('overrides', {})), nested(content.get('overrides') or {}))
    return {**base, **changes, 'overrides': overrides}
