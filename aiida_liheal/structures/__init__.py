"""Atoms without AiiDA: frames (many structures and their labels), bcc crystals and slabs, voids, perturbations."""
