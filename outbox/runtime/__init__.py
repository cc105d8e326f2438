"""What a process needs that runs for long, and a command that people start."""
