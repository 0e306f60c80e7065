"""`knowledge hook EVENT`: what a coding agent calls. Standard library only, and little of it: see `entry`."""
