"""One YAML file a verb: `fast`, `balanced` and `paper`."""
