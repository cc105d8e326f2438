"""The page about reconciliation: days and hours, then buckets and types, then one bucket."""
