"""What a user may set about an analysis, with units, limits and reasons."""

from __future__ import annotations

import math
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class DendriteAnalysisSettings(BaseModel):
    """What counts as a dendrite and as each of its forms; the defaults are for lithium at the paper's cells."""

    model_config = ConfigDict(extra='forbid', frozen=True)

    lattice_constant_A: float = Field(default=3.51, gt=1.0, lt=10.0, description='bcc lattice constant in Å')
    cluster_cutoff_A: float | None = Field(
        default=None,
        gt=0.0,
        description='atoms this close in Å are of one piece; none given: 1.207 lattice constants',
    )
    bare_share: float = Field(
        default=0.1,
        gt=0.0,
        lt=0.5,
        description='share of the area, at most, that lies lower than the level that dendrites stand on, which is '
        'looked for if it is not given; a larger share must be bare of dendrites',
    )
    slice_A: float = Field(default=3.5, ge=1.0, le=20.0, description='thickness in Å of the slices that have a width')
    join_height_A: float = Field(
        default=3.5,
        ge=0.0,
        description='atoms up to this height in Å above the substrate join no dendrites: islands of a layer or two '
        'lie there',
    )
    min_height_A: float = Field(default=7.0, gt=0.0, description='lower ones in Å are no dendrites')
    min_atoms: int = Field(default=10, ge=4, description='clusters of fewer atoms above join_height_A are no dendrites')
    quasi_2d_below_A: float = Field(
        default=25.0,
        ge=0.0,
        description='in cells shorter than this along y, in Å, dendrites are walls along y and widths are those along '
        'x; in others they are round and widths are diameters',
    )
    bottom_at_A: float = Field(default=10.0, gt=0.0, description='height in Å at which D_bottom is measured')
    top_range: tuple[float, float] = Field(
        default=(0.8, 0.9), description='from and to, as shares of the height, where D_top is measured'
    )
    mushroom_overhang: float = Field(
        default=0.3, gt=0.0, description='least overhang (W_max - D_bottom) / D_bottom of a mushroom'
    )
    mushroom_widest_above: float = Field(
        default=0.5, gt=0.0, lt=1.0, description='the widest part of a mushroom lies above this share of its height'
    )
    needle_aspect: float = Field(default=1.5, gt=0.0, description='least height / D_bottom of a needle')
    form_from_height_A: float = Field(
        default=20.0,
        gt=0.0,
        description='dendrites lower than this in Å are too small to have a bottom, an overhang and a form',
    )
    form_from_width_A: float = Field(
        default=8.8,
        gt=0.0,
        description='dendrites with a D_bottom below this in Å, five rows of atoms, are too small to have a form: a '
        'row more or less would change it',
    )
    arm_atoms: int = Field(default=4, ge=1, description='pieces of a slice with fewer atoms are no arms')
    kink_angle_deg: float = Field(
        default=30.0, gt=0.0, lt=180.0, description='least change of direction in degrees that is a kink'
    )
    kink_segment_A: float = Field(
        default=14.0,
        gt=0.0,
        description='length in Å of the two pieces of the centre line, below and above, whose directions are compared',
    )

    @model_validator(mode='after')
    def _consistent(self) -> Self:
        if not 0 < self.top_range[0] < self.top_range[1] <= 1:
            raise ValueError(
                f'top_range is {self.top_range}; it must be two rising shares of the height, above 0 and up to 1'
            )
        if self.cutoff_A < math.sqrt(3) / 2 * self.lattice_constant_A:
            raise ValueError(
                f'cluster_cutoff_A is {self.cluster_cutoff_A} Å; it must be at least the distance of nearest '
                f'neighbours, {math.sqrt(3) / 2 * self.lattice_constant_A:.3f} Å'
            )
        if self.min_height_A <= self.join_height_A:
            raise ValueError(
                f'min_height_A is {self.min_height_A} Å; it must be more than join_height_A, {self.join_height_A} Å'
            )
        if self.form_from_height_A <= self.bottom_at_A:
            raise ValueError(
                f'form_from_height_A is {self.form_from_height_A} Å; it must be more than bottom_at_A, '
                f'{self.bottom_at_A} Å'
            )
        if self.bottom_at_A <= self.join_height_A:
            raise ValueError(
                f'bottom_at_A is {self.bottom_at_A} Å; it must be more than join_height_A, {self.join_height_A} Å'
            )
        if self.kink_segment_A < 2 * self.slice_A:
            raise ValueError(
                f'kink_segment_A is {self.kink_segment_A} Å; it must be at least two slices, {2 * self.slice_A} Å'
            )
        return self

    @property
    def cutoff_A(self) -> float:  # noqa: N802
        """Distance in Å below which two atoms are of one piece; by default between second and third bcc shell."""
        return self.cluster_cutoff_A if self.cluster_cutoff_A is not None else 1.207 * self.lattice_constant_A


class ContactSettings(BaseModel):
    """When a pair of dendrites counts as joined, fused and gone."""

    model_config = ConfigDict(extra='forbid', frozen=True)

    stays_for_ps: float = Field(
        default=1.0, ge=0.0, description='time in ps, up to the end, for which a state must last to be told'
    )
    pair_min_height_A: float = Field(
        default=10.0, gt=0.0, description='lower dendrites in Å are not taken for one of the pair'
    )
    fused_share: float = Field(
        default=0.8,
        gt=0.0,
        le=1.0,
        description='share of the smaller cross-section at the axes that the narrowest one between them has when fused',
    )
    flat_share: float = Field(
        default=0.2, gt=0.0, lt=1.0, description='share of its largest value that the roughness of a flat surface has'
    )
    flat_roughness_A: float = Field(
        default=1.0, ge=0.0, description='surfaces less rough than this in Å are flat, whatever they were before'
    )


class AnalysisSettings(BaseModel):
    """Settings of one analysis; the defaults are those for lithium at the paper's lattice constant."""

    model_config = ConfigDict(extra='forbid', frozen=True)

    lattice_constant_A: float = Field(default=3.51, gt=1.0, lt=10.0, description='bcc lattice constant in Å')
    mass_u: float = Field(default=6.94, gt=0.0, description='mass of an atom in u')
    timestep_fs: float = Field(
        default=1.0, gt=0.0, le=10.0, description='time step of the MD in fs; turns steps into times'
    )
    n_workers: int = Field(
        default=1,
        ge=1,
        le=1024,
        description=(
            'processes that analyse frames side by side, each with one frame and OVITO in memory (0.2 GB and about '
            '1 kB an atom); the numbers are the same with any. A job has to ask for as many cores'
        ),
    )
    every: int = Field(default=1, ge=1, description='analyse each n-th frame of the dump; the last one always')
    average_frames: int = Field(
        default=1,
        ge=1,
        le=1000,
        description=(
            'frames, the analysed one and those dumped just before it, over which positions are averaged for a second '
            'set of shares (`bcc_share_averaged`, …); 1: none. Thermal motion makes single frames read low: about 0.5 '
            'at 300 K in a perfect crystal'
        ),
    )
    measure_voids: bool = Field(
        default=True,
        description=(
            'follow the surface mesh, at two to three times the cost of a-CNA: voids, the amorphous share, and the '
            'energies of atoms at the surface, at tips, in valleys and in the bulk'
        ),
    )
    void_probe_radius_A: float = Field(
        default=3.0,
        gt=0.0,
        description=(
            'radius of the probe of the alpha shape in Å, at the first peak of g(r). The volume is the one between the '
            'centres of the atoms around the void and so reads high, by up to half a lattice constant on each edge'
        ),
    )
    healed_for_ps: float = Field(
        default=1.0,
        ge=0.0,
        description='time in ps, up to the end, that no void may be seen before the crystal is called healed',
    )
    vacuum_gap_A: float = Field(
        default=10.0,
        gt=0.0,
        description='an empty layer of at least this thickness in Å across the whole cell is vacuum',
    )
    flight_cutoff_A: float | None = Field(
        default=None,
        gt=0.0,
        description='atoms this close in Å are of one cluster; none given: 1.207 lattice constants',
    )
    flight_cluster_share: float = Field(
        default=0.1,
        gt=0.0,
        le=1.0,
        description="atoms in clusters of less than this share of the largest cluster's atoms are in flight",
    )
    fixed_below_A: float | None = Field(
        default=None,
        description=(
            'atoms below this height in Å in the first frame do not move: they are left out of temperatures and of '
            'the atoms that began inside'
        ),
    )
    height_bin_A: float = Field(
        default=3.5, gt=0.1, description='thickness in Å of the slices of profiles along the height'
    )
    profile_frames: int = Field(
        default=10, ge=1, description='analysed frames at the end over which profiles along the height are averaged'
    )

    surface_spacing_A: float = Field(
        default=1.0, ge=0.1, description='largest edge in Å of a cell of the height map of the surface'
    )
    defect_prominence_A: float = Field(
        default=2.0, gt=0.0, description='what is less deep in Å is no defect of the surface; at least a layer'
    )
    defect_smoothing_A: float = Field(
        default=1.5,
        ge=0.0,
        description=(
            'standard deviation in Å of the Gaussian that takes single atoms out of the height map before the depth of '
            'a defect is read along lines'
        ),
    )
    current_patch_A: float = Field(
        default=35.0,
        gt=0.0,
        description=(
            'edge in Å of the patches of the surface whose local current densities are compared, where atoms landed; '
            'about as many as fit the cell'
        ),
    )

    measure_dendrites: bool = Field(
        default=False,
        description=(
            'measure what stands on the highest layer of the first frame: height, widths, form, tilt, arms and kinks '
            'of dendrites, and when a pair of them touches and fuses; needs an orthorhombic cell with the substrate '
            'below'
        ),
    )
    dendrites: DendriteAnalysisSettings = Field(
        default_factory=DendriteAnalysisSettings,
        description='what counts as a dendrite and as each form; lengths are those of this lattice constant if no '
        'other is given',
    )
    contacts: ContactSettings = Field(
        default_factory=ContactSettings, description='when a pair of dendrites counts as joined, fused and gone'
    )
    measure_mobility: bool = Field(
        default=False,
        description='measure the mean square displacement and D of surface and bulk; needs a constant cell',
    )
    mobility_from_ps: float = Field(
        default=0.0, ge=0.0, description='time in ps at which the measurement of mobility begins, after equilibration'
    )
    mobility_origins: int = Field(
        default=10, ge=1, le=100, description='origins, at most, from which displacements are taken'
    )
    mobility_fit: tuple[float, float] = Field(
        default=(0.2, 0.7),
        description='first and last lag of the fit of D, as shares of the measured time; below 0.2 motion is ballistic',
    )

    @model_validator(mode='before')
    @classmethod
    def _dendrites_of_the_same_crystal(cls, given: Any) -> Any:
        """Dendrites have the lattice constant of the crystal and the cut-off of flight unless theirs are given."""
        if not isinstance(given, dict) or not isinstance(given.get('dendrites', {}), dict):
            return given
        crystal = {
            theirs: given[ours]
            for theirs, ours in (('lattice_constant_A', 'lattice_constant_A'), ('cluster_cutoff_A', 'flight_cutoff_A'))
            if ours in given
        }
        return given | {'dendrites': crystal | given.get('dendrites', {})}

    @model_validator(mode='after')
    def _fit_is_a_range(self) -> AnalysisSettings:
        if not 0 < self.mobility_fit[0] < self.mobility_fit[1] <= 1:
            raise ValueError(
                f'mobility_fit is {self.mobility_fit}; it must be two rising shares of the measured time, above 0 and '
                'up to 1'
            )
        return self

    @model_validator(mode='after')
    def _lengths_fit(self) -> AnalysisSettings:
        # The holes of a perfect bcc crystal have a radius of sqrt(5)/4 a: a smaller probe finds voids everywhere.
        hole = 5**0.5 / 4 * self.lattice_constant_A
        if self.void_probe_radius_A <= hole:
            raise ValueError(
                f'void_probe_radius_A is {self.void_probe_radius_A} Å; it must be more than {hole:.3f} Å, the radius '
                f'of the holes of a perfect bcc crystal with a lattice constant of {self.lattice_constant_A} Å'
            )
        if self.vacuum_gap_A <= 2 * self.void_probe_radius_A:
            raise ValueError(
                f'vacuum_gap_A is {self.vacuum_gap_A} Å; it must be more than the diameter of the probe of voids, '
                f'{2 * self.void_probe_radius_A} Å'
            )
        return self

    @property
    def neighbour_reach_A(self) -> float:  # noqa: N802
        """Distance in Å between the second and the third bcc shell: a perfect crystal has 14 neighbours within."""
        return 1.207 * self.lattice_constant_A

    @model_validator(mode='after')
    def _map_sees_atoms(self) -> AnalysisSettings:
        if self.surface_spacing_A > self.atom_radius_A:
            raise ValueError(
                f'surface_spacing_A is {self.surface_spacing_A} Å; it must be at most {self.atom_radius_A:.3f} Å, the '
                f'radius of an atom with a lattice constant of {self.lattice_constant_A} Å'
            )
        return self

    @property
    def atom_radius_A(self) -> float:  # noqa: N802
        """Half the distance of nearest neighbours in the perfect crystal, in Å."""
        return 3**0.5 / 4 * self.lattice_constant_A

    @property
    def landing_distance_A(self) -> float:  # noqa: N802
        """Distance in Å below which two atoms are of one cluster; by default between second and third bcc shell."""
        return self.flight_cutoff_A if self.flight_cutoff_A is not None else self.neighbour_reach_A

    @property
    def atomic_volume_A3(self) -> float:  # noqa: N802
        """Volume of an atom in the perfect crystal in Å^3."""
        return self.lattice_constant_A**3 / 2
