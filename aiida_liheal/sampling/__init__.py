"""Choosing what to label, without AiiDA: trust levels, seeded selection, hold-out splits, convergence of rounds."""
