"""Fuzzing, invalid programs and minimisation (floor 9)."""
