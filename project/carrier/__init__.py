"""The parcel carrier: a project of its own, with its own settings, processes and database.

It shares no code with the other services of the example, and no broker: it is told of parcels by
HTTP, and asked by HTTP what it knows.
"""
