"""The root of the quickstart: structures → learn → deposit and heal → summary, as one graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida.common import AttributeDict
from aiida.engine import ExitCode, ProcessBuilder, ProcessSpec, ToContext, WorkChain, calcfunction
from aiida.orm import AbstractCode, Dict, Int, Str
from pydantic import Field

from aiida_liheal.calculations.common import settings_validator
from aiida_liheal.data.frames import FramesData
from aiida_liheal.data.potential import PotentialData
from aiida_liheal.sampling.seeds import derive_seed
from aiida_liheal.structures.bcc import bcc_bulk, bcc_slab
from aiida_liheal.structures.frames import Frames
from aiida_liheal.structures.perturb import PerturbSettings, perturb, perturbed_bulk, perturbed_slab
from aiida_liheal.structures.settings import Element, Settings
from aiida_liheal.workchains.deposit import DepositWorkChain
from aiida_liheal.workchains.heal import HealWorkChain
from aiida_liheal.workchains.learn import LearnWorkChain, round_seed
from aiida_liheal.workchains.ports import add_seed
from aiida_liheal.workchains.protocol import ProtocolMixin, fill
from aiida_liheal.workchains.train import TrainWorkChain

__all__ = ('QuickstartWorkChain', 'StructureSettings', 'make_structures')


class StructureSettings(Settings):
    """Which small structures the quickstart labels and explores."""

    element: Element = Field('Li', description='chemical symbol')
    lattice_constant_A: float = Field(3.44, gt=1, lt=10, description='bcc lattice constant in Å (PBE lithium: 3.44)')
    n_bulk: int = Field(ge=1, description='perturbed bulk cells to label')
    bulk_size: tuple[int, int, int] = Field(description='cubic cells of the bulk along x, y and z')
    n_surface: int = Field(ge=1, description='perturbed slabs to label')
    slab_size: tuple[int, int] = Field(description='cubic cells of the slab along x and y')
    slab_layers: int = Field(ge=2, description='layers of the slab')
    vacuum_A: float = Field(10.0, gt=0, description='vacuum between slabs in Å')
    n_starts: int = Field(2, ge=1, description='starts of the exploration for bulk and for surface')
    perturbation: PerturbSettings = Field(
        default_factory=PerturbSettings, description='how far frames leave the crystal'
    )


@calcfunction
def make_structures(settings: Dict, seed: Int) -> dict[str, Any]:
    """Perturbed cells and slabs: some to label first, others for the exploration to start from."""
    chosen = StructureSettings.read(settings.get_dict())

    def seeded(name: str) -> int:
        return derive_seed(seed.value, name)

    common: dict[str, Any] = {
        'settings': chosen.perturbation,
        'element': chosen.element,
        'lattice_constant_A': chosen.lattice_constant_A,
    }
    bulk = {**common, 'size': chosen.bulk_size}
    slab = {**common, 'size': chosen.slab_size, 'n_layers': chosen.slab_layers, 'vacuum_A': chosen.vacuum_A}
    images = {
        'to_label': {
            'bulk': perturbed_bulk(chosen.n_bulk, seeded('label bulk'), **bulk),
            'surface': perturbed_slab(chosen.n_surface, seeded('label surface'), **slab),
        },
        'starts': {
            'bulk': perturbed_bulk(chosen.n_starts, seeded('start bulk'), **bulk),
            'surface': perturbed_slab(chosen.n_starts, seeded('start surface'), **slab),
        },
    }
    return {
        part: {system: FramesData(Frames.from_atoms(frames), domain=system) for system, frames in systems.items()}
        for part, systems in images.items()
    }


@calcfunction
def summarise(learn: Dict, deposit: Dict, deposit_analysis: Dict, heal: Dict, heal_analysis: Dict) -> Dict:
    """The short table of the quickstart: the summaries that it is made of, under the names of their verbs."""
    return Dict(
        {
            'learn': learn.get_dict(),
            'deposit': {**deposit.get_dict()['runs'][0], 'analysis': deposit_analysis.get_dict()},
            'heal': {**heal.get_dict()['runs'][0], 'analysis': heal_analysis.get_dict()},
        }
    )


class QuickstartWorkChain(ProtocolMixin, WorkChain):
    """The whole chain in a small size: refine a committee on labels made on the spot, then deposit and heal with it."""

    _protocol_name = 'quickstart'

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:
        """Inputs, outputs, outline and exit codes."""
        super().define(spec)
        spec.input(
            'structures',
            valid_type=Dict,
            validator=settings_validator(StructureSettings),
            help='Structures to label and to explore from (see `StructureSettings`).',
        )
        add_seed(spec, 'Seed of everything random.')
        spec.expose_inputs(LearnWorkChain, namespace='learn', exclude=('seed', 'to_label'))
        spec.inputs['learn'].validator = None
        # the structures are made here, from `structures`
        spec.inputs['learn']['explore']['structures'].required = False
        for verb, process in (('deposit', DepositWorkChain), ('heal', HealWorkChain)):
            spec.expose_inputs(process, namespace=verb, exclude=('seed', 'potentials', 'earlier'))
            spec.inputs[verb].validator = None
        spec.outline(cls.make, cls.learn, cls.inspect_learn, cls.simulate, cls.results)
        spec.expose_outputs(LearnWorkChain, namespace='learn')
        spec.expose_outputs(DepositWorkChain, namespace='deposit')
        spec.expose_outputs(HealWorkChain, namespace='heal')
        spec.output('summary', valid_type=Dict, help='The summaries of learn, deposit and heal in one place.')
        spec.exit_code(340, 'ERROR_LEARN_FAILED', message='learning failed: {cause}')
        spec.exit_code(341, 'ERROR_SIMULATION_FAILED', message='{verb} failed: {cause}')

    @classmethod
    def get_builder_from_protocol(
        cls,
        codes: Mapping[str, AbstractCode],
        start_from: Mapping[str, PotentialData],
        seed: int = 2022,
        protocol: str | None = None,
        overrides: dict[str, Any] | None = None,
    ) -> ProcessBuilder:
        """A builder with the settings of a protocol; see `ProtocolMixin` for what all of them take.

        Parameters
        ----------
        codes : mapping of str to Code
            `gpaw`, `dp`, `lmp` and `python` (with OVITO).
        start_from : mapping of str to PotentialData
            The committee that is refined, m0, m1, …: such as the shipped one.
        protocol : str, optional
            `fast`, or `tiny` for a test of the chain.
        overrides : dict, optional
            Laid over the protocol: `structures`, and `learn`, `deposit`, `heal` as the overrides of those verbs.
        """
        inputs = cls.get_protocol_inputs(protocol, overrides)
        # the committee that is refined may be smaller than the one that there is
        train = LearnWorkChain.get_protocol_inputs('fast', inputs['learn'])['train']
        n_members = TrainWorkChain.get_protocol_inputs('fast', train)['n_members']
        start_from = {name: start_from[name] for name in sorted(start_from)[:n_members]}
        chosen = StructureSettings.read(inputs['structures'])
        # shapes only, for the builder of `learn` to check its settings by; the real ones are made inside the work chain
        crystal = bcc_bulk(chosen.element, chosen.lattice_constant_A, chosen.bulk_size)
        slab = bcc_slab(
            chosen.element, chosen.lattice_constant_A, chosen.slab_size, chosen.slab_layers, chosen.vacuum_A
        )
        slab.pbc = True
        shapes = {
            name: FramesData(Frames.from_atoms(perturb(atoms, 1, 0, PerturbSettings(displacement_A=0.0))), domain=name)
            for name, atoms in (('bulk', crystal), ('surface', slab))
        }
        learn = LearnWorkChain.get_builder_from_protocol(
            codes, shapes, to_label=shapes, start_from=start_from, protocol='fast', overrides=inputs['learn']
        )
        builder = cls.get_builder()
        content = learn._inputs(prune=True)
        content['explore'].pop('structures')
        fill(builder.learn, content, ('seed', 'to_label'))
        for verb, process in (('deposit', DepositWorkChain), ('heal', HealWorkChain)):
            inner = process.get_builder_from_protocol(codes, start_from, protocol='fast', overrides=inputs[verb])
            fill(builder[verb], inner._inputs(prune=True), ('seed', 'potentials'))
        builder.structures = Dict(chosen.model_dump(mode='json'))
        builder.seed = Int(seed)
        return builder

    def make(self) -> None:
        """Make the structures to label and to explore from."""
        self.ctx.structures = make_structures(self.inputs.structures, self.inputs.seed)

    def learn(self) -> Any:
        """Refine the committee."""
        inputs = AttributeDict(self.exposed_inputs(LearnWorkChain, 'learn'))
        inputs.to_label = self.ctx.structures['to_label']
        inputs.explore = AttributeDict(inputs.explore)
        inputs.explore.structures = self.ctx.structures['starts']
        inputs.seed = round_seed(self.inputs.seed, Str('learn'), Int(0))
        inputs.metadata.call_link_label = 'learn'
        return ToContext(learning=self.submit(LearnWorkChain, **inputs))

    def inspect_learn(self) -> ExitCode | None:
        """Go on with the committee unless learning failed; that it has not converged in so few rounds is no failure."""
        child = self.ctx.learning
        self.out_many(self.exposed_outputs(child, LearnWorkChain, namespace='learn'))
        if 'potentials' not in child.outputs or not (
            child.is_finished_ok
            or child.exit_status
            in (
                LearnWorkChain.exit_codes.STOPPED_AT_LAST_ROUND.status,
                LearnWorkChain.exit_codes.NOTHING_LEFT_TO_CHOOSE.status,
            )
        ):
            return self.exit_codes.ERROR_LEARN_FAILED.format(cause=child.exit_message or child.process_state.value)
        return None

    def simulate(self) -> Any:
        """Deposit and heal with the refined committee, side by side."""
        awaited = {}
        for verb, process in (('deposit', DepositWorkChain), ('heal', HealWorkChain)):
            inputs = AttributeDict(self.exposed_inputs(process, verb))
            inputs.potentials = dict(self.ctx.learning.outputs.potentials)
            inputs.seed = round_seed(self.inputs.seed, Str(verb), Int(0))
            inputs.metadata.call_link_label = verb
            child = self.submit(process, **inputs)
            self.report(f'{verb}: {child.process_label}<{child.pk}>')
            awaited[verb] = child
        return ToContext(**awaited)

    def results(self) -> ExitCode | None:
        """Attach everything, and the short table."""
        for verb, process in (('deposit', DepositWorkChain), ('heal', HealWorkChain)):
            self.out_many(self.exposed_outputs(self.ctx[verb], process, namespace=verb))
        for verb in ('deposit', 'heal'):
            child = self.ctx[verb]
            if not child.is_finished_ok:
                return self.exit_codes.ERROR_SIMULATION_FAILED.format(
                    verb=verb,
                    cause=f'{child.process_label}<{child.pk}>: {child.exit_message or child.process_state.value}',
                )
        deposit, heal = self.ctx.deposit.outputs, self.ctx.heal.outputs
        self.out(
            'summary',
            summarise(
                self.ctx.learning.outputs.summary,
                deposit.results,
                deposit.analysis.summary,
                heal.results,
                heal.analysis.summary,
            ),
        )
        return None
