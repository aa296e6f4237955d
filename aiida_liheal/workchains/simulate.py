"""What `deposit` and `heal` share: make the start, run it to its end, analyse it beside its trajectory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, cast

from aiida.common import AttributeDict
from aiida.engine import ExitCode, ProcessBuilder, ProcessSpec, ToContext, WorkChain, calcfunction
from aiida.orm import AbstractCode, ArrayData, Dict, Int, RemoteData, Str, StructureData

from aiida_liheal.calculations.analyse import AnalyseCalculation
from aiida_liheal.calculations.common import check_segments
from aiida_liheal.calculations.lammps import JobSettings, LammpsCalculation, run_folder
from aiida_liheal.calculations.monitors import limits_monitor
from aiida_liheal.data.frames import FramesData
from aiida_liheal.data.potential import PotentialData
from aiida_liheal.lammps.decks import validate
from aiida_liheal.lammps.kinds import DECKS, DepositSettings
from aiida_liheal.lammps.limits import Limits
from aiida_liheal.sampling.campaign import Cost
from aiida_liheal.sampling.seeds import derive_seed
from aiida_liheal.structures.frames import Frames
from aiida_liheal.structures.settings import Settings
from aiida_liheal.structures.shapes import Shape
from aiida_liheal.workchains.md import MdWorkChain
from aiida_liheal.workchains.ports import add_potentials, add_seed
from aiida_liheal.workchains.protocol import ProtocolMixin, set_options
from aiida_liheal.workchains.start import (
    add_start,
    known_of,
    make_start,
    of_its_shape,
    read_crystal,
    start_of,
    with_fixed_height,
)

__all__ = ('SimulationWorkChain', 'add_jobs', 'job_settings', 'run_settings')


@calcfunction
def job_settings(kind: Any, settings: Dict, seed: Int) -> Dict:
    """Settings of the LAMMPS job that runs one simulation."""
    return Dict({'kind': kind.value, 'runs': [run_settings(kind.value, settings.get_dict(), seed.value)]})


def add_jobs(spec: ProcessSpec, *of_analysis: str) -> None:
    """Add the potentials, and the inputs of the job that runs and of the one that analyses, of which these."""
    add_potentials(
        spec, 'One potential, or a committee m0, m1, …: the first one drives, the others tell the deviation.'
    )
    spec.expose_inputs(LammpsCalculation, namespace='lammps', include=('code', 'metadata', 'monitors'))
    spec.expose_inputs(
        AnalyseCalculation,
        namespace='analyse',
        include=of_analysis,
        namespace_options={'required': False, 'populate_defaults': False},
    )


def run_settings(kind: str, settings: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Settings of the run of a simulation, with the seed that is derived from that of the simulation."""
    return {**settings, 'seed': derive_seed(seed, kind)}


#: What a pack gives for one of its runs.
_PACKED: dict[str, type] = {
    'start': FramesData,
    'results': Dict,
    'thermo': ArrayData,
    'deviations': ArrayData,
    'last_frames': FramesData,
    'flags': Dict,
    'trajectories': Mapping,
}


class SimulationWorkChain(ProtocolMixin, WorkChain):
    """Build, run and analyse one simulation. The subclasses say which kind."""

    _kind: ClassVar[str]

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:
        """Inputs, outputs, outline and exit codes."""
        super().define(spec)
        add_start(spec, cls._kind)
        spec.input(
            'settings',
            valid_type=Dict,
            validator=cls._validate_settings,
            help=f'Settings of the run, without its seed; keys carry their units (kind `{cls._kind}`).',
        )
        add_seed(spec, 'Seed of velocities, thermal noise and places of insertion, all derived from it.')
        add_jobs(spec, 'code', 'settings', 'metadata')
        spec.input_namespace(
            'earlier',
            valid_type=RemoteData,
            dynamic=True,
            required=False,
            validator=lambda earlier, _: check_segments('folders of earlier', earlier or {}),
            help='Trajectories of an earlier run with the same inputs that broke off, s000, s001, …, to go on from.',
        )
        spec.input_namespace(
            'packed',
            dynamic=True,
            required=False,
            validator=cls._validate_packed,
            help='What a job that did several runs (`liheal.pack`) gave for this one: start, trajectories, results, '
            'thermo, deviations, last_frames and flags, such as there are; nothing is run then.',
        )
        spec.inputs.validator = cls._validate_inputs
        spec.outline(cls.build, cls.run_md, cls.inspect_md, cls.analyse, cls.results)
        spec.expose_outputs(MdWorkChain, exclude=('trajectories',))
        spec.output_namespace(
            'trajectories',
            valid_type=RemoteData,
            dynamic=True,
            required=False,
            help='Folders of the run in its jobs, s000, s001, …; each holds a part of its trajectory.',
        )
        spec.output_namespace('analysis', dynamic=True, required=False, help='Outputs of the analysis.')
        spec.exit_code(320, 'ERROR_RUN_FAILED', message='the run failed: {cause}; `trajectories` holds what there is')
        spec.exit_code(
            321,
            'ERROR_ANALYSIS_FAILED',
            message='the run ended, its analysis failed: {cause}; run liheal.analyse again',
        )

    @classmethod
    def _validate_settings(cls, node: Dict, _: Any) -> str | None:
        try:
            validate(cls._kind, cls._completed(node.get_dict(), None), {'seed': 1})
        except ValueError as error:
            return str(error)
        return None

    @staticmethod
    def _validate_packed(packed: Mapping[str, Any] | None, _: Any) -> str | None:
        if not packed:
            return None
        if strange := [name for name in packed if name not in _PACKED]:
            return f'packed.{strange[0]}: allowed are {", ".join(_PACKED)}'
        for name, kind in _PACKED.items():
            if name in packed and not isinstance(packed[name], kind):
                return f'packed.{name}: is a {type(packed[name]).__name__}; needed is {kind.__name__}'
        if missing := [name for name in ('start', 'results') if name not in packed]:
            return f'packed.{missing[0]}: is missing; a part of a pack has start and results'
        runs = packed['results'].get_dict().get('runs')
        if not isinstance(runs, list) or len(runs) != 1 or 'status' not in runs[0]:
            return 'packed.results: needed is the record of exactly one run, with its status, in `runs`'
        folders = packed.get('trajectories', {})
        if strange := [name for name, folder in folders.items() if not isinstance(folder, RemoteData)]:
            return f'packed.trajectories.{strange[0]}: is a {type(folders[strange[0]]).__name__}; needed is RemoteData'
        return check_segments('folders of packed.trajectories', folders)

    @classmethod
    def _completed(cls, settings: dict[str, Any], crystal: Shape | None) -> dict[str, Any]:
        """Settings with what follows from the crystal: the height of fixed layers, unless it is given."""
        return with_fixed_height(settings, crystal)

    @classmethod
    def get_protocol_inputs(
        cls, protocol: str | None = None, overrides: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Settings of one protocol with overrides laid over them.

        A setting that excludes others takes their place: who gives a rate need not take back the protocol's flux. What
        the protocol says of a crystal of another shape is left out where this one has no such setting.

        Raises ValueError for an unknown protocol, override or shape.
        """
        inputs = super().get_protocol_inputs(protocol, overrides)
        changes = overrides or {}
        settings, chosen = inputs['settings'], changes.get('settings', {})
        for keys in getattr(DECKS[cls._kind].settings, 'ALTERNATIVES', ()):
            given = [key for key in keys if chosen.get(key) is not None]
            if given:
                inputs['settings'] = settings = {k: v for k, v in settings.items() if k in given or k not in keys}
        inputs['crystal'] = of_its_shape(cls._kind, inputs['crystal'], changes.get('crystal', {}))
        return inputs

    @classmethod
    def _validate_inputs(cls, inputs: dict[str, Any], context: Any) -> str | None:
        if not {'settings', 'potentials'} <= set(inputs):
            return None
        if inputs.get('packed') and inputs.get('earlier'):
            return 'packed and earlier given: nothing is run, nor gone on with, where packed is given; leave out one'
        # the checks of the job itself, before anything is built or submitted
        try:
            start = FramesData(Frames.from_atoms([start_of(cls._kind, inputs)]))
            run = {**inputs['settings'].get_dict(), 'seed': 1}
            job = Dict(JobSettings.read({'kind': cls._kind, 'runs': [run]}).model_dump())
        except ValueError as error:
            return str(error)
        monitors = inputs.get('lammps', {}).get('monitors', {})
        return LammpsCalculation._validate_inputs(
            {'settings': job, 'structures': start, 'potentials': inputs['potentials'], 'monitors': monitors}, context
        )

    @classmethod
    def get_builder_from_protocol(
        cls,
        codes: Mapping[str, AbstractCode],
        potentials: Mapping[str, PotentialData] | PotentialData,
        structure: FramesData | StructureData | None = None,
        seed: int = 0,
        protocol: str | None = None,
        overrides: dict[str, Any] | None = None,
        options: dict[str, Any] | None = None,
    ) -> ProcessBuilder:
        """A builder with the settings of a protocol; see `ProtocolMixin` for what all of them take.

        Parameters
        ----------
        codes : mapping of str to Code
            `lmp`, and `python` with OVITO for the analysis; without `python` nothing is analysed.
        structure : FramesData or StructureData, optional
            The start; built from the protocol's `crystal` if not given.
        overrides : dict, optional
            Laid over the protocol: `crystal`, `settings`, `limits` (null for none), `analysis`.
        """
        inputs = cls.get_protocol_inputs(protocol, overrides)
        builder = cls.get_builder()
        crystal = None
        if structure is None:
            crystal = read_crystal(cls._kind, inputs['crystal'])
            builder.crystal = Dict(cast(Settings, crystal).model_dump())
        else:
            builder.structure = structure
        settings = cls._completed(inputs['settings'], crystal)
        validate(cls._kind, settings, {'seed': 1})
        builder.settings = Dict(settings)
        builder.seed = Int(seed)
        builder.potentials = {'m0': potentials} if isinstance(potentials, PotentialData) else dict(potentials)
        builder.lammps.code = codes['lmp']
        set_options(builder.lammps, options)
        if inputs.get('limits'):
            builder.lammps.monitors = {'limits': limits_monitor(Limits.read(inputs['limits']))}
        if 'python' in codes:
            builder.analyse.code = codes['python']
            builder.analyse.settings = Dict(cls._analysis_settings(inputs['analysis'], settings, crystal))
        return builder

    @classmethod
    def cost(cls, builder: ProcessBuilder) -> Cost:
        """Atoms and steps of the run, before it is run; at most, where a height may end it before.

        Raises ValueError if the inputs are wrong.
        """
        atoms = start_of(cls._kind, builder)
        settings: Any = validate(cls._kind, builder.settings.get_dict(), {'seed': 1})
        if not isinstance(settings, DepositSettings):
            return Cost.of_run(len(atoms), settings.n_steps)
        area_nm2 = atoms.cell.lengths()[0] * atoms.cell.lengths()[1] / 100
        schedule = settings.schedule(area_nm2)
        return Cost.of_run(len(atoms), settings.last_step(area_nm2), schedule.n_insert, schedule.every_steps)

    @classmethod
    def _analysis_settings(
        cls, analysis: dict[str, Any], settings: dict[str, Any], crystal: Shape | None
    ) -> dict[str, Any]:
        """Settings of the analysis with what follows from the run and its crystal."""
        known: dict[str, Any] = {'timestep_fs': settings.get('timestep_fs', 1.0), **known_of(crystal)}
        if settings.get('fixed_below_A'):
            known['fixed_below_A'] = settings['fixed_below_A']
        return {**known, **analysis}

    def build(self) -> None:
        """Make the start, unless it is given."""
        if self.inputs.get('packed'):
            self.out('start', self.inputs.packed.start)
            return
        self.ctx.start = make_start(self._kind, self.inputs)
        self.ctx.job = job_settings(Str(self._kind), self.inputs.settings, self.inputs.seed)
        self.out('start', self.ctx.start)

    def run_md(self) -> Any:
        """Run to the end, over as many jobs as it takes."""
        if self.inputs.get('packed'):
            return None
        inputs: dict[str, Any] = {
            'lammps': {
                **self.exposed_inputs(LammpsCalculation, 'lammps'),
                'structures': self.ctx.start,
                'potentials': self.inputs.potentials,
                'settings': self.ctx.job,
            },
            'metadata': {'call_link_label': 'md'},
        }
        if self.inputs.get('earlier'):
            inputs['earlier'] = {run_folder(0): dict(self.inputs.earlier)}
        child = self.submit(MdWorkChain, **inputs)
        self.report(f'running {self._kind}: {child.process_label}<{child.pk}>')
        return ToContext(md=child)

    def inspect_md(self) -> ExitCode | None:
        """Attach what the run gave; stop if it failed."""
        if self.inputs.get('packed'):
            gave = {name: value for name, value in self.inputs.packed.items() if name != 'start'}
            record = gave['results']['runs'][0]
            fault = (
                '' if record['status'] == 'finished' else f'{record["status"]}: {record.get("cause") or "see its log"}'
            )
        else:
            child = self.ctx.md
            gave = dict(self.exposed_outputs(child, MdWorkChain))
            if 'trajectories' in child.outputs:
                gave['trajectories'] = dict(child.outputs.trajectories[run_folder(0)])
            fault = '' if child.is_finished_ok else child.exit_message or child.process_state.value
        self.ctx.trajectories = dict(gave.get('trajectories', {}))
        self.out_many(gave)
        return self.exit_codes.ERROR_RUN_FAILED.format(cause=fault) if fault else None

    def analyse(self) -> Any:
        """Analyse the trajectory where it lies."""
        if 'code' not in self.inputs.get('analyse', {}):
            return None
        inputs = AttributeDict(self.exposed_inputs(AnalyseCalculation, 'analyse'))
        inputs.trajectories = dict(self.ctx.trajectories)
        inputs.run = Str('.')
        inputs.metadata.call_link_label = 'analyse'
        return ToContext(analysis=self.submit(AnalyseCalculation, **inputs))

    def results(self) -> ExitCode | None:
        """Attach the analysis."""
        if 'analysis' not in self.ctx:
            return None
        child = self.ctx.analysis
        for name in ('series', 'profiles', 'snapshots', 'summary'):
            if name in child.outputs:
                self.out(f'analysis.{name}', child.outputs[name])
        if not child.is_finished_ok:
            return self.exit_codes.ERROR_ANALYSIS_FAILED.format(cause=child.exit_message or child.process_state.value)
        return None
