"""Kernels that ship with tilewright, each a plain tile program to read, to copy and to call (floor 9)."""
