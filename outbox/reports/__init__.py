"""What the rows say, derived: stored nowhere else."""
