"""One parser for each CalcJob: from retrieved files to data nodes and exit codes."""
