"""The shop takes orders and tells the world what happens to them."""
