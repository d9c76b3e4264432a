"""What machines can do: instruction sets, widths and sizes (floor 1)."""
