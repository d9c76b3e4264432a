"""Tile operations (floor 4): one file each, with the user function, the checks, the numpy meaning, the effects and the lowering."""
