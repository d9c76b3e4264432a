"""From lowered programs to text that a tool chain takes (floor 6)."""
