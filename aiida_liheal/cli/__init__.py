"""The command line `aiida-liheal`; `main` is where it begins."""
