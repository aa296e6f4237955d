"""LAMMPS without AiiDA: input decks from typed settings, and readers for what LAMMPS writes."""
