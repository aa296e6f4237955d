"""How GPAW is built for one core a process: PBE is built in, no MPI, BLAS from OpenBLAS."""

nolibxc = True
mpi = False
compiler = 'g++'
libraries = ['openblas']
extra_compile_args += ['-O3', '-fopenmp']  # noqa: F821 (GPAW's build runs this file with its defaults in place)
extra_link_args += ['-fopenmp']  # noqa: F821
