"""One CalcJob for each program, and the calcfunctions that make data between jobs."""
