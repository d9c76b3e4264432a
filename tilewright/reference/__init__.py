"""The reference interpreter: whole tile programs executed in numpy, the oracle for every back end (floor 7)."""

from tilewright.reference.interpreter import ReferenceOptions, run_reference

__all__ = ["ReferenceOptions", "run_reference"]
