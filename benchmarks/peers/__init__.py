"""Other libraries, in a virtual environment of their own: `make bench-peers`.

Their programs run there, where nothing of ours is installed, so nothing is imported here.
"""
