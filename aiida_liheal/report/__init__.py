"""Figures, pictures and the self-contained HTML page of a finished or running process."""
