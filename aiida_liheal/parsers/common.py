"""What the parsers share."""

from __future__ import annotations

from typing import Any

import numpy as np
from aiida.orm import ArrayData, FolderData

__all__ = ('array_data', 'read_text')


def read_text(retrieved: FolderData, name: str) -> str:
    """Text of a retrieved file, bytes that are no UTF-8 replaced; empty if the file was not retrieved."""
    folder, _, base = name.rpartition('/')
    try:
        names = retrieved.base.repository.list_object_names(folder or None)
    except FileNotFoundError:
        return ''
    if base not in names:
        return ''
    return str(retrieved.base.repository.get_object_content(name, 'rb').decode('utf-8', errors='replace'))


def array_data(columns: dict[str, Any]) -> ArrayData:
    """An unstored node with one array a column."""
    node = ArrayData()
    for name, column in columns.items():
        node.set_array(name, np.asarray(column))
    return node
