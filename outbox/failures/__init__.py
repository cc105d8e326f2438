"""What fails alike: the grouping, and the retrying of a group with one of it first."""
