"""The command line `aiida-liheal`."""
