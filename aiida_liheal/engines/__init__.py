"""Engines: what computes labels, a folder each, behind one contract; found by entry points, so others can bring theirs.

What all of them share stays outside: batches, restarts and quality rules are the verb's (`workchains/label.py`).
"""

from __future__ import annotations

from aiida_liheal.engines.contract import GROUP, Engine, engine, engines

__all__ = ('GROUP', 'Engine', 'engine', 'engines')
