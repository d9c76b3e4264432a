"""The functions that expressions can call, each with its definition in numpy (floor 3)."""
