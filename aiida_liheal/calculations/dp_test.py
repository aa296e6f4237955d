"""The job that tests one Deep Potential on labelled frames that it was not trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aiida.common.datastructures import CalcInfo, CodeInfo
from aiida.common.folders import Folder
from aiida.engine import CalcJob, CalcJobProcessSpec
from aiida.orm import Dict

from aiida_liheal.calculations.common import define_options, job_validator
from aiida_liheal.data.frames import FramesData
from aiida_liheal.data.potential import PotentialData
from aiida_liheal.structures.formats import write_deepmd_npy

__all__ = ('DpTestCalculation',)


class DpTestCalculation(CalcJob):
    """Energies, forces and virials of a Deep Potential against the labels of given frames."""

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:
        """Inputs, outputs and exit codes."""
        super().define(spec)
        define_options(spec, 'liheal.dp_test')
        spec.input(
            'potential',
            valid_type=PotentialData,
            validator=cls._validate_potential,
            help='The deepmd potential to test.',
        )
        spec.input_namespace(
            'frames',
            valid_type=FramesData,
            dynamic=True,
            required=True,
            validator=cls._validate_frames,
            help='Labelled shards by name; every frame is tested.',
        )
        spec.inputs.validator = job_validator(cls._validate_inputs)
        spec.output(
            'summary',
            valid_type=Dict,
            help='RMSE by shard and by domain: energy and virial in meV/atom, forces in meV/Å.',
        )
        spec.exit_code(303, 'ERROR_NO_TEST', message='the frames could not be tested: {cause}; see test.err of the job')

    @classmethod
    def _validate_inputs(cls, inputs: dict[str, Any], _: Any) -> str | None:
        for name, shard in sorted(inputs.get('frames', {}).items()):
            strange = sorted(set(shard.elements) - set(inputs['potential'].elements))
            if strange:
                known = ', '.join(inputs['potential'].elements)
                return f'shard {name!r} holds {", ".join(strange)}; the potential knows {known} only'
        return None

    @staticmethod
    def _validate_potential(potential: PotentialData, _: Any) -> str | None:
        if potential.kind != 'deepmd':
            return f'the potential is of kind {potential.kind!r}; dp test runs deepmd potentials only'
        return None

    @staticmethod
    def _validate_frames(frames: dict[str, FramesData], _: Any) -> str | None:
        if not frames:
            return 'no frames given; a test needs at least one labelled shard'
        for name, shard in frames.items():
            if not shard.is_labelled or len(shard) == 0:
                return f'shard {name!r} ({len(shard)} frames) has no energies and forces to compare with'
        return None

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        """Write the systems and the model."""
        potential = self.inputs.potential
        with folder.open('model.pb', 'wb') as handle:
            handle.write(potential.read(potential.model_role))
        for name, shard in self.inputs.frames.items():
            write_deepmd_npy(shard.get_frames(), folder.get_abs_path(f'data/test/{name}'), potential.elements)
        codeinfo = CodeInfo()
        codeinfo.code_uuid = self.inputs.code.uuid
        codeinfo.cmdline_params = ['--tf', 'test', '-m', 'model.pb', '-s', 'data/test', '-l', 'test.log']
        codeinfo.stdout_name = 'test.out'
        codeinfo.stderr_name = 'test.err'
        calcinfo = CalcInfo()
        calcinfo.codes_info = [codeinfo]
        calcinfo.retrieve_list = ['test.log', 'test.out', 'test.err']
        root = Path(folder.abspath)
        calcinfo.provenance_exclude_list = [
            'model.pb',
            *[path.relative_to(root).as_posix() for path in (root / 'data').rglob('*') if path.is_file()],
        ]
        return calcinfo
