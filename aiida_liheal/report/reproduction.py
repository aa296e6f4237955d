"""The chapter of the checks of the paper: a table a check, a row a part."""

from __future__ import annotations

from aiida_liheal.report.campaign import Row, SeriesTable
from aiida_liheal.report.tree import Step

__all__ = ('reproduction_tables',)


def reproduction_tables(step: Step) -> list[SeriesTable]:
    """A table for each check; nothing as long as they are not judged."""
    tables = []
    for check in step.result('reproduction').get('checks', []):
        rows = []
        for part in check['parts']:
            unit = f' {part["unit"]}' if part['unit'] and part['ours'] else ''
            results = [part['paper'], part['limit'], f'{part["ours"]}{unit}', part['size']['text']]
            rows.append(Row([part['what']], results, part['outcome'], part['reason'], ''))
        quote = f'«{check["quote"]}»' if check['quote'] else ''
        tables.append(
            SeriesTable(
                name=f'{check["number"]}. {check["title"]}',
                verb=check['outcome'],
                note=check['note'],
                source=', '.join(text for text in (check['source'], quote) if text),
                axes=['what'],
                columns=['paper', 'passes', 'ours', 'size'],
                rows=rows,
            )
        )
    return tables
