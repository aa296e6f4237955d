"""The job that analyses the trajectory of a run on the computer where it lies."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import PurePosixPath
from typing import Any

from aiida.common.datastructures import CalcInfo, CodeInfo
from aiida.common.folders import Folder
from aiida.engine import CalcJob, CalcJobProcessSpec
from aiida.orm import ArrayData, Dict, RemoteData, Str

from aiida_liheal.analysis import results
from aiida_liheal.analysis.settings import AnalysisSettings
from aiida_liheal.calculations.common import check_segments, define_options, segments_in_order, settings_validator

__all__ = ('AnalyseCalculation',)

#: Name of the dump in the folder of a run.
DUMP = 'traj.dump'


class AnalyseCalculation(CalcJob):
    """Phases, voids, energies, temperatures and heights of one run against time, and its first and last frame.

    Nothing of the trajectory is copied or retrieved: the job links to the dumps and brings back the numbers. It
    carries the analysis along, so that the code is any Python with numpy, OVITO and pydantic.
    """

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:
        """Inputs, outputs and exit codes."""
        super().define(spec)
        define_options(spec, 'liheal.analyse')
        spec.input_namespace(
            'trajectories',
            valid_type=RemoteData,
            dynamic=True,
            required=True,
            validator=cls._validate_trajectories,
            help='Remote folders of the jobs that ran the run, by names s000, s001, … in the order of its restarts.',
        )
        spec.input(
            'run',
            valid_type=Str,
            default=lambda: Str('run_000'),
            validator=cls._validate_run,
            help=f'Folder of the run inside each remote folder; «.» is the remote folder itself. It holds {DUMP}.',
        )
        spec.input(
            'settings',
            valid_type=Dict,
            default=lambda: Dict(AnalysisSettings().model_dump()),
            validator=settings_validator(AnalysisSettings),
            help='Keys of AnalysisSettings; each carries its unit, such as void_probe_radius_A in Å.',
        )
        spec.output(
            'series',
            valid_type=ArrayData,
            help='An array for each quantity against time, such as time_ps, bcc_share, void_volume_A3 (Å^3).',
        )
        spec.output(
            'profiles',
            valid_type=ArrayData,
            help='Arrays by height, averaged over the last frames: height_A, density_g_per_cm3, temperature_K.',
        )
        spec.output(
            'snapshots',
            valid_type=ArrayData,
            help='First and last frame: first_position_A, first_structure, …, last_position_A, … (Å, eV).',
        )
        spec.output(
            'mobility',
            valid_type=ArrayData,
            required=False,
            help='If asked for: lag_ps, msd_surface_A2, msd_bulk_A2 (Å^2) by lag; D is in `summary`.',
        )
        spec.output(
            'summary',
            valid_type=Dict,
            help='Values at start and end, extremes, time of healing in ps, energies of sites by member, frames left '
            'out, settings, units.',
        )
        spec.inputs.validator = _all_of(spec.inputs.validator, cls._validate_computer)

        spec.exit_code(
            210,
            'ERROR_NO_TRAJECTORY',
            message='a dump is not there: {message}. See whether the remote folder has been cleaned and the name of '
            'the run is right',
        )
        spec.exit_code(
            211,
            'ERROR_NO_FRAMES',
            message='{message}. The run ended before its first frame was written: look at its log, restart it',
        )
        spec.exit_code(
            212,
            'ERROR_TRAJECTORY_DAMAGED',
            message='{message}. Leave the dump out or run that part again',
        )
        spec.exit_code(
            213,
            'ERROR_COLUMNS_MISSING',
            message='{message}. Run again with a dump that has the columns id type x y z vx vy vz c_pe',
        )
        spec.exit_code(
            310,
            'ERROR_PACKAGES_MISSING',
            message='{message}. Install numpy, ovito and pydantic for the Python of the code',
        )
        spec.exit_code(
            311,
            'ERROR_NO_STATUS',
            message='the job left no status: the analysis did not start. See analyse.err and the scheduler output',
        )
        spec.exit_code(312, 'ERROR_RESULTS_UNREADABLE', message='the results cannot be read: {message}')
        spec.exit_code(320, 'ERROR_ANALYSIS_FAILED', message='the analysis failed: {message}. See analyse.err')
        spec.exit_code(
            400,
            'ERROR_STOPPED',
            message='stopped after {done} of {total} frames. Give more time (max_wallclock_seconds) or analyse fewer '
            'frames (settings: every)',
        )
        spec.exit_code(
            410,
            'ERROR_TRAJECTORY_TRUNCATED',
            message='the last dump ends within a frame: the results cover the complete frames. Let the run go on '
            'from its last restart file and analyse all its parts',
        )

    @staticmethod
    def _validate_trajectories(trajectories: Mapping[str, RemoteData] | None, _: Any) -> str | None:
        if not trajectories:
            return 'no trajectory given; give at least s000, the remote folder of a job that ran LAMMPS'
        return check_segments('trajectories', trajectories)

    @staticmethod
    def _validate_run(run: Str, _: Any) -> str | None:
        if run.value != '.' and not re.fullmatch(r'\w[\w.-]*', run.value, re.ASCII):
            return f'run is {run.value!r}; it is one folder, of letters, digits, «_», «-» and «.», such as run_000'
        return None

    @staticmethod
    def _validate_computer(inputs: Mapping[str, Any], _: Any) -> str | None:
        code = inputs.get('code')
        if code is None or code.computer is None:
            return None
        for name, remote in inputs.get('trajectories', {}).items():
            if remote.computer is None or remote.computer.uuid != code.computer.uuid:
                where = remote.computer.label if remote.computer is not None else 'no computer'
                return (
                    f'trajectory {name} is on {where}, the code on {code.computer.label}; '
                    'take a Python on the computer of the trajectory'
                )
        return None

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        """Write the settings and the analysis; link to the dumps."""
        carried = _carried_sources()
        for name, text in carried.items():
            parent, _, base = name.rpartition('/')
            target = folder.get_subfolder(parent, create=True) if parent else folder
            with target.open(base, 'w', encoding='utf-8') as handle:
                handle.write(text)
        with folder.open('settings.json', 'w', encoding='utf-8') as handle:
            json.dump(self.inputs.settings.get_dict(), handle, indent=1)

        links = []
        for name in segments_in_order(self.inputs.trajectories):
            remote = self.inputs.trajectories[name]
            source = PurePosixPath(remote.get_remote_path()) / self.inputs.run.value / DUMP
            links.append((remote.computer.uuid, str(source), f'{name}.dump'))

        codeinfo = CodeInfo()
        codeinfo.code_uuid = self.inputs.code.uuid
        codeinfo.cmdline_params = ['analyse.py', *[link[2] for link in links]]
        codeinfo.stdout_name = 'analyse.out'
        codeinfo.stderr_name = 'analyse.err'
        calcinfo = CalcInfo()
        calcinfo.codes_info = [codeinfo]
        calcinfo.remote_symlink_list = links
        calcinfo.retrieve_list = ['status.json', 'analyse.out', 'analyse.err']
        # the numbers go into the output nodes: a second copy of them in the database would be waste
        calcinfo.retrieve_temporary_list = [
            results.SERIES_FILE,
            results.PROFILES_FILE,
            results.SNAPSHOTS_FILE,
            results.MOBILITY_FILE,
            results.SUMMARY_FILE,
        ]
        # what was carried is the package of the version that the node records
        calcinfo.provenance_exclude_list = list(carried)
        return calcinfo


def _carried_sources() -> dict[str, str]:
    """The runner and what it imports of this package, by path in the job's folder."""
    package = resources.files('aiida_liheal')
    files = {'analyse.py': package / 'runners' / 'analyse.py', 'aiida_liheal/__init__.py': package / '__init__.py'}
    for file in (package / 'analysis').iterdir():
        if file.name.endswith('.py'):
            files[f'aiida_liheal/analysis/{file.name}'] = file
    return {name: file.read_text(encoding='utf-8') for name, file in files.items()}


def _all_of(*validators: Callable[[Any, Any], str | None] | None) -> Callable[[Any, Any], str | None]:
    """A validator that asks several, until one objects."""

    def validate(value: Any, context: Any) -> str | None:
        return next((said for v in validators if v is not None and (said := v(value, context))), None)

    return validate
