"""Where an atom sits: in the bulk, at the surface, there at a tip or in a valley."""

from __future__ import annotations

from numpy.typing import NDArray

#: Kinds of sites, in the order of `sites_of`.
SITES = ('surface', 'tips', 'valleys', 'bulk')
#: Most neighbours of a tip. In bcc an atom has 14 within 1.207 lattice constants, on a (100) terrace 9, on (110) 10, at
#: a straight step of (100) 8, at a kink and on the ridge of two (110) flanks 7, alone on (100) 5.
MOST_AT_TIP = 7
#: Fewest neighbours of an atom of the surface that lies in a valley.
FEWEST_IN_VALLEY = 11


def sites_of(neighbours: NDArray, outside: NDArray, inside: NDArray) -> dict[str, NDArray]:
    """Atoms of each kind of site, by name from `SITES`: (n,) bool each.

    The surface is what the alpha shape of matter goes through at its outside: atoms that a ball of the probe's radius
    can touch. Tips and valleys are those of them with few and with many neighbours. A flat terrace of (100) or (110) is
    neither; one of (111), whose topmost atoms have 7 neighbours, counts as tips. Bulk atoms are away from all surfaces.
    Thermal motion blurs the counts: of a flat (100) with displacements of 0.3 Å along each axis 3 % count as tips and
    8 % as valleys, with 0.1 Å none.

    Parameters
    ----------
    neighbours : (n,) int
        Neighbours within 1.207 lattice constants, between the second and the third bcc shell.
    outside : (n,) bool
        Atoms that the surface mesh goes through at the outside.
    inside : (n,) bool
        Atoms away from the outside and from voids.
    """
    return {
        'surface': outside,
        'tips': outside & (neighbours <= MOST_AT_TIP),
        'valleys': outside & (neighbours >= FEWEST_IN_VALLEY),
        'bulk': inside,
    }
