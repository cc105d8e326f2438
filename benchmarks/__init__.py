"""How fast it is: one program per question, measured beside peers and limits in the same run."""
