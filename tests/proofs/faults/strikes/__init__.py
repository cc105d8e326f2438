"""What goes wrong. Each strike breaks something in a world, proves that it did, and mends it.

A strike returns when the fault is over. It raises FaultError if the fault left no trace, and
PromiseBroken if a promise is broken that the history alone does not show.
"""
