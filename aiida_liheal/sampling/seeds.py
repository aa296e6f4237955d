"""Seeds derived from one seed by name, so that no two parts of a graph share a stream."""

from __future__ import annotations

import hashlib

from aiida_liheal.structures.settings import MAX_SEED


def derive_seed(seed: int, *names: str | int) -> int:
    """A seed for one named part, the same on every machine and in every version of Python.

    Parameters
    ----------
    seed : int
        Of the whole, 0 or greater.
    *names : str or int
        Path of the part, such as `'train', 'm2'`.

    Returns
    -------
    int
        From 1 to 900,000,000, which LAMMPS, DeePMD-kit and numpy all take.

    Raises
    ------
    ValueError
        If the seed is negative.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f'seed = {seed!r}: must be a whole number of 0 or greater')
    # repr tells 1 from '1', and the separator keeps ('a', 'b') apart from ('ab',)
    text = '\x1f'.join([str(seed), *[repr(name) for name in names]])
    digest = hashlib.sha256(text.encode()).digest()
    return 1 + int.from_bytes(digest[:8], 'big') % MAX_SEED
