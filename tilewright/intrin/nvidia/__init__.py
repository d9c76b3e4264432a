"""NVIDIA's hardware instructions, one family per file (floor 3). Each brings its text, its operand layouts and its simulated meaning."""
