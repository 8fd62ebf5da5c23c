"""Catena: from labelled text to a model in production, as a chain that can be rerun."""

__version__ = "0.1.0"
