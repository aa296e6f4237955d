"""The nodes that flow through the workflows: shards of frames and interatomic potentials."""
