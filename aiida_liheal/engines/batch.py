"""What the jobs of all engines take and give alike: what the verb `label` counts on."""

from __future__ import annotations

from aiida.engine import CalcJobProcessSpec
from aiida.orm import Dict, RemoteData

from aiida_liheal.data.frames import FramesData

__all__ = ('define_batch',)


def define_batch(spec: CalcJobProcessSpec, settings: str) -> None:
    """Add the ports and exit codes of a job that labels a batch; `settings` is the name of the model of its settings.

    A job that can say why it was interrupted gives exit code 400 a message of its own afterwards.
    """
    spec.input('frames', valid_type=FramesData, help='The structures to label; labels that they have are ignored.')
    spec.input('settings', valid_type=Dict, help=f'Settings; keys carry their units (see `{settings}`).')
    spec.input(
        'parent_folder',
        valid_type=RemoteData,
        required=False,
        help='Folder of an interrupted job; what it finished of the same frames and settings is not done again.',
    )
    spec.output(
        'frames',
        valid_type=FramesData,
        required=False,
        help='The converged frames: energies in eV, those that the forces in eV/Å are the gradient of (free energies), '
        'virials in eV; `source_index` says which frame of the input each one was.',
    )
    spec.output(
        'summary',
        valid_type=Dict,
        help='Frames given, made and dropped with their causes; seconds a frame; versions. What is known of each '
        'labelled frame (`seconds`, `scf_steps`) is in `extra` of `frames`.',
    )
    spec.exit_code(
        302,
        'ERROR_NO_OUTPUT',
        message='the job left no readable {name} ({cause}); see label.err and the scheduler output of the job',
        invalidates_cache=True,
    )
    spec.exit_code(
        400,
        'ERROR_INTERRUPTED',
        message='the job ended after {n_done} of {n_given} frames; the finished ones are in `frames`, and with its '
        'folder as `parent_folder` the next job does the others',
        invalidates_cache=True,
    )
    spec.exit_code(
        500,
        'ERROR_NOTHING_CONVERGED',
        message='none of the {n_given} frames gave labels; the first cause: {cause}',
        invalidates_cache=True,
    )
