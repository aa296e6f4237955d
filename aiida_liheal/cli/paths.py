"""Paths of a machine out of an archive, before it is given to everybody."""

from __future__ import annotations

import functools
import hashlib
import json
import re
import sqlite3
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

__all__ = ('replace_paths',)

_REPOSITORY = 'repo/'


def replace_paths(source: Path, target: Path, replacements: Mapping[str, str]) -> int:
    """Write an AiiDA archive anew with beginnings of paths replaced, such as that of a home folder.

    A path is replaced where it stands whole (`/home/jane`, but not in `/home/janet`), in every text of the database and
    in every text file of the repository, whose key (the SHA-256 of its content) follows it. Numbers, links, times and
    the identifiers of nodes stay as they are.

    Parameters
    ----------
    source, target : Path
        The archive, and the file to write.
    replacements : mapping of str to str
        By absolute path: the absolute path to write for it. Longer ones are replaced first.

    Returns
    -------
    int
        How many texts were changed.

    Raises
    ------
    ValueError
        If a path is not absolute, is the root, or stands in a file that is no text.
    """
    for path in (*replacements, *replacements.values()):
        if not path.startswith('/') or len(PurePosixPath(path).parts) < 2:
            raise ValueError(f'{path!r}: needed is an absolute path other than /')
    pairs = sorted(replacements.items(), key=lambda pair: -len(pair[0]))
    n_changed = 0
    with (
        zipfile.ZipFile(source) as old,
        # AiiDA looks for metadata and database at the beginning: the order of the files is kept
        zipfile.ZipFile(target, 'w', zipfile.ZIP_DEFLATED) as new,
        tempfile.TemporaryDirectory() as folder,
    ):
        keys: dict[str, str] = {}
        files: dict[str, tuple[zipfile.ZipInfo, bytes]] = {}
        for info in old.infolist():
            if info.filename.startswith(_REPOSITORY):
                key = info.filename.removeprefix(_REPOSITORY)
                content = old.read(info)
                changed = _replaced(content, pairs)
                keys[key] = key if changed == content else hashlib.sha256(changed).hexdigest()
                n_changed += changed != content
                files[keys[key]] = (info, changed)
        database = Path(folder, 'db.sqlite3')
        database.write_bytes(old.read('db.sqlite3'))
        moved = {before: after for before, after in keys.items() if before != after}
        n_changed += _replace_in_database(database, pairs, moved)
        new.writestr(old.getinfo('metadata.json'), _replaced(old.read('metadata.json'), pairs))
        new.write(database, 'db.sqlite3')
        for key, (info, content) in files.items():
            new.writestr(f'{_REPOSITORY}{key}', content, info.compress_type)
    return n_changed


def _replaced(content: bytes, pairs: list[tuple[str, str]]) -> bytes:
    if not any(before.encode() in content for before, _ in pairs):
        return content
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise ValueError('a file that is no text holds one of the paths; it cannot be replaced there') from error
    return _replaced_text(text, pairs).encode()


def _replaced_text(text: str, pairs: list[tuple[str, str]]) -> str:
    for before, after in pairs:
        # a backslash in what is put in is no escape
        text = re.sub(rf'{re.escape(before)}(?![A-Za-z0-9_-])', after.replace('\\', r'\\'), text)
    return text


def _replaced_value(value: Any, pairs: list[tuple[str, str]]) -> Any:
    return _replaced_text(value, pairs) if isinstance(value, str) else value


def _replace_in_database(database: Path, pairs: list[tuple[str, str]], moved: Mapping[str, str]) -> int:
    connection = sqlite3.connect(database)
    escaped = [(json.dumps(before)[1:-1], json.dumps(after)[1:-1]) for before, after in pairs]
    for name, those in (('replace_in_text', pairs), ('replace_in_json', escaped)):
        connection.create_function(name, 1, functools.partial(_replaced_value, pairs=those))
    n_changed = 0
    try:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            # names of tables and columns are those of AiiDA's own schema
            for _, column, kind, *_ in connection.execute(f'PRAGMA table_info({table})').fetchall():
                if not kind.startswith(('TEXT', 'JSON', 'VARCHAR')):
                    continue
                function = 'replace_in_json' if kind == 'JSON' else 'replace_in_text'
                n_changed += connection.execute(
                    f'UPDATE {table} SET {column} = {function}({column}) WHERE {column} != {function}({column})'  # noqa: S608
                ).rowcount
        connection.executemany(
            'UPDATE db_dbnode SET repository_metadata = replace(repository_metadata, ?, ?)', list(moved.items())
        )
        connection.commit()
        connection.execute('VACUUM')
    finally:
        connection.close()
    return n_changed
