"""What a run would do on a pod, found out without one: its real programs, compiled ahead of time."""
