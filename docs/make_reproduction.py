"""Print the tables of `reproduction.md`: the checks, and how a campaign in an archive comes out; runs nothing.

python docs/make_reproduction.py examples/gallery.aiida
python docs/make_reproduction.py examples/checks.aiida
"""

from __future__ import annotations

import sys

from aiida import load_profile
from aiida.storage.sqlite_zip.backend import SqliteZipBackend
from make_gallery import campaign_of

from aiida_liheal.analysis.reproduction import Check, judge_checks, markdown, read_checks
from aiida_liheal.workchains.reproduce import TEST, ReproduceWorkChain, needed_outputs, outputs_by_point, read_runs


def checks_table(checks: dict[str, Check]) -> str:
    """What is judged, by what limit, and from which size on, as Markdown."""
    lines = ['| check | part | paper | passes | judged from | series |', '|' + ' --- |' * 6]
    for number, check in enumerate(checks.values(), 1):
        for place, part in enumerate(check.parts.values()):
            places = part.least_places if part.least_places > 1 else None
            least = (
                (part.least_atoms, 'atoms'),
                (part.least_ps, 'ps'),
                (part.least_frames, 'frames'),
                (places, 'places'),
            )
            cells = (
                f'{number} {check.title} ({check.source})' if place == 0 else '',
                part.what,
                part.paper,
                f'{part.judge.limit} {part.unit}' if part.judge.limit[0].isdigit() else part.judge.limit,
                ', '.join(f'{value:,g} {unit}' for value, unit in least if value is not None),
                ', '.join(f'`{name}`' for name in part.series),
            )
            lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines)


def main(archive: str) -> None:
    """Print the tables."""
    load_profile(SqliteZipBackend.create_profile(archive))
    campaign = campaign_of()
    checks = read_checks(ReproduceWorkChain.get_protocol_inputs()['checks'])
    print(checks_table(checks), end='\n\n')
    points = {name: needed_outputs(checks, outputs) for name, outputs in outputs_by_point(campaign).items()}
    runs = read_runs(checks, campaign.outputs.table, points)
    print(markdown(judge_checks(checks, runs, {TEST: 'no labelled frames given to test the potential on'})))


if __name__ == '__main__':
    main(*sys.argv[1:])
