"""What is made of results: the page, its charts, the comparison with earlier ones."""
