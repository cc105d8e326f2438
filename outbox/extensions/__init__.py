"""Where other apps plug in: the doctor, the pruning of tables, the pages of messages."""
