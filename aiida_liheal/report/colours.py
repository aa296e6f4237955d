"""Colours that figures, pictures, films and legends share."""

from __future__ import annotations

__all__ = ('ENERGY_SCALE', 'STRUCTURE_COLOURS')

#: Colours of the structures that a-CNA tells apart: «The blue, green, and red balls […] denote atoms with local BCC,
#: face-centered cubic (FCC), and hexagonal close-packed (HCP) arrangements, respectively, and the grey balls denote
#: other local environments» (paper, Figure 2), in tones that colour-blind people tell apart (Okabe and Ito).
STRUCTURE_COLOURS = {'bcc': '#0072b2', 'fcc': '#009e73', 'hcp': '#d55e00', 'ico': '#cc79a7', 'other': '#8a8a8a'}
#: The scale of potential energies, low to high: cividis (Nunez, Anderton and Renslow, PLoS ONE 13, e0199239, 2018).
ENERGY_SCALE = ('#00224e', '#2a3f6d', '#575d6d', '#7d7c78', '#a59c74', '#d2c060', '#fee838')
