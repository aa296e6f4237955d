"""AiiDA plugin for the growth and self-healing of lithium metal, from DFT labels to deposition runs."""

__version__ = '0.1.0'
