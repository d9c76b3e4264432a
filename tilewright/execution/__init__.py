"""What everything that executes programs in numpy shares: a call's arguments, their memory, atomics (floor 4)."""
