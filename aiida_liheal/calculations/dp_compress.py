"""The job that compresses a frozen Deep Potential: the same energies, faster in LAMMPS."""

from __future__ import annotations

from typing import Any

from aiida.common.datastructures import CalcInfo, CodeInfo
from aiida.common.folders import Folder
from aiida.engine import CalcJob, CalcJobProcessSpec
from aiida.orm import Float

from aiida_liheal.calculations.common import define_options
from aiida_liheal.calculations.dp_settings import DpTrainSettings
from aiida_liheal.calculations.dp_train import write_compress_input
from aiida_liheal.data.potential import PotentialData

__all__ = ('DpCompressCalculation',)


class DpCompressCalculation(CalcJob):
    """Compress a potential that has only its frozen model, such as a shipped one."""

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:
        """Inputs, outputs and exit codes."""
        super().define(spec)
        define_options(spec, 'liheal.dp_compress')
        spec.input(
            'potential',
            valid_type=PotentialData,
            validator=cls._validate_potential,
            help='A deepmd potential with its training input.',
        )
        spec.input(
            'table_from_A',
            valid_type=Float,
            default=lambda: Float(DpTrainSettings.model_fields['table_from_A'].default),
            validator=lambda node, _: (
                None
                if 0.1 < node.value < 5
                else f'table_from_A is {node.value} Å; allowed is more than 0.1 and less than 5'
            ),
            help='Smallest distance that the table of the compressed model resolves, in Å.',
        )
        spec.output('potential', valid_type=PotentialData, help='The same potential with its compressed model.')
        spec.exit_code(
            301, 'ERROR_NO_MODEL', message='there is no compressed model: {cause}; see compress.err of the job'
        )

    @staticmethod
    def _validate_potential(potential: PotentialData, _: Any) -> str | None:
        if potential.kind != 'deepmd':
            return f'the potential is of kind {potential.kind!r}; only deepmd potentials can be compressed'
        if potential.training_input is None:
            return "the potential has no training input (role 'input'), which `dp compress` needs"
        return None

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        """Write the model and what `dp compress` wants to see of its training."""
        potential = self.inputs.potential
        with folder.open('frozen.pb', 'wb') as handle:
            handle.write(potential.read('frozen'))
        write_compress_input(folder, potential.training_input, self.inputs.table_from_A.value)
        codeinfo = CodeInfo()
        codeinfo.code_uuid = self.inputs.code.uuid
        codeinfo.cmdline_params = ['--tf', 'compress', '-i', 'frozen.pb', '-o', 'compressed.pb', '-t', 'compress.json']
        codeinfo.stdout_name = 'compress.out'
        codeinfo.stderr_name = 'compress.err'
        calcinfo = CalcInfo()
        calcinfo.codes_info = [codeinfo]
        calcinfo.retrieve_list = ['compress.out', 'compress.err']
        calcinfo.retrieve_temporary_list = ['compressed.pb']
        calcinfo.provenance_exclude_list = ['frozen.pb']
        return calcinfo
