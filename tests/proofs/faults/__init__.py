"""Break things under a running service, and compare complete histories afterwards.

`service` is what runs; `catalogue` lists the faults; `history` is the judge. `make faults`.
"""
