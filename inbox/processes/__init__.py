"""Process managers: a controller that knows how far the business has come.

Being built: steps are taken and tested, but there are no pages, no operations and no docs yet. It
is not public until there are.
"""
